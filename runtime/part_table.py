"""What is staged at which place of the plan: as little memory as can be, for it is wanted when all is published."""

from __future__ import annotations

import os
import struct
import weakref
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import IO

__all__ = ["PartTable"]

_RECORD = struct.Struct("<B48sQ")
_ABSENT, _PACKED, _EMPTY, _OTHER = range(4)
_KEPT = 20_000
"""Records beyond these, which only a job has whose mini-batches were set by hand, are kept in a file without a name."""
_BLOCK = 1_000


class PartTable(Mapping[int, tuple[str, int]]):
    """Place in the plan -> (key, score bytes), in the order of the places.

    A key is packed as the 48 bytes that its 64 characters stand for. Places begin at 0 and have few gaps.
    """

    def __init__(self) -> None:
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._kept = _KEPT
        self._others: dict[int, str] = {}
        self._stop = 0
        self._count = 0

    def __setitem__(self, number: int, part: tuple[str, int]) -> None:
        """Note what is staged at a place."""
        if number < 0:
            raise KeyError(number)
        key, size_bytes = part
        self._count += number not in self
        self._stop = max(self._stop, number + 1)
        packed = _packed(key)
        self._others.pop(number, None)
        if packed is None:
            self._others[number] = key
        kind = _OTHER if packed is None else _PACKED if key else _EMPTY
        self._write(number, _RECORD.pack(kind, packed or b"", size_bytes))

    def __getitem__(self, number: int) -> tuple[str, int]:
        """Return what is staged at a place."""
        if 0 <= number < self._stop:
            kind, packed, size_bytes = _RECORD.unpack(self._read(number, 1))
            if kind == _PACKED:
                return urlsafe_b64encode(packed).decode(), size_bytes
            if kind != _ABSENT:
                return self._others.get(number, ""), size_bytes
        raise KeyError(number)

    def __contains__(self, number: object) -> bool:
        """Tell whether something is staged at a place."""
        return isinstance(number, int) and 0 <= number < self._stop and self._read(number, 1)[0] != _ABSENT

    def __len__(self) -> int:
        """Count the places at which something is staged."""
        return self._count

    def __iter__(self) -> Iterator[int]:
        """Go through the places at which something is staged, in order."""
        for first in range(0, self._stop, _BLOCK):
            data = self._read(first, _BLOCK)
            for place in range(0, len(data), _RECORD.size):
                if data[place] != _ABSENT:
                    yield first + place // _RECORD.size

    def _read(self, first: int, count: int) -> bytes:
        """Return some records, as far as there are so many; those never written are absent."""
        stop = min(first + count, self._stop)
        data = bytes(self._memory[first * _RECORD.size : stop * _RECORD.size])
        begin = max(first, self._kept)
        if self._file is not None and begin < stop:
            offset, wanted = (begin - self._kept) * _RECORD.size, (stop - begin) * _RECORD.size
            data = data.ljust((begin - first) * _RECORD.size, b"\0") + os.pread(self._file.fileno(), wanted, offset)
        return data.ljust((stop - first) * _RECORD.size, b"\0")

    def _write(self, number: int, record: bytes) -> None:
        if number >= self._kept:
            with suppress(OSError):
                if os.pwrite(self._opened().fileno(), record, (number - self._kept) * _RECORD.size) == len(record):
                    return
            # no room is no reason to lose a job that memory can hold
            self._keep_all()
        begin = number * _RECORD.size
        if len(self._memory) < begin:
            self._memory.extend(bytes(begin - len(self._memory)))
        self._memory[begin : begin + _RECORD.size] = record

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            from tempfile import TemporaryFile

            self._file = TemporaryFile(prefix="scoreline-", buffering=0)  # noqa: SIM115 (closed with the table)
            weakref.finalize(self, self._file.close)
        return self._file

    def _keep_all(self) -> None:
        self._memory[:] = self._read(0, self._stop)
        self._kept = 2**63


def _packed(key: str) -> bytes | None:
    """Pack a key; None where it is none of 64 characters of urlsafe base64."""
    if not key:
        return b""
    try:
        packed = urlsafe_b64decode(key)
    except ValueError:
        return None
    return packed if len(packed) == 48 and urlsafe_b64encode(packed).decode() == key else None
