"""The workspace mapping: what names of datastores, data and models stand for where no workspace can be asked.

    datastores:
      workspaceblobstore: {type: azure_blob, account_name: acct, container_name: data}
      here: {path: ./store}
    data:
      heart: {"3": {type: uri_folder, path: azureml://datastores/here/paths/heart}}
    models:
      heart-model: {"1": ./model}

An entry may also be what `az ml datastore show`, `az ml data show` or `az ml model show` print, pasted as it is: as an
entry of its section, in a list, or as a YAML document of its own. Credentials in it are never kept.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime.deployment_yaml import read_documents
from runtime.errors import UsageError
from runtime.uris import (
    AssetId,
    AssetName,
    BlobPath,
    DatastorePath,
    JobOutput,
    LocalPath,
    RunArtifact,
    Uri,
    parse_uri,
)

__all__ = ["Purpose", "Workspace", "declared_input_type", "read_workspace", "resolve"]

Purpose = Literal["input", "output", "model", "code"]
SECTIONS = ("datastores", "data", "models")
DATASTORE_KEYS = (
    "path", "type", "account_name", "container_name", "filesystem", "endpoint", "protocol", "credentials", "name",
)  # fmt: skip
ASSET_KEYS = ("path", "type", "name", "version")
PASTED = frozenset({"id", "creation_context", "resource_group", "resourceGroup", "tags", "properties", "description"})
"""Keys that `az … show` prints beside those that matter."""
MOST_STEPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Datastore:
    """Where a datastore is: a folder on this machine, or a container of an account."""

    folder: str = ""
    account_url: str = ""
    container: str = ""
    kind: str = "blob"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """What one version of an asset stands for."""

    uri: Uri
    type: str = ""


@dataclass(slots=True)
class Workspace:
    """A workspace mapping, read.

    Attributes:
        file: where it stands.
        datastores: by name.
        data: by name and version.
        models: by name and version.
    """

    file: str
    datastores: dict[str, Datastore] = field(default_factory=dict)
    data: dict[str, dict[str, Asset]] = field(default_factory=dict)
    models: dict[str, dict[str, Asset]] = field(default_factory=dict)


def read_workspace(path: str) -> Workspace:
    """Read a workspace mapping.

    Raises:
        UsageError: it cannot be read, or an entry says nothing that is understood; the message names it.
    """
    workspace = Workspace(file=path)
    for document in read_documents(path):
        for entry in document if isinstance(document, list) else [document]:
            _take(workspace, entry)
    return workspace


def _take(workspace: Workspace, document: Any) -> None:
    """Take a document: a mapping of sections, or an asset pasted as it is."""
    file = workspace.file
    if document in (None, ""):
        return
    if not isinstance(document, dict):
        raise UsageError(f"{file}: must be a mapping with the keys {', '.join(SECTIONS)}")
    if "name" in document and not set(document) & set(SECTIONS):
        _take_pasted(workspace, document)
        return
    _known(file, "", document, SECTIONS)
    for section in SECTIONS:
        entries = document.get(section) or {}
        if isinstance(entries, list):
            for entry in entries:
                _take(workspace, entry)
            continue
        if not isinstance(entries, dict):
            raise UsageError(f"{file}: {section}: must be a mapping of names")
        for name, entry in entries.items():
            place = f"{section}.{name}"
            if section == "datastores":
                workspace.datastores[name] = _datastore(file, place, entry)
                continue
            assets = workspace.data if section == "data" else workspace.models
            assets.setdefault(name, {}).update(_versions(file, place, entry))


def _take_pasted(workspace: Workspace, entry: dict[str, Any]) -> None:
    name, kind = str(entry["name"]), str(entry.get("type", ""))
    if entry.get("account_name"):
        workspace.datastores[name] = _datastore(workspace.file, f"datastore {name}", entry)
    elif kind in ("uri_folder", "uri_file", "mltable"):
        workspace.data.setdefault(name, {}).update(_versions(workspace.file, f"data {name}", entry))
    elif kind.endswith("_model"):
        workspace.models.setdefault(name, {}).update(_versions(workspace.file, f"model {name}", entry))
    else:
        raise UsageError(
            f"{workspace.file}: {name}: neither a datastore (account_name), nor data (type uri_folder or uri_file), "
            "nor a model (type custom_model or mlflow_model)"
        )


def _known(file: str, place: str, entry: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            full = f"{place}.{key}" if place else key
            raise UsageError(f"{file}: {full}: unknown key{hint} (known: {', '.join(known)})")


def _datastore(file: str, place: str, entry: Any) -> Datastore:
    if isinstance(entry, str):
        entry = {"path": entry}
    if not isinstance(entry, dict):
        raise UsageError(f"{file}: {place}: must be a mapping with path, or with account_name and container_name")
    if not PASTED & set(entry):
        _known(file, place, entry, DATASTORE_KEYS)
    if entry.get("path"):
        folder = parse_uri(entry["path"], relative_to=_beside(file))
        if not isinstance(folder, LocalPath):
            raise UsageError(f"{file}: {place}.path: must be a local folder; storage has account_name, container_name")
        return Datastore(folder=folder.path)
    account, container = entry.get("account_name"), entry.get("container_name") or entry.get("filesystem")
    if not account or not container:
        raise UsageError(f"{file}: {place}: must have path, or account_name and container_name (or filesystem)")
    kind = "dfs" if "gen2" in str(entry.get("type", "")).lower() or entry.get("filesystem") else "blob"
    suffix = str(entry.get("endpoint") or "core.windows.net")
    protocol = str(entry.get("protocol") or "https")
    return Datastore(account_url=f"{protocol}://{account}.{kind}.{suffix}", container=str(container), kind=kind)


def _versions(file: str, place: str, entry: Any) -> dict[str, Asset]:
    """Read an asset: a path, one version with its path, or a mapping of versions."""
    if isinstance(entry, str) or (isinstance(entry, dict) and "path" in entry):
        version = str(entry.get("version") or "1") if isinstance(entry, dict) else "1"
        return {version: _asset(file, place, entry)}
    if not isinstance(entry, dict) or not entry:
        raise UsageError(f"{file}: {place}: must be a path, or a mapping of versions to paths")
    return {str(version): _asset(file, f"{place}.{version}", each) for version, each in entry.items()}


def _asset(file: str, place: str, entry: Any) -> Asset:
    if isinstance(entry, str):
        entry = {"path": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str) or not entry["path"]:
        raise UsageError(f"{file}: {place}: must have a path")
    if not PASTED & set(entry):
        _known(file, place, entry, ASSET_KEYS)
    try:
        uri = parse_uri(entry["path"], relative_to=_beside(file))
    except UsageError as error:
        raise UsageError(f"{file}: {place}.path: {error}") from None
    return Asset(uri=uri, type=str(entry.get("type", "")))


def _beside(file: str) -> str:
    return os.path.dirname(os.path.abspath(file))


def resolve(uri: Uri, workspace: Workspace | None, *, purpose: Purpose) -> Uri:
    """Find what a URI stands for: a local path, a path on storage, a public file, or what MLflow resolves.

    Raises:
        UsageError: the mapping lacks a name; the message has the lines to add.
    """
    for found in _steps(uri, workspace, purpose):
        uri = found
    return uri


def declared_input_type(uri: Uri, workspace: Workspace | None) -> str:
    """Return uri_folder or uri_file where an input is a data asset that says so; else nothing."""
    if not isinstance(uri, AssetName | AssetId):
        return ""
    kind = _find(uri, workspace, "input").type
    return kind if kind in ("uri_folder", "uri_file") else ""


def _steps(uri: Uri, workspace: Workspace | None, purpose: Purpose) -> Iterator[Uri]:
    for _ in range(MOST_STEPS):
        match uri:
            case AssetName() | AssetId():
                asset = _find(uri, workspace, purpose)
                if asset.type == "mltable":
                    raise UsageError(f"{uri}: an MLTable, which no batch deployment takes; use uri_folder or uri_file")
                uri = asset.uri
            case DatastorePath():
                uri = _in_datastore(uri, workspace)
            case JobOutput():
                raise UsageError(
                    f"{uri}: outputs of jobs are not looked up here; download it (az ml job download) "
                    "and give the local path"
                )
            case RunArtifact() if purpose != "model":
                raise UsageError(f"{uri}: names a model; as {purpose} give a path or a URI of storage")
            case _:
                return
        yield uri
    raise UsageError(f"{uri}: the entries of {workspace.file if workspace else 'workspace.yml'} lead round in a circle")


def _find(uri: AssetName | AssetId, workspace: Workspace | None, purpose: Purpose) -> Asset:
    kind = uri.kind if isinstance(uri, AssetId) else {"input": "data", "model": "models"}.get(purpose, purpose)
    wanted = {"input": "data", "model": "models"}.get(purpose)
    if kind != wanted or wanted is None:
        takes = {"input": "data", "model": "a model"}.get(purpose, "a path or a datastore URI")
        raise UsageError(f"{uri}: as {purpose} give {takes}")
    assets = {} if workspace is None else workspace.data if kind == "data" else workspace.models
    versions = assets.get(uri.name, {})
    version = uri.version or (_latest(versions) if uri.label in ("", "latest") else "")
    if version in versions:
        return versions[version]
    what = f"version {uri.version}" if uri.version and versions else uri.name
    known = f" (it has {uri.name} {', '.join(versions)})" if versions else ""
    raise UsageError(
        f"{uri}: {_file(workspace)} has no {what}{known}; add\n"
        f'  {kind}:\n    {uri.name}: {{"{uri.version or 1}": PATH OR URI}}'
    )


def _latest(versions: dict[str, Asset]) -> str:
    if all(version.isdigit() for version in versions):
        return max(versions, key=int, default="")
    return max(versions, default="")


def _in_datastore(uri: DatastorePath, workspace: Workspace | None) -> LocalPath | BlobPath:
    store = workspace.datastores.get(uri.datastore) if workspace is not None else None
    if store is None:
        raise UsageError(
            f"{uri}: {_file(workspace)} has no datastore {uri.datastore}; add\n"
            f"  datastores:\n    {uri.datastore}: {{account_name: ACCOUNT, container_name: CONTAINER}}"
            "   (or {path: FOLDER})"
        )
    if store.folder:
        path = os.path.normpath(os.path.join(store.folder, uri.path))
        if path != store.folder and not path.startswith(store.folder.rstrip("/") + "/"):
            raise UsageError(f"{uri}: leads out of the datastore {uri.datastore}")
        return LocalPath(path=path, is_folder=uri.is_folder)
    return BlobPath(
        account_url=store.account_url,
        container=store.container,
        path=uri.path,
        kind=store.kind,
        is_folder=uri.is_folder,
    )


def _file(workspace: Workspace | None) -> str:
    return workspace.file if workspace is not None else "workspace.yml, of which there is none,"
