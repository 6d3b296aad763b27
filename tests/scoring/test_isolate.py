"""Rows of a cell tried alone, and the cell scored without those that are bad; with models that fail on certain rows."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from sklearn.linear_model import LinearRegression

from runtime.isolation import Isolation
from scoring.cell_score import CellScore
from scoring.cells import Cell, covered_digest
from scoring.errors import InputError, PredictionError
from scoring.files import InputSpec, list_inputs
from scoring.isolate import MAX_CLASSES, MIXED, forget, order_of, score_without, try_rows
from scoring.mlflow_model import MlflowModel
from scoring.rows import Dialect
from scoring.scan import Begin
from scoring.scanner import Scan
from scoring.specs import ColumnSpec, ReadPlan, ScorerSpec
from tests.faults.saving import save_fault, write_actions

BY_ROW = [("value", "long"), ("action", "string"), ("mark", "string?")]
PLAN = ReadPlan(
    columns=(
        ColumnSpec(name="value", type="long"),
        ColumnSpec(name="action", type="string"),
        ColumnSpec(name="mark", type="string", required=False),
    ),
    dialect=Dialect(),
)
NUMBERS = ReadPlan(
    columns=tuple(ColumnSpec(name=name, type="double") for name in "abc"), dialect=Dialect(), keep=("id",)
)


@pytest.fixture(scope="module")
def by_row(tmp_path_factory):
    """A model that does what its rows say."""
    path = save_fault(tmp_path_factory.mktemp("models") / "by_row", "by_row", BY_ROW)
    return MlflowModel(ScorerSpec(model_path=str(path)))


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """A model of scikit-learn that takes no missing value."""
    import mlflow.sklearn

    path = tmp_path_factory.mktemp("models") / "linear"
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=list("abc"))
    signature = ModelSignature(Schema([ColSpec(DataType.double, name) for name in "abc"]))
    model = LinearRegression().fit(rows, rows.sum(axis=1))
    mlflow.sklearn.save_model(model, path, signature=signature, pip_requirements=[], serialization_format="cloudpickle")
    return MlflowModel(ScorerSpec(model_path=str(path)))


@pytest.fixture(autouse=True)
def forgotten():
    """Leave no cell of one test to the next."""
    yield
    forget()


def cell_of(root, **options):
    """All of a folder as one cell."""
    files = list_inputs(InputSpec(url=str(root), unknown="fail", **options)).files
    cells = Scan(files, Dialect(), Begin(spool=str(root), spool_bytes=1), 0).run()
    return Cell(slices=tuple(part for cell in cells for part in cell.slices))


def entries(score):
    """The lines of the quarantine."""
    return [json.loads(line) for line in score.quarantine.splitlines()]


def isolated(scorer, plan, cell):
    """Isolate a cell as the driver does; the search, and what was scored at the end."""
    search = Isolation("it failed")
    score = None
    while not search.done:
        ranges = search.next()
        try:
            if ranges is None:
                score = score_without(scorer, plan, cell, search.without, search.pieces)
                search.passed()
            else:
                tried = try_rows(scorer, plan, cell, ranges)
                search.passed(tried.rows, tried.sizes, tried.nulls)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (as a worker does)
            search.failed(f"{type(error).__name__}: {error}".split("\n")[0])
    assert score is not None, search.given_up
    return search, score


def nulls_of(table, row):
    """The columns that are null in a row, a bit a column."""
    return sum(
        1 << place for place, column in enumerate(table.columns) if pd.isna(column[row].as_py())
    )  # fmt: skip


@given(
    st.integers(1, 5).flatmap(
        lambda width: st.lists(
            st.lists(st.sampled_from([None, float("nan"), 1.5]), min_size=width, max_size=width), max_size=40
        )
    )
)
def test_order_puts_rows_with_the_same_nulls_together(records):
    """Every row has one place; classes are exact, those with fewer nulls come first, and rows keep their order."""
    columns = list(zip(*records, strict=True)) if records else [[]]
    table = pa.table({f"c{place}": pa.array(column, pa.float64()) for place, column in enumerate(columns)})
    order = order_of(table, table.num_rows)
    assert sorted(order.places.tolist()) == list(range(len(records)))
    assert sum(order.sizes) == len(records)
    assert order.nulls[0] == 0
    assert [each.bit_count() for each in order.nulls] == sorted(each.bit_count() for each in order.nulls)
    assert len(set(order.nulls)) == len(order.nulls)
    start = 0
    for size, nulls in zip(order.sizes, order.nulls, strict=True):
        rows = order.places[start : start + size].tolist()
        assert rows == sorted(rows)
        assert {nulls_of(table, row) for row in rows} <= {nulls}
        start += size


def test_rarest_classes_stand_together_at_the_end():
    """There are no more classes than can be told, and what is left of them is called mixed."""
    columns = 40
    values = np.ones((3_000, columns))
    for row in range(2_500):
        places = [row % columns, row // columns % columns] if row < 1_600 else [row % columns]
        values[row, places] = np.nan
    table = pa.table({f"c{place}": pa.array(values[:, place], from_pandas=True) for place in range(columns)})
    order = order_of(table, 3_000)
    assert (len(order.sizes), order.sizes[0], order.nulls[-1]) == (MAX_CLASSES, 500, MIXED)
    assert all(size > 20 for nulls, size in zip(order.nulls, order.sizes, strict=True) if nulls.bit_count() == 1)
    assert order.nulls.count(MIXED) == 1
    assert all(nulls_of(table, row) for row in order.places[-order.sizes[-1] :].tolist())
    assert sorted(order.places.tolist()) == list(range(3_000))


def test_order_of_what_has_no_nulls():
    """Text and numbers stay as they are; an image is one row."""
    table = pa.table({"a": ["x", "", "NaN"], "b": [1, 2, 3]})
    assert order_of(table, 3).places.tolist() == [0, 1, 2]
    assert (order_of(table, 3).sizes, order_of(None, 1).sizes, order_of(None, 0).sizes) == ((3,), (1,), (0,))


def test_tries(by_row, tmp_path):
    """Rows without a mark stand behind those with one; nothing is predicted to learn that; bad rows raise."""
    done = tmp_path / "done"
    done.touch()
    write_actions(tmp_path / "a.csv", "go", f"go@{done}", "raise", f"go@{done}")
    cell = cell_of(tmp_path)
    tried = try_rows(by_row, PLAN, cell, ())
    assert (tried.rows, tried.sizes, tried.nulls, tried.predict_s) == (4, (2, 2), (0, 4), 0.0)
    assert try_rows(by_row, PLAN, cell, ((0, 3),)).predict_s > 0
    for ranges in (((3, 4),), ((0, 1), (2, 4)), None):
        with pytest.raises(ValueError, match="no prediction for this row"):
            try_rows(by_row, PLAN, cell, ranges)
    with pytest.raises(InputError, match="the file changed"):
        try_rows(by_row, PLAN, cell, ((3, 5),))


@pytest.mark.parametrize(
    ("action", "error"), [("sys.exit", SystemExit), ("short", PredictionError), ("deep", PredictionError)]
)
def test_whatever_is_wrong_passes_out(by_row, tmp_path, action, error):
    """A model that exits or answers in the wrong shape fails the rows tried, not those beside them."""
    write_actions(tmp_path / "a.csv", "go", "go", action)
    cell = cell_of(tmp_path)
    assert try_rows(by_row, PLAN, cell, ((0, 2),)).rows == 3
    with pytest.raises(error):
        try_rows(by_row, PLAN, cell, ((1, 3),))


def test_bad_row_is_found_and_named(by_row, tmp_path):
    """It goes to the quarantine with file, row, line, values and reason, as misfits do; the rest is scored."""
    (tmp_path / "a.csv").write_text("value,action,mark\n0,go,\n\n1,raise,\nmany,go,\n3,go,\n")
    write_actions(tmp_path / "b.csv", *["go"] * 5, "sys.exit", "go")
    cell = cell_of(tmp_path)
    search, score = isolated(by_row, PLAN, cell)
    found = entries(score)
    assert [(entry["file"], entry["row"], entry["line"], entry["reason"]) for entry in found] == [
        ("a.csv", 1, 4, "ValueError: no prediction for this row"),
        ("a.csv", 2, 5, "not a long"),
        ("b.csv", 5, 7, "SystemExit: 4"),
    ]
    assert found[0] == {
        "file": "a.csv", "row": 1, "line": 4, "values": {"value": "1", "action": "raise", "mark": None},
        "reason": "ValueError: no prediction for this row",
    }  # fmt: skip
    assert bytes(score.lines).decode().splitlines() == [
        "0,0,a.csv", "3,6,a.csv", "0,0,b.csv", "1,2,b.csv", "2,4,b.csv", "3,6,b.csv", "4,8,b.csv", "6,12,b.csv",
    ]  # fmt: skip
    assert score.causes == {
        "ValueError: no prediction for this row": 1, "value: not a long": 1, "SystemExit: 4": 1,
    }  # fmt: skip
    assert [(each.name, each.rows, each.quarantined, each.given_up) for each in score.accounts] == [
        ("a.csv", 4, 2, 0), ("b.csv", 7, 1, 0),
    ]  # fmt: skip
    assert [each.digest for each in score.accounts] == [covered_digest(part) for part in cell.slices]
    assert (score.names, search.unresolved) == (("prediction",), ())


def test_values_are_not_shown_where_they_must_not_be(by_row, tmp_path):
    """Without values an entry still names the row."""
    write_actions(tmp_path / "a.csv", "go", "raise")
    score = score_without(by_row, replace(PLAN, quarantine_values=False), cell_of(tmp_path), [(1, 2, "SIGSEGV")])
    assert entries(score) == [{"file": "a.csv", "row": 1, "line": 3, "reason": "SIGSEGV"}]


def test_same_bytes_as_a_cell_that_never_had_the_rows(linear, tmp_path):
    """1 % missing values that the model refuses: exactly they are lost, and a handful of calls finds them."""
    values = np.random.default_rng(1).normal(size=(5_000, 3)).round(3)
    frame = pd.DataFrame(values, columns=list("abc"))
    frame.loc[50::100, "b"] = np.nan
    frame["id"] = [f"p{row}" for row in range(5_000)]
    frame.to_csv(tmp_path / "a.csv", index=False)
    cell = cell_of(tmp_path)
    search, score = isolated(linear, NUMBERS, cell)
    assert [entry["row"] for entry in entries(score)] == list(range(50, 5_000, 100))
    assert all(entry["values"]["b"] is None and "NaN" in entry["reason"] for entry in entries(score))
    assert search.probes == 6
    (tmp_path / "clean").mkdir()
    frame.dropna().to_csv(tmp_path / "clean" / "a.csv", index=False)
    calm = CellScore(linear, NUMBERS, cell_of(tmp_path / "clean"))
    without_rows = [line.partition(",")[2] for line in bytes(calm.lines).decode().splitlines()]
    assert [line.partition(",")[2] for line in bytes(score.lines).decode().splitlines()] == without_rows


def test_rows_of_parquet_have_no_lines(linear, tmp_path):
    """A bad row of a Parquet file is named by its row in the file; NaN is a null."""
    table = pa.table({**{name: [0.5, 1.0, 2.0, 3.0] for name in "ab"}, "c": [1.0, float("nan"), None, 4.0]})
    pq.write_table(table.append_column("id", pa.array(["p", "q", "r", "s"])), tmp_path / "a.parquet", row_group_size=2)
    search, score = isolated(linear, NUMBERS, cell_of(tmp_path))
    assert [(entry["row"], entry["line"], entry["values"]["c"]) for entry in entries(score)] == [
        (1, None, None), (2, None, None),
    ]  # fmt: skip
    assert bytes(score.lines).decode().splitlines()[0].startswith("0,p,2.")
    assert sum(each.quarantined for each in score.accounts) == 2
    assert search.by_size is False


def test_all_rows_may_be_bad(by_row, tmp_path):
    """Then nothing is predicted or written, and all is accounted for."""
    write_actions(tmp_path / "a.csv", "raise", "raise", "raise")
    score = score_without(by_row, PLAN, cell_of(tmp_path), [(0, 1, "timeout"), (1, 3, "not isolated: timeout")])
    assert (bytes(score.lines), score.names, score.predict_s) == (b"", (), 0.0)
    assert score.causes == {"timeout": 1, "not isolated: timeout": 2}
    assert [each.quarantined for each in score.accounts] == [3]


def test_files_that_failed_stay_as_they_were(by_row, tmp_path):
    """A file without a column, and one without rows, take no row of another's."""
    (tmp_path / "a.csv").write_text("value,other\n1,go\n")
    (tmp_path / "b.csv").write_text("value,action,mark\n")
    write_actions(tmp_path / "c.csv", "go", "raise")
    score = score_without(by_row, PLAN, cell_of(tmp_path), [(1, 2, "SIGSEGV")])
    assert [(entry["file"], entry["row"]) for entry in entries(score)] == [("a.csv", None), ("c.csv", 1)]
    assert [(each.name, each.quarantined, each.given_up) for each in score.accounts] == [
        ("a.csv", 0, 1), ("b.csv", 0, 0), ("c.csv", 1, 0),
    ]  # fmt: skip
    assert bytes(score.lines) == b"0,0,c.csv\n"


