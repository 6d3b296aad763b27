"""One container of blobs: a dozen requests in the words of this project, and what went wrong as a sentence.

Whatever storage or the way to it does wrong is a `BlobError`, an `OSError`, so that a worker meets one kind of trouble
only. What a request did not change because a condition did not hold is no error: it is told by what is returned.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from scoring.blob_access import BlobAccess, container_client

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContentSettings

__all__ = ["BlobContainer", "BlobError", "BlobVersion"]

Answer = TypeVar("Answer")

RANGE_BYTES = 8 * 2**20
LONGEST_PAUSE_S = 60.0

_NAMED = {
    "ContainerNotFound": "its container does not exist",
    "ContainerBeingDeleted": "its container is being deleted",
    "ContainerDisabled": "its container is disabled",
    "AccountIsDisabled": "the account is disabled",
    "InvalidBlobType": "it is an append blob or a page blob; delete it, or choose another name",
    "BlobImmutableDueToPolicy": "a policy of the container forbids to change it",
    "BlobArchived": "it is in the archive tier",
    "LeaseIdMissing": "another program holds a lease on it",
    "LeaseIdMismatchWithBlobOperation": "another program holds a lease on it",
    "InvalidBlobOrBlock": "another program left blocks there that it never committed",
    "InsufficientAccountPermissions": "the account is read-only",
    "PublicAccessNotPermitted": "the account lets nobody in without a credential",
}


class BlobError(OSError):
    """A request that storage refused or did not answer; its text has no secret.

    Attributes:
        code: storage's word for it, empty where it did not answer.
        status: of HTTP, 0 where it did not answer.
        later: whether the same request may succeed later.
        unresolved: whether no such host is known.
    """

    def __init__(
        self, url: str, reason: str, *, code: str = "", status: int = 0, later: bool = False, unresolved: bool = False
    ) -> None:
        # the library has tried again for minutes where that may help: whoever stages need not
        super().__init__(errno.EPROTO, reason, url)
        self.code = code
        self.status = status
        self.later = later
        self.unresolved = unresolved


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobVersion:
    """A blob as it is at one moment."""

    etag: str
    size_bytes: int
    kind: str
    metadata: dict[str, str]
    settings: ContentSettings | None = field(default=None, repr=False)


class BlobContainer:
    """A container, reached by a client of this process."""

    def __init__(self, access: BlobAccess) -> None:
        self.access = access
        self._client = container_client(access)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def blob(self, path: str) -> BlobClient:
        """Return the library's client of a blob; what is asked of it goes through `ask`."""
        return self._client.get_blob_client(path)

    def ask(self, path: str, call: Callable[[], Answer]) -> Answer:
        """Ask something about a blob, again where storage is throttling or an answer is torn.

        The library tries again itself what is answered with 408 or 5xx, or not at all. What is asked here may be asked
        twice: the second answer is that a condition does not hold, which is told from another driver's doing.

        Raises:
            BlobError: it is refused, or nothing answers.
        """
        from azure.core.exceptions import AzureError, DecodeError, DeserializationError

        tries = self.access.patience
        while True:
            try:
                return call()
            except (AzureError, DeserializationError) as error:
                torn = isinstance(error, DecodeError | DeserializationError)
                if tries <= 0 or not (torn or getattr(error, "status_code", None) == 429):
                    raise _told(error, self.access, path) from None
                headers = getattr(getattr(error, "response", None), "headers", {})
            pause_s = 0.0 if torn else 2.0 ** (self.access.patience - tries)
            with suppress(ValueError):
                pause_s = float(headers.get("Retry-After", pause_s))
            tries -= 1
            time.sleep(min(pause_s, LONGEST_PAUSE_S))

    def version(self, path: str) -> BlobVersion | None:
        """Return what a blob is now, None where there is none."""
        try:
            found = self.ask(path, self.blob(path).get_blob_properties)
        except BlobError as error:
            if error.status == 404 and error.code in ("BlobNotFound", "ResourceNotFound"):
                # a HEAD has no body: a missing container looks the same
                return None
            raise
        etag = str(found.etag)
        if not etag.endswith('"'):
            raise BlobError(self.access.url_of(path), "storage's answer ends within its headers", later=True)
        return BlobVersion(
            etag=etag,
            size_bytes=int(found.size),
            kind=str(getattr(found.blob_type, "value", found.blob_type)),
            metadata=dict(found.metadata or {}),
            settings=found.content_settings,
        )

    def read(self, path: str) -> bytes | None:
        """Return a small blob, None where there is none."""
        try:
            return self.ask(path, lambda: self.blob(path).download_blob().readall())
        except BlobError as error:
            if error.code in ("BlobNotFound", "ResourceNotFound"):
                return None
            raise

    def ranges(
        self, path: str, version: BlobVersion, start: int = 0, stop: int | None = None, *, at_once: int = RANGE_BYTES
    ) -> Iterator[bytes]:
        """Read a version of a blob piece by piece."""
        from azure.core import MatchConditions

        stop = version.size_bytes if stop is None else min(stop, version.size_bytes)
        blob = self.blob(path)

        def read(first: int, length: int) -> bytes:
            return blob.download_blob(
                first, length, etag=version.etag, match_condition=MatchConditions.IfNotModified
            ).readall()

        while start < stop:
            length = min(at_once, stop - start)
            yield self.ask(path, lambda first=start, length=length: read(first, length))  # type: ignore[misc]
            start += length

    def write(self, path: str, data: bytes, *, new: bool = False, lease: str = "", etag: str = "") -> bool:
        """Write a small blob in one step; return whether a condition held.

        Args:
            path: of the blob.
            data: all of it.
            new: only where there is none.
            lease: held on it.
            etag: only over this version.
        """
        from azure.core import MatchConditions

        conditions: dict[str, Any] = {"lease": lease} if lease else {}
        if etag:
            conditions |= {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        try:
            self.ask(path, lambda: self.blob(path).upload_blob(data, overwrite=not new, **conditions))
        except BlobError as error:
            if error.code in ("BlobAlreadyExists", "ConditionNotMet"):
                return False
            raise
        return True

    def delete(self, path: str, *, etag: str = "", lease: str = "") -> bool:
        """Delete a blob, if it is there; return whether it is gone and not another version is there."""
        from azure.core import MatchConditions

        conditions: dict[str, Any] = {"lease": lease} if lease else {}
        if etag:
            conditions |= {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        try:
            self.ask(path, lambda: self.blob(path).delete_blob(**conditions))
        except BlobError as error:
            if error.status == 412 and error.code == "ConditionNotMet":
                return self.version(path) is None
            if error.code not in ("BlobNotFound", "ResourceNotFound"):
                raise
        return True

    def names(self, prefix: str) -> list[str]:
        """List the blobs whose names begin so."""
        return self.ask(prefix, lambda: list(self._client.list_blob_names(name_starts_with=prefix)))

    def blocks(self, path: str) -> tuple[list[tuple[str, int]], dict[str, int]]:
        """Return ids and sizes of the blocks of a blob: the committed ones in order, and the uncommitted ones."""
        try:
            committed, uncommitted = self.ask(path, lambda: self.blob(path).get_block_list("all"))
        except BlobError as error:
            if error.code in ("BlobNotFound", "ResourceNotFound"):
                return [], {}
            raise
        return [(each.id, each.size) for each in committed], {each.id: each.size for each in uncommitted}

    def sizes(self, path: str) -> dict[str, int]:
        """Return the sizes of the blocks that a blob can be made of, by their ids."""
        committed, uncommitted = self.blocks(path)
        return {**dict(committed), **uncommitted}

    def stage(self, path: str, block: str, data: IO[bytes], size_bytes: int) -> None:
        """Stage a block: nobody sees it before it is committed; the same again is no second one."""
        blob = self.blob(path)

        def send() -> None:
            data.seek(0)
            body = cast("IO[bytes]", _Body(data, size_bytes))
            blob.stage_block(block, body, length=size_bytes, validate_content=True)

        self.ask(path, send)

    def commit(
        self,
        path: str,
        blocks: Sequence[str],
        *,
        over: str | None,
        metadata: dict[str, str],
        settings: ContentSettings | None = None,
    ) -> str:
        """Make a blob of blocks, all at once; return its new etag, empty where storage refused.

        Args:
            path: of the blob.
            blocks: in order; one that is committed and staged anew is taken anew.
            over: the version it replaces; None: only where there is none.
            metadata: all it shall have.
            settings: its content type and the like.
        """
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        condition: dict[str, Any] = {"match_condition": MatchConditions.IfMissing}
        if over is not None:
            condition = {"etag": over, "match_condition": MatchConditions.IfNotModified}
        try:
            made = self.ask(
                path,
                lambda: self.blob(path).commit_block_list(
                    [BlobBlock(each) for each in blocks], content_settings=settings, metadata=metadata, **condition
                ),
            )
        except BlobError as error:
            if error.code in ("BlobAlreadyExists", "ConditionNotMet", "InvalidBlockList"):
                return ""
            raise
        return str(made["etag"])


class _Body:
    """A file that is sent: the library would keep a copy of it for each time it tries again."""

    def __init__(self, file: IO[bytes], size_bytes: int) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self.seek = file.seek
        self.tell = file.tell
        self.read = file.read

    def __len__(self) -> int:
        return self._size_bytes

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self._file.read(2**16), b"")

    def __deepcopy__(self, memo: dict[int, Any]) -> _Body:
        raise TypeError("it is sent from where it is")


def _told(error: Exception, access: BlobAccess, path: str) -> BlobError:
    """Say what a request failed of, in our words: the library's may hold an address with its query."""
    from azure.core.exceptions import ClientAuthenticationError

    url = access.url_of(path)
    status = int(getattr(error, "status_code", None) or 0)
    code = getattr(error, "error_code", None) or ""
    code = str(getattr(code, "value", code))
    if status == 404 and not code:
        code = "ResourceNotFound"
    if code in _NAMED:
        return BlobError(url, f"{_NAMED[code]} ({code})", code=code, status=status)
    if status in (401, 403) or (isinstance(error, ClientAuthenticationError) and not status):
        source = access.source or access.kind.replace("_", " ")
        why = f"storage refused the credential ({source})" if status else f"no token was given ({source})"
        return BlobError(url, f"{why}: {code or type(error).__name__}", code=code, status=status)
    if status == 404:
        return BlobError(url, f"it does not exist ({code})", code=code, status=status)
    if status in (408, 429) or status >= 500:
        return BlobError(url, f"storage answers {status} ({code or 'no reason'})", code=code, status=status, later=True)
    if status:
        return BlobError(url, f"storage refused: {status} ({code or 'no reason'})", code=code, status=status)
    if "resolve" in str(error):
        return BlobError(url, "no host of this name is known", later=True, unresolved=True)
    return BlobError(url, f"storage does not answer ({type(error).__name__})", later=True)
