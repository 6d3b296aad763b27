"""A folder on this machine for what a job fetches and what its output elsewhere cannot hold; a kill leaves none."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["Scratch"]

_PREFIX = "scoreline-scratch-"
_LOCKED_WITHIN_S = 60.0
"""A folder without a lock is about to get one, or its process was killed just then."""


class Scratch:
    """A folder below the system's temporary one; a lock that ends with its process says whether it is in use.

    Attributes:
        path: of the folder, which is there between `make` and `remove`.
        spool: for decoded input.
        work: for working folders of scripts, or a fetched model.
    """

    def __init__(self) -> None:
        name = f"{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
        self.path = Path(tempfile.gettempdir()) / name
        self.spool = self.path / "spool"
        self.work = self.path / "work"
        self._lock: int | None = None

    def make(self) -> None:
        """Make it, and remove those whose processes have died.

        Raises:
            OSError: the disk is full or may not be written.
        """
        for left in self.path.parent.glob(f"{_PREFIX}*"):
            _remove_dead(left)
        while self._lock is None:
            self._lock = self._locked()
        self.spool.mkdir()
        self.work.mkdir()

    def _locked(self) -> int | None:
        """Make the folder and lock it; None where another job took it for that of a dead one meanwhile."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        lock = None
        with suppress(FileNotFoundError):
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(lock), os.stat(self.path / "lock")):
                return lock
        if lock is not None:
            os.close(lock)
        return None

    def remove(self) -> None:
        """Remove it and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _remove_dead(folder: Path) -> None:
    with suppress(OSError):
        try:
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            if time.time() - folder.stat().st_mtime > _LOCKED_WITHIN_S:
                shutil.rmtree(folder, ignore_errors=True)
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
