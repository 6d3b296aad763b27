"""Files on disk: made, copied by the kernel where it can, put into place in one step where it can, made durable."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from runtime.disk_abilities import REFUSED, DiskAbilities

__all__ = [
    "copy_into", "crc32", "create_new", "finish_placing", "has_bytes", "place", "sha256", "sync", "sync_folder",
    "version", "write_all", "write_new", "write_over",
]  # fmt: skip

_COPY_BYTES = 8 * 2**20
_PLACING = ".placing"


def version(path: Path) -> dict[str, Any] | None:
    """Return what changes when a file is replaced or written: size, time, inode; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}


def crc32(path: Path, crc: int = 0) -> int:
    """Return the CRC-32 of a file; `crc` is that of what comes before it."""
    with open(path, "rb") as file:
        while data := file.read(_COPY_BYTES):
            crc = zlib.crc32(data, crc)
    return crc


def has_bytes(path: Path, size_bytes: int, crc: int) -> bool:
    """Tell whether a file is there with this size and CRC-32."""
    try:
        return path.stat().st_size == size_bytes and crc32(path) == crc
    except FileNotFoundError:
        return False


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def create_new(path: Path) -> int:
    """Open a file that is not there yet, for writing.

    Raises:
        FileExistsError: it is there.
        OSError: the folder cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_EXCL, 0o666)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    return os.open(path, flags, 0o666)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of some bytes to an open file."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_new(path: Path, pieces: Iterable[bytes], *, durable: bool = True) -> None:
    """Write a file that is not there yet, piece by piece.

    Args:
        path: of the file.
        pieces: what it is to hold.
        durable: whether it is forced to the disk.

    Raises:
        OSError: it cannot be written; nothing of it is left then.
    """
    descriptor = create_new(path)
    try:
        try:
            for piece in pieces:
                write_all(descriptor, piece)
            if durable:
                sync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        with suppress(OSError):
            os.unlink(path)
        raise


def write_over(path: Path, data: bytes) -> None:
    """Write a small file, over what it held, so that nobody finds it empty and a kill leaves the old or the new.

    It may wait for memory while it is made for the first time, and for nothing afterwards: its one page is there.
    Mounts of object stores that write whole files only are given a whole one.

    Args:
        path: of the file.
        data: what it is to hold, of the same length each time: of another, it may be found with the end of the old.

    Raises:
        OSError: it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    if not _done(lambda: _write_from_start(path, flags, data)):
        _write_from_start(path, flags | os.O_TRUNC, data)


def _write_from_start(path: Path, flags: int, data: bytes) -> None:
    descriptor = os.open(path, flags, 0o666)
    try:
        write_all(descriptor, data)
        if os.fstat(descriptor).st_size > len(data):
            os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)


def remove_below(folder: Path, paths: Iterable[str]) -> None:
    """Remove those files that lie in a folder; what cannot be removed goes with the folder."""
    for path in paths:
        if path.startswith(str(folder)):
            with suppress(OSError):
                os.unlink(path)


def sync(descriptor: int) -> None:
    """Make an open file durable, where the file system can.

    Raises:
        OSError: it fails at it.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in REFUSED:
            raise


def sync_folder(path: Path) -> None:
    """Make names in a folder durable, where the file system can.

    Raises:
        OSError: it fails at it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        return
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def copy_into(target: int, path: Path) -> None:
    """Append a file to an open one, by the kernel alone where it can.

    Raises:
        OSError: one of them fails, or the file is shorter than it was.
    """
    with open(path, "rb") as source:
        left = os.fstat(source.fileno()).st_size
        # where it fails, reading and writing does so too, if it must
        with suppress(OSError, AttributeError):
            while left and (copied := os.copy_file_range(source.fileno(), target, left)):
                left -= copied
        while left and (data := source.read(min(left, _COPY_BYTES))):
            write_all(target, data)
            left -= len(data)
        if left:
            raise OSError(errno.EIO, "a part became shorter", str(path))


def place(whole: Path, path: Path, *, replace: bool, abilities: DiskAbilities) -> None:
    """Give a whole and durable file its name, which leaves the old one: in one step, where the file system can.

    Where it cannot, a mark beside the file says so as long as it lasts, for `finish_placing`.

    Args:
        whole: the file.
        path: its name to be.
        replace: whether a file that has the name goes.
        abilities: what is known of the file system.

    Raises:
        FileExistsError: the name is taken, and that file was to stay.
        OSError: the folder cannot be written.
    """
    if not replace:
        if abilities.links and _done(lambda: os.link(whole, path)):
            os.unlink(whole)
            return
        # the claim alone keeps others away
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    if (abilities.replaces or (abilities.renames and not replace)) and _done(lambda: os.replace(whole, path)):
        return
    mark = whole.with_name(whole.name + _PLACING)
    mark.unlink(missing_ok=True)
    write_new(mark, [json.dumps({"size_bytes": whole.stat().st_size, "crc32": crc32(whole)}).encode()])
    if replace:
        path.unlink(missing_ok=True)
    if not (abilities.renames and _done(lambda: os.rename(whole, path))):
        _copy(whole, path)
        whole.unlink()
    mark.unlink()


def finish_placing(whole: Path, path: Path) -> None:
    """End what `place` was doing when its process was killed, if it was.

    Raises:
        OSError: the folder cannot be written.
    """
    mark = whole.with_name(whole.name + _PLACING)
    try:
        content = json.loads(mark.read_bytes())
    except (FileNotFoundError, ValueError):
        # not begun
        return
    is_whole = has_bytes(whole, content["size_bytes"], content["crc32"])
    # else it has its name, or what has it is another's
    if is_whole and (not os.path.lexists(path) or _begins(path, whole)):
        path.unlink(missing_ok=True)
        _copy(whole, path)
        whole.unlink()
    mark.unlink()


def _copy(whole: Path, path: Path) -> None:
    """Copy a file to a name that is free."""
    descriptor = create_new(path)
    try:
        copy_into(descriptor, whole)
        sync(descriptor)
    finally:
        os.close(descriptor)
    if path.stat().st_size != whole.stat().st_size or crc32(path) != crc32(whole):
        raise OSError(errno.EIO, "it is not what was written to it", str(path))


def _begins(path: Path, whole: Path) -> bool:
    """Tell whether a file is a copy of another that was not ended: its first bytes, and zeros that no disk had yet."""
    with open(path, "rb") as copied, open(whole, "rb") as source:
        same = True
        while data := copied.read(_COPY_BYTES):
            expected = source.read(len(data))
            if not same or data != expected:
                alike = takewhile(lambda pair: pair[0] == pair[1], zip(data, expected, strict=False)) if same else ()
                if data[sum(1 for _ in alike) :].strip(b"\0"):
                    return False
                same = False
    return True


def _done(call: Callable[[], object]) -> bool:
    """Tell whether a call is done; False where the file system refuses such calls."""
    try:
        call()
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        return False
    return True
