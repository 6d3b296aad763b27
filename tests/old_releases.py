"""What tests use of libraries and their older releases lack or call otherwise; constraints-floor.txt has the oldest."""

from __future__ import annotations

import inspect
import os
import runpy
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

MLFLOW = Version(version("mlflow"))
PANDAS = Version(version("pandas"))

ISO: dict[str, Any] = {"format": "ISO8601"} if Version("2") <= PANDAS else {}
"""Options of `pandas.to_datetime` for ISO dates of any precision: before 2.0 it needs none."""

needs_skops_flavor = pytest.mark.skipif(Version("3") > MLFLOW, reason="MLflow before 3 saves nothing with skops")
SERIALIZATIONS = [pytest.param("skops", marks=needs_skops_flavor), "cloudpickle"]
"""How a scikit-learn model may be saved."""


def column(kind: Any, name: str, *, required: bool = True) -> Any:
    """Make a column of a signature; before 2.10 one that may be absent was called optional."""
    from mlflow.types import ColSpec

    if "required" in inspect.signature(ColSpec).parameters:
        return ColSpec(kind, name, required=required)
    return ColSpec(kind, name, optional=not required)


def arrays(kind: str, name: str | None = None) -> list[Any]:
    """Return a column of arrays alone, or nothing where there is no such thing: before 2.10."""
    from mlflow.types import ColSpec, schema

    return [ColSpec(schema.Array(kind), name)] if hasattr(schema, "Array") else []


def inner(model: Any) -> Any:
    """Return the scikit-learn model that a pyfunc model holds; before 2.14 MLflow had no verb for it."""
    return model.get_raw_model() if hasattr(model, "get_raw_model") else model._model_impl.sklearn_model  # noqa: SLF001


def save_code(
    folder: str | os.PathLike[str], code: str | os.PathLike[str], *, code_paths: Sequence[str] = (), **options: Any
) -> Path:
    """Save a Python file that calls ``mlflow.models.set_model`` as a model; before 2.12.2 pickle its object."""
    import mlflow.pyfunc

    name = "code_paths" if "code_paths" in inspect.signature(mlflow.pyfunc.save_model).parameters else "code_path"
    with_paths = {name: list(code_paths)} if code_paths else {}
    model: Any = os.fspath(code) if Version("2.12.2") <= MLFLOW else _model_of(Path(code))
    mlflow.pyfunc.save_model(
        os.fspath(folder), python_model=model, **{"pip_requirements": [], **with_paths, **options}
    )
    return Path(folder)


def _model_of(code: Path) -> Any:
    import mlflow.models

    given: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow.models, "set_model", given.append, raising=False)
        # a module that nobody can import later: so cloudpickle takes the class along
        runpy.run_path(str(code), run_name="code_of_a_model")
    return given[-1]
