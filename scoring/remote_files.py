"""List what lies on Azure storage or at a public address, and fetch ranges of it, pinned to what was listed.

Only the scanner process does this. Errors are sentences of our own: those of the libraries may hold addresses.
"""

from __future__ import annotations

import fnmatch
import http.client
import re
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from scoring.blob_access import BlobAccess, object_store
from scoring.cells import InputFile
from scoring.errors import InputBusyError, InputError

if TYPE_CHECKING:
    from obstore.store import AzureStore

__all__ = ["BlobRanges", "Found", "HttpRanges", "blob_path", "find_blobs", "glob_matches"]

LIST_PAGE = 5_000
MARKER_CHECKS = 16
TRIES = 4
HTTP_TIMEOUT_S = 60
REFUSED = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)
GONE = (http.client.NOT_FOUND, http.client.GONE)
CHANGES = (http.client.PRECONDITION_FAILED, http.client.REQUESTED_RANGE_NOT_SATISFIABLE)
SAFE = "/~!$&'()*+,;=:@"
"""Characters that a blob's address shows as they are, as `runtime.uris` writes it."""

CHANGED = "changed while it was read; run again when it rests"
VANISHED = "vanished after it was listed; run again when the input rests"


@dataclass(frozen=True, slots=True)
class Found:
    """One blob or file as listed: name below the root, where it is, size, and what pins it."""

    name: str
    url: str
    size_bytes: int
    version: str


def blob_path(access: BlobAccess, url: str) -> str:
    """Return the decoded path of a blob's address in its container.

    Raises:
        InputError: it lies in another container.
    """
    base = access.url_of("")
    if url.rstrip("/") == base.rstrip("/"):
        return ""
    if not url.startswith(base):
        raise InputError(f"{url}: not in the container {base.rstrip('/')}")
    return unquote(url.removeprefix(base))


def _status(error: Exception) -> int:
    """Return the HTTP status that storage answered with; 0 where it did not."""
    found = re.search(r"status code: (\d{3})", str(error))
    return int(found[1]) if found else 0


def _trouble(error: Exception) -> str:
    """Say in a few words what storage answered, without anything the answer holds."""
    status = _status(error)
    return f"it answered {status}" if status else "it does not answer"


def _list_error(access: BlobAccess, url: str, error: Exception) -> InputError:
    import obstore.exceptions as failures

    container = access.url_of("").rstrip("/")
    if isinstance(error, failures.InvalidPathError):
        return InputError(
            f"{url}: the name of a blob has an empty segment (//) or one of dots, and cannot be read; rename it"
        )
    status = _status(error)
    if status == http.client.NOT_FOUND:
        return InputError(f"{url}: there is no container {access.container!r} in {access.account_url}")
    if status in REFUSED:
        return InputError(f"{container}: {_refused(access)} does not permit to list it")
    return InputBusyError(f"{container}: the storage cannot be listed: {_trouble(error)}; try again later")


def _refused(access: BlobAccess) -> str:
    kinds = {"sas": "the signature", "account_key": "the account key", "identity": "the identity"}
    if access.kind == "anonymous":
        return "anonymous access"
    return kinds[access.kind] + (f" of {access.source}" if access.source else "")


def find_blobs(access: BlobAccess, url: str, *, input_type: str) -> tuple[str, list[Found]]:
    """List a blob, a folder or a glob: (what it is: file, folder or glob, what there is, without directory markers).

    Raises:
        InputError: nothing is there, or it may not be listed.
        InputBusyError: storage does not answer.
    """
    import obstore.exceptions as failures

    path = blob_path(access, url)
    store = object_store(access)
    try:
        prefix = path.strip("/")
        if input_type == "uri_file":
            return "file", [_one(access, store, url, prefix)]
        found = _below(access, store, prefix)
        if found:
            return "folder", found
        if not path.endswith("/") and input_type != "uri_folder" and prefix:
            try:
                return "file", [_one(access, store, url, prefix)]
            except InputError:
                if not _has_magic(prefix):
                    raise
        if _has_magic(prefix):
            root = _plain_root(prefix)
            pattern = prefix[len(root) + 1 :] if root else prefix
            return "glob", [each for each in _below(access, store, root) if glob_matches(each.name, pattern)]
        raise InputError(f"{url}: no such file or folder")
    except (failures.BaseError, OSError) as error:
        raise _list_error(access, url, error) from None


def _one(access: BlobAccess, store: AzureStore, url: str, path: str) -> Found:
    import obstore

    try:
        meta = obstore.head(store, path)
    except FileNotFoundError:
        raise InputError(f"{url}: no such file or folder") from None
    return _found(access, path.rsplit("/", 1)[-1], meta)


