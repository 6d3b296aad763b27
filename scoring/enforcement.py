"""Call a model without MLflow's enforcement of the signature, once that was seen to change nothing.

Cells are read by the signature: their frames have its columns in its order and of its types. MLflow checks and copies
each of them all the same, a tenth of a light model's time, and holds two copies while the model works. So the first
rows go through MLflow, and what would reach the model is looked at: where it is these rows as they were, frames of the
same columns and types go straight to it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["Conforming"]

FLAVORS = frozenset({"mlflow.sklearn", "mlflow.xgboost", "mlflow.lightgbm", "mlflow.catboost"})
"""Loader modules whose wrappers hand a frame to the model and do nothing else around it."""
WATCHED_ROWS = 100


class Conforming:
    """A pyfunc model as a function of frames.

    Args:
        model: as ``mlflow.pyfunc.load_model`` returned it.
        params: parameters of its ``predict``, if any.
    """

    def __init__(self, model: Any, params: dict[str, Any] | None) -> None:
        self._model = model
        self._predict = model.predict if params is None else functools.partial(model.predict, params=params)
        # of the metadata, for a model of MLflow 2.9 does not tell its loader module itself
        flavor = model.metadata.flavors.get("python_function", {}).get("loader_module")
        self._watched = flavor in FLAVORS and hasattr(model, "_predict_fn")
        self._direct: Callable[[Any], Any] | None = None
        self._types: Any = None

    def __call__(self, frame: Any) -> Any:
        """Predict for the rows of a frame."""
        # tensors, which are no frames, always go through MLflow
        if self._watched and hasattr(frame, "dtypes"):
            # what is raised of these rows is raised of all of them; a release that looks at predictions gets none here
            with suppress(Exception):
                self._watch(frame[:WATCHED_ROWS])
        if self._direct is not None and self._same_types(frame):
            return self._direct(frame)
        return self._predict(frame)

    def _same_types(self, frame: Any) -> bool:
        types = getattr(frame, "dtypes", None)
        return types is not None and bool(types.equals(self._types))

    def _watch(self, rows: Any) -> None:
        """See what MLflow passes on of some rows; the model is not called."""
        inner = self._model._predict_fn  # noqa: SLF001 (looked for in __init__; without it nothing is watched)
        passed: list[tuple[Any, dict[str, Any]]] = []

        @functools.wraps(inner)
        def see(data: Any, **options: Any) -> None:
            passed.append((data, options))

        self._watched = False
        self._model._predict_fn = see  # noqa: SLF001
        before = rows.copy()
        try:
            self._predict(rows)
        finally:
            self._model._predict_fn = inner  # noqa: SLF001
        if len(passed) == 1:
            data, options = passed[0]
            if type(data) is type(rows) and data.dtypes.equals(before.dtypes) and data.equals(before):
                self._types = before.dtypes
                self._direct = functools.partial(inner, **options)
