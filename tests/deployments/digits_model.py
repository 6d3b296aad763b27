"""An MLflow model as code: it tells digits in colour images."""

import mlflow
import numpy as np
import pandas as pd


class Digits(mlflow.pyfunc.PythonModel):
    """What MLflow loads."""

    def load_context(self, context: object) -> None:
        """Load the classifier."""
        import joblib

        self.classifier = joblib.load(context.artifacts["classifier"])

    def predict(self, context: object, model_input: np.ndarray) -> object:  # noqa: ARG002 - MLflow before 2.20 wants it
        """Tell the digit on each image."""
        assert model_input.dtype == np.uint8
        grey = model_input[..., 0].reshape(len(model_input), -1).astype(float)
        probabilities = self.classifier.predict_proba(grey)
        return pd.DataFrame({"digit": probabilities.argmax(axis=1), "probability": probabilities.max(axis=1)})


mlflow.models.set_model(Digits())
