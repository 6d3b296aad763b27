"""Save the models of this folder, and write the files that make them misbehave."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from tests.old_releases import column, save_code


def save_fault(path: Path, fault: str, columns: list[tuple[str, str]], params: dict[str, Any] | None = None) -> Path:
    """Save a model of this folder with a signature; a type that ends in ``?`` makes a column optional."""
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema

    inputs = [column(kind.removesuffix("?"), name, required=not kind.endswith("?")) for name, kind in columns]
    kinds = {float: DataType.double, str: DataType.string, int: DataType.long}
    specs = [ParamSpec(key, kinds[type(value)], value) for key, value in (params or {}).items()]
    with warnings.catch_warnings():
        # advice on signatures and type hints, given whatever the model has of them
        warnings.simplefilter("ignore", UserWarning)
        return save_code(
            path,
            Path(__file__).with_name(f"{fault}.py"),
            signature=ModelSignature(inputs=Schema(inputs), params=ParamSchema(specs) if specs else None),
        )


def write_actions(path: Path, *actions: str) -> Path:
    """Write a file for the model `by_row`: a row for each action, ``action@mark`` for one with a mark."""
    rows = [f"{value},{action if '@' in action else action + '@'}" for value, action in enumerate(actions)]
    path.write_text("\n".join(["value,action,mark", *rows]).replace("@", ",") + "\n")
    return path
