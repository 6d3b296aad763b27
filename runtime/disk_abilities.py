"""What the file system of an output can do, found by trying it once; whatever it lacks has a fallback.

Mounts of object stores have no hard links, no rename or a slow one, no locks; network shares refuse other things. Where
two file names may not differ in the case of letters alone, nothing needs to be done: parts of other bytes have other
checksums in their names, and parts that differ in the nonce of the attempt alone have the same bytes.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from runtime.errors import OutputError

__all__ = ["REFUSED", "DiskAbilities", "find_abilities", "lacks_text"]

REFUSED = frozenset(
    {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENOTTY,
     errno.EXDEV, errno.EMLINK, errno.ENOLCK, errno.EBADF, errno.EISDIR}
)  # fmt: skip
"""How a file system says that it does not do such a thing, as opposed to that it fails at it."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.ETIMEDOUT})
_LEFT = (".nfs", ".fuse_hidden")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskAbilities:
    """What a file system can do.

    Attributes:
        locks: lock a file (flock).
        creates_new: create a file unless it is there (O_EXCL).
        renames: rename a file to a name that is free.
        replaces: rename a file over another.
        links: give a file a second name (link).
        syncs: make a file durable (fsync).
        syncs_folders: make the names in a folder durable.
        copies: copy between files without reading them (copy_file_range).
        hides: take names that begin with a dot.
        removes_open: remove a file that is open.
    """

    locks: bool = True
    creates_new: bool = True
    renames: bool = True
    replaces: bool = True
    links: bool = True
    syncs: bool = True
    syncs_folders: bool = True
    copies: bool = True
    hides: bool = True
    removes_open: bool = True


_TOLD = {
    "locks": ("flock", "a driver that dies on another machine holds this output for two minutes"),
    "creates_new": ("exclusive creation", ""),
    "renames": ("rename", "the score file is copied into place, so read it only when its receipt is there"),
    "replaces": ("rename over a file", "a score file that is replaced is missing for a moment"),
    "links": ("hard links", ""),
    "syncs": ("fsync", "after a power failure hold what was published against its receipt (scoreline receipt check)"),
    "syncs_folders": ("fsync of a folder", ""),
    "copies": ("copy_file_range", ""),
    "hides": ("names that begin with a dot", ""),
    "removes_open": ("removing open files", ""),
}


def lacks_text(abilities: DiskAbilities) -> str:
    """Say what is lacking and what that means; empty where nothing is."""
    lacking = [each.name for each in fields(abilities) if not getattr(abilities, each.name)]
    if not abilities.renames and "replaces" in lacking:
        lacking.remove("replaces")
    if not lacking:
        return ""
    names = ", ".join(_TOLD[name][0] for name in lacking)
    meaning = "; ".join(text for name in lacking if (text := _TOLD[name][1]))
    return f"the output's file system lacks {names}: {meaning or 'other ways are taken, with the same result'}"


def find_abilities(folder: Path, *, locks: bool, hides: bool, longest_name: int) -> DiskAbilities:
    """Try everything once, with small files that are removed again.

    Args:
        folder: where; it is the caller's alone, and has a folder ``parts``.
        locks: whether a file could be locked.
        hides: whether a name could begin with a dot, as far as that is known.
        longest_name: bytes of the longest name that will be needed.

    Raises:
        OutputError: names that are needed cannot be had.
        OSError: the disk is full or fails.
    """
    trial = _Trial(folder)
    try:
        creates_new = trial.creates_new()
        syncing = _Attempt(lambda: _synced(trial.first))
        copies = trial.copies()
        links = trial.links()
        replaces = trial.replaces()
        renames = trial.renames()
        hides = hides and trial.hides()
        removes_open = trial.removes_open()
        trial.check_names(longest_name)
        syncs_folders = _can(lambda: _synced(folder), vital=True)
        syncs = syncing.succeeded()
    finally:
        trial.clear()
    return DiskAbilities(
        locks=locks, creates_new=creates_new, renames=renames, replaces=replaces and renames, links=links,
        syncs=syncs, syncs_folders=syncs_folders, copies=copies, hides=hides, removes_open=removes_open,
    )  # fmt: skip


