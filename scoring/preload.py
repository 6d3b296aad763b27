"""Import what a model or a scoring script needs, once, before workers are forked."""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import re
import sys

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
    narwhals = sys.modules.get("narwhals.stable.v2")
    if narwhals is not None and "pandas" in sys.modules:
        # scikit-learn's way of looking at a frame: it imports what it needs for one of pandas when it meets the first
        with contextlib.suppress(Exception):
            narwhals.from_native(sys.modules["pandas"].DataFrame())


def _modules_for(model_path: str) -> list[str]:
    """Name MLflow, the readers and writers, and the modules that a model's files name."""
    names = ["mlflow.pyfunc", "scoring.mlflow_model", "scoring.cell_score", "pandas", "pyarrow.pandas_compat"]
    files = [os.path.join(folder, file) for folder, _, files in os.walk(model_path) for file in files]
    names += _modules_of(model_path, files)
    if any(file.endswith(".skops") for file in files):
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


def _modules_of(model_path: str, files: list[str]) -> list[str]:
    """Find the flavor's module and those of its library that the model's files name; of models inside of it, too.

    A Python model often holds another: where that is one of scikit-learn, its workers would each import all of that,
    1.3 s of CPU.
    """
    own = os.path.join(model_path, "MLmodel")
    inner = {_loader_of(file) for file in files if os.path.basename(file) == "MLmodel" and file != own}
    loaders = [_loader_of(own), *sorted(loader for loader in inner if _library(loader) in _KNOWN)]
    libraries = sorted({_library(loader) for loader in loaders} - {""})
    found: set[str] = set()
    for file in files:
        if file.endswith((".pkl", ".skops", ".json", ".joblib")):
            found |= _names_in(file, libraries)
    return [*filter(None, loaders), *sorted(found)]


def _loader_of(mlmodel: str) -> str:
    try:
        with open(mlmodel, encoding="utf-8") as source:
            match = re.search(r"loader_module:\s*([\w.]+)", source.read())
    except (OSError, ValueError):
        return ""
    return match[1] if match else ""


def _library(loader: str) -> str:
    return loader.rpartition(".")[2]


def _names_in(path: str, packages: list[str]) -> set[str]:
    try:
        with open(path, "rb") as source:
            head = source.read(_SCAN_BYTES)
    except OSError:
        return set()
    return {
        name.decode()
        for package in packages
        for name in re.findall(rb"\b" + package.encode() + rb"(?:\.[a-z_]\w*)+", head)
    }
