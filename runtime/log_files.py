"""Text files that grow, cheaply and without ever failing the job.

What is added is kept and written at most once a second. No file stays open in between, so that a hundred thousand
lines cost little, workers inherit nothing, and as many files as there are workers may grow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import BinaryIO

__all__ = ["SEPARATOR", "LogFiles", "Notice"]

SEPARATOR = "=" * 80 + "\n"
"""Between two runs."""

FLUSH_S = 1.0
HELD_CHARS = 2**20
"""So much text is written at once, however short a time it waited."""

Notice = Callable[[str], None]


class LogFiles:
    """The files below one folder.

    Where one cannot be written, for want of space or leave, that is told once, and nothing more is written.

    Args:
        folder: of all of them.
        headers: first line of a file, by its path below the folder.
        notice: called at most once.
    """

    def __init__(self, folder: str, *, headers: Mapping[str, str], notice: Notice) -> None:
        self._folder = folder
        self._headers = headers
        self._notice = notice
        self._broken = False
        self._held: dict[str, list[str]] = {}
        self._held_chars = 0
        self._flushed = 0.0
        self._begun: set[str] = set()

    def add(self, path: str, text: str, now: float) -> None:
        """Have text written at the end of a file, within a second or when `tick` is called after it."""
        if not self._broken:
            self._held.setdefault(path, []).append(text)
            self._held_chars += len(text)
            self.tick(now)

    def tick(self, now: float) -> None:
        """Write what has waited long enough."""
        # a clock that was set back is no reason to wait
        if self._held and (self._held_chars >= HELD_CHARS or not 0 <= now - self._flushed < FLUSH_S):
            self.flush(now)

    def flush(self, now: float) -> None:
        """Write all that waits."""
        held, self._held, self._held_chars = self._held, {}, 0
        self._flushed = now
        try:
            for path, texts in held.items():
                self._append(path, "".join(texts))
        except OSError as error:
            self._give_up(error)

    def put_first(self, path: str, text: str) -> None:
        """Write text above what a file holds already."""
        if self._broken:
            return
        whole = os.path.join(self._folder, path)
        try:
            old = b""
            if os.path.exists(whole):
                with open(whole, "rb") as file:
                    old = SEPARATOR.encode() + file.read()
            self._replace(whole, _bytes(text) + old)
        except OSError as error:
            self._give_up(error)

    def make(self, *, folders: tuple[str, ...], path: str, text: str) -> None:
        """Make folders, and one file with just this text."""
        try:
            for folder in folders:
                os.makedirs(os.path.join(self._folder, folder), exist_ok=True)
            self._replace(os.path.join(self._folder, path), _bytes(text))
        except OSError as error:
            self._give_up(error)

    def _append(self, path: str, text: str) -> None:
        with open(os.path.join(self._folder, path), "a+b") as file:
            start = b""
            if path not in self._begun:
                self._begun.add(path)
                start = _start(file, self._headers.get(path, ""))
            file.write(start + _bytes(text))

    def _replace(self, path: str, content: bytes) -> None:
        with open(f"{path}.new", "wb") as file:
            file.write(content)
        os.replace(f"{path}.new", path)

    def _give_up(self, error: OSError) -> None:
        if not self._broken:
            self._broken = True
            self._held.clear()
            reason = error.strerror or str(error)
            self._notice(f"logs cannot be written to {self._folder}: {reason}; the job goes on without them")


def _start(file: BinaryIO, header: str) -> bytes:
    """Return what must come before the first line of this run: the end of a torn line, the header."""
    header_line = _bytes(f"{header}\n") if header else b""
    size_bytes = os.fstat(file.fileno()).st_size
    if not size_bytes:
        return header_line
    file.seek(0)
    same = not header or file.readline() == header_line
    file.seek(size_bytes - 1)
    torn = file.read(1) != b"\n"
    return (b"\n" if torn else b"") + (b"" if same else header_line)


def _bytes(text: str) -> bytes:
    """Encode text; names of files that are not UTF-8 are spelled with escapes."""
    return text.encode("utf-8", "backslashreplace")
