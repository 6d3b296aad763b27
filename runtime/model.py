"""The model of a job: found, fetched where it is remote, and named by its content."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import ModelLoadError, UsageError
from runtime.logs import OVERVIEW
from scoring.files import local_path

__all__ = [
    "OF_A_JOB", "ModelFolder", "code_digest", "fetch_model", "find_model", "model_digest", "read_mlmodel",
    "signature_names",
]  # fmt: skip

REMOTE = ("models:/", "runs:/", "mlflow-artifacts:/")
IGNORED = frozenset({"__pycache__", ".DS_Store", ".git", "registered_model_meta"})
"""What a load or a look at a model may leave in its folder, and by which name MLflow fetched it."""
OF_A_JOB = re.compile(r"_.+\.(receipt\.json|quarantine\.jsonl)|[._].+\.staging")
"""What a job writes beside its score file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model on local disk.

    Attributes:
        uri: as it was asked for.
        path: the folder that has the ``MLmodel`` file.
    """

    uri: str
    path: str


def is_remote(uri: str) -> bool:
    """Tell whether MLflow must fetch the model."""
    return uri.startswith(REMOTE)


def find_model(uri: str) -> ModelFolder:
    """Find a model on local disk.

    Raises:
        UsageError: there is none; the message says what is there instead.
    """
    # MLflow finds the files of a model outside its folder where that is a link
    path = os.path.realpath(local_path(uri) if uri.startswith("file:") else os.path.expanduser(uri))
    if not os.path.exists(path):
        raise UsageError(f"{uri}: no such model; give a folder with an MLmodel file, or models:/name/version")
    if os.path.isfile(path):
        if os.path.basename(path) == "MLmodel":
            return ModelFolder(uri=uri, path=os.path.dirname(path))
        if path.lower().endswith((".pkl", ".pickle", ".joblib")):
            raise UsageError(
                f"{uri}: a bare pickle says nothing of its columns; wrap it once into an MLflow model:\n"
                f"  import joblib, mlflow; model = joblib.load({uri!r})\n"
                "  mlflow.sklearn.save_model(model, 'model', "
                "signature=mlflow.models.infer_signature(X, model.predict(X)))"
            )
        raise UsageError(f"{uri}: a file, but a model is a folder with an MLmodel file")
    if not os.path.exists(os.path.join(path, "MLmodel")):
        inside = [name for name in sorted(os.listdir(path)) if os.path.exists(os.path.join(path, name, "MLmodel"))]
        hint = f"; did you mean {os.path.join(uri, inside[0])}?" if inside else ""
        raise UsageError(f"{uri}: the folder has no MLmodel file, so it is no MLflow model{hint}")
    return ModelFolder(uri=uri, path=path)


def fetch_model(uri: str, folder: str) -> ModelFolder:
    """Fetch a model by MLflow, in a child process with the caller's ``MLFLOW_*`` variables.

    Raises:
        ModelLoadError: MLflow cannot fetch it.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-m", "scoring.fetch_model", uri, folder],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelLoadError(f"{uri}: the model cannot be fetched: {reason}")
    return ModelFolder(uri=uri, path=find_model(done.stdout.strip().splitlines()[-1]).path)


def model_digest(path: str, written: Collection[str] = ()) -> str:
    """Digest the content of a folder or file: names and bytes of files, in order (sha256, hex).

    What jobs write is no content, wherever in the folder it lies.

    Args:
        path: the folder or file.
        written: files and folders that the job writes.

    Raises:
        UsageError: one of them cannot be read, or is no regular file.
    """
    if os.path.isdir(path):
        return _digest(path, _files_below(path, written))
    # a model may be a single file, where a script loads it
    return _digest(path, [path])


def code_digest(path: str, written: Collection[str]) -> str:
    """Digest the content of a folder of code, as `model_digest` does; what is no regular file is no code.

    Editors lock a file by a link to nothing, and programs leave pipes.

    Args:
        path: the folder.
        written: files and folders that the job writes.

    Raises:
        UsageError: a file cannot be read.
    """
    return _digest(path, (file for file in _files_below(path, written) if os.path.isfile(file)))


def _files_below(path: str, written: Collection[str]) -> Iterator[str]:
    """Yield the files of a folder, without what a look at it leaves, and without what jobs write."""
    passed_over = {os.path.realpath(each) for each in written}
    for folder, folders, files in os.walk(path):
        if folder != path and _is_of_a_job(files, folders):
            folders.clear()
            continue
        place = os.path.realpath(folder)
        folders[:], kept = (
            sorted(
                name
                for name in names
                if name not in IGNORED and not OF_A_JOB.fullmatch(name) and os.path.join(place, name) not in passed_over
            )
            for names in (folders, files)
        )
        yield from (os.path.join(folder, name) for name in kept)


def _is_of_a_job(files: Sequence[str], folders: Sequence[str]) -> bool:
    """Tell whether a folder holds the output or the logs of a job, and no code beside."""
    if any(name.endswith(".py") for name in files):
        return False
    return OVERVIEW in files or any(OF_A_JOB.fullmatch(name) for name in (*files, *folders))


def _digest(path: str, files: Iterable[str]) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(os.path.relpath(file, path).encode("utf-8", "surrogateescape") + b"\0")
        try:
            if os.path.exists(file) and not os.path.isfile(file):
                # to open a pipe would wait for ever
                raise UsageError(f"{file}: it is no regular file; take it away, or copy it to one")
            with open(file, "rb") as source:
                whole.update(hashlib.file_digest(source, "sha256").digest())
        except OSError as error:
            raise UsageError(f"{file}: cannot be read: {error.strerror}") from None
    return whole.hexdigest()


def read_mlmodel(path: str) -> dict[str, Any]:
    """Read the ``MLmodel`` file of a model folder.

    Raises:
        UsageError: it is damaged, or the model has no python_function flavor.
    """
    import yaml

    file = os.path.join(path, "MLmodel")
    try:
        with open(file, encoding="utf-8") as source:
            content = yaml.load(source, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (a safe loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{file}: cannot be read: {reason}") from None
    if not isinstance(content, dict) or "python_function" not in (content.get("flavors") or {}):
        raise UsageError(f"{file}: the model has no python_function flavor, so nothing here can call it")
    return content


def signature_names(mlmodel: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the inputs in a signature, in order; none where it names none."""
    try:
        inputs = json.loads((mlmodel.get("signature") or {}).get("inputs") or "[]")
        return tuple(column["name"] for column in inputs)
    except (ValueError, KeyError, TypeError):
        return ()
