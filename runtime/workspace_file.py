"""The file of a workspace mapping: every entry checked, all that is wrong at once.

Values of credentials are not looked at, only their kind. Entries that Azure ML printed may have other keys; in an entry
written by hand a key that means nothing is a mistake. More than 300 lines, for the checks of one format stay together.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.deployment_yaml import Entry, Located, one_line, read_documents, read_yaml
from runtime.errors import DeploymentError, UriError
from runtime.uri_text import has_secret
from runtime.uris import AssetId, BlobPath, DatastorePath, LocalPath, PublicFile, Uri, WorkspaceId, parse_uri

__all__ = ["Asset", "Datastore", "Mapping", "read_mapping"]

SECTIONS = ("datastores", "data", "models", "codes")
STORE_KEYS = ("path", "type", "account_name", "container_name", "filesystem", "endpoint", "protocol", "credentials")
STORE_TYPES = {
    "azureblob": "azure_blob", "azuredatalakegen2": "azure_data_lake_gen2", "azurefile": "azure_file",
    "azuredatalakegen1": "azure_data_lake_gen1", "onelake": "one_lake",
}  # fmt: skip
ASSET_KEYS = ("path", "type", "version")
ASSET_TYPES = {
    "data": ("uri_folder", "uri_file", "mltable"), "models": ("custom_model", "mlflow_model", "triton_model"),
    "codes": ("code",),
}  # fmt: skip
PRINTED = frozenset({"id", "creation_context", "resourceGroup", "resource_group"})
"""Keys that no hand writes: with one of them an entry is what ``az ml … show`` printed."""
DESCRIBING = ("$schema", "name", "description", "tags", "properties")
OF_ASSETS = PRINTED.union(ASSET_KEYS, DESCRIBING)
"""Keys that tell one version of an asset from a mapping of versions."""
MOST_BYTES = 2**20
MOST_DEPTH = 8
"""What is deeper (tags, credentials) is not looked at; an alias may make a file without end."""
PROTOCOLS = ("https", "http", "wasbs", "wasb", "abfss", "abfs")
CREDENTIALS = {
    "none": "none", "identity": "none", "accountkey": "account_key", "sas": "sas", "sastoken": "sas",
    "serviceprincipal": "service_principal", "certificate": "certificate",
}  # fmt: skip
CREDENTIAL_KEYS = (
    ("account_key", "account_key"), ("sas_token", "sas"), ("thumbprint", "certificate"),
    ("client_secret", "service_principal"), ("client_id", "service_principal"),
)  # fmt: skip
USUAL_ENDPOINT = "core.windows.net"
_NUMBERS_AS_TEXT = json.JSONDecoder(parse_int=str, parse_float=str)
_ACCOUNT = re.compile(r"[a-z0-9-]{1,63}")
_CONTAINER = re.compile(r"\$?[A-Za-z0-9_-]{1,63}")
_ENDPOINT = re.compile(r"(?:https?://)?[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9-]+)?/?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Datastore:
    """Where a datastore is: a folder on this machine, or a container of an account.

    Attributes:
        folder: absolute; empty for a container.
        type: as Azure ML has it, such as azure_blob; empty for a folder.
        account_url: of the storage account.
        container: container or file system.
        kind: blob or dfs.
        credentials: their kind: account_key, sas, service_principal, certificate, none; empty where nothing says it.
        workspace: that it was printed of, where it was.
    """

    folder: str = ""
    type: str = ""
    account_url: str = ""
    container: str = ""
    kind: str = "blob"
    credentials: str = ""
    workspace: WorkspaceId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """What one version of a data asset, a model or a code asset stands for.

    Attributes:
        uri: where it is.
        type: as Azure ML has it, such as uri_folder; empty where nothing says it.
        workspace: that it was printed of, where it was.
    """

    uri: Uri
    type: str = ""
    workspace: WorkspaceId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """The entries of the file by name, assets by name and version."""

    datastores: dict[str, Datastore] = field(default_factory=dict)
    data: dict[str, dict[str, Asset]] = field(default_factory=dict)
    models: dict[str, dict[str, Asset]] = field(default_factory=dict)
    codes: dict[str, dict[str, Asset]] = field(default_factory=dict)

    def assets(self, section: str) -> dict[str, dict[str, Asset]]:
        """Return the assets of a section."""
        return {"data": self.data, "models": self.models, "codes": self.codes}[section]


def read_mapping(file: str) -> Mapping:
    """Read the file.

    Raises:
        DeploymentError: it cannot be read, or entries are wrong; with all that is wrong.
    """
    reading = _Reading(file=file)
    documents = _documents(file)
    if len(documents) == 1 and isinstance(documents[0], dict):
        reading.document(read_yaml(file, reading.wrong))
    else:
        known: dict[int, Located] = {}
        for number, document in enumerate(documents, start=1):
            reading.document(_plain(document, f"document {number}", known))
    if reading.problems:
        raise DeploymentError([text for _, text in sorted(reading.problems, key=lambda problem: problem[0])])
    return reading.mapping


def _documents(file: str) -> list[Any]:
    """Read YAML documents, or JSON texts one after the other, as `az` appends them to a file."""
    try:
        return read_documents(file)
    except DeploymentError:
        texts = _json_texts(file)
        if len(texts) < 2:  # of one text YAML says better what is wrong
            raise
        return texts


def _json_texts(file: str) -> list[Any]:
    texts: list[Any] = []
    try:
        with open(file, encoding="utf-8-sig") as source:
            rest = source.read(MOST_BYTES).strip()
        while rest:
            value, end = _NUMBERS_AS_TEXT.raw_decode(rest)
            texts.append(value)
            rest = rest[end:].lstrip()
    except (OSError, ValueError, RecursionError):
        return []
    return texts


def _plain(value: Any, key: str, known: dict[int, Located], depth: int = 0) -> Located:
    """Make a value of several documents, whose lines are not known, into one of a single document.

    Args:
        value: plain, of lists, mappings and texts.
        key: for messages.
        known: what was made already, by identity: aliases may name one list many times, or what is around them.
        depth: how many lists and mappings are around it.
    """
    if id(value) in known:
        return known[id(value)]
    nothing = Located(kind="a text", line=0, bare=True)
    if depth == MOST_DEPTH:
        return nothing
    if isinstance(value, dict):
        known[id(value)] = nothing
        entries = (
            Entry(name=str(name), key=f"{key}.{name}", line=0, value=_plain(each, f"{key}.{name}", known, depth + 1))
            for name, each in value.items()
        )
        known[id(value)] = Located(kind="a mapping", line=0, entries=tuple(entries))
        return known[id(value)]
    if isinstance(value, list):
        known[id(value)] = nothing
        items = (_plain(each, f"{key}[{number}]", known, depth + 1) for number, each in enumerate(value))
        known[id(value)] = Located(kind="a list", line=0, items=tuple(items))
        return known[id(value)]
    text = "" if value is None else str(value)
    return Located(kind="a text", line=0, text=text, bare=not text, null=text in ("null", "~"))


@dataclass(slots=True, kw_only=True)
class _Reading:
    """What was read so far, and what is wrong with it."""

    file: str
    mapping: Mapping = field(default_factory=Mapping)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def wrong(self, line: int, key: str, text: str) -> None:
        """Note what is wrong at a place."""
        place = f"{self.file}:{line}" if line else self.file
        problem = (line, one_line(": ".join(part for part in (place, key, text) if part)))
        if problem not in self.problems:
            self.problems.append(problem)

    def document(self, value: Located) -> None:
        """Take a document: sections, an asset as printed, or a list of such."""
        if _is_empty(value):
            return
        if value.kind == "a list":
            for item in value.items:
                if item.kind == "a list":
                    self.wrong(item.line, "", "a list in a list; write one list of what az ml … show prints")
                else:
                    self.document(item)
            return
        names = [entry.name for entry in value.entries]
        if value.kind != "a mapping":
            self.wrong(value.line, "", f"must be a mapping with the keys {', '.join(SECTIONS)}, not {value.kind}")
        elif not set(names) & set(SECTIONS) and (section := _section_of(value)):
            self.printed(section, value)
        elif "latest_version" in names and "path" not in names:
            self.wrong(value.line, _text(value, "name"), "a list without places; paste az ml data show or model show")
        else:
            self.known(value, SECTIONS)
            for entry in value.entries:
                if entry.name in SECTIONS:
                    self.section(entry)

    def section(self, section: Entry) -> None:
        """Take a section: entries by name, or a list of assets as printed."""
        value = section.value
        if _is_empty(value):
            return
        if value.kind == "a text":
            self.wrong(section.line, section.key, "must be a mapping of names")
        for item in value.items:
            if item.kind == "a mapping":
                self.printed(section.name, item)
            else:
                self.wrong(item.line, section.key, f"an item must be a mapping, not {item.kind}")
        for entry in value.entries:
            if section.name == "datastores":
                self.store(entry.name, entry)
            else:
                self.versions(section.name, entry.name, entry)

    def printed(self, section: str, value: Located) -> None:
        """Take an asset as Azure ML prints it, whose name stands inside."""
        name = _text(value, "name")
        if not name:
            self.wrong(value.line, "", f"an entry of {section} without its name; add name, or write it below its name")
            return
        entry = Entry(name=name, key=f"{section}.{name}", line=value.line, value=value)
        if section == "datastores":
            self.store(name, entry)
        else:
            self.versions(section, name, entry)

    def versions(self, section: str, name: str, entry: Entry) -> None:
        """Take an asset: a place, one version with its place, or versions to places."""
        value = entry.value
        if value.entries and not OF_ASSETS & {each.name for each in value.entries}:
            for each in value.entries:
                self.asset(section, name, each.name, each)
        elif value.kind == "a list" or (value.kind == "a mapping" and not value.entries):
            self.wrong(entry.line, entry.key, 'must be a mapping of versions to paths or URIs, such as {"1": ./folder}')
        else:
            self.asset(section, name, _text(value, "version") or "1", entry)

    def asset(self, section: str, name: str, version: str, entry: Entry) -> None:
        """Take one version of an asset."""
        known = self.mapping.assets(section)
        uri = self.place(entry)
        kind = _text(entry.value, "type")
        if kind and kind not in ASSET_TYPES[section]:
            self.wrong(_line(entry, "type"), f"{entry.key}.type", f"must be one of {', '.join(ASSET_TYPES[section])}")
        if version in known.setdefault(name, {}):
            self.wrong(entry.line, entry.key, f"version {version} of {name} is given twice; keep one")
        if entry.value.kind == "a mapping":
            self.checked(name, entry, ASSET_KEYS)
        if uri is not None:
            known[name][version] = Asset(uri=uri, type=kind, workspace=_workspace(entry.value))

    def store(self, name: str, entry: Entry) -> None:
        """Take a datastore."""
        if name in self.mapping.datastores:
            self.wrong(entry.line, entry.key, f"the datastore {name} is given twice; keep one")
        value = entry.value
        if value.kind == "a mapping":
            self.checked(name, entry, STORE_KEYS)
        if value.kind == "a text" or _text(value, "path"):
            uri = self.place(entry)
            if isinstance(uri, LocalPath) and not _text(value, "account_name"):
                self.mapping.datastores[name] = Datastore(folder=uri.path)
            elif uri is not None:
                both = "must be a local folder; a container is written as account_name and container_name, without path"
                self.wrong(_line(entry, "path"), f"{entry.key}.path", both)
            return
        given = _text(value, "type")
        kind = STORE_TYPES.get(re.sub("[_-]", "", given.lower()), given)
        if not given:
            kind = "azure_data_lake_gen2" if _text(value, "filesystem") else "azure_blob"
        if kind not in STORE_TYPES.values():
            self.wrong(_line(entry, "type"), f"{entry.key}.type", f"must be one of {', '.join(STORE_TYPES.values())}")
        elif kind in ("azure_blob", "azure_data_lake_gen2"):
            self.container(name, entry, kind)
        else:
            self.mapping.datastores[name] = Datastore(type=kind, workspace=_workspace(value))

    def container(self, name: str, entry: Entry, kind: str) -> None:
        """Take a datastore that is a container of an account."""
        service, key = ("blob", "container_name") if kind == "azure_blob" else ("dfs", "filesystem")
        account, container = _text(entry.value, "account_name"), _text(entry.value, key)
        endpoint = _text(entry.value, "endpoint") or USUAL_ENDPOINT
        protocol = _text(entry.value, "protocol").lower() or "https"
        for part, text, form, advice in (
            ("account_name", account, _ACCOUNT, "must be the name of a storage account"),
            (key, container, _CONTAINER, f"must be the name of the container of {kind}, or give path: a local folder"),
            ("endpoint", endpoint, _ENDPOINT, f"must be like {USUAL_ENDPOINT}, or the URL of the account"),
            ("protocol", protocol, re.compile("|".join(PROTOCOLS)), f"must be one of {', '.join(PROTOCOLS)}"),
        ):
            if not form.fullmatch(text):
                self.wrong(_line(entry, part), f"{entry.key}.{part}", advice)
        if "://" in endpoint:
            url = endpoint.rstrip("/")
            host, _, path = url.partition("://")[2].partition("/")
            url = url if path or host.startswith(f"{account}.") else f"{url}/{account}"
        else:
            url = f"{'http' if protocol == 'http' else 'https'}://{account}.{service}.{endpoint}"
        self.mapping.datastores[name] = Datastore(
            type=kind, account_url=url, container=container, kind=service,
            credentials=self.credentials(entry), workspace=_workspace(entry.value),
        )  # fmt: skip

    def credentials(self, entry: Entry) -> str:
        """Tell the kind of the credentials without a look at their values."""
        given = next((each for each in entry.value.entries if each.name == "credentials"), None)
        if given is None or given.value.null:
            return ""
        names = {each.name for each in given.value.entries}
        kind = next((kind for key, kind in CREDENTIAL_KEYS if key in names), "")
        named = given.value.text or _text(given.value, "type")
        if kind or not named:
            return kind or "none"
        kind = CREDENTIALS.get(re.sub("[_-]", "", named.lower()), "")
        if not kind:
            kinds = ", ".join(dict.fromkeys(CREDENTIALS.values()))
            self.wrong(given.line, given.key, f"must be their kind, never their value: one of {kinds}")
        return kind

    def place(self, entry: Entry) -> Uri | None:
        """Read the place of an asset or of a local datastore: a text, or the key path."""
        value = entry.value
        text = value.text if value.kind == "a text" else _text(value, "path")
        line = entry.line if value.kind == "a text" else _line(entry, "path")
        key = entry.key if value.kind == "a text" else f"{entry.key}.path"
        if not text or value.null:
            self.wrong(line, entry.key, "must have a path: a local one relative to this file, or a URI")
            return None
        try:
            uri = parse_uri(text, relative_to=os.path.dirname(os.path.abspath(self.file)))
        except UriError as error:
            self.wrong(line, key, str(error))
            return None
        if (isinstance(uri, BlobPath) and uri.sas) or (isinstance(uri, PublicFile) and has_secret(f"?{uri.query}")):
            self.wrong(line, key, f"{uri}: a signature does not belong into this file; remove what follows the ?")
            return None
        return uri

    def checked(self, name: str, entry: Entry, known: Sequence[str]) -> None:
        """Note another name inside, and keys that mean nothing where a hand wrote them."""
        inside = _text(entry.value, "name")
        if inside and inside != name:
            self.wrong(_line(entry, "name"), f"{entry.key}.name", f"{inside} stands below {name}; one name must go")
        if not PRINTED & {each.name for each in entry.value.entries}:
            self.known(entry.value, known, DESCRIBING)

    def known(self, value: Located, known: Sequence[str], ignored: Sequence[str] = ()) -> None:
        """Note the keys that do not belong here, each with the nearest that does."""
        for entry in value.entries:
            if entry.name not in known and entry.name not in ignored:
                near = difflib.get_close_matches(entry.name.lower(), known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.wrong(entry.line, entry.key, f"unknown key{hint} (known: {', '.join(known)})")


def _is_empty(value: Located) -> bool:
    return value.kind == "a text" and (value.bare or value.null)


def _text(value: Located, key: str) -> str:
    """Return the text of a key, or nothing."""
    found = next((entry.value for entry in value.entries if entry.name == key), None)
    return found.text if found is not None and not found.null else ""


def _line(entry: Entry, key: str) -> int:
    """Return the line of a key of an entry, else that of the entry."""
    return next((each.line for each in entry.value.entries if each.name == key), entry.line)


def _section_of(value: Located) -> str:
    """Tell what an asset is that Azure ML printed; nothing where it is none."""
    names = {entry.name for entry in value.entries}
    kind = _text(value, "type")
    if names & {"account_name", "container_name", "filesystem", "file_share_name", "store_name"}:
        return "datastores"
    if re.sub("[_-]", "", kind.lower()) in STORE_TYPES:
        return "datastores"
    if "path" not in names:
        return ""
    if kind.endswith("_model"):
        return "models"
    return "data" if kind in ASSET_TYPES["data"] else ""


def _workspace(value: Located) -> WorkspaceId | None:
    """Return the workspace that an asset was printed of."""
    try:
        uri = parse_uri(_text(value, "id"))
    except UriError:
        return None
    return uri.workspace if isinstance(uri, AssetId | DatastorePath) else None
