"""A model, as code, that holds so much memory as it is told to, and takes more for some rows."""

import os
import time
from pathlib import Path

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd

SLOW_S = 0.5


def taken(mebibytes: int) -> npt.NDArray[np.uint8]:
    """Take memory, every page of it, in steps that can be watched."""
    whole = np.empty(mebibytes * 2**20, np.uint8)
    for start in range(0, len(whole), 16 * 2**20):
        whole[start : start + 16 * 2**20 : 4096] = 1
    return whole


class Hungry(mlflow.pyfunc.PythonModel):
    """What MLflow loads: it answers twice the value."""

    def load_context(self, context: object) -> None:
        """Hold what the configuration says; count loads where it names a folder, and be slow after three of them."""
        config = context.model_config  # type: ignore[attr-defined]
        if config["loads"]:
            # each load leaves a file there
            Path(config["loads"], str(os.getpid())).touch()
            time.sleep(SLOW_S * (len(os.listdir(config["loads"])) > 3))
        self.held = taken(int(config["hold_mib"]))

    def predict(self, context: object, model_input: pd.DataFrame) -> object:  # noqa: ARG002 - MLflow before 2.20 wants it
        """Take, and let go of, what all rows want together, but for the hungriest one alone where that is so much."""
        wanted = model_input["mib"]
        taken(int(wanted.sum() if wanted.max() == 1 else wanted.max()))
        return model_input["value"] * 2


mlflow.models.set_model(Hungry())
