"""Make models and inputs of which some rows cannot be scored, beside the calm ones they are compared with."""

import os
import signal
from pathlib import Path

from scoring.demo import COLUMNS, NUMBERS

POISON_AGE = -1


def save_brittle_model(path: Path, inner: Path) -> None:
    """Save a model that asks another, and dies of a segmentation fault where it meets a patient of a certain age."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    long_or_double = [
        ColSpec(DataType.double if name == "oldpeak" else DataType.long, name) for name in NUMBERS
    ]
    columns = [*long_or_double, *(ColSpec(DataType.string, name) for name in COLUMNS[len(NUMBERS) :])]
    mlflow.pyfunc.save_model(
        str(path),
        python_model=__file__,
        artifacts={"inner": str(inner)},
        signature=ModelSignature(inputs=Schema(columns)),
        pip_requirements=[],
    )


def poison_row(calm: Path, poisoned: Path, row: int) -> None:
    """Copy a file, with one patient of that age."""
    with open(calm) as lines, open(poisoned, "w") as out:
        out.write(next(lines))
        out.writelines(
            line if number != row else f"{POISON_AGE},{line.split(',', 1)[1]}" for number, line in enumerate(lines)
        )


def blank_values(calm: Path, blanked: Path, column: str, *, every: int) -> None:
    """Copy a file, with one value in so many missing."""
    with open(calm) as lines, open(blanked, "w") as out:
        header = next(lines)
        place = header.strip().split(",").index(column)
        out.write(header)
        for number, line in enumerate(lines):
            if number % every == every // 2:
                fields = line.split(",")
                fields[place] = ""
                out.write(",".join(fields))
            else:
                out.write(line)


def _set_model() -> None:
    """Be the code of the model."""
    import mlflow
    import pandas as pd

    class Brittle(mlflow.pyfunc.PythonModel):
        """What MLflow loads."""

        def load_context(self, context: object) -> None:
            """Load the model inside."""
            self.inner = mlflow.pyfunc.load_model(context.artifacts["inner"])  # type: ignore[attr-defined]

        def predict(self, model_input: pd.DataFrame) -> object:
            """Ask it, or die."""
            if (model_input["age"] == POISON_AGE).any():
                os.kill(os.getpid(), signal.SIGSEGV)
            return self.inner.predict(model_input)

    mlflow.models.set_model(Brittle())


if __name__ != "benchmarks.poison":
    _set_model()