def _found(access: BlobAccess, name: str, meta: Any) -> Found:
    address = access.url_of(quote(meta["path"], safe=SAFE))
    return Found(name, address, meta["size"], (meta["e_tag"] or "").strip('"'))


def _below(access: BlobAccess, store: AzureStore, prefix: str) -> list[Found]:
    import obstore

    cut = len(prefix) + 1 if prefix else 0
    found: list[Found] = []
    folders: set[str] = set()
    for page in obstore.list(store, prefix=prefix or None, chunk_size=LIST_PAGE):
        for meta in page:
            name = meta["path"][cut:]
            if not name:
                # the marker of the folder itself
                continue
            found.append(_found(access, name, meta))
            folder = name.rpartition("/")[0]
            while folder and folder not in folders:
                folders.add(folder)
                folder = folder.rpartition("/")[0]
    empty = [each for each in found if not each.size_bytes and each.name not in folders]
    markers = folders | _markers(store, prefix, [each.name for each in empty])
    return [each for each in found if each.size_bytes or each.name not in markers]


def _markers(store: AzureStore, prefix: str, names: list[str]) -> set[str]:
    """Tell which of the empty blobs stand for folders: their metadata says so, or a slash ends their names."""
    import obstore

    def is_marker(name: str) -> bool:
        try:
            got = obstore.get(store, f"{prefix}/{name}" if prefix else name, options={"head": True})
        except FileNotFoundError:
            # the listing does not show the slash at the end of its name
            return True
        return str(dict(got.attributes).get("hdi_isfolder", "")).lower() == "true"

    if not names:
        return set()
    with ThreadPoolExecutor(MARKER_CHECKS) as pool:
        return {name for name, marker in zip(names, pool.map(is_marker, names), strict=True) if marker}


def _has_magic(path: str) -> bool:
    return re.search(r"[*?[]", path) is not None


def _plain_root(pattern: str) -> str:
    segments = pattern.split("/")
    plain = next(index for index, each in enumerate(segments) if _has_magic(each))
    return "/".join(segments[:plain])


def glob_matches(name: str, pattern: str) -> bool:
    """Tell whether a glob matches a name as that of local files does: hidden names only by a dot that is written."""
    return _segments_match(name.split("/"), pattern.split("/"))


def _segments_match(names: list[str], patterns: list[str]) -> bool:
    if not patterns or not names:
        return not patterns and not names
    name, pattern = names[0], patterns[0]
    if name.startswith(".") and not pattern.startswith("."):
        return pattern == "**" and len(patterns) > 1 and _segments_match(names, patterns[1:])
    if pattern == "**":
        if len(patterns) == 1:
            return not any(each.startswith(".") for each in names)
        return _segments_match(names, patterns[1:]) or _segments_match(names[1:], patterns)
    return fnmatch.fnmatchcase(name, pattern) and _segments_match(names[1:], patterns[1:])


class BlobRanges:
    """Fetches ranges of blobs."""

    in_flight = 16

    def __init__(self, access: BlobAccess) -> None:
        self._access = access
        self._store = object_store(access)

    def get(self, file: InputFile, start: int, stop: int) -> bytes:
        """Fetch a range of a blob as it was listed.

        Raises:
            InputError: it changed or vanished.
            InputBusyError: storage does not answer.
        """
        import obstore
        import obstore.exceptions as failures

        options: Any = {"range": (start, stop)}
        if file.version:
            options["if_match"] = f'"{file.version}"'
        path = blob_path(self._access, file.url)
        for left in reversed(range(TRIES)):
            try:
                data = obstore.get(self._store, path, options=options).bytes().to_bytes()
            except failures.PreconditionError:
                raise InputError(CHANGED if self._is_there(path) else VANISHED) from None
            except FileNotFoundError:
                raise InputError(VANISHED) from None
            except failures.InvalidPathError:
                raise InputError("its name has an empty segment (//) or one of dots; rename it") from None
            except (failures.BaseError, OSError) as error:
                if _status(error) in REFUSED:
                    raise InputBusyError(
                        f"{file.url}: {_refused(self._access)} does not permit to read it; "
                        "run again with credentials that do, to go on"
                    ) from None
                # a reply that was cut in the middle is not asked for again by the library
                if not left:
                    raise InputBusyError(
                        f"{file.url}: the storage cannot be read: {_trouble(error)}; run again later to go on"
                    ) from None
                time.sleep(2.0 ** (TRIES - left - 2))
                continue
            if len(data) != stop - start:
                raise InputError(CHANGED)
            return data
        raise AssertionError  # the last try returns or raises

    def _is_there(self, path: str) -> bool:
        import obstore
        import obstore.exceptions as failures

        try:
            obstore.head(self._store, path)
        except FileNotFoundError:
            return False
        except (failures.BaseError, OSError):
            # what is known is that it is not what it was
            return True
        return True


