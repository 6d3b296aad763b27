"""Ask a workspace of Azure ML what its names stand for: datastores, data, models and code, one GET for each.

The workspace is that of the URI, or else that of the flags and of AZUREML_ARM_*. `workspace.yml` is looked at before.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import quote, urlsplit

from runtime.clouds import PUBLIC, cloud_of_authority
from runtime.credentials import Token, identity_token
from runtime.errors import OutputBusyError, UriError, UsageError
from runtime.redaction import masked
from runtime.uris import AssetId, AssetName, DatastorePath, WorkspaceId, parse_uri
from runtime.workspace_file import STORE_TYPES, USUAL_ENDPOINT, Asset, Datastore
from scoring.blob_access import BlobAccess

__all__ = ["AzureWorkspace", "workspace_of"]

API_VERSION = "2023-10-01"
ENDPOINT = "SCORELINE_MANAGEMENT_ENDPOINT"
ANSWER_S = 20
TRIES = 3
PAUSE_S = 1.0
AWAY = (408, 429, 500, 502, 503, 504)
MOST_BYTES = 2**20
WORDS = {"data": "data asset", "models": "model", "codes": "code asset", "datastores": "datastore"}
PLACES = {"data": "dataUri", "models": "modelUri", "codes": "codeUri"}
TYPES = {"data": "dataType", "models": "modelType"}
OPTIONS = (
    ("subscription", "--subscription", "AZUREML_ARM_SUBSCRIPTION"),
    ("resource_group", "--resource-group", "AZUREML_ARM_RESOURCEGROUP"),
    ("name", "--workspace-name", "AZUREML_ARM_WORKSPACE_NAME"),
)
_PART = re.compile(r"[A-Za-z0-9._()-]+")
_LOCAL = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?")


def workspace_of(given: Mapping[str, Any], environ: Mapping[str, str]) -> WorkspaceId | None:
    """Return the workspace that the flags and AZUREML_ARM_* name; none where neither says anything.

    Raises:
        UsageError: only some of its three names are said by flags, or one cannot be.
    """
    flags = {"name": given.get("workspace_name") or ""}
    flags |= {name: given.get(name) or "" for name in ("subscription", "resource_group")}
    parts = {name: flags[name] or environ.get(variable, "").strip() for name, _, variable in OPTIONS}
    missing = [f"{flag} (or {variable})" for name, flag, variable in OPTIONS if not parts[name]]
    if missing:
        if any(flags.values()):
            raise UsageError(f"the workspace is not named in full: {' and '.join(missing)} is missing")
        return None
    for name, flag, variable in OPTIONS:
        if not _PART.fullmatch(parts[name]):
            raise UsageError(f"{flag} (or {variable}): {parts[name]!r} is no name; copy it from the portal of Azure")
    return WorkspaceId(**parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureWorkspace:
    """Workspaces of Azure ML, asked about names.

    Attributes:
        usual: the workspace of URIs that name none.
        environ: says the cloud.
    """

    usual: WorkspaceId | None
    environ: Mapping[str, str] = field(repr=False)
    _answers: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    def datastore(self, uri: DatastorePath) -> Datastore | None:
        """Find the datastore of a URI; nothing where nobody says of which workspace.

        Raises:
            UsageError: there is none, it may not be seen, or it is none of Blob storage and ADLS Gen2.
            OutputBusyError: the service cannot be reached now.
        """
        of = uri.workspace or self.usual
        if of is None:
            return None
        path = f"datastores/{quote(uri.datastore, safe='')}"
        properties = self._get(of, path, str(uri), f"datastore {uri.datastore}")
        said = str(properties.get("datastoreType") or "")
        kind = STORE_TYPES.get(re.sub("[_-]", "", said.lower()), "")
        if kind not in ("azure_blob", "azure_data_lake_gen2"):
            raise UsageError(
                f"{uri}: {uri.datastore} is a datastore of the type {said or 'unknown'}, which is not served here; "
                "copy the data to Blob storage or ADLS Gen2"
            )
        service, key = ("blob", "containerName") if kind == "azure_blob" else ("dfs", "filesystem")
        account, container = properties.get("accountName"), properties.get(key)
        if not (account and container):
            raise UsageError(f"{uri}: {of.name} names no account and container of the datastore {uri.datastore}")
        endpoint = properties.get("endpoint") or USUAL_ENDPOINT
        scheme = "http" if properties.get("protocol") == "http" else "https"
        url = (
            f"{endpoint.rstrip('/')}/{account}"
            if "://" in endpoint
            else f"{scheme}://{account}.{service}.{endpoint.strip('/')}"
        )
        return Datastore(type=kind, account_url=url, container=container, kind=service, workspace=of)

    def asset(self, uri: AssetName | AssetId, kind: str) -> Asset | None:
        """Find an asset: the version named, else the latest; nothing where nobody says of which workspace.

        Args:
            uri: its name.
            kind: data, models or codes.

        Raises:
            UsageError: there is none, or it may not be seen.
            OutputBusyError: the service cannot be reached now.
        """
        of = uri.workspace if isinstance(uri, AssetId) else self.usual
        if of is None:
            return None
        what = f"{WORDS[kind]} {uri.name}"
        path = f"{kind}/{quote(uri.name, safe='')}"
        version = uri.version or str(self._get(of, path, str(uri), what).get("latestVersion") or "")
        if not version:
            raise UsageError(f"{uri}: the {what} has no latest version in {of.name}; name a version")
        path = f"{path}/versions/{quote(version, safe='')}"
        properties = self._get(of, path, str(uri), f"version {version} of the {what}")
        place = str(properties.get(PLACES[kind]) or "")
        try:
            found = parse_uri(place)
        except UriError as error:
            raise UsageError(f"{uri}: {of.name} has no place for the {what} that is known here: {error}") from None
        return Asset(uri=found, type=str(properties.get(TYPES.get(kind, "")) or ""), workspace=of)

    def _get(self, of: WorkspaceId, path: str, uri: str, what: str) -> dict[str, Any]:
        """Ask the service about one thing, once, and return its properties."""
        url = f"{_endpoint(self.environ)}/{quote(str(of))}/{path}?api-version={API_VERSION}"
        if url not in self._answers:
            text = _answer(url, _token(uri, self.environ), f"{uri}: {what}", of)
            try:
                properties = json.loads(text)["properties"]
                assert isinstance(properties, dict)
            except (ValueError, KeyError, TypeError, AssertionError):
                raise UsageError(
                    f"{uri}: {_host(url)} answers what is no {what}; is {ENDPOINT} or a proxy in the way?"
                ) from None
            self._answers[url] = properties
        return self._answers[url]


def _endpoint(environ: Mapping[str, str]) -> str:
    """Return the URL of the cloud's management service.

    Raises:
        UsageError: the variable names one that a token must not be sent to.
    """
    given = environ.get(ENDPOINT, "").strip().rstrip("/")
    if given and not given.startswith("https://") and not _LOCAL.fullmatch(given):
        raise UsageError(f"{ENDPOINT}: must begin with https://, for a token is sent there")
    cloud = cloud_of_authority(environ)
    if not given and cloud is None:
        raise UsageError(f"AZURE_AUTHORITY_HOST names a cloud that is not known here; set {ENDPOINT} as well")
    return given or (cloud or PUBLIC).management


def _token(uri: str, environ: Mapping[str, str]) -> Token:
    cloud = cloud_of_authority(environ)
    scope = f"{cloud.management if cloud is not None else _endpoint(environ)}/.default"
    found = identity_token(BlobAccess(account_url="", container="", kind="identity"), scope)
    if isinstance(found, str):
        raise UsageError(
            f"{uri}: to ask the workspace an identity is needed, and none gives a token: {found}. Sign in (az login), "
            "or write what it stands for into workspace.yml"
        )
    return found


class _NoDetour(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: the token is for this host alone."""

    def redirect_request(  # noqa: PLR0917 (as the library has it)
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Make of a redirection an error."""
        del req, fp, code, msg, headers, newurl


def _answer(url: str, token: Token, what: str, of: WorkspaceId) -> bytes:
    """Return what the service answers, trying again for a moment where it is busy."""
    headers = {"Authorization": f"Bearer {token.text}", "Accept": "application/json"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (https, or this machine)
    opener = urllib.request.build_opener(_NoDetour)
    for left in reversed(range(TRIES)):
        try:
            with opener.open(request, timeout=ANSWER_S) as answer:
                return bytes(answer.read(MOST_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in AWAY or not left:
                    raise _refusal(error, token, what, of) from None
        except (OSError, HTTPException) as error:
            if not left:
                reason = masked(str(getattr(error, "reason", error)))
                raise OutputBusyError(
                    f"{what}: {_host(url)} cannot be reached ({reason}); try again later, or write what it stands for "
                    "into workspace.yml"
                ) from None
        time.sleep(PAUSE_S)
    raise AssertionError("the last try returns or raises")


def _refusal(error: urllib.error.HTTPError, token: Token, what: str, of: WorkspaceId) -> UsageError | OutputBusyError:
    """Say what the service refused, in one sentence."""
    place = f"workspace {of.name} of {of.resource_group}"
    match error.code:
        case 401:
            return UsageError(
                f"{what}: the token of {token.source} is refused at {_host(error.url)}: another tenant or cloud; sign "
                "in to the workspace's (AZURE_TENANT_ID, AZURE_AUTHORITY_HOST)"
            )
        case 403:
            return UsageError(
                f"{what}: the identity of {token.source} may not read it in the {place}; give it the role AzureML Data "
                "Scientist or Reader there, or write what it stands for into workspace.yml"
            )
        case 404:
            return UsageError(
                f"{what}: there is none in the {place} of subscription {of.subscription} ({_code(error)}); check the "
                "names"
            )
        case code if code in AWAY:
            return OutputBusyError(f"{what}: {_host(error.url)} is busy or away (HTTP {code}); try again later")
    return UsageError(f"{what}: {_host(error.url)} refuses to tell it ({_code(error)})")


def _code(error: urllib.error.HTTPError) -> str:
    """Return the code of an answer that refuses, such as ResourceGroupNotFound."""
    try:
        code = json.loads(error.read(MOST_BYTES))["error"]["code"]
    except (ValueError, KeyError, TypeError, OSError):
        return f"HTTP {error.code}"
    return masked(str(code))


def _host(url: str) -> str:
    return urlsplit(url).netloc
