"""Read files on disks, mounts and shares that may fail for a moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from io import FileIO
from typing import TypeVar

from scoring.errors import InputBusyError, may_pass

__all__ = ["WAITS_S", "PatientFile", "open_patiently", "patiently"]

Read = TypeVar("Read")

WAITS_S = (0.2, 0.8, 3.2)
"""How long to wait before each further try of what a disk, a mount or a network failed at."""


def patiently(read: Callable[[], Read], path: str | os.PathLike[str]) -> Read:
    """Do what reads a file, and again where what it fails of may pass.

    Raises:
        InputBusyError: it still fails after some seconds.
        OSError: it fails in a way that will not pass.
    """
    for wait_s in WAITS_S:
        try:
            return read()
        except OSError as error:
            if not may_pass(error):
                raise
        time.sleep(wait_s)
    try:
        return read()
    except OSError as error:
        if not may_pass(error):
            raise
        raise InputBusyError(f"{path}: cannot be read: {error.strerror}; run again to go on") from None


class PatientFile(FileIO):
    """A file without a buffer, whose reads are tried again."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read the next bytes; see `patiently` for what it raises."""
        return patiently(lambda: super(PatientFile, self).read(-1 if size is None else size), str(self.name)) or b""


def open_patiently(path: str) -> PatientFile:
    """Open a file to read; see `patiently` for what it raises."""
    return patiently(lambda: PatientFile(path, "rb"), path)
