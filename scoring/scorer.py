"""A loaded model, able to score."""

from __future__ import annotations

from typing import Any, Protocol

import numpy.typing as npt
import pyarrow as pa

from scoring.specs import ColumnSpec, ScorerSpec

__all__ = ["Scorer", "load"]


class Scorer(Protocol):
    """What a worker holds: it turns rows into predictions.

    Attributes:
        classes: what the columns of a two-dimensional prediction stand for, where that is known.
    """

    classes: tuple[str, ...]

    def columns(self, header: tuple[str, ...], sample: pa.Table | None) -> tuple[ColumnSpec, ...] | None:
        """Say which columns the model wants: by its signature, else by a header and text; None where they lack."""
        ...

    def predict(self, rows: pa.Table | npt.NDArray[Any]) -> Any:
        """Predict for the rows of a table of the columns wanted, or for one image."""
        ...

    def kind(self, column: str) -> str | None:
        """Name the type by which an output column is written, where the signature has one."""
        ...


def load(spec: ScorerSpec) -> Scorer:
    """Load a model once.

    Raises:
        ModelLoadError: it cannot be loaded or not used so.
    """
    from scoring.mlflow_model import MlflowModel

    return MlflowModel(spec)
