"""The probe: a model that looks at its neighbours is refused before rows are cut, one that does not never is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from runtime import run
from runtime.errors import UsageError, exit_code
from scoring.cells import Cell, InputFile
from scoring.probe import first_columns, objection_to_cutting
from scoring.rows import Dialect
from scoring.scan import Begin
from scoring.scanner import Scan
from scoring.specs import ColumnSpec, ReadPlan
from tests.old_releases import save_code

OBJECTION = "predictions depend on which rows are scored together (or are random): use --chunk-rows 0"
COLUMNS = (ColumnSpec(name="x", type="double"), ColumnSpec(name="s", type="string"))
ROWS = 200


class Rows:
    """The scorer of a function of a frame."""

    classes = ()

    def __init__(self, function, wanted=COLUMNS):
        self.function = function
        self.wanted = wanted

    def columns(self, header, sample):
        """Know the columns, or tell all of a sample's as text."""
        return self.wanted or (sample and tuple(ColumnSpec(name=name, type="string") for name in header))

    def predict(self, table):
        """Call the function."""
        return self.function(table.to_pandas())


@pytest.fixture
def cell(tmp_path):
    """A cell of patients with a number and a text, one of them misfitting."""
    lines = [f"{np.sin(row)},{'ab'[row % 2]}" for row in range(ROWS)]
    lines[7] = "odd,a"
    (tmp_path / "a.csv").write_text("x,s\n" + "\n".join(lines))
    return cell_of(tmp_path / "a.csv")


def cell_of(*paths: Path) -> Cell:
    """All rows of files in one cell."""
    files = tuple(InputFile(name=path.name, url=str(path), size_bytes=0, version="") for path in paths)
    (cell,) = Scan(files, Dialect(), Begin(spool_bytes=1), cell_rows=10**9).run()
    return cell


def rounded(frame):
    """Round otherwise the more rows there are."""
    return frame["x"].to_numpy() * (1 + 1e-13 * len(frame))


