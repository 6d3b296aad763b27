"""Import what a model or a scoring script needs, once, before workers are forked."""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import re

_SCAN_BYTES = 8 * 2**20
"""How much of each file of a model is searched for the names of modules."""


_KNOWN = frozenset({"joblib", "mlflow", "numpy", "pandas", "PIL", "pyarrow", "scipy", "sklearn"})
"""Libraries that may be imported before a fork; others may start threads or take hold of a device."""


def preload(path: str, *also: str) -> None:
    """Import what a model folder, or a scoring script, is going to need, and other modules by their names.

    What cannot be imported is left for the worker, which says what is missing.
    """
    names = _modules_of_script(path) if path.endswith(".py") else _modules_for(path)
    for name in (*names, *also):
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _modules_for(model_path: str) -> list[str]:
    """Name MLflow, the readers and writers, and the modules that a model's files name."""
    names = ["mlflow.pyfunc", "scoring.mlflow_model", "scoring.cell_score", "pandas"]
    names += _modules_of(model_path)
    if _has_skops(model_path):
        # it looks for each of 800 functions in each module imported before it: as the first of all it takes 0.2 s less
        names.insert(0, "skops.io")
    return names


def _modules_of_script(script: str) -> list[str]:
    """Name the well-known libraries that a script imports at its top."""
    try:
        with open(script, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):
        return []
    names = ["numpy", "pandas", "scoring.script"]
    for node in tree.body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return [name for name in names if name.split(".")[0] in _KNOWN or name == "scoring.script"]


def _modules_of(model_path: str) -> list[str]:
    """Find the flavor's module and those of its library that the model's files name."""
    try:
        with open(os.path.join(model_path, "MLmodel"), encoding="utf-8") as source:
            match = re.search(r"loader_module:\s*([\w.]+)", source.read())
    except OSError:
        return []
    if match is None:
        return []
    loader = match[1]
    package = loader.rpartition(".")[2]
    found: set[str] = set()
    for folder, _, files in os.walk(model_path):
        for file in files:
            if file.endswith((".pkl", ".skops", ".json", ".joblib")):
                found |= _names_in(os.path.join(folder, file), package)
    return [loader, *sorted(found)]


def _has_skops(model_path: str) -> bool:
    try:
        return any(file.endswith(".skops") for file in os.listdir(model_path))
    except OSError:
        return False


def _names_in(path: str, package: str) -> set[str]:
    try:
        with open(path, "rb") as source:
            head = source.read(_SCAN_BYTES)
    except OSError:
        return set()
    return {name.decode() for name in re.findall(rb"\b" + package.encode() + rb"(?:\.[a-z_]\w*)+", head)}
