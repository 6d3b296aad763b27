"""The places that the options of a job name (contract 7.1 to 7.3).

Names are found by ``workspace.yml`` or the workspace itself. What lies on storage becomes an address without secret,
with what reaches it beside it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runtime.errors import UsageError
from runtime.options import OF_WORKSPACES
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

if TYPE_CHECKING:
    from runtime.management import AzureWorkspace

__all__ = ["Names", "find_input", "find_output", "given_model", "known_names", "locate", "located_options"]

LIKE_AN_ASSET = re.compile(r"(?!file:|folder:)[^:@/\\*?\[\s]+[:@][^:@/\\*?\[\s]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Who is asked what a name stands for: the mapping first, then the workspace itself; neither before it must be.

    Attributes:
        mapping: reads the mapping, if there is one.
        azure: gives the workspaces of Azure ML.
    """

    mapping: Callable[[], Workspace | None]
    azure: Callable[[], AzureWorkspace]


def located_options(given: dict[str, Any]) -> dict[str, Any]:
    """Find what the URIs among the options of a model stand for; leave paths as they are.

    Args:
        given: options as `runtime.run` takes them, without a deployment.

    Raises:
        UsageError: one of them cannot be read, or stands for nothing that is known, or no credential reaches it.
        InputError: the account of an input does not exist.
        InputBusyError: storage cannot be reached now.
        OutputBusyError: the workspace cannot be reached now.
    """
    options = {name: value for name, value in given.items() if name not in OF_WORKSPACES}
    names = known_names(given, (os.getcwd(),))
    options |= given_model(given.get("model"), names)
    if _is_elsewhere(given.get("input")):
        options |= find_input(os.fspath(given["input"]), given.get("input_type") or "", names)
    if _is_elsewhere(given.get("output")):
        options |= find_output(os.fspath(given["output"]), given.get("output_file_name") or "predictions.csv", names)
    return options


def known_names(given: Mapping[str, Any], folders: Sequence[str]) -> Names:
    """Say who knows names: the mapping that was named, else the first that lies in one of the folders; the workspace.

    The latter mapping is read when a name must be found: Azure ML's own ``workspace.yml``, which makes a workspace, may
    lie there as well.
    """
    mapping = given.get("workspace")
    named = read_workspace(os.fspath(mapping)) if mapping else None

    @functools.cache
    def find() -> Workspace | None:
        paths = (os.path.join(folder, "workspace.yml") for folder in folders)
        return named or next((read_workspace(path) for path in paths if os.path.isfile(path)), None)

    @functools.cache
    def azure() -> AzureWorkspace:
        from runtime.management import AzureWorkspace, workspace_of

        return AzureWorkspace(usual=workspace_of(given, os.environ), environ=os.environ)

    return Names(mapping=find, azure=azure)


def _resolved(uri: Uri, names: Names, purpose: Purpose) -> Uri:
    if isinstance(uri, AssetName | AssetId | DatastorePath):
        return resolve(uri, names.mapping(), purpose=purpose, directory=names.azure())
    return resolve(uri, None, purpose=purpose)


def locate(text: str, names: Names, purpose: Purpose, *, relative_to: str | None = None) -> dict[str, Any]:
    """Find what a path or URI stands for; see `_located`."""
    return _located(_resolved(parse_uri(text, relative_to=relative_to), names, purpose), purpose)


def _located(uri: Uri, purpose: Purpose) -> dict[str, Any]:
    """Give the options for a URI that was resolved: a local path, an address on storage, or what MLflow takes.

    Beside an address on storage ``…_access`` says how it is reached, and beside a public one ``input_query`` what stood
    behind its question mark: both may hold secrets, and the address holds none.
    """
    match uri:
        case LocalPath():
            return {purpose: uri.path}
        case BlobPath():
            from runtime.credentials import choose_access

            access = choose_access(uri, environ=os.environ, purpose=purpose)
            plain = replace(uri, account_url=access.account_url, kind="blob", sas="")
            return {purpose: str(plain), f"{purpose}_access": access}
        case PublicFile() if purpose == "input":
            return {purpose: uri.address, "input_query": uri.query}
        case PublicFile():
            raise UsageError(
                f"{purpose} {uri}: a folder there cannot be listed; download it and give its local path, or put it on "
                "Azure storage"
            )
    return {purpose: str(uri)}


def _is_elsewhere(text: str | os.PathLike[str] | None) -> bool:
    """Tell whether a text names something else than a path on this machine, which is taken as it is."""
    plain = os.fspath(text or "")
    return bool(plain) and (plain.lower().startswith("folder:") or not isinstance(parse_uri(plain), LocalPath))


def given_model(text: str | os.PathLike[str] | None, names: Names) -> dict[str, Any]:
    """Give the model of the option: a path as it is, else what it stands for; nothing where none was given."""
    return locate(os.fspath(text or ""), names, "model") if _is_elsewhere(text) else {"model": os.fspath(text or "")}


def find_input(text: str, input_type: str, names: Names) -> dict[str, Any]:
    """Find the input; where nobody says whether it is a file or a folder, its data asset may."""
    uri = parse_uri(text)
    if isinstance(uri, LocalPath) and LIKE_AN_ASSET.fullmatch(text) and not os.path.exists(uri.path):
        raise UsageError(f"input {text}: no such file or folder; a data asset is written azureml:{text}")
    place = _resolved(uri, names, "input")
    if not input_type and isinstance(uri, AssetName | AssetId):
        input_type = declared_input_type(uri, names.mapping(), names.azure())
    return {**_located(place, "input"), "input_type": input_type}


def find_output(output: str, name: str, names: Names) -> dict[str, Any]:
    """Find the folder and the file of the output (contract 6.4)."""
    if not output:
        return {"output": "", "output_file_name": name}
    # only what it stands for tells whether a folder is there
    folder, name = split_output(_resolved(parse_uri(output), names, "output"), name)
    found = _located(folder, "output")
    return {**found, "output": found["output"].rstrip("/") + "/", "output_file_name": name}
