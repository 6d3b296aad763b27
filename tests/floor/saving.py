"""Save small models with the libraries of this interpreter: ``python -m tests.floor.saving FOLDER``."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

LOADER = '''"""A model in code and data of its own, as a flavor of one's own has it."""

import json
from pathlib import Path


class Weighted:
    """Adds what is weighted; a missing value counts as nothing."""

    def __init__(self, weights):
        self.weights = weights

    def predict(self, frame):
        """Predict."""
        return sum(frame[name].fillna(0) * weight for name, weight in self.weights.items())


def _load_pyfunc(path):
    return Weighted(json.loads(Path(path).read_text()))
'''


def save_weighted(folder: Path, *, optional: bool = False) -> None:
    """Save a model of code and data, perhaps with a column that may be absent: nothing in it depends on a library."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    from tests.old_releases import column

    paths = "code_paths" if "code_paths" in inspect.signature(mlflow.pyfunc.save_model).parameters else "code_path"
    inputs = [column(DataType.double, "a"), column(DataType.double, "b", required=not optional)]
    with TemporaryDirectory() as made:
        (Path(made) / "weighted_sum.py").write_text(LOADER)
        (Path(made) / "weights.json").write_text('{"a": 2.0, "b": 10.0}\n')
        mlflow.pyfunc.save_model(
            os.fspath(folder),
            loader_module="weighted_sum",
            data_path=str(Path(made) / "weights.json"),
            **{paths: [str(Path(made) / "weighted_sum.py")]},
            signature=ModelSignature(inputs=Schema(inputs), outputs=Schema([ColSpec(DataType.double)])),
            pip_requirements=["mlflow"],
        )


def save_sklearn(folder: Path, kind: str, *, signed: bool = True) -> None:
    """Save a classifier of two numbers as a pickle."""
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    frame = pd.DataFrame({"a": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], "b": [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]})
    label = (frame["a"] > 0.5).astype("int64")
    estimator = DecisionTreeClassifier(random_state=0) if kind == "tree" else LogisticRegression()
    model = make_pipeline(StandardScaler(), estimator).fit(frame, label)
    mlflow.sklearn.save_model(
        model,
        os.fspath(folder),
        serialization_format="cloudpickle",
        signature=infer_signature(frame, model.predict(frame)) if signed else None,
    )


def main(folder: Path) -> None:
    """Save all of them."""
    warnings.simplefilter("ignore")
    folder.mkdir(parents=True)
    save_weighted(folder / "weighted")
    save_weighted(folder / "optional", optional=True)
    save_sklearn(folder / "linear", "linear")
    save_sklearn(folder / "bare", "linear", signed=False)
    save_sklearn(folder / "tree", "tree")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
