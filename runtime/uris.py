"""URIs of inputs, outputs, models and code: one parser for all forms of contract 7.1, which gives typed values.

    form            example                                                    gives
    1, 2, 3         azureml:heart:3, azureml:heart@latest, azureml:heart       AssetName
    4, 5, 7, 9, 14  azureml://datastores/store/paths/a/b, ARM ids of such      DatastorePath
    6, 7, 8         azureml://subscriptions/…/data/heart/versions/3, ARM ids   AssetId
    14              azureml://jobs/j/outputs/o/paths/p, runs:/…                JobOutput, RunArtifact
    16 to 19        https://a.blob.core.windows.net/c/p?sas, wasbs, abfss      BlobPath
    21              https://example.com/a.csv                                  PublicFile
    22              data/a.csv, file:///data, folder:data                      LocalPath
    10 to 13, 15, 20                                                           refused, with what to do instead

A shared access signature is split off first, and shown nowhere.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from runtime.errors import UriError

__all__ = [
    "AssetId", "AssetName", "BlobPath", "DatastorePath", "JobOutput", "LocalPath", "PublicFile", "RunArtifact", "Uri",
    "WorkspaceId", "parse_uri", "split_output",
]  # fmt: skip

SUFFIXES = (
    "core.windows.net", "core.chinacloudapi.cn", "core.usgovcloudapi.net", "core.cloudapi.de", "storage.azure.net",
)  # fmt: skip
PROVIDER = "providers/microsoft.machinelearningservices/"
ASSETS = ("data", "models", "codes", "environments")
MLFLOW = ("runs:", "models:", "mlflow-artifacts:")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HOST = re.compile(r"(?P<account>[^.@/]+)\.(?:[^./]+\.)?(?P<kind>blob|dfs)\.(?P<suffix>[^/:]+)(?::\d+)?", re.IGNORECASE)
_NAME = re.compile(r"[^:/\\@]+")
_ARM = re.compile(
    r"subscriptions/(?P<subscription>[^/]+)/resourcegroups/(?P<group>[^/]+)/"
    rf"(?:{re.escape(PROVIDER)})?workspaces/(?P<workspace>[^/]+)/(?P<rest>.+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceId:
    """The workspace that a long form names."""

    subscription: str
    resource_group: str
    name: str

    def __str__(self) -> str:
        """Write it as in an ``azureml://`` URI."""
        return f"subscriptions/{self.subscription}/resourcegroups/{self.resource_group}/workspaces/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetName:
    """A named asset of the workspace: data, model or code, as the place says (forms 1 to 3)."""

    name: str
    version: str = ""
    label: str = ""

    def __str__(self) -> str:
        """Write ``azureml:name:version``."""
        return f"azureml:{self.name}" + (f":{self.version}" if self.version else f"@{self.label}" if self.label else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetId:
    """An asset with its kind and workspace (forms 6 to 8)."""

    workspace: WorkspaceId
    kind: str
    name: str
    version: str = ""
    label: str = ""

    def __str__(self) -> str:
        """Write the ``azureml://`` form."""
        which = f"versions/{self.version}" if self.version else f"labels/{self.label}"
        return f"azureml://{self.workspace}/{self.kind}/{self.name}/{which}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatastorePath:
    """A path in a datastore, without leading slash (forms 4, 5, 7, 9)."""

    datastore: str
    path: str = ""
    workspace: WorkspaceId | None = None
    is_folder: bool = False

    def __str__(self) -> str:
        """Write the ``azureml://`` form."""
        workspace = f"{self.workspace}/" if self.workspace is not None else ""
        paths = f"/paths/{self.path}" if self.path else ""
        return f"azureml://{workspace}datastores/{self.datastore}{paths}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutput:
    """What a job wrote (form 14)."""

    job: str
    output: str
    path: str = ""

    def __str__(self) -> str:
        """Write the ``azureml://`` form."""
        return f"azureml://jobs/{self.job}/outputs/{self.output}" + (f"/paths/{self.path}" if self.path else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArtifact:
    """What MLflow resolves itself: ``runs:/…``, ``models:/…``, ``mlflow-artifacts:/…`` (form 14)."""

    uri: str

    def __str__(self) -> str:
        """Write it as it was."""
        return self.uri


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobPath:
    """A path on Blob or ADLS Gen2 (forms 16 to 19).

    Attributes:
        account_url: of the account, as its host was given.
        container: container or file system.
        path: decoded, without leading slash.
        kind: blob or dfs.
        sas: shared access signature, without question mark; empty for none.
        is_folder: whether a slash ended it.
    """

    account_url: str
    container: str
    path: str = ""
    kind: str = "blob"
    sas: str = field(default="", repr=False)
    is_folder: bool = False

    @property
    def url(self) -> str:
        """The address with its signature: a secret."""
        return f"{self._plain}?{self.sas}" if self.sas else self._plain

    @property
    def _plain(self) -> str:
        return "/".join(part for part in (self.account_url, self.container, self.path) if part)

    def __str__(self) -> str:
        """Write the address without its signature."""
        return f"{self._plain}?***" if self.sas else self._plain


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicFile:
    """A file that anybody can fetch (form 21)."""

    address: str
    query: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """The address with its query, which may be a secret."""
        return f"{self.address}?{self.query}" if self.query else self.address

    def __str__(self) -> str:
        """Write the address without its query."""
        return f"{self.address}?***" if self.query else self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPath:
    """An absolute path on this machine (form 22)."""

    path: str
    is_folder: bool = False

    def __str__(self) -> str:
        """Write the path."""
        return self.path


Uri = AssetName | AssetId | DatastorePath | JobOutput | RunArtifact | BlobPath | PublicFile | LocalPath


def parse_uri(text: str, *, relative_to: str | None = None) -> Uri:
    """Read a URI or a path (contract 7.1).

    Args:
        text: as written.
        relative_to: the folder that local paths are relative to; None: the working folder.

    Raises:
        UriError: it is none that is understood here; the message says what to write instead.
    """
    # a signature must not get into any message
    plain, question, query = text.strip().partition("?")
    if not plain or "\0" in plain:
        raise UriError(f"{plain!r}: no path or URI")
    lower = plain.lower()
    if lower.startswith("azureml://"):
        return _azureml(plain[len("azureml://") :], plain)
    if lower.startswith("azureml:/"):
        return _arm(plain[len("azureml:") :].strip("/"), plain)
    if lower.startswith("azureml:"):
        return _asset_name(plain[len("azureml:") :], plain)
    if lower.startswith("/subscriptions/"):
        return _arm(plain.strip("/"), plain)
    if lower.startswith(MLFLOW):
        return RunArtifact(uri=plain)
    scheme = _SCHEME.match(plain)
    if scheme is not None and (plain[scheme.end() :].startswith("//") or scheme[1].lower() in ("file", "folder")):
        return _with_scheme(scheme[1].lower(), plain, query, relative_to)
    if re.match(r"[A-Za-z]:\\", plain):
        raise UriError(f"{plain}: a path of Windows; this machine has none, inside WSL it is /mnt/{lower[0]}/…")
    # a question mark is a glob here, and no query
    return _local(plain + question + query, relative_to)


def _local(path: str, relative_to: str | None) -> LocalPath:
    folder = os.getcwd() if relative_to is None else relative_to
    absolute = os.path.abspath(os.path.join(folder, os.path.expanduser(path)))
    return LocalPath(path=absolute, is_folder=path.endswith("/"))


def _with_scheme(scheme: str, plain: str, query: str, relative_to: str | None) -> Uri:
    if scheme in ("file", "folder"):
        rest = plain[len(scheme) + 1 :]
        if not rest.startswith("//"):
            return _local(unquote(rest), relative_to)
        parts = urlsplit("file:" + rest)
        if parts.netloc not in ("", "localhost"):
            raise UriError(f"{plain}: names this machine only, not {parts.netloc}; write {scheme}:///path")
        return _local(unquote(parts.path) or "/", relative_to)
    if scheme in ("http", "https"):
        return _web(plain, query)
    if scheme in ("wasb", "wasbs", "abfs", "abfss", "az"):
        return _container_at_account(scheme, plain, query)
    if scheme == "adl":
        raise UriError(f"{plain}: Azure Data Lake Gen1 was retired; move the data to Gen2 and write abfss://…")
    raise UriError(
        f"{plain}: {scheme}:// is not known here; write a local path, a file: URL, https://<account>.blob…, "
        "abfss://…, wasbs://… or azureml:…"
    )


def _web(plain: str, query: str) -> BlobPath | PublicFile:
    address, _, rest = plain.partition("://")[2].partition("/")
    host = _HOST.fullmatch(address)
    if not address:
        raise UriError(f"{plain}: no host")
    if host is None or not host["suffix"].lower().endswith(SUFFIXES):
        return PublicFile(address=plain, query=query)
    container, _, path = rest.partition("/")
    if not container:
        raise UriError(f"{plain}: no container; write https://{address}/<container>/<path>")
    return BlobPath(
        account_url=f"https://{address.lower()}", container=container, path=unquote(path).strip("/"),
        kind=host["kind"].lower(), sas=query, is_folder=path.endswith("/"),
    )  # fmt: skip


def _container_at_account(scheme: str, plain: str, query: str) -> BlobPath:
    place, _, path = plain.partition("://")[2].partition("/")
    container, at, address = place.partition("@")
    host = _HOST.fullmatch(address) if at else None
    if not container or host is None:
        raise UriError(
            f"{plain}: write {scheme}://<container>@<account>.{'dfs' if scheme.startswith('abfs') else 'blob'}."
            "core.windows.net/<path>"
        )
    return BlobPath(
        account_url=f"https://{address.lower()}", container=container, path=unquote(path).strip("/"),
        kind=host["kind"].lower(), sas=query, is_folder=path.endswith("/"),
    )  # fmt: skip


def _asset_name(name: str, plain: str) -> AssetName:
    if "@" in name:
        name, _, label = name.rpartition("@")
        if _NAME.fullmatch(name) and _NAME.fullmatch(label):
            return AssetName(name=name, label=label)
    name, colon, version = name.partition(":")
    if _NAME.fullmatch(name) and (not colon or (version and not re.search(r"[/\\]", version))):
        return AssetName(name=name, version=version)
    raise UriError(f"{plain}: write azureml:<name>:<version>, azureml:<name>@<label> or azureml://datastores/…")


def _azureml(rest: str, plain: str) -> Uri:
    first, _, after = rest.partition("/")
    match first.lower():
        case "datastores":
            return _datastore(after, plain, None)
        case "subscriptions":
            return _arm(rest, plain)
        case "jobs":
            parts = after.split("/", 4)
            if len(parts) >= 3 and parts[1].lower() == "outputs" and (len(parts) == 3 or parts[3].lower() == "paths"):
                path = parts[4].strip("/") if len(parts) > 4 else ""
                return JobOutput(job=parts[0], output=parts[2], path=path)
            raise UriError(f"{plain}: write azureml://jobs/<job>/outputs/<output>/paths/<path>")
        case "registries" | "feeds":
            raise UriError(
                f"{plain}: assets of a registry are not fetched here; download it (az ml model download "
                "--registry-name …) and give the local path"
            )
        case "locations":
            raise UriError(f"{plain}: names a workspace by its internal id; write azureml:<name>:<version>")
        case "resourcegroups" | "models" | "data" | "environments" | "codes":
            raise UriError(f"{plain}: a short asset id without its workspace; write azureml:<name>:<version>")
    if "/" not in rest and ":" in rest:
        raise UriError(f"{plain}: write azureml:{rest}, without the slashes")
    raise UriError(
        f"{plain}: after azureml:// come datastores/…, subscriptions/… or jobs/…; or write azureml:<name>:<version>"
    )


def _arm(rest: str, plain: str) -> DatastorePath | AssetId:
    match = _ARM.fullmatch(rest)
    if match is None:
        raise UriError(
            f"{plain}: no id of a workspace; write /subscriptions/<id>/resourceGroups/<group>/providers/"
            "Microsoft.MachineLearningServices/workspaces/<workspace>/…"
        )
    workspace = WorkspaceId(subscription=match["subscription"], resource_group=match["group"], name=match["workspace"])
    kind, _, after = match["rest"].partition("/")
    kind = kind.lower()
    if kind == "datastores":
        return _datastore(after, plain, workspace)
    if kind == "computes":
        raise UriError(f"{plain}: a compute, which is neither data nor a model; jobs run on this machine here")
    parts = after.split("/")
    if kind in ASSETS and len(parts) == 3 and parts[0] and parts[2]:
        if parts[1].lower() == "versions":
            return AssetId(workspace=workspace, kind=kind, name=parts[0], version=parts[2])
        if parts[1].lower() == "labels":
            return AssetId(workspace=workspace, kind=kind, name=parts[0], label=parts[2])
    kinds = ",".join(ASSETS)
    raise UriError(f"{plain}: write …/{{{kinds}}}/<name>/versions/<version> or …/datastores/<name>/paths/<path>")


def _datastore(after: str, plain: str, workspace: WorkspaceId | None) -> DatastorePath:
    name, slash, path = after.partition("/")
    if not name:
        raise UriError(f"{plain}: no datastore; write azureml://datastores/<datastore>/paths/<path>")
    first, _, below = path.partition("/")
    if slash and path and first.lower() == "paths":
        path = below
    elif path.rstrip("/") and first.lower() != "experimentrun":
        raise UriError(f"{plain}: write azureml://datastores/{name}/paths/{path}")
    # clients build paths//p/f of a path that begins with a slash
    return DatastorePath(
        datastore=name, path=unquote(path).strip("/"), workspace=workspace, is_folder=path.endswith("/")
    )


def split_output(uri: Uri, output_file_name: str) -> tuple[Uri, str]:
    """Split an output into its folder and the name of the score file (contract 6.4).

    The last segment is the file where it has an extension or is `output_file_name`; a slash at the end, or a local
    folder that is there, makes it the folder.

    Raises:
        UriError: nothing can be written to such a URI.
    """
    if not isinstance(uri, (LocalPath, BlobPath, DatastorePath)):
        raise UriError(f"{uri}: cannot be written to; give a folder, a path in a datastore, or Blob or ADLS storage")
    folder, _, name = uri.path.rpartition("/")
    is_file = name == output_file_name or bool(os.path.splitext(name)[1])
    if uri.is_folder or not is_file or (isinstance(uri, LocalPath) and os.path.isdir(uri.path)):
        return uri, output_file_name
    if isinstance(uri, LocalPath):
        return replace(uri, path=folder or "/", is_folder=True), name
    return replace(uri, path=folder, is_folder=True), name
