"""Parts on Blob storage: score blocks staged straight at the blob that they are to become, by the workers.

A block's id is the key of its part (`runtime.parts`). The quarantine part is a block of the quarantine, under the same
id; the account part, which a resume must read, is a small blob of its own. Blocks that are not committed are seen by
nobody, and storage drops them a week after the last one was staged.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from io import BytesIO
from tempfile import SpooledTemporaryFile
from weakref import WeakKeyDictionary

from runtime.blob_container import BlobContainer
from runtime.blob_joining import small_name
from runtime.parts import ACCOUNT, QUARANTINE
from scoring.blob_access import BlobAccess

__all__ = ["BlobPartWriter", "BlobParts"]

MEMORY_BYTES = 64 * 2**20
"""A part is held in memory up to here, and beyond it in a file."""
BLOCK_BYTES = 4000 * 2**20
"""The largest block that storage takes."""


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class BlobParts:
    """Where a worker stages: plain data, which crosses to it.

    Attributes:
        access: how the container is reached.
        path: of the score file, below the container.
        quarantine: path of the quarantine.
        folder: path of the account parts.
        epoch: first byte of every nonce; blocks of another epoch were discarded.
        scratch: folder on this machine for a part that is too large for memory.
        small: whether there are too many for blocks, so that each is a blob (`runtime.blob_joining`).
    """

    access: BlobAccess
    path: str
    quarantine: str
    folder: str
    epoch: int
    scratch: str
    small: bool = False

    def begin(self) -> BlobPartWriter:
        """Begin a part."""
        return BlobPartWriter(self)


class BlobPartWriter:
    """One part while it is written: it is sent when it is complete, in one step."""

    def __init__(self, parts: BlobParts) -> None:
        self.nonce = bytes([parts.epoch]) + os.urandom(2)
        self.size_bytes = 0
        self._parts = parts
        # where it outgrows memory, the file has no name, so that a kill leaves nothing
        self._file = SpooledTemporaryFile(max_size=MEMORY_BYTES, dir=parts.scratch)  # noqa: SIM115 (closed below)

    def write(self, data: bytes | memoryview) -> None:
        """Add score bytes.

        Raises:
            OSError: the disk is full, or the part is larger than a block can be.
        """
        self.size_bytes += memoryview(data).nbytes
        if self.size_bytes > BLOCK_BYTES:
            url = self._parts.access.url_of(self._parts.path)
            raise OSError(errno.EFBIG, "one mini-batch has more than 4,000 MiB of scores; use a smaller one", url)
        self._file.write(data)

    def commit(self, key: str, *, quarantine: bytes, account: bytes) -> None:
        """Stage the part under its key: first what goes with it, then the scores, in one step each.

        Raises:
            OSError: storage refuses it, or does not answer.
        """
        parts = self._parts
        container = _container(parts)
        with self._file:
            if account:
                container.write(f"{parts.folder}{key}{ACCOUNT}", account)
            if parts.small:
                for kind, data in ((QUARANTINE, quarantine), ("", self._read())):
                    if data:
                        container.write(f"{parts.folder}{small_name(key, kind, len(data))}", data)
                return
            if quarantine:
                container.stage(parts.quarantine, key, BytesIO(quarantine), len(quarantine))
            if self.size_bytes:
                container.stage(parts.path, key, self._file, self.size_bytes)

    def _read(self) -> bytes:
        self._file.seek(0)
        return self._file.read()

    def abort(self) -> None:
        """Drop what was written."""
        self._file.close()


def _container(parts: BlobParts) -> BlobContainer:
    """Return the client of this process: one that came over a fork would share its connections."""
    process, container = _open.get(parts, (0, None))
    if container is None or process != os.getpid():
        container = BlobContainer(parts.access)
        _open[parts] = os.getpid(), container
    return container


_open: WeakKeyDictionary[BlobParts, tuple[int, BlobContainer]] = WeakKeyDictionary()
