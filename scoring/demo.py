"""Make the sample data and the sample model: synthetic patients in the columns of the UCI heart data set.

    python -m scoring.demo DIR [--files 4] [--rows 5000]

writes `DIR/heart-model` and `DIR/heart-data/heart-000.csv` and on. Everything follows from the seeds.
"""

import argparse
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

NUMBERS = [
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca",
]  # fmt: skip
COLUMNS = [*NUMBERS, "thal"]
MEASURED = ["age", "trestbps", "chol", "thalach", "oldpeak"]
CODED = [name for name in COLUMNS if name not in MEASURED]

Kind = Literal["logistic", "gradient_boosting", "forest"]
Serialization = Literal["skops", "cloudpickle"]

_BLOCK_ROWS = 250_000
_TRAINING_ROWS = 20_000
_THAL = ["normal", "fixed", "reversible", "1", "2"]
_THAL_SHARES = [0.50, 0.30, 0.08, 0.06, 0.06]
# Types inside these models that skops loads only when told to trust them.
_TRUSTED_TYPES: dict[Kind, list[str]] = {
    "logistic": [],
    "gradient_boosting": ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
    "forest": ["sklearn.tree._tree.Tree"],
}


def heart_frame(rows: int, seed: int = 0) -> pd.DataFrame:
    """Return that many made-up patients; the same rows and seed give the same patients."""
    return pd.concat([_block_frame(block) for block in _blocks(rows, seed)], ignore_index=True)


def heart_target(frame: pd.DataFrame) -> pd.Series:
    """Say for each patient whether the disease is present: mostly a weighted sum, partly what only trees can learn."""
    risk = (
        0.05 * (frame["age"] - 54)
        + 0.8 * (frame["sex"] - 0.6)
        + 0.5 * (frame["cp"] - 2)
        + 0.01 * (frame["trestbps"] - 130)
        + 0.004 * (frame["chol"] - 245)
        - 0.03 * (frame["thalach"] - 150)
        + 0.9 * frame["exang"]
        + 0.6 * (frame["oldpeak"] - 1.2)
        + 0.8 * (frame["ca"] - 0.7)
        + 1.2 * (frame["thal"] == "reversible")
        + 1.5 * ((frame["chol"] > 280) ^ (frame["age"] < 50))
        # Stands in for noise and still follows from the patient alone.
        + ((7 * frame["chol"] + 13 * frame["thalach"] + 29 * frame["trestbps"]) % 41 - 20) / 20
    )
    return (risk > 0.5).astype("int64").rename("target")


def save_heart_model(
    path: str | os.PathLike[str],
    *,
    kind: Kind = "logistic",
    serialization: Serialization | None = None,
    seed: int = 0,
) -> Path:
    """Train a pipeline on made-up patients and save it as an MLflow model with a signature; return its folder.

    Without a serialization it is the form that MLflow advises: skops, which its older releases do not know.
    """
    # Imported here, because writing CSV needs none of it and it costs seconds.
    import mlflow.sklearn
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if serialization is None:
        serialization = "skops" if hasattr(mlflow.sklearn, "SERIALIZATION_FORMAT_SKOPS") else "cloudpickle"
    frame = heart_frame(_TRAINING_ROWS, seed)
    # On a busy machine the threads of gradient boosting wait for each other: 7 s instead of 0.7 s.
    with threadpool_limits(1):
        model = _pipeline(kind, seed).fit(frame, heart_target(frame))
    types = {"oldpeak": DataType.double, "thal": DataType.string}
    inputs: list[ColSpec | TensorSpec] = [ColSpec(types.get(name, DataType.long), name) for name in COLUMNS]
    packages = ["mlflow", "pandas", "numpy", "scikit-learn", serialization]
    mlflow.sklearn.save_model(
        model,
        os.fspath(path),
        serialization_format=serialization,
        **({"skops_trusted_types": _TRUSTED_TYPES[kind]} if serialization == "skops" else {}),
        signature=ModelSignature(inputs=Schema(inputs), outputs=Schema([ColSpec(DataType.long)])),
        # Named here, because MLflow would otherwise load the model in another process to find them out.
        pip_requirements=[f"{package}=={version(package)}" for package in packages],
    )
    return Path(path)