def _can(call: Callable[[], object], *, vital: bool = False) -> bool:
    """Tell whether a call succeeds.

    Args:
        call: what is tried.
        vital: whether an I/O error is one of the disk, rather than a way to say no.

    Raises:
        OSError: the disk is full or fails.
    """
    try:
        call()
    except OSError as error:
        if error.errno in _FULL or (vital and error.errno == errno.EIO):
            raise
        return False
    return True


class _Attempt:
    """A call that is made meanwhile: a disk that takes 4 ms to be made durable is waited for once, not twice."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._result: bool | OSError = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = _can(self._call, vital=True)
        except OSError as error:
            self._result = error

    def succeeded(self) -> bool:
        """Wait for it.

        Raises:
            OSError: the disk is full or fails.
        """
        self._thread.join()
        if isinstance(self._result, OSError):
            raise self._result
        return self._result


class _Trial:
    """Files to try things with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"probe-{os.getpid()}-{os.urandom(3).hex()}"
        self.first = folder / self._name
        self._made: list[Path] = []

    def _path(self, text: str, *, inside: str = "") -> Path:
        path = self._folder / inside / f"{self._name}{text}"
        self._made.append(path)
        return path

    def _write(self, path: Path, *flags: int) -> None:
        mode = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        for flag in flags:
            mode |= flag
        descriptor = os.open(path, mode, 0o666)
        try:
            os.write(descriptor, b"probe")
        finally:
            os.close(descriptor)

    def creates_new(self) -> bool:
        self._made.append(self.first)
        if not _can(lambda: self._write(self.first, os.O_EXCL), vital=True):
            self._write(self.first)
            return False
        try:
            self._write(self.first, os.O_EXCL)
        except OSError as error:
            return error.errno == errno.EEXIST
        return False

    def copies(self) -> bool:
        if not hasattr(os, "copy_file_range"):
            # the system, not the disk, does without
            return True
        target = self._path("-copy")

        def copy() -> None:
            with open(self.first, "rb") as source, open(target, "wb") as into:
                os.copy_file_range(source.fileno(), into.fileno(), 5)

        return _can(copy)

    def links(self) -> bool:
        # into another folder, as the score file is
        target = self._path("-link", inside="parts")
        return _can(lambda: os.link(self.first, target))

    def replaces(self) -> bool:
        source, target = self._path("-new"), self._path("-old", inside="parts")
        self._write(source)
        self._write(target)
        return _can(lambda: os.replace(source, target), vital=True)

    def renames(self) -> bool:
        source, target = self._path("-from"), self._path("-to", inside="parts")
        self._write(source)
        return _can(lambda: os.rename(source, target), vital=True)

    def hides(self) -> bool:
        path = self._folder / f".{self._name}"
        self._made.append(path)
        return _can(lambda: self._write(path))

    def removes_open(self) -> bool:
        path = self._path("-open")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            removed = _can(lambda: os.unlink(path))
            return removed and not any(name.startswith(_LEFT) for name in os.listdir(self._folder))
        finally:
            os.close(descriptor)

    def check_names(self, longest: int) -> None:
        """Make a file with a long name of mixed letters, and look for it.

        Raises:
            OutputError: its name is too long, or is changed.
        """
        text = f"{self._name}-Aa"
        path = self._folder / f"{text}{'n' * (longest - len(text))}"
        self._made.append(path)
        try:
            self._write(path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise OutputError(_too_long(longest)) from None
            raise
        names = os.listdir(self._folder)
        if path.name in names:
            return
        if any(name.lower() == path.name.lower() for name in names):
            raise OutputError(
                "its file system changes the letters of file names, so that what is staged could not be found again; "
                "choose an --output on another one"
            )
        raise OutputError(_too_long(longest))

    def clear(self) -> None:
        for path in self._made:
            with suppress(OSError):
                os.unlink(path)


def _too_long(longest: int) -> str:
    return (
        f"its file system does not take names of {longest} bytes, which Scoreline needs; choose a shorter "
        "--output-file-name, or an --output on another file system"
    )


def _synced(path: Path) -> Any:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
