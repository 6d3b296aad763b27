"""A folder on this machine for a job whose output is elsewhere: decoded input, and working folders of scripts."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["Scratch"]

_PREFIX = "scoreline-scratch-"


class Scratch:
    """A folder below the system's temporary one; a lock that ends with its process says whether it is in use.

    Attributes:
        path: of the folder, which is there between `make` and `remove`.
        spool: for decoded input.
        work: for working folders of scripts.
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
        self.path.mkdir(mode=0o700)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.spool.mkdir()
        self.work.mkdir()

    def remove(self) -> None:
        """Remove it and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _remove_dead(folder: Path) -> None:
    # one without a lock is about to get it, or about to be gone
    with suppress(OSError):
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
