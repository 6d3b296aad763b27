"""A model, as code, that answers with what it was given: any difference in what is read is one in what is written."""

import mlflow
import pandas as pd


def echo(frame: pd.DataFrame) -> pd.DataFrame:
    """Say of each row how many rows came with it, and its values with their types."""
    kinds = " ".join(f"{name}:{dtype}" for name, dtype in frame.dtypes.items())
    rows = frame.reset_index(drop=True).astype(object).itertuples(index=False, name=None)
    return pd.DataFrame({"rows": len(frame), "kinds": kinds, "values": [repr(row) for row in rows]})


class EchoModel(mlflow.pyfunc.PythonModel):
    """What MLflow loads."""

    def predict(self, context: object, model_input: pd.DataFrame) -> pd.DataFrame:  # noqa: ARG002 - MLflow's names
        """Answer with what was given."""
        return echo(model_input)


if hasattr(mlflow.models, "set_model"):  # before 2.12.2 there was none, and this module is imported, too
    mlflow.models.set_model(EchoModel())
