"""A well-behaved model, as code, with parameters: it answers with them, and with the types of what it was given."""

import mlflow
import pandas as pd


class WithParams(mlflow.pyfunc.PythonModel):
    """What MLflow loads."""

    def predict(
        self,
        context: object,  # noqa: ARG002 - MLflow before 2.20 wants it
        model_input: pd.DataFrame,
        params: dict | None = None,
    ) -> object:
        """Answer."""
        params = params or {}
        return pd.DataFrame(
            {
                "scaled": model_input["value"] * params.get("factor", 1.0),
                "name": params.get("name", "none"),
                "when": model_input["when"],
            }
        )


mlflow.models.set_model(WithParams())
