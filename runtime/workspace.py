"""The workspace mapping: what names of datastores, data and models stand for where no workspace can be asked.

    datastores:
      workspaceblobstore: {type: azure_blob, account_name: acct, container_name: data}
      here: {path: ./store}
    data:
      heart: {"3": {type: uri_folder, path: azureml://datastores/here/paths/heart}}
    models:
      heart-model: {"1": ./model}
    codes:
      heart-code: {"1": ./code}

An entry may also be what `az ml datastore show`, `az ml data show` or `az ml model show` print, pasted as it is: as an
entry of its section, in a list, or as a YAML document of its own. Credentials in it are never kept. What has a path and
no version has version 1.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from runtime.errors import UsageError
from runtime.uris import (
    AssetId,
    AssetName,
    BlobPath,
    DatastorePath,
    JobOutput,
    LocalPath,
    PublicFile,
    RunArtifact,
    Uri,
    WorkspaceId,
)
from runtime.workspace_file import Asset, Datastore, Mapping, read_mapping

__all__ = ["Directory", "Purpose", "Workspace", "declared_input_type", "read_workspace", "resolve"]

Purpose = Literal["input", "output", "model", "code"]
KINDS = {"input": "data", "model": "models", "code": "codes"}
WORDS = {"data": "data asset", "models": "model", "codes": "code asset", "environments": "environment"}
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A workspace mapping.

    Attributes:
        file: where it stands.
        mapping: its entries.
    """

    file: str
    mapping: Mapping = field(default_factory=Mapping)


class Directory(Protocol):
    """Who else knows names, asked where the mapping lacks one; `runtime.management.AzureWorkspace` is one."""

    def datastore(self, uri: DatastorePath, /) -> Datastore | None:
        """Find the datastore of a URI; nothing where nobody says of which workspace."""

    def asset(self, uri: AssetName | AssetId, kind: str, /) -> Asset | None:
        """Find an asset of a kind; nothing where nobody says of which workspace."""


def read_workspace(path: str) -> Workspace:
    """Read a workspace mapping (contract 7.3).

    Raises:
        DeploymentError: it cannot be read, or entries are wrong; with all that is wrong.
    """
    return Workspace(file=path, mapping=read_mapping(path))


def resolve(uri: Uri, workspace: Workspace | None, *, purpose: Purpose, directory: Directory | None = None) -> Uri:
    """Find the place that a URI stands for: a local path, a path on storage, a public file.

    A `RunArtifact` stays what it is where a model is wanted, for MLflow finds it.

    Raises:
        UsageError: it is no place for the purpose, or nobody knows a name; the message has the lines to add.
    """
    place = uri
    for step in _steps(uri, workspace, purpose, directory):
        place = step
    match place:
        case PublicFile() if purpose == "output":
            raise UsageError(f"{place}: nothing can be written there; give a local path or a path on Azure storage")
        case PublicFile() if place.address.endswith("/"):
            raise UsageError(f"{place}: a folder cannot be listed there; give a file, or a path on Azure storage")
        case JobOutput():
            raise UsageError(
                f"{place}: outputs of jobs are not looked up here; download it (az ml job download --name {place.job} "
                f"--output-name {place.output}) and give the local path"
            )
        case RunArtifact() if purpose != "model":
            raise UsageError(f"{place}: only a model can be given so; for the {purpose} give a path or a storage URI")
    return place


def declared_input_type(uri: Uri, workspace: Workspace | None, directory: Directory | None = None) -> str:
    """Return uri_folder or uri_file where an input is a data asset that says so, else nothing.

    Raises:
        UsageError: nobody knows the asset.
    """
    for step in (uri, *_steps(uri, workspace, "input", directory)):
        if isinstance(step, AssetName | AssetId) and (kind := _find(step, workspace, "input", directory).type):
            return kind
    return ""


def _steps(uri: Uri, workspace: Workspace | None, purpose: Purpose, directory: Directory | None) -> Iterator[Uri]:
    """Follow names to what they stand for, as long as it is a name again."""
    seen = [uri]
    while isinstance(uri, AssetName | AssetId | DatastorePath):
        if isinstance(uri, DatastorePath):
            uri = _in_datastore(uri, workspace, directory)
        else:
            asset = _find(uri, workspace, purpose, directory)
            if asset.type == "mltable":
                raise UsageError(f"{uri}: an MLTable, which no batch deployment takes; use uri_folder or uri_file")
            uri = asset.uri
        if uri in seen:
            path = " to ".join(str(each) for each in (*seen, uri))
            raise UsageError(f"{_file(workspace)}: entries that lead round in a circle, from {path}; give one a path")
        seen.append(uri)
        yield uri


