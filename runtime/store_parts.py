"""Parts on any store that fsspec knows: an object each, under its key, told to be whole by the size in its name."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from runtime.parts import ACCOUNT, QUARANTINE, PartKey

__all__ = ["StorePartWriter", "StoreParts", "open_store", "part_of", "put"]

MEMORY_BYTES = 64 * 2**20
"""A part is held in memory up to here, and beyond it in a file."""
_COPY_BYTES = 8 * 2**20


def open_store(protocol: str, options: tuple[tuple[str, str], ...] = ()) -> Any:
    """Return the file system of a protocol.

    Args:
        protocol: as the first part of a URL.
        options: as fsspec takes them; they may hold secrets, and are shown nowhere.
    """
    import fsspec

    return fsspec.filesystem(protocol, **dict(options))


def put(store: Any, path: str, file: IO[bytes]) -> None:
    """Write an object that appears when it is whole, where the store has a way to do so.

    A handle that is closed by an exception would publish what it has; in a transaction it is dropped.
    """
    file.seek(0)
    with store.transaction, store.open(path, "wb") as target:
        while data := file.read(_COPY_BYTES):
            target.write(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreParts:
    """Where a worker stages: plain data, which crosses to it.

    Attributes:
        protocol: of the store.
        options: of the store; never shown.
        folder: path of the parts.
        scratch: folder on this machine for a part that is too large for memory.
    """

    protocol: str
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    folder: str
    scratch: str

    def begin(self) -> StorePartWriter:
        """Begin a part."""
        return StorePartWriter(self)


class StorePartWriter:
    """One part while it is written: it is sent when it is complete."""

    def __init__(self, parts: StoreParts) -> None:
        self.nonce = os.urandom(3)
        self.size_bytes = 0
        self._parts = parts
        # where it outgrows memory, the file has no name, so that a kill leaves nothing
        self._file = SpooledTemporaryFile(max_size=MEMORY_BYTES, dir=parts.scratch)  # noqa: SIM115 (closed below)

    def write(self, data: bytes | memoryview) -> None:
        """Add score bytes."""
        self.size_bytes += memoryview(data).nbytes
        self._file.write(data)

    def commit(self, key: str, *, quarantine: bytes, account: bytes) -> None:
        """Stage the part under its key: first what goes with it, then the scores, in one step each.

        Raises:
            OSError: the store refuses it, or does not answer.
        """
        store = open_store(self._parts.protocol, self._parts.options)
        path = f"{self._parts.folder}/{key}"
        with self._file:
            if account:
                store.pipe_file(f"{path}{ACCOUNT}.{len(account)}", account)
            if quarantine:
                store.pipe_file(f"{path}{QUARANTINE}.{len(quarantine)}", quarantine)
            if self.size_bytes:
                put(store, f"{path}.{self.size_bytes}", self._file)

    def abort(self) -> None:
        """Drop what was written."""
        self._file.close()


def part_of(name: str, size_bytes: int) -> tuple[str, str] | None:
    """Read the name of an object among the parts: key, and what it is of it; None where it is not whole or none.

    Args:
        name: without folder.
        size_bytes: that the store has of it.
    """
    text, _, size = name.rpartition(".")
    key, dot, kind = text.partition(".")
    if size != str(size_bytes) or dot + kind not in ("", ACCOUNT, QUARANTINE) or PartKey.decode(key) is None:
        return None
    return key, dot + kind
