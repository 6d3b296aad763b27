"""A model, as code, that does not load: `FAULT` in its environment says how it fails."""

import os
import signal

import mlflow
import pandas as pd


class OnLoad(mlflow.pyfunc.PythonModel):
    """What MLflow tries to load."""

    def load_context(self, context: object) -> None:  # noqa: ARG002 (MLflow calls it so)
        """Fail as asked for."""
        match os.environ.get("FAULT", "raise"):
            case "raise":
                raise ValueError("the weights are torn")
            case "exit":
                os._exit(3)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill others":
                # whoever comes first may load it
                try:
                    os.close(os.open(os.environ["MARK"], os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                except FileExistsError:
                    os.kill(os.getpid(), signal.SIGKILL)
            case "import":
                import a_module_that_nobody_has  # noqa: F401 (that is the fault)

    def predict(self, context: object, model_input: pd.DataFrame) -> object:  # noqa: ARG002 - MLflow before 2.20 wants it
        """Answer."""
        return model_input.iloc[:, 0]


mlflow.models.set_model(OnLoad())
