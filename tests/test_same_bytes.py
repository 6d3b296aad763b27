"""The same bytes, whoever scores: those of the reference on the same grid, and but for rounding those of pandas."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from threadpoolctl import threadpool_limits

from runtime import run
from scoring import reference
from scoring.demo import COLUMNS, NUMBERS, heart_frame, heart_target

TYPES = {"oldpeak": "double", "thal": "string"}
SIGNATURE = [reference.Column(name=name, type=TYPES.get(name, "long")) for name in COLUMNS]
# OpenBLAS rounds the last rows of a call otherwise unless it has a multiple of 4 rows.
CHUNK_ROWS = 251


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model on disk, the options it is used with, and the same call by hand."""

    model: Path
    predict: Callable[[pd.DataFrame], object]
    kinds: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    columns: list[reference.Column] = field(default_factory=lambda: SIGNATURE)


def saved(path, estimator, target, output, numbers=StandardScaler):
    """Fit an estimator behind the columns of patients, save it with a signature, and load it again."""
    frame = heart_frame(3000, seed=5)
    columns = make_column_transformer((numbers(), NUMBERS), (OneHotEncoder(handle_unknown="ignore"), ["thal"]))
    inputs = Schema([ColSpec(column.type, column.name) for column in SIGNATURE])
    mlflow.sklearn.save_model(
        make_pipeline(columns, estimator).fit(frame, target(frame)),
        path,
        signature=ModelSignature(inputs=inputs, outputs=Schema([ColSpec(output)])),
        pip_requirements=[],
        serialization_format="cloudpickle",
    )
    return mlflow.sklearn.load_model(path)


def logistic(_, heart_model):
    """Labels of the demo's model."""
    loaded = mlflow.sklearn.load_model(heart_model)
    return Case(model=heart_model, predict=loaded.predict, kinds={"prediction": "long"})


def gradient_boosting(path, _):
    """Labels of trees."""
    loaded = saved(path, HistGradientBoostingClassifier(max_iter=30), heart_target, "long")
    return Case(model=path, predict=loaded.predict, kinds={"prediction": "long"})


def ridge(path, _):
    """Numbers straight from the columns, whose last bits depend on the rows of a call and how they lie in memory."""
    columns = [reference.Column(name=name, type="double") for name in NUMBERS]
    frame = heart_frame(3000, seed=5)[NUMBERS].astype("float64")
    target = frame["chol"] / 3 - frame["age"] * 2
    signature = ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in NUMBERS]), outputs=Schema([ColSpec("double")])
    )
    options = {"signature": signature, "pip_requirements": [], "serialization_format": "cloudpickle"}
    mlflow.sklearn.save_model(Ridge(fit_intercept=False).fit(frame, target), path, **options)
    loaded = mlflow.sklearn.load_model(path)
    return Case(
        model=path,
        predict=lambda frame: loaded.predict(frame[NUMBERS]),
        kinds={"prediction": "double"},
        columns=columns,
    )


def probabilities(path, _):
    """Six classes, a column for each, whose last bits depend on the rows of a call and on the native threads."""

    def cubes():
        return make_pipeline(StandardScaler(), PolynomialFeatures(3))

    def target(frame):
        return pd.qcut(frame["chol"] + frame["age"], 6, labels=list("abcdef"))

    loaded = saved(path, LogisticRegression(tol=0.1), target, "string", cubes)
    names = [f"prediction_{label}" for label in loaded.classes_]
    return Case(
        model=path,
        predict=lambda frame: pd.DataFrame(loaded.predict_proba(frame), columns=names),
        options={"method": "predict_proba"},
    )


@pytest.fixture(scope="module", params=[logistic, gradient_boosting, ridge, probabilities])
def case(request, tmp_path_factory, heart_model):
    """Each model."""
    return request.param(tmp_path_factory.mktemp("models") / "model", heart_model)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder of patients, all of whom fit: large files, and tiny ones among them."""
    root = tmp_path_factory.mktemp("plain")
    for number, rows in enumerate([2000, 3, 1, 40, 0, 1600, 300, 90, 90, 2, 5, 1, 1000]):
        heart_frame(rows, seed=number).to_csv(root / f"{number:02}.csv", index=False)
    return root


@pytest.fixture(scope="module")
def odd(plain, tmp_path_factory):
    """The same with quotes and line ends in the text, other line ends, blank lines, and values that do not fit."""
    root = tmp_path_factory.mktemp("odd")
    for number, path in enumerate(sorted(plain.iterdir())):
        header, *lines = path.read_text().splitlines()
        for place, line in enumerate(lines):
            match place % 97:
                case 5:
                    lines[place] = line.replace(",normal", ',"nor\r\nmal, ""so"""')
                case 11:
                    lines[place] = "?,," + line.split(",", 2)[2]
                case 17:
                    lines[place] = line + ",more"
                case 23:
                    lines[place] = "x" + line
                case 29:
                    lines[place] = line.replace("reversible", '5" pipe') + "\n \t"
        end = "\r\n" if number % 3 == 1 else "\n"
        (root / path.name).write_bytes(end.join([header, *lines]).encode() + (b"\n" if number % 2 else b""))
    (root / "empty.csv").write_bytes(b"")
    (root / "headless.csv").write_bytes(b"age,sex\n1,2\n3,4\n")
    return root