def _find(
    uri: AssetName | AssetId, workspace: Workspace | None, purpose: Purpose, directory: Directory | None
) -> Asset:
    kind = KINDS.get(purpose)
    if kind is None:
        raise UsageError(f"{uri}: an asset cannot be the {purpose} here; give a folder, or a path in a datastore")
    if isinstance(uri, AssetId) and uri.kind != kind:
        raise UsageError(f"{uri}: names a {WORDS[uri.kind]}, but the {purpose} must be a {WORDS[kind]}")
    if uri.label not in ("", "latest"):
        raise UsageError(f"{uri}: of labels only latest is known here; name a version")
    versions = _assets(workspace, kind).get(uri.name, {})
    version = uri.version or _latest(versions)
    if version not in versions:
        asked = directory.asset(uri, kind) if directory is not None else None
        if asked is None:
            raise UsageError(_missing_asset(uri, workspace, kind, versions) + _or_ask(directory))
        return asked
    asset = versions[version]
    if isinstance(uri, AssetId):
        _same_workspace(uri, uri.workspace, asset.workspace, workspace)
    return asset


def _assets(workspace: Workspace | None, kind: str) -> dict[str, dict[str, Asset]]:
    return {} if workspace is None else workspace.mapping.assets(kind)


def _latest(versions: Iterable[str]) -> str:
    """Return the highest version: as numbers where all are, else as texts."""
    if all(re.fullmatch("[0-9]+", version) for version in versions):
        return max(versions, key=int, default="")
    return max(versions)


def _missing_asset(uri: AssetName | AssetId, workspace: Workspace | None, kind: str, versions: Iterable[str]) -> str:
    others = [WORDS[each] for each in KINDS.values() if each != kind and uri.name in _assets(workspace, each)]
    what = f"no {WORDS[kind]} {uri.name}"
    if versions:
        what = f"of the {WORDS[kind]} {uri.name} only version {', '.join(versions)}"
    elif others:
        what += f", only a {others[0]} of that name"
    elif near := difflib.get_close_matches(uri.name, _assets(workspace, kind), n=1):
        what += f" (but {near[0]})"
    version = uri.version or "1"
    return (
        f"{uri}: {_lacks(workspace, what)}\n  {kind}:\n    {_key(uri.name)}:\n      {json.dumps(version)}: PLACE\n"
        "where PLACE is a path, relative to that file, or a URI"
    )


def _in_datastore(uri: DatastorePath, workspace: Workspace | None, directory: Directory | None) -> LocalPath | BlobPath:
    stores = {} if workspace is None else workspace.mapping.datastores
    store = stores.get(uri.datastore) or (directory.datastore(uri) if directory is not None else None)
    if store is None:
        near = difflib.get_close_matches(uri.datastore, stores, n=1)
        what = f"no datastore {uri.datastore}" + (f" (but {near[0]})" if near else "")
        raise UsageError(
            f"{uri}: {_lacks(workspace, what)}\n  datastores:\n    {_key(uri.datastore)}:\n      type: azure_blob\n"
            "      account_name: ACCOUNT\n      container_name: CONTAINER\n"
            "or, for a folder of this machine, path: FOLDER instead of these three" + _or_ask(directory)
        )
    if uri.workspace is not None:
        _same_workspace(uri, uri.workspace, store.workspace, workspace)
    if store.folder:
        return LocalPath(path=os.path.abspath(os.path.join(store.folder, uri.path)), is_folder=uri.is_folder)
    if not store.container:
        raise UsageError(
            f"{uri}: {uri.datastore} is a datastore of the type {store.type}, which is not served here; copy the "
            "data to Blob storage or ADLS Gen2, or give the datastore a path in the mapping"
        )
    return _in_container(store, uri)


def _in_container(store: Datastore, uri: DatastorePath) -> BlobPath:
    kind: Literal["blob", "dfs"] = "dfs" if store.kind == "dfs" else "blob"
    return BlobPath(
        account_url=store.account_url, container=store.container, path=uri.path, kind=kind, is_folder=uri.is_folder
    )


def _same_workspace(uri: Uri, asked: WorkspaceId, known: WorkspaceId | None, workspace: Workspace | None) -> None:
    """Refuse an entry that was printed of another workspace: it may have other data under the same name."""
    if known is not None and not known.is_same(asked):
        raise UsageError(
            f"{uri}: {_file(workspace)} has it of another workspace, {known.name} of {known.resource_group}; "
            "paste that of the workspace asked for, or use the short form azureml:"
        )


def _or_ask(directory: Directory | None) -> str:
    """Say how the workspace itself would be asked, where it could be but nobody named it."""
    if directory is None:
        return ""
    flags = "--subscription, --resource-group, --workspace-name"
    return f"\nor name the workspace that knows it: {flags} (or AZUREML_ARM_*)"


def _lacks(workspace: Workspace | None, what: str) -> str:
    if workspace is None:
        return "there is no workspace.yml that says where it is; write one with"
    return f"{_file(workspace)} has {what}; add"


def _key(name: str) -> str:
    """Write a key of YAML."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _file(workspace: Workspace | None) -> str:
    return "workspace.yml" if workspace is None else workspace.file