def test_scoring_again_begins_afresh(by_row, tmp_path):
    """A scoring that fails leaves nothing behind in the next one."""
    write_actions(tmp_path / "a.csv", "go", "raise", "go", "raise")
    cell = cell_of(tmp_path)
    with pytest.raises(ValueError, match="no prediction"):
        score_without(by_row, PLAN, cell, [(1, 2, "bad")])
    score = score_without(by_row, PLAN, cell, [(1, 2, "bad"), (3, 4, "worse")])
    assert score.causes == {"bad": 1, "worse": 1}
    assert score.accounts[0].quarantined == 2


def test_cell_that_fails_is_read_once(by_row, tmp_path):
    """It is kept for the tries that follow, until it is scored or forgotten."""
    write_actions(tmp_path / "a.csv", "go", "raise")
    cell = cell_of(tmp_path)
    with pytest.raises(ValueError, match="no prediction"):
        score_without(by_row, PLAN, cell, ())
    (tmp_path / "a.csv").rename(tmp_path / "b")
    assert try_rows(by_row, PLAN, cell, ((0, 1),)).rows == 2
    forget()
    with pytest.raises(FileNotFoundError):
        try_rows(by_row, PLAN, cell, ((0, 1),))
    (tmp_path / "b").rename(tmp_path / "a.csv")
    assert bytes(score_without(by_row, PLAN, cell, [(1, 2, "bad")]).lines) == b"0,0,a.csv\n"
    (tmp_path / "a.csv").unlink()
    with pytest.raises(FileNotFoundError):
        try_rows(by_row, PLAN, cell, ())


