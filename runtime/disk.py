"""Files on disk: copied by the kernel where it can, linked into place, made durable."""

from __future__ import annotations

import errno
import hashlib
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["copy_into", "crc32", "has_bytes", "link_new", "sha256", "sync_folder", "version"]

_COPY_BYTES = 8 * 2**20


def version(path: Path) -> dict[str, Any] | None:
    """Return what changes when a file is replaced or written: size, time, inode; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}


def crc32(path: Path) -> int:
    """Return the CRC-32 of a file."""
    crc = 0
    with open(path, "rb") as file:
        while data := file.read(_COPY_BYTES):
            crc = zlib.crc32(data, crc)
    return crc


def has_bytes(path: Path, size_bytes: int, crc: int) -> bool:
    """Tell whether a file is there with this size and CRC-32."""
    return path.exists() and path.stat().st_size == size_bytes and crc32(path) == crc


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_into(target: int, path: Path) -> None:
    """Append a file to an open one, by the kernel alone where it can.

    Raises:
        OSError: one of them fails, or the file is shorter than it was.
    """
    with open(path, "rb") as source:
        left = os.fstat(source.fileno()).st_size
        copy = os.copy_file_range if hasattr(os, "copy_file_range") else None
        while left and copy is not None:
            try:
                copied = copy(source.fileno(), target, left)
            except OSError as error:
                if error.errno in (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
                    copy = None
                    break
                raise
            if not copied:
                break
            left -= copied
        while left and (data := source.read(min(left, _COPY_BYTES))):
            view = memoryview(data)
            left -= len(view)
            while view:
                view = view[os.write(target, view) :]
        if left:
            raise OSError(errno.EIO, "a part became shorter", str(path))


def link_new(temporary: Path, path: Path) -> None:
    """Give a file its name, unless that is taken.

    Raises:
        FileExistsError: it is taken.
        OSError: the folder cannot be written.
    """
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        # no hard links here: the claim alone keeps others away
        os.rename(temporary, path)
        return
    os.unlink(temporary)


def sync_folder(path: Path) -> None:
    """Make names in a folder durable, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
