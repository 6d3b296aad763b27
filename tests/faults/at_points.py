"""A well-behaved model, as code, that tells where it is, so that `tests/crash_points.py` can make it fail there."""

import sys

import mlflow
import pandas as pd


class AtPoints(mlflow.pyfunc.PythonModel):
    """What MLflow loads: it answers twice the value, and how many rows came with it."""

    def load_context(self, context: object) -> None:  # noqa: ARG002 (MLflow calls it so)
        """Tell that it is loaded."""
        sys.audit("crash.load", "model")

    def predict(self, context: object, model_input: pd.DataFrame) -> pd.DataFrame:  # noqa: ARG002 - MLflow before 2.20 wants it
        """Tell which rows are scored, then answer."""
        values = model_input["value"]
        sys.audit("crash.predict", f" {' '.join(map(str, values))} ")
        return pd.DataFrame({"twice": values * 2, "rows": len(values)})


mlflow.models.set_model(AtPoints())
