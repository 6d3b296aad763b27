"""Checksums of a file, and its rows counted meanwhile by a process that may load what the driver must not."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from runtime.errors import ScorelineError
from runtime.findings import Notebook

__all__ = ["Recount", "checksums", "conclude"]

SHOWN_DIFFERENCES = 20
READ_BYTES = 8 * 2**20


def checksums(path: Path) -> tuple[int, str, str]:
    """Return size, CRC-32 and SHA-256 of a file, read once.

    Raises:
        OSError: it cannot be read.
    """
    whole = hashlib.sha256()
    size_bytes = crc = 0
    buffer = memoryview(bytearray(READ_BYTES))
    with open(path, "rb", buffering=0) as file:
        while length := file.readinto(buffer):
            size_bytes += length
            crc = zlib.crc32(buffer[:length], crc)
            whole.update(buffer[:length])
    return size_bytes, f"{crc:08x}", whole.hexdigest()


class Recount:
    """A process that answers one question, see `scoring.recount.main`; it ends with the block it was started in."""

    def __init__(self, question: dict[str, Any]) -> None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "scoring.recount"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        # where it died already, `answer` says so
        with suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(json.dumps(question).encode())

    def answer(self) -> dict[str, Any]:
        """Wait for what it counted.

        Raises:
            ScorelineError: it died.
        """
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        code = self._process.wait()
        if code:
            raise ScorelineError(f"the process that counts rows ended unexpectedly (exit code {code}); try again")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def conclude(notes: Notebook, differences: Sequence[str], well: str) -> None:
    """Tell what differs, not more than a screen of it; or that all is well."""
    for text in differences[:SHOWN_DIFFERENCES]:
        notes.error(text)
    if len(differences) > SHOWN_DIFFERENCES:
        notes.error(f"and {len(differences) - SHOWN_DIFFERENCES:,} more like these, the last: {differences[-1]}")
    if not differences:
        notes.ok(well)