class HttpRanges:
    """Fetches ranges of one public file; where its server knows no ranges, in order from one reply.

    Args:
        url: its address, without its query.
        query: what goes behind the question mark: it may be a secret.
    """

    def __init__(self, url: str, query: str = "") -> None:
        self._url = url
        self._query = query
        self._lock = Lock()
        self._reply: http.client.HTTPResponse | None = None
        self._position = 0
        self.ranged = True

    @property
    def in_flight(self) -> int:
        """How many ranges may be asked for at once."""
        return 8 if self.ranged else 1

    def find(self) -> Found:
        """Ask for its size, and what pins it.

        Raises:
            InputError: it is not there, or the server does not say its size.
            InputBusyError: the server does not answer.
        """
        try:
            with self._open({"Range": "bytes=0-0"}) as reply:
                headers: Any = reply.headers
                self.ranged = reply.status == http.client.PARTIAL_CONTENT
                total = headers.get("Content-Range", "").rpartition("/")[2] if self.ranged else None
                size = total if self.ranged else headers.get("Content-Length")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise self._list_error(error) from None
            # an empty file has no first byte
            headers, size = error.headers, error.headers.get("Content-Range", "").rpartition("/")[2] or "0"
        except (OSError, http.client.HTTPException) as error:
            raise self._list_error(error) from None
        if not (size or "").isdecimal():
            raise InputError(f"{self._url}: its server does not say how large it is; download it first")
        name = unquote(urlsplit(self._url).path).rstrip("/").rpartition("/")[2]
        return Found(name, self._url, int(size or 0), _validator(headers))

    def _list_error(self, error: Exception) -> InputError:
        if isinstance(error, urllib.error.HTTPError):
            if error.code in (*GONE, *REFUSED):
                said = "it may not be read" if error.code in REFUSED else "there is no such file"
                return InputError(f"{self._url}: {said} (its server answered {error.code})")
            return InputBusyError(f"{self._url}: its server answered {error.code}; try again later")
        return InputBusyError(f"{self._url}: its server does not answer; try again later")

    def _open(self, headers: dict[str, str]) -> http.client.HTTPResponse:
        address = self._url + (f"?{self._query}" if self._query else "")
        # what is compressed on the way has other offsets
        asked = urllib.request.Request(address, headers={"Accept-Encoding": "identity", **headers})  # noqa: S310
        opened: http.client.HTTPResponse = urllib.request.urlopen(asked, timeout=HTTP_TIMEOUT_S)  # noqa: S310
        return opened

    def get(self, file: InputFile, start: int, stop: int) -> bytes:
        """Fetch a range of the file as it was found.

        Raises:
            InputError: it changed or vanished.
            InputBusyError: the server does not answer.
        """
        for left in reversed(range(TRIES)):
            try:
                data = self._get(file, start, stop) if self.ranged else self._next(file, start, stop)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code in GONE:
                    raise InputError(VANISHED) from None
                if error.code in CHANGES:
                    raise InputError(CHANGED) from None
                trouble: Exception = error
            except (OSError, http.client.HTTPException) as error:
                trouble = error
            else:
                if len(data) == stop - start:
                    return data
                trouble = EOFError()
            self.close()
            if not left:
                raise self._list_error(trouble)
            time.sleep(2.0 ** (TRIES - left - 2))
        raise AssertionError  # the last try returns or raises

    def _get(self, file: InputFile, start: int, stop: int) -> bytes:
        with self._open({"Range": f"bytes={start}-{stop - 1}"}) as reply:
            total = reply.headers.get("Content-Range", "").rpartition("/")[2]
            if reply.status != http.client.PARTIAL_CONTENT or total not in ("*", str(file.size_bytes)):
                raise InputError(CHANGED)
            self._check(file, reply)
            return reply.read(stop - start)

    def _next(self, file: InputFile, start: int, stop: int) -> bytes:
        with self._lock:
            if self._reply is None or start < self._position:
                self.close()
                self._reply = self._open({})
                self._check(file, self._reply)
                self._position = 0
            while self._position < start and (skipped := self._reply.read(min(2**20, start - self._position))):
                self._position += len(skipped)
            data = self._reply.read(stop - start)
            self._position += len(data)
            return data

    def _check(self, file: InputFile, reply: http.client.HTTPResponse) -> None:
        if _validator(reply.headers) != file.version:
            raise InputError(CHANGED)

    def close(self) -> None:
        """Stop reading."""
        if self._reply is not None:
            self._reply.close()
            self._reply = None


def _validator(headers: Any) -> str:
    tag = (headers.get("ETag") or "").removeprefix("W/").strip('"')
    return tag or (headers.get("Last-Modified") or "")
