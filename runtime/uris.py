"""URIs of inputs, outputs, models and code: one parser for all forms of contract 7.1, which gives typed values.

    form            example                                                      gives
    1, 2, 3         azureml:heart:3, azureml:heart@latest, azureml:heart         AssetName
    4, 5, 7, 9, 14  azureml://datastores/store/paths/a/b, ARM ids of such        DatastorePath
    6, 7, 8         azureml://subscriptions/…/data/heart/versions/3, ARM ids     AssetId
    14              azureml://jobs/j/outputs/o/paths/p                           JobOutput
    14              runs:/r/model, and MLflow's models:/, mlflow-artifacts:/     RunArtifact
    16 to 19        https://a.blob.core.windows.net/c/p?sas, wasbs, abfss        BlobPath
    21              https://example.com/a.csv                                    PublicFile
    22              data/a.csv, file:///data, folder:data                        LocalPath
    10 to 13, 15, 20                                                             refused, with what to do instead

Paths are decoded once, and ``str`` encodes them again: it gives a form that reads back as the same value. What stands
behind a question mark may be a secret (a shared access signature, a token), so it shows in no text: only in `url`.
One module of more than 300 lines, so that all forms stay side by side.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from runtime.errors import UriError
from runtime.uri_text import decoded, encoded, has_control, has_secret, refusal, shown

__all__ = [
    "AssetId", "AssetName", "BlobPath", "DatastorePath", "JobOutput", "LocalPath", "PublicFile", "RunArtifact", "Uri",
    "WorkspaceId", "parse_uri", "split_output",
]  # fmt: skip

KINDS = ("data", "models", "codes", "environments")
# A credential is sent to these hosts alone; other clouds are named by a datastore's endpoint.
_STORAGE_HOST = re.compile(
    r"[a-z0-9-]+(\.[a-z0-9-]+)?\.(?P<kind>blob|dfs)\."
    r"(core\.windows\.net|core\.chinacloudapi\.cn|core\.usgovcloudapi\.net|core\.cloudapi\.de|storage\.azure\.net)"
    r"(:[0-9]{1,5})?"
)
_EMULATED_ACCOUNT = "devstoreaccount1"
_HOST = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_WINDOWS = re.compile(r"[A-Za-z]:|\\\\")
# The SDK splits a version off at the first colon, a label at the last @.
_NAME = re.compile(r"[^:/\\\s](?:[^:/\\]*[^:/\\\s])?")
_VERSION = re.compile(r"[^/\\@\s](?:[^/\\@]*[^/\\@\s])?")
_CONTAINER = re.compile(r"\$?[A-Za-z0-9](?:[A-Za-z0-9_-]*)")
_ASSET = re.compile(
    rf"(?:^|/)(?:{'|'.join(KINDS)})/([^:/\\]+)/(versions/labels|versions|labels)/([^/\\]+)/?$", re.IGNORECASE
)
_WORKSPACE = re.compile(
    r"subscriptions/([^/]+)/resourcegroups/([^/]+)/(?:providers/microsoft\.machinelearningservices/)?"
    r"workspaces/([^/]+)/(.+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceId:
    """The workspace that a long form names."""

    subscription: str
    resource_group: str
    name: str

    def __str__(self) -> str:
        """Write it as ARM does, without the slash before it."""
        return (
            f"subscriptions/{self.subscription}/resourceGroups/{self.resource_group}/providers/"
            f"Microsoft.MachineLearningServices/workspaces/{self.name}"
        )

    def is_same(self, other: WorkspaceId) -> bool:
        """Tell whether both are one workspace; ARM names have no letter case."""
        return str(self).lower() == str(other).lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetName:
    """A named asset of the workspace: data, a model or code, as the place says (forms 1 to 3)."""

    name: str
    version: str = ""
    label: str = ""

    def __str__(self) -> str:
        """Write ``azureml:name:version``."""
        return f"azureml:{self.name}" + (f":{self.version}" if self.version else f"@{self.label}" if self.label else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetId:
    """An asset with its kind (data, models, codes, environments) and its workspace (forms 6 to 8)."""

    workspace: WorkspaceId
    kind: str
    name: str
    version: str = ""
    label: str = ""

    def __str__(self) -> str:
        """Write form 7, which Azure ML takes for inputs and for models."""
        which = f"versions/{self.version}" if self.version else f"labels/{self.label}"
        return f"azureml:/{self.workspace}/{self.kind}/{self.name}/{which}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatastorePath:
    """A path in a datastore, decoded and without leading slash (forms 4, 5, 7, 9; ``ExperimentRun`` of form 14)."""

    datastore: str
    path: str = ""
    workspace: WorkspaceId | None = None
    is_folder: bool = False

    def __str__(self) -> str:
        """Write form 4 or 5."""
        return f"azureml://{_in(self.workspace)}datastores/{self.datastore}" + _paths(self.path, self.is_folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutput:
    """What a job wrote (form 14)."""

    job: str
    output: str
    path: str = ""
    workspace: WorkspaceId | None = None
    is_folder: bool = False

    def __str__(self) -> str:
        """Write form 14."""
        return f"azureml://{_in(self.workspace)}jobs/{self.job}/outputs/{self.output}" + _paths(
            self.path, self.is_folder
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArtifact:
    """What MLflow finds by itself: ``runs:/…`` (form 14), ``models:/…``, ``mlflow-artifacts:/…``."""

    uri: str

    def __str__(self) -> str:
        """Write it as it was."""
        return self.uri


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobPath:
    """A path on Blob or ADLS Gen2 (forms 16 to 19).

    Attributes:
        account_url: of the account, made of the host given.
        container: container or file system.
        path: decoded, without slash at either end.
        kind: blob or dfs.
        sas: shared access signature, without question mark; empty for none.
        is_folder: whether a slash ended it, or it is the container.
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
        return self._plain + (f"?{self.sas}" if self.sas else "")

    @property
    def _plain(self) -> str:
        path = quote(self.path, safe="/~!$&'()*+,;=:@")
        return f"{self.account_url}/{self.container}" + (f"/{path}" if path else "")

    def __str__(self) -> str:
        """Write the address without its signature."""
        return self._plain + ("/" if self.path and self.is_folder else "") + ("?***" if self.sas else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicFile:
    """A file that is fetched without Azure's credentials (form 21)."""

    address: str
    query: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """The address with its query, which may be a secret."""
        return self.address + (f"?{self.query}" if self.query else "")

    def __str__(self) -> str:
        """Write the address without its query."""
        return self.address + ("?***" if self.query else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPath:
    """An absolute path on this machine (form 22)."""

    path: str
    is_folder: bool = False

    def __str__(self) -> str:
        """Write the path; as a ``file:`` URL where it would read as an ARM id."""
        text = self.path + ("/" if self.is_folder and self.path != "/" else "")
        return f"file://{encoded(text)}" if text.lower().startswith("/subscriptions/") else text


Uri = AssetName | AssetId | DatastorePath | JobOutput | RunArtifact | BlobPath | PublicFile | LocalPath


def parse_uri(text: str, *, relative_to: str | None = None) -> Uri:
    """Read a URI or a path (contract 7.1).

    Args:
        text: as written.
        relative_to: the folder that local paths are relative to; None: the working folder.

    Raises:
        UriError: it is none that is understood here; the message says what to write instead.
    """
    if has_control(text.strip("\r\n\t")):
        raise refusal(text, "a control character, which no path or URI has here")
    uri = text.strip()
    if not uri:
        raise UriError("an empty text, where a path or a URI must be")
    if uri.lower().startswith("/subscriptions/"):
        return _in_workspace(uri[1:], uri)
    if _WINDOWS.match(uri):
        raise refusal(uri, "a path of Windows; give a path of this machine, which inside WSL starts with /mnt/c/")
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return _local(text.strip("\r\n\t"), relative_to)
    return _with_scheme(scheme[1].lower(), uri[scheme.end() :], uri, relative_to)


def split_output(uri: Uri, output_file_name: str) -> tuple[Uri, str]:
    """Split an output into its folder and the name of the score file (contract 6.4).

    The last segment is the file where it has an extension or is `output_file_name`; a slash at the end, or a local
    folder that is there, makes it the folder.

    Raises:
        UriError: nothing can be written to such a URI.
    """
    if not isinstance(uri, LocalPath | BlobPath | DatastorePath):
        raise UriError(f"{uri}: cannot be written to; give a local path, a path in a datastore, or an abfss:// URL")
    folder, _, name = uri.path.rpartition("/")
    has_extension = len(os.path.splitext(name)[1]) > 1
    if uri.is_folder or not (name == output_file_name or has_extension) or not name:
        return uri, output_file_name
    if isinstance(uri, LocalPath):
        if os.path.isdir(uri.path):
            return uri, output_file_name
        folder = folder or "/"
    return replace(uri, path=folder, is_folder=True), name


def _in(workspace: WorkspaceId | None) -> str:
    """Write the workspace as in forms 5 and 6."""
    if workspace is None:
        return ""
    return (
        f"subscriptions/{workspace.subscription}/resourcegroups/{workspace.resource_group}/workspaces/{workspace.name}/"
    )


def _paths(path: str, is_folder: bool) -> str:
    return f"/paths/{encoded(path)}" + "/" * is_folder if path else ""


def _with_scheme(scheme: str, rest: str, text: str, relative_to: str | None) -> Uri:
    if scheme in ("file", "folder"):
        return _file(scheme, rest, relative_to)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise refusal(text, "not UTF-8; write the odd characters of a URI with %") from None
    match scheme:
        case "azureml":
            return _azureml(rest, text)
        case "http" | "https":
            return _web(scheme, rest, text)
        case "abfs" | "abfss" | "wasb" | "wasbs" | "az":
            return _container_at_account(scheme, rest, text)
        case "runs" | "models" | "mlflow-artifacts":
            return _of_mlflow(scheme, rest, text)
        case "adl":
            raise refusal(text, "Azure Data Lake Gen1 was retired; move the data to Gen2 and write abfss://…")
    if rest.startswith("//"):
        known = "a local path, https://…, abfss://…, wasbs://… or azureml://datastores/…"
        raise refusal(text, f"{scheme}:// is not known here; write {known}")
    return _local(text, relative_to)


def _local(path: str, relative_to: str | None) -> LocalPath:
    if has_secret(path):
        raise refusal(path, "no local path; write https:// before the name of a host")
    try:
        folder = os.getcwd() if relative_to is None else relative_to
        absolute = os.path.abspath(os.path.join(folder, _at_home(path)))
        os.fsencode(absolute)
    except FileNotFoundError:
        raise refusal(path, "the working folder was deleted; give an absolute path") from None
    except UnicodeEncodeError:
        raise refusal(path, "has characters that no file name can have") from None
    absolute = "/" + absolute.lstrip("/")
    is_folder = absolute == "/" or os.path.basename(path) in ("", ".", "..")
    return LocalPath(path=absolute, is_folder=is_folder)


def _at_home(path: str) -> str:
    return os.path.expanduser(path) if path == "~" or path.startswith("~/") else path


def _file(scheme: str, rest: str, relative_to: str | None) -> LocalPath:
    text = f"{scheme}:{rest}"
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise refusal(text, f"names this machine only, not {shown(host)}; write {scheme}:///path")
        rest = slash + path
    path = unquote(rest, errors="surrogateescape")
    if not path or has_control(path):
        raise refusal(text, f"no path; write {scheme}:///path")
    # what was encoded is a name, and no home folder
    local = _local(f"./{path}" if path.startswith("~") else path, relative_to)
    return replace(local, is_folder=True) if scheme == "folder" else local


def _web(scheme: str, rest: str, text: str) -> BlobPath | PublicFile:
    place, _, query = rest.partition("?")
    if not place.startswith("//"):
        raise refusal(text, f"write {scheme}://<host>/<path>, with two slashes")
    host, _, path = place[2:].partition("/")
    if "@" in host:
        raise refusal(text, "a user or password in an address would get into logs; remove it")
    if not _HOST.fullmatch(host):
        raise refusal(text, f"no host; write {scheme}://<host>/<path>")
    host = host.lower()
    storage = _STORAGE_HOST.fullmatch(host)
    account, _, inside = path.partition("/")
    if storage is not None:
        return _blob(f"https://{host}", storage["kind"], path, query, text)
    if account == _EMULATED_ACCOUNT:
        return _blob(f"{scheme}://{host}/{account}", "blob", inside, query, text)
    if not path:
        raise refusal(text, "no file; write its whole address")
    if has_secret(unquote(path, errors="replace")):
        raise refusal(text, "a signature is part of the path; write it behind one plain ?")
    path = re.sub(r"\s", lambda space: quote(space[0]), path)
    return PublicFile(address=f"{scheme}://{host}/{path}", query=query)


def _container_at_account(scheme: str, rest: str, text: str) -> BlobPath:
    place, _, query = rest.partition("?")
    address, _, path = place[2:].partition("/") if place.startswith("//") else ("", "", "")
    container, at, host = address.rpartition("@")
    storage = _STORAGE_HOST.fullmatch(host.lower())
    if storage is None or (at and not container):
        service = "blob" if scheme.startswith("wasb") else "dfs"
        raise refusal(text, f"write {scheme}://<container>@<account>.{service}.core.windows.net/<path>")
    return _blob(f"https://{host.lower()}", storage["kind"], f"{container}/{path}" if at else path, query, text)


def _blob(account_url: str, kind: str, place: str, query: str, text: str) -> BlobPath:
    container, _, path = place.partition("/")
    container = unquote(container)
    if not _CONTAINER.fullmatch(container):
        raise refusal(text, f"no container; write {account_url}/<container>/<path>")
    path = decoded(path, text)
    return BlobPath(
        account_url=account_url, container=container, path=path.strip("/"), kind=kind, sas=query,
        is_folder=path.endswith("/") or not path,
    )  # fmt: skip


def _of_mlflow(scheme: str, rest: str, text: str) -> RunArtifact:
    if not rest.startswith("/") or not rest.strip("/"):
        example = {"runs": "runs:/<run>/<path>", "models": "models:/<name>/<version>"}
        raise refusal(text, f"write {example.get(scheme, 'mlflow-artifacts:/<path>')}")
    authority = rest[2:].partition("/")[0] if rest.startswith("//") else ""
    if ":" in authority.rpartition("@")[0] or "?" in rest or has_secret(unquote(rest, errors="replace")):
        raise refusal(text, "no password and no question mark here; MLflow takes credentials from its own variables")
    return RunArtifact(uri=f"{scheme}:{rest}")


def _azureml(rest: str, text: str) -> Uri:
    if has_secret(rest):
        raise refusal(text, "takes no signature; write the https:// address that it belongs to")
    if not rest.startswith("/"):
        return _asset_name(rest, text)
    if not rest.startswith("//"):
        return _in_workspace(rest[1:], text)
    rest = rest[2:]
    first, _, after = rest.partition("/")
    match first.lower():
        case "datastores":
            return _datastore(after, text, None)
        case "jobs":
            return _job_output(after, text, None)
        case "subscriptions":
            return _in_workspace(rest, text)
        case "registries":
            raise refusal(
                text,
                "registries are not asked here; download the asset (az ml model download --registry-name …) and give "
                "its local path",
            )
        case "feeds":
            raise refusal(text, "an address inside the service; download the asset and give its local path")
        case "locations":
            raise refusal(text, f"names a workspace by its inner id, which is not looked up here; write {_short(rest)}")
        case "resourcegroups" | "models" | "data" | "codes" | "environments":
            raise refusal(text, f"names an asset without its subscription; write {_short(rest)}")
    if ":" in rest and "/" not in rest:
        raise refusal(text, f"an asset is written without slashes: azureml:{shown(rest)}")
    raise refusal(
        text, "after azureml:// comes datastores/…, subscriptions/… or jobs/…; an asset is azureml:<name>:<version>"
    )


def _short(rest: str) -> str:
    """Write the short name of an asset that was named by a path, as far as that says it."""
    asset = _ASSET.search(rest)
    if asset is None:
        return "azureml:<name>:<version>"
    return f"azureml:{shown(asset[1])}{':' if asset[2].lower() == 'versions' else '@'}{shown(asset[3])}"


def _asset_name(rest: str, text: str) -> AssetName:
    name, at, label = rest.rpartition("@")
    if at and _NAME.fullmatch(name) and _NAME.fullmatch(label):
        return AssetName(name=name, label=label)
    name, colon, version = rest.partition(":")
    if _NAME.fullmatch(name) and (_VERSION.fullmatch(version) or not (colon or at)):
        return AssetName(name=name, version=version)
    raise refusal(text, "write azureml:<name>:<version>, azureml:<name>@<label> or azureml://datastores/…/paths/…")


def _in_workspace(rest: str, text: str) -> DatastorePath | AssetId | JobOutput:
    if has_secret(rest):
        raise refusal(text, "takes no signature; write the https:// address that it belongs to")
    match = _WORKSPACE.fullmatch(rest)
    if match is None:
        raise refusal(
            text,
            "no id of Azure ML; write /subscriptions/<id>/resourceGroups/<group>/providers/"
            "Microsoft.MachineLearningServices/workspaces/<workspace>/…, or file:///… for a local path",
        )
    workspace = WorkspaceId(subscription=match[1], resource_group=match[2], name=match[3])
    kind, _, after = match[4].partition("/")
    match kind.lower():
        case "datastores":
            return _datastore(after, text, workspace)
        case "jobs":
            return _job_output(after, text, workspace)
        case "computes":
            raise refusal(text, "a compute, which holds neither data nor a model; jobs run on this machine")
    parts = after.removesuffix("/").split("/")
    by = "/".join(parts[1:-1]).lower()
    if (
        kind.lower() in KINDS
        and by in ("versions", "labels", "versions/labels")
        and _NAME.fullmatch(parts[0])
        and _VERSION.fullmatch(parts[-1])
    ):
        which = {"version" if by == "versions" else "label": parts[-1]}
        return AssetId(workspace=workspace, kind=kind.lower(), name=parts[0], **which)
    raise refusal(
        text,
        "after the workspace comes data/<name>/versions/<version>, models/<name>/versions/<version> or "
        "datastores/<datastore>/paths/<path>",
    )


def _job_output(after: str, text: str, workspace: WorkspaceId | None) -> JobOutput:
    match = re.fullmatch(r"([^/]+)/outputs/([^/]+)(?:/paths(/.*)?|/?)", after, re.IGNORECASE)
    if match is None or not (_NAME.fullmatch(match[1]) and _NAME.fullmatch(match[2])):
        raise refusal(text, "write azureml://jobs/<job>/outputs/<output>/paths/<path>")
    path = decoded(match[3] or "", text)
    return JobOutput(
        job=match[1], output=match[2], path=path.strip("/"), workspace=workspace,
        is_folder=path.endswith("/") or not path,
    )  # fmt: skip


def _datastore(after: str, text: str, workspace: WorkspaceId | None) -> DatastorePath:
    name, _, path = after.partition("/")
    if not _NAME.fullmatch(name):
        raise refusal(text, "no datastore; write azureml://datastores/<datastore>/paths/<path>")
    first, _, below = path.partition("/")
    if first.lower() == "paths":
        path = below
    elif path.strip("/") and first.lower() != "experimentrun":
        raise refusal(text, f"write azureml://datastores/{shown(name)}/paths/{shown(path)}")
    path = decoded(path, text)
    # the SDK writes paths//p/f where the path of an output begins with a slash
    return DatastorePath(
        datastore=name, path=path.strip("/"), workspace=workspace, is_folder=path.endswith("/") or not path
    )