BY_ROW = {
    "numbers": lambda frame: frame["x"] * 2,
    "rounding": rounded,
    "rounding in single precision": lambda frame: rounded(frame).astype("float32") * np.float32(1 + 1e-7 * len(frame)),
    "rounding in two dimensions": lambda frame: np.column_stack([rounded(frame), -rounded(frame)]),
    "rounding in lists": lambda frame: [[x, [-x]] for x in rounded(frame)],
    "rounding in lists of many lengths": lambda frame: [[x] * (1 + (x < 0)) for x in rounded(frame)],
    "rounding in dicts": lambda frame: [{"a": x, "b": {"c": np.float64(x)}} for x in rounded(frame)],
    "rounding beside nothing": lambda frame: [None if x < 0 else x for x in rounded(frame)],
    "rounding in objects": lambda frame: pd.Series(rounded(frame), dtype=object),
    "not numbers": lambda frame: np.where(frame["x"] < 0, np.nan, np.inf),
    "labels": lambda frame: (frame["x"] > 0).astype("int64"),
    "whole numbers that become floats": lambda frame: pd.Series([None if x == np.sin(1) else 1 for x in frame["x"]]),
    "strings": lambda frame: frame["s"].to_numpy(dtype=object),
    "nothing": lambda frame: [None] * len(frame),
    "missing": lambda frame: pd.array([pd.NA] * len(frame), dtype="Int64"),
    "categories": lambda frame: frame["s"].astype("category"),
    "times": lambda frame: pd.to_datetime(frame["x"], unit="s"),
    "columns": lambda frame: frame[["s", "x"]],
}
BY_NEIGHBOURS = {
    "z-score": lambda frame: (frame["x"] - frame["x"].mean()) / frame["x"].std(),
    "rank": lambda frame: frame["x"].rank(),
    "rank in lists": lambda frame: [[rank] for rank in frame["x"].rank()],
    "random": lambda frame: np.random.default_rng().random(len(frame)),
    "random labels": lambda frame: np.random.default_rng().choice(list("abc"), len(frame)),
    "columns by what is there": lambda frame: pd.get_dummies(frame.index // 150),
    "missing by neighbours": lambda frame: frame["x"].where(frame.index > 20),
    "other lists": lambda frame: [[0.0] * (1 + len(frame) // 150)] * len(frame),
    "other keys": lambda frame: [{"inner": {len(frame): 1}}] * len(frame),
    "None in one part": lambda frame: [None if len(frame) < 150 else 1.0] * len(frame),
}


@pytest.mark.parametrize("predict", BY_ROW.values(), ids=BY_ROW.keys())
def test_no_objection_to_models_of_rows(cell, predict):
    """Predictions of each row by itself, whatever they look like, may be cut; rounding is no objection."""
    assert objection_to_cutting(Rows(predict), cell, ReadPlan(columns=COLUMNS, dialect=Dialect()), ROWS) == ""


@pytest.mark.parametrize("predict", BY_NEIGHBOURS.values(), ids=BY_NEIGHBOURS.keys())
def test_objection_to_models_of_neighbours(cell, predict):
    """Predictions that depend on the rows beside them, or on chance, may not."""
    assert objection_to_cutting(Rows(predict), cell, ReadPlan(columns=COLUMNS, dialect=Dialect()), ROWS) == OBJECTION


def test_probe_looks_at_the_first_rows_only(cell):
    """The model is called with those of the first rows that fit, and with each half of them."""
    seen = []

    def predict(frame):
        seen.append(frame["x"].tolist())
        return frame["x"]

    plan = ReadPlan(columns=COLUMNS, dialect=Dialect())
    assert objection_to_cutting(Rows(predict), cell, plan, 11) == ""
    fitting = [np.sin(row) for row in range(11) if row != 7]
    assert seen == [fitting, fitting[:5], fitting[5:]]


@pytest.mark.parametrize("rows", ["", "x,s\n", "x,s\n1,a\n", "x,s\nodd,a\n1,b\n", "s\na\nb\n"])
def test_probe_of_hardly_any_rows(tmp_path, rows):
    """Fewer than two rows that fit cannot be cut, and are no objection."""
    (tmp_path / "a.csv").write_text(rows)
    plan = ReadPlan(columns=COLUMNS, dialect=Dialect())
    assert objection_to_cutting(Rows(lambda frame: frame["x"].rank()), cell_of(tmp_path / "a.csv"), plan, ROWS) == ""


def test_probe_leaves_failures_to_the_scoring(cell):
    """A model that raises, or returns what cannot be written, is no objection: the scoring will say so."""
    plan = ReadPlan(columns=COLUMNS, dialect=Dialect())
    for predict in (lambda frame: frame["none"], lambda _: [1], lambda _: np.zeros((2, 2, 2))):
        assert objection_to_cutting(Rows(predict), cell, plan, ROWS) == ""


def test_first_columns_are_those_of_the_first_file_with_rows(tmp_path):
    """Where the model names no columns, they are read off the first rows there are."""
    for name, text in {"a.csv": "", "b.csv": "n\n", "c.csv": "y,z\n1,a\n", "d.csv": "y,z\n2,b\n"}.items():
        (tmp_path / name).write_text(text)
    cell = cell_of(*sorted(tmp_path.iterdir()))
    plan = ReadPlan(columns=(), dialect=Dialect())
    assert first_columns(Rows(None, wanted=()), cell, plan) == (
        ColumnSpec(name="y", type="string"),
        ColumnSpec(name="z", type="string"),
    )
    assert first_columns(Rows(None), cell, plan) == COLUMNS


# Whole jobs

NEIGHBOURLY = '''
import mlflow
import numpy as np
import pandas as pd


class Neighbourly(mlflow.pyfunc.PythonModel):
    """Scores rows by those beside them, or by chance."""

    def predict(self, context, model_input: pd.DataFrame, params=None):
        return {expression}


mlflow.models.set_model(Neighbourly())
'''


@pytest.fixture(params=["model_input - model_input.mean()", "np.random.default_rng().random(len(model_input))"])
def neighbourly(request, tmp_path):
    """The folder of a model that looks at its neighbours."""
    code = tmp_path / "code.py"
    code.write_text(NEIGHBOURLY.format(expression=request.param))
    return save_code(tmp_path / "model", code)


def test_job_is_refused_and_leaves_nothing(neighbourly, tmp_path):
    """A model of neighbours is refused before anything is cut or grouped, and nothing is left at the output."""
    (tmp_path / "in").mkdir()
    for number in range(3):
        pd.DataFrame({"x": range(100)}).to_csv(tmp_path / "in" / f"{number}.csv", index=False)
    options = {"model": neighbourly, "input": tmp_path / "in", "output": tmp_path / "out", "workers": 2}
    with pytest.raises(UsageError) as raised:
        run(**options)
    assert (str(raised.value), exit_code(raised.value)) == (OBJECTION, 2)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
    assert run(**options, chunk_rows=0).rows["scored"] == 300


def test_job_with_a_grid_of_its_own_is_not_probed(neighbourly, tmp_path):
    """Who says where to cut knows, and is not asked."""
    pd.DataFrame({"x": range(100)}).to_csv(tmp_path / "in.csv", index=False)
    options = {"model": neighbourly, "input": tmp_path / "in.csv", "output": tmp_path / "out", "engine": "inline"}
    assert run(**options, chunk_rows=30).rows["scored"] == 100


def test_job_of_one_cell_is_not_probed(neighbourly, tmp_path):
    """A file that is one cell is neither cut nor grouped."""
    pd.DataFrame({"x": range(100)}).to_csv(tmp_path / "in.csv", index=False)
    receipt = run(model=neighbourly, input=tmp_path / "in.csv", output=tmp_path / "out", engine="inline")
    assert (receipt.rows["scored"], receipt.content["invocation"]["attempts"]) == (100, 1)