def files_of(root):
    """Name and content of the files of a folder, in order."""
    return [(path.name, path.read_bytes()) for path in sorted(root.iterdir())]


def sha256(data):
    """Digest some bytes."""
    return hashlib.sha256(data).hexdigest()


def score(case, root, output, **options):
    """Run a job, and return its receipt and the digests of what it wrote."""
    receipt = run(model=case.model, input=root, output=output, max_quarantined="50%", **case.options, **options)
    quarantine = output / "_predictions.quarantine.jsonl"
    return receipt, sha256((output / "predictions.csv").read_bytes()), quarantine.exists() and quarantine.read_text()


def expected(case, root, cell_rows):
    """Score a folder as the reference does, on one native thread as a worker has."""
    with threadpool_limits(1):
        return reference.score(files_of(root), case.columns, case.predict, cell_rows=cell_rows, output_types=case.kinds)


ENGINES = {
    "inline": {"engine": "inline"},
    "inline, a cell at a time": {"engine": "inline", "cells_per_mini_batch": 1},
    "inline, all cells at once": {"engine": "inline", "cells_per_mini_batch": 1000},
    "1 worker": {"workers": 1, "cells_per_mini_batch": 2},
    "2 workers": {"workers": 2},
    "5 workers": {"workers": 5, "cells_per_mini_batch": 1},
    "2 workers, spawned": {"workers": 2, "engine": "spawn", "cells_per_mini_batch": 3},
}


def test_score_is_the_reference_whoever_scores(odd, tmp_path_factory, heart_model, tmp_path):
    """One digest for every engine, number of workers and of cells in a mini-batch: that of the reference."""
    case = probabilities(tmp_path_factory.mktemp("models") / "model", heart_model)
    result = expected(case, odd, CHUNK_ROWS)
    for name, options in ENGINES.items():
        receipt, digest, quarantine = score(case, odd, tmp_path / name, chunk_rows=CHUNK_ROWS, **options)
        assert digest == sha256(result.scores), name
        assert [*map(json.loads, quarantine.splitlines())] == result.quarantine, name
        assert receipt.rows["scored"] == result.rows_scored
        assert receipt.rows["read"] == result.rows_read


def test_score_is_the_reference_whatever_the_model(case, odd, tmp_path):
    """Labels and numbers of every model, scored inline and by two workers, are those of the reference."""
    result = expected(case, odd, CHUNK_ROWS)
    for name in ("inline", "forkserver"):
        _, digest, _ = score(case, odd, tmp_path / name, chunk_rows=CHUNK_ROWS, engine=name, workers=2)
        assert digest == sha256(result.scores), name


def test_score_on_the_grid_it_chooses(case, plain, tmp_path):
    """Without a grid by option, the receipt tells which was chosen, and the bytes are those of the reference on it."""
    receipt, digest, quarantine = score(case, plain, tmp_path / "out", engine="inline")
    assert (digest, quarantine) == (sha256(expected(case, plain, receipt.content["grid"]["cell_rows"]).scores), False)


@pytest.mark.parametrize("chunk_rows", [0, 100, 10_000])
def test_score_equals_one_call_of_pandas(case, plain, tmp_path, chunk_rows):
    """Labels are those of `read_csv` and one `predict` of a file; floats differ by rounding alone."""
    receipt, _, _ = score(case, plain, tmp_path / "out", engine="inline", chunk_rows=chunk_rows)
    found = pd.read_csv(receipt.url)
    files = [(name, data) for name, data in files_of(plain) if data.count(b"\n") > 1]
    frames = [pd.read_csv(io.BytesIO(data)).assign(file=name) for name, data in files]
    frame = pd.concat(frames, ignore_index=True)
    assert found["row"].tolist() == [row for each in frames for row in range(len(each))]
    assert found["file"].tolist() == frame["file"].tolist()
    wanted = pd.DataFrame(case.predict(frame.drop(columns="file")))
    values = found.drop(columns=["row", "file"])
    if wanted.dtypes.iloc[0].kind == "f":
        np.testing.assert_allclose(values, wanted, rtol=1e-12)
    else:
        assert values.to_numpy().tolist() == wanted.to_numpy().tolist()