def test_image_that_is_bad(by_row, tmp_path):
    """It fails as a whole."""
    PIL.Image.new("L", (4, 3)).save(tmp_path / "a.png")
    cell = cell_of(tmp_path)
    assert try_rows(by_row, PLAN, cell, ()).sizes == (1,)
    score = score_without(by_row, PLAN, cell, [(0, 1, "SIGSEGV")])
    assert entries(score) == [{"file": "a.png", "row": None, "rows": 1, "reason": "SIGSEGV"}]
    assert [(each.rows, each.given_up, each.quarantined) for each in score.accounts] == [(1, 1, 0)]


class Sized:
    """A model that takes so many rows at once only, and answers in many ways."""

    classes = ("no", "yes")

    def __init__(self, limit, answer):
        self.limit = limit
        self.answer = answer

    def columns(self, header, sample):  # noqa: ARG002 - as the protocol has it
        """Know the columns."""
        return NUMBERS.columns

    def predict(self, rows):
        """Answer for so many rows."""
        if rows.num_rows > self.limit:
            raise MemoryError(f"{rows.num_rows} rows")
        return self.answer(rows["a"].to_numpy())

    def kind(self, column):
        """Know no type."""


ANSWERS = {
    "numbers": lambda a: a * 2,
    "a probability for each class": lambda a: np.column_stack([a, 1 - a]),
    "text": lambda a: [f"row {value}, quoted" for value in a],
    "a table": lambda a: pd.DataFrame({"x": a.astype(int), "y": pd.Series(a).astype("Int64"), "z": a > 3}),
    "labels": lambda a: pd.Series(pd.Categorical([f"l{value % 3}" for value in a])),
    "lists": lambda a: [[value, None] for value in a],
    "masked": lambda a: np.ma.masked_array(a.astype(int), mask=a % 5 == 0),
    "nothing, now and then": lambda a: [None if value % 4 == 0 else value for value in a],
    "moments": lambda a: pd.Series(pd.to_datetime(a.astype(int), unit="D", utc=True)),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("output_format", ["csv", "jsonl"])
def test_pieces_give_the_bytes_of_one_call(tmp_path, answer, output_format):
    """What passes only in pieces is written as one call would write it, in the order of the input."""
    rows = [f"{row},{'' if row % 7 == 3 else row},0.5,p{row}" for row in range(100)]
    (tmp_path / "a.csv").write_text("\n".join(["a,b,c,id", *rows]) + "\n")
    plan, cell = replace(NUMBERS, output_format=output_format), cell_of(tmp_path)
    search, score = isolated(Sized(60, answer), plan, cell)
    assert (search.by_size, search.without, len(search.pieces) >= 2) == (True, (), True)
    forget()
    whole = CellScore(Sized(100, answer), plan, cell)
    assert bytes(score.lines) == bytes(whole.lines)
    assert (score.names, score.accounts) == (whole.names, whole.accounts)


def test_pieces_without_bad_rows(tmp_path):
    """Where some rows are bad the pieces hold the others, each in its place."""
    (tmp_path / "a.csv").write_text("a,b,c,id\n" + "".join(f"{row},{'' if row % 2 else 1},1,p\n" for row in range(8)))
    pieces = [((0, 1), (2, 4)), ((4, 6), (7, 8))]
    score = score_without(Sized(3, lambda a: a), NUMBERS, cell_of(tmp_path), [(1, 2, "x"), (6, 7, "y")], pieces)
    assert [line.split(",")[2] for line in bytes(score.lines).decode().splitlines()] == [
        "0.0", "1.0", "3.0", "4.0", "6.0", "7.0",
    ]  # fmt: skip
    assert [(entry["row"], entry["reason"]) for entry in entries(score)] == [(2, "x"), (5, "y")]


def test_pieces_must_have_the_same_columns(tmp_path):
    """A model that changes its columns with the rows is told so."""
    (tmp_path / "a.csv").write_text("a,b,c,id\n1,1,1,p\n2,2,2,q\n")
    scorer = Sized(1, lambda a: {f"x{a[0]:g}": a})
    with pytest.raises(PredictionError, match="other columns for other rows"):
        score_without(scorer, NUMBERS, cell_of(tmp_path), (), [((0, 1),), ((1, 2),)])
