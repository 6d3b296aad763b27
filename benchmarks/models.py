"""The models that are benchmarked beside those of the demo, and the rows they take."""

import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pyarrow import csv

from scoring.demo import CODED, COLUMNS, MEASURED, NUMBERS, Kind, heart_frame, heart_target, save_heart_model

ModelKind = Literal["logistic", "gradient_boosting", "forest", "notes", "wide", "lookup"]

WIDE_COLUMNS = tuple(f"x{number:03}" for number in range(600))
TABLE_VALUES = 75_000_000
"""Of four bytes each: an artifact of 300 MB."""
_TRAINING_ROWS = 5_000
_BLOCK_ROWS = 50_000
_SAID = (
    "feels well",
    'says "it is nothing"',
    "reports pain, worse at night",
    'asks for "the other pills"',
    "sleeps badly",
)
_NEXT = (
    "see again in 3 weeks",
    "no follow-up",
    "bring the list of drugs, please",
    'call "Dr. B." first',
    "ECG, then discuss",
)
_WORDS = (
    "pressure",
    "chest",
    "breath",
    "walk",
    "stairs",
    "left",
    "arm",
    "night",
    "morning",
    "family",
    "history",
    "smoker",
    "weight",
    "diet",
    "rest",
)


def save_model(path: Path, kind: ModelKind) -> Path:
    """Train a model and save it for MLflow."""
    match kind:
        case "notes":
            return _save_pipeline(path, *_notes_pipeline())
        case "wide":
            return _save_pipeline(path, *_wide_pipeline())
        case "lookup":
            return _save_lookup(path)
        case _:
            demo: Kind = kind
            return save_heart_model(path, kind=demo)


def write_notes_csv(path: Path, rows: int, seed: int) -> None:
    """Write heart rows with a note each: quoted, with newlines, commas and quotes in it."""
    frame = heart_frame(rows, seed)
    table = pa.Table.from_pandas(frame, preserve_index=False).append_column("note", pa.array(_notes(rows, seed)))
    csv.write_csv(table, path, csv.WriteOptions(quoting_style="needed"))


def write_wide_csv(path: Path, rows: int, seed: int) -> None:
    """Write rows of 600 numbers of four digits behind the point."""
    options = csv.WriteOptions(quoting_style="none")
    schema = pa.schema([(name, pa.float64()) for name in WIDE_COLUMNS])
    with csv.CSVWriter(path, schema, write_options=options) as writer:
        for start in range(0, rows, _BLOCK_ROWS):
            values = _wide_values(min(_BLOCK_ROWS, rows - start), seed, start)
            writer.write(pa.table(list(values.T), schema=schema))


def _notes(rows: int, seed: int) -> list[str]:
    rng = np.random.default_rng([seed, 1])
    said, after = rng.integers(0, len(_SAID), rows), rng.integers(0, len(_NEXT), rows)
    words = rng.integers(0, len(_WORDS), (rows, 4))
    return [
        f"Patient {_SAID[first]}:\n{_WORDS[a]} {_WORDS[b]}, {_WORDS[c]} {_WORDS[d]}\n{_NEXT[last]}"
        for first, last, (a, b, c, d) in zip(said, after, words, strict=True)
    ]


def _wide_values(rows: int, seed: int, start: int) -> "np.ndarray[Any, Any]":
    rng = np.random.default_rng([seed, start])
    return rng.standard_normal((rows, len(WIDE_COLUMNS)), dtype=np.float32).astype(np.float64).round(4)


def _notes_pipeline() -> tuple[Any, list[tuple[str, str]]]:
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = heart_frame(_TRAINING_ROWS)
    frame["note"] = _notes(_TRAINING_ROWS, 0)
    target = heart_target(frame) | frame["note"].str.contains("pain")
    columns = ColumnTransformer(
        [
            ("measured", StandardScaler(), MEASURED),
            ("coded", OneHotEncoder(handle_unknown="ignore"), CODED),
            ("note", HashingVectorizer(n_features=1024), "note"),
        ]
    )
    model = Pipeline([("columns", columns), ("estimator", LogisticRegression(max_iter=500))]).fit(frame, target)
    return model, [*_heart_types(), ("note", "string")]


def _wide_pipeline() -> tuple[Any, list[tuple[str, str]]]:
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame = pd.DataFrame(_wide_values(_TRAINING_ROWS, 0, 0), columns=list(WIDE_COLUMNS))
    target = (frame.iloc[:, :50].sum(axis=1) > 0).astype("int64")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(frame, target)
    return model, [(name, "double") for name in WIDE_COLUMNS]


def _save_pipeline(path: Path, model: Any, types: list[tuple[str, str]]) -> Path:
    import mlflow.sklearn

    mlflow.sklearn.save_model(
        model, str(path), serialization_format="skops", signature=_signature(types, "long"), pip_requirements=[]
    )
    return path


def _save_lookup(path: Path) -> Path:
    """Save a model that adds what a large table says of a patient."""
    import mlflow.pyfunc

    inner, table = path.with_name(f"{path.name}.inner"), path.with_name(f"{path.name}.npy")
    save_heart_model(inner)
    np.save(table, np.random.default_rng(0).random(TABLE_VALUES, dtype=np.float32))
    mlflow.pyfunc.save_model(
        str(path),
        python_model=str(Path(__file__).with_name("lookup_model.py")),
        artifacts={"inner": str(inner), "table": str(table)},
        signature=_signature(_heart_types(), "double"),
        pip_requirements=[],
    )
    table.unlink()
    shutil.rmtree(inner)
    return path


def _heart_types() -> list[tuple[str, str]]:
    types = {name: "double" if name == "oldpeak" else "long" for name in NUMBERS}
    return [(name, types.get(name, "string")) for name in COLUMNS]


def _signature(types: list[tuple[str, str]], output: str) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    columns = [ColSpec(kind, name) for name, kind in types]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec(output)]))
