"""A model, as code, that does what its rows say: to their answer, to itself, or to its process."""

import ctypes
import os
import signal
import subprocess
import sys
import time

import mlflow
import numpy as np
import pandas as pd

FEW = 300
"""Rows of the action `few` that one call may hold."""


def act(action: str, mark: object) -> None:
    """Do what one row says; where it has a mark, a file that is not there yet, do so the first time only."""
    if isinstance(mark, str):
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return
    match action:
        case "raise":
            raise ValueError("no prediction for this row")
        case "exit":
            os._exit(3)
        case "sys.exit":
            sys.exit(4)
        case "segv":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "abort":
            os.abort()
        case "child":
            subprocess.Popen(["sleep", "600"])
        case "hang":
            time.sleep(600)
        case "slow":
            time.sleep(0.3)
        case "print":
            # by Python, and by what is below Python
            print("words of a model", flush=True)  # noqa: T201 (that is the fault)
            os.write(1, b"more words of a model\n")


class ByRow(mlflow.pyfunc.PythonModel):
    """What MLflow loads: it answers twice the value."""

    def predict(self, context: object, model_input: pd.DataFrame) -> object:  # noqa: ARG002 - MLflow before 2.20 wants it
        """Answer."""
        actions = model_input["action"]
        for action, mark in zip(actions, model_input["mark"], strict=True):
            act(action, mark)
        if (actions == "few").sum() > FEW:
            raise ValueError("too many rows at once")
        answer = model_input["value"] * 2
        if (actions == "short").any():
            return answer[1:]
        if (actions == "deep").any():
            return np.zeros((len(answer), 2, 2))
        if (actions == "columns").any():
            return pd.DataFrame({"label": answer, "score": 0.5})
        if (actions == "random").any():
            return np.random.default_rng().random(len(answer))
        if (actions == "mean").any():
            return answer - answer.mean()
        return answer


mlflow.models.set_model(ByRow())