def write_heart_csv(path: str | os.PathLike[str], rows: int, seed: int = 0, header: bool = True) -> None:
    """Write what `heart_frame` returns as CSV, about 39 bytes a row, holding one block of rows in memory."""
    options = csv.WriteOptions(include_header=False, quoting_style="none")
    with open(path, "wb") as file:
        if header:
            file.write((",".join(COLUMNS) + "\n").encode())
        for block in _blocks(rows, seed):
            csv.write_csv(_block_table(block), file, options)


def main(arguments: list[str] | None = None) -> None:
    """Write the sample model and the sample files into a folder."""
    parser = argparse.ArgumentParser(prog="python -m scoring.demo", description=main.__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--rows", type=int, default=5000, help="rows of each file")
    options = parser.parse_args(arguments)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

    data = options.folder / "heart-data"
    data.mkdir(parents=True, exist_ok=True)
    for number in range(options.files):
        write_heart_csv(data / f"heart-{number:03}.csv", options.rows, seed=number + 1)
    model = options.folder / "heart-model"
    if not (model / "MLmodel").exists():
        save_heart_model(model)


def _blocks(rows: int, seed: int) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    """Yield the columns of consecutive patients, a block at a time; `oldpeak` in tenths, `thal` as its number."""
    for number, start in enumerate(range(0, max(rows, 1), _BLOCK_ROWS)):
        yield _draw(min(_BLOCK_ROWS, rows - start), np.random.default_rng([seed, number]))


def _draw(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    def normal(mean: float, deviation: float, lowest: int, highest: int) -> np.ndarray[Any, Any]:
        drawn: np.ndarray[Any, Any] = rng.standard_normal(rows, dtype=np.float32) * deviation + mean
        return drawn.clip(lowest, highest).astype(np.int64)

    def choice(shares: list[float]) -> np.ndarray[Any, Any]:
        return np.searchsorted(np.cumsum(shares)[:-1], rng.random(rows), side="right").astype(np.int64)

    age = normal(54.5, 9, 29, 77)
    return {
        "age": age,
        "sex": choice([0.32, 0.68]),
        "cp": choice([0.08, 0.16, 0.28, 0.48]),
        "trestbps": normal(132, 17, 94, 200),
        "chol": normal(247, 50, 126, 564),
        "fbs": choice([0.85, 0.15]),
        "restecg": choice([0.49, 0.02, 0.49]),
        "thalach": np.clip(normal(205, 21, 80, 250) - age, 71, 202),
        "exang": choice([0.67, 0.33]),
        "oldpeak": np.clip(normal(8, 14, -40, 62), 0, 62),
        "slope": choice([0.0, 0.47, 0.46, 0.07]),
        "ca": choice([0.58, 0.22, 0.13, 0.07]),
        "thal": choice(_THAL_SHARES),
    }


def _block_frame(block: dict[str, np.ndarray[Any, Any]]) -> pd.DataFrame:
    thal = pd.Series(np.array(_THAL, dtype=object)[block["thal"]], dtype="str")
    return pd.DataFrame({**block, "oldpeak": block["oldpeak"] / 10, "thal": thal})


def _block_table(block: dict[str, np.ndarray[Any, Any]]) -> pa.Table:
    # Looked up as text, because the Arrow writer would write 1.0 as 1.
    tenths = pa.array([f"{tenth / 10}" for tenth in range(63)])
    columns = {name: pa.array(values) for name, values in block.items()}
    columns["oldpeak"] = tenths.take(columns["oldpeak"])
    columns["thal"] = pa.array(_THAL).take(columns["thal"])
    return pa.table(columns)


def _pipeline(kind: Kind, seed: int) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    estimators = {
        "logistic": LogisticRegression(max_iter=500),
        "gradient_boosting": HistGradientBoostingClassifier(max_iter=300, early_stopping=False, random_state=seed),
        "forest": RandomForestClassifier(n_estimators=50, max_depth=8, random_state=seed),
    }
    columns = ColumnTransformer(
        [
            ("measured", StandardScaler(), MEASURED),
            ("coded", OneHotEncoder(handle_unknown="ignore", sparse_output=False), CODED),
        ]
    )
    return Pipeline([("columns", columns), ("estimator", estimators[kind])])


if __name__ == "__main__":
    main()
