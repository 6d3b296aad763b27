"""The places that the options of a job name, found by ``workspace.yml`` where they need it (contract 7.1 to 7.3)."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from runtime.errors import UsageError
from runtime.uris import (
    AssetId,
    AssetName,
    BlobPath,
    DatastorePath,
    LocalPath,
    PublicFile,
    Uri,
    parse_uri,
    split_output,
)
from runtime.workspace import Purpose, Workspace, declared_input_type, read_workspace, resolve

__all__ = ["FindWorkspace", "find_input", "find_output", "find_workspace", "given_model", "locate", "located_options"]

FindWorkspace = Callable[[], Workspace | None]

LIKE_AN_ASSET = re.compile(r"(?!file:|folder:)[^:@/\\*?\[\s]+[:@][^:@/\\*?\[\s]+", re.IGNORECASE)


def located_options(given: dict[str, Any]) -> dict[str, Any]:
    """Find what the URIs among the options of a model stand for, by ``workspace.yml``; leave paths as they are.

    Args:
        given: options as `runtime.run` takes them, without a deployment.

    Raises:
        UsageError: one of them cannot be read, or stands for nothing that is known.
    """
    options = {name: value for name, value in given.items() if name != "workspace"}
    workspace = find_workspace(given.get("workspace"), (os.getcwd(),))
    options["model"] = given_model(given.get("model"), workspace)
    if _is_elsewhere(given.get("input")):
        options |= find_input(os.fspath(given["input"]), given.get("input_type") or "", workspace)
    if _is_elsewhere(given.get("output")):
        options |= find_output(
            os.fspath(given["output"]), given.get("output_file_name") or "predictions.csv", workspace
        )
    return options


def find_workspace(given: str | None, folders: Sequence[str]) -> FindWorkspace:
    """Say where the mapping comes from: that which was named, else the first that lies in one of the folders.

    The latter is read when a name must be found: Azure ML's own ``workspace.yml``, which makes a workspace, may lie
    there as well.
    """
    if given:
        named = read_workspace(os.fspath(given))
        return lambda: named

    @functools.cache
    def find() -> Workspace | None:
        paths = (os.path.join(folder, "workspace.yml") for folder in folders)
        return next((read_workspace(path) for path in paths if os.path.isfile(path)), None)

    return find


def _resolved(uri: Uri, workspace: FindWorkspace, purpose: Purpose) -> Uri:
    named = isinstance(uri, AssetName | AssetId | DatastorePath)
    return resolve(uri, workspace() if named else None, purpose=purpose)


def locate(text: str, workspace: FindWorkspace, purpose: Purpose, *, relative_to: str | None = None) -> str:
    """Find what a path or URI stands for, and give its local path or what MLflow takes."""
    return _location(_resolved(parse_uri(text, relative_to=relative_to), workspace, purpose), purpose)


def _location(uri: Uri, purpose: Purpose) -> str:
    """Give the local path of a URI that was resolved; the one place that refuses storage while it is not served."""
    match uri:
        case LocalPath():
            return uri.path
        case BlobPath() | PublicFile():
            done = "written" if purpose == "output" else "read"
            raise UsageError(f"{purpose} {uri}: storage is not {done} yet; give a local path or a file: URL")
    return str(uri)


def _is_elsewhere(text: str | os.PathLike[str] | None) -> bool:
    """Tell whether a text names something else than a path on this machine, which is taken as it is."""
    plain = os.fspath(text or "")
    return bool(plain) and (plain.lower().startswith("folder:") or not isinstance(parse_uri(plain), LocalPath))


def given_model(text: str | os.PathLike[str] | None, workspace: FindWorkspace) -> str:
    """Give the model of the option: a path as it is, else what it stands for; nothing where none was given."""
    return locate(os.fspath(text or ""), workspace, "model") if _is_elsewhere(text) else os.fspath(text or "")


def find_input(text: str, input_type: str, workspace: FindWorkspace) -> dict[str, str]:
    """Find the input; where nobody says whether it is a file or a folder, its data asset may."""
    uri = parse_uri(text)
    if isinstance(uri, LocalPath) and LIKE_AN_ASSET.fullmatch(text) and not os.path.exists(uri.path):
        raise UsageError(f"input {text}: no such file or folder; a data asset is written azureml:{text}")
    place = _resolved(uri, workspace, "input")
    kind = input_type or (declared_input_type(uri, workspace()) if isinstance(uri, AssetName | AssetId) else "")
    return {"input": _location(place, "input"), "input_type": kind}


def find_output(output: str, name: str, workspace: FindWorkspace) -> dict[str, str]:
    """Find the folder and the file of the output (contract 6.4)."""
    if not output:
        return {"output": "", "output_file_name": name}
    # only what it stands for tells whether a folder is there
    folder, name = split_output(_resolved(parse_uri(output), workspace, "output"), name)
    return {"output": _location(folder, "output").rstrip("/") + "/", "output_file_name": name}
