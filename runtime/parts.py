"""Parts: the staged bytes of a mini-batch, under a key that says all a resume needs to know.

A key is 48 bytes, 64 characters in urlsafe base64, so that it can be a file name as well as a block id::

    format and flags   1    bits 4 to 7: format 1; bit 0: there is a quarantine part, 1: an account part, 2: no scores
    fingerprint        6    of the job: model content and the settings that alter bytes
    name digest        4    of the first file covered
    start              5    first byte covered in that file's decoded stream
    length             5    bytes covered, over all files; whole cells, up to a cell border
    rows               4    rows read
    lines              4    physical lines covered
    identity           4    digest of name, size and version of the files covered
    input digest       8    digest of the bytes covered
    crc                4    CRC-32 of the score bytes
    nonce              3    of the attempt

First row and line of a part are the sums over the parts before it in its file. Rows quarantined, and rows by file,
stand in the account part, which exists where a part covers several files or rows of it were not scored. What of a part
was torn when the machine went down is known by that: the scores by size and CRC-32 in the key, the quarantine by those
in the account, and the account because it is no whole JSON then.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from runtime.disk import crc32, create_new, has_bytes, write_new
from runtime.disk_abilities import DiskAbilities
from scoring.cells import SliceAccount

FORMAT = 1
KEY_LENGTH = 64
QUARANTINE = ".quarantine"
ACCOUNT = ".account"
LONGEST_NAME = KEY_LENGTH + len(QUARANTINE)
_UNFINISHED = (".", "new-")
"""How names of what is being written begin; the second where no name may begin with a dot. No key does."""
_MEMORY_BYTES = 2**24

_WIDTHS = (
    ("fingerprint", 6), ("name_digest", 4), ("start", 5), ("length", 5), ("rows", 4), ("lines", 4),
    ("identity", 4), ("input_digest", 8), ("crc", 4), ("nonce", 3),
)  # fmt: skip

_FLAGS = 0b111
_NUMBERS = frozenset({"start", "length", "rows", "lines", "crc"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PartKey:
    """What a staged part covers; see the top of this module."""

    fingerprint: bytes
    name_digest: bytes
    start: int
    length: int
    rows: int
    lines: int
    identity: bytes
    input_digest: bytes
    crc: int
    nonce: bytes
    quarantine: bool = False
    account: bool = False
    unscored: bool = False

    def encode(self) -> str:
        """Write the key as 64 characters."""
        flags = FORMAT << 4 | self.quarantine | self.account << 1 | self.unscored << 2
        packed = bytes([flags])
        for name, width in _WIDTHS:
            value = getattr(self, name)
            packed += value if isinstance(value, bytes) else value.to_bytes(width, "big")
        return urlsafe_b64encode(packed).decode()

    @classmethod
    def decode(cls, text: str) -> PartKey | None:
        """Read a key, or None where the text is none of this format."""
        if len(text) != KEY_LENGTH:
            return None
        try:
            packed = urlsafe_b64decode(text)
        except ValueError:
            return None
        # decoding skips characters that are none of the 64
        if urlsafe_b64encode(packed).decode() != text:
            return None
        flags, position = packed[0], 1
        if flags & ~_FLAGS != FORMAT << 4:
            return None
        values: dict[str, Any] = {}
        for name, width in _WIDTHS:
            value = packed[position : position + width]
            values[name] = int.from_bytes(value, "big") if name in _NUMBERS else value
            position += width
        return cls(
            **values,
            quarantine=bool(flags & 1),
            account=bool(flags & 2),
            unscored=bool(flags & 4),
        )


def account_bytes(
    accounts: Iterable[SliceAccount], causes: Iterable[tuple[str, int]], quarantine: bytes = b""
) -> bytes:
    """Write what became of the rows of a part, slice by slice, and why; and what its quarantine part is."""
    slices = [
        [each.name, each.start, each.stop, each.digest.hex(), each.rows, each.quarantined, each.given_up, each.problem]
        for each in accounts
    ]
    content: dict[str, Any] = {"slices": slices, "causes": dict(causes)}
    if quarantine:
        content["quarantine"] = [len(quarantine), zlib.crc32(quarantine)]
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogateescape")


def read_account(data: bytes) -> tuple[tuple[SliceAccount, ...], tuple[tuple[str, int], ...]]:
    """Read what `account_bytes` wrote."""
    content = json.loads(data.decode("utf-8", "surrogateescape"))
    slices = tuple(
        SliceAccount(
            name=name, start=start, stop=stop, digest=bytes.fromhex(digest), rows=rows, quarantined=quarantined,
            given_up=given_up, problem=problem,
        )
        for name, start, stop, digest, rows, quarantined, given_up, problem in content["slices"]
    )  # fmt: skip
    return slices, tuple(content["causes"].items())


def is_unfinished(name: str) -> bool:
    """Tell whether a file among the parts is one that somebody writes, or wrote when it was killed."""
    return name.startswith(_UNFINISHED)


def is_whole(folder: Path, text: str, key: PartKey) -> bool:
    """Tell whether all of a part is there, and is what was staged.

    Raises:
        OSError: it cannot be read.
    """
    if key.account:
        try:
            content = json.loads((folder / (text + ACCOUNT)).read_bytes().decode("utf-8", "surrogateescape"))
        except (FileNotFoundError, ValueError):
            return False
        if key.quarantine and not has_bytes(folder / (text + QUARANTINE), *content.get("quarantine", (0, 0))):
            return False
    elif key.quarantine and not (folder / (text + QUARANTINE)).exists():
        return False
    try:
        return key.unscored or crc32(folder / text) == key.crc
    except FileNotFoundError:
        return False


class Writer(Protocol):
    """One part while it is written: nobody sees it before `commit`.

    Attributes:
        nonce: what tells its key from that of another attempt.
        size_bytes: score bytes written.
    """

    nonce: bytes
    size_bytes: int

    def write(self, data: bytes | memoryview) -> None:
        """Add score bytes."""
        ...

    def commit(self, key: str, *, quarantine: bytes, account: bytes) -> None:
        """Make the part visible under its key."""
        ...

    def abort(self) -> None:
        """Drop what was written."""
        ...


class PartStore(Protocol):
    """Where a worker stages: plain data, which crosses to it."""

    def begin(self) -> Writer:
        """Begin a part."""
        ...


class LocalParts:
    """Parts in a folder on disk: what a worker writes to.

    Args:
        folder: where.
        abilities: what its file system can do.
    """

    def __init__(self, folder: str, abilities: DiskAbilities | None = None) -> None:
        self._folder = Path(folder)
        self._abilities = abilities or DiskAbilities()

    def begin(self) -> PartWriter:
        """Begin a part; the folder is never created here, so that a late orphan fails."""
        return PartWriter(self._folder, self._abilities)


class PartWriter:
    """One part while it is written: nobody sees it before `commit`.

    Where no file can be renamed, what is to be seen is written under its final name at last, and known to be whole by
    its checksum alone.
    """

    def __init__(self, folder: Path, abilities: DiskAbilities) -> None:
        self.nonce = os.urandom(3)
        self.size_bytes = 0
        self._folder = folder
        self._renames = abilities.renames
        self._temporary = folder / f"{_UNFINISHED[not abilities.hides]}{os.getpid()}-{self.nonce.hex()}"
        self._file: IO[bytes]
        if self._renames:
            self._file = open(create_new(self._temporary), "wb", buffering=0)  # noqa: SIM115 (closed by commit or abort)
        else:
            os.stat(folder)
            self._file = tempfile.SpooledTemporaryFile(_MEMORY_BYTES, prefix="scoreline-")  # noqa: SIM115

    def write(self, data: bytes | memoryview) -> None:
        """Add score bytes."""
        view = memoryview(data)
        self.size_bytes += len(view)
        while view:
            view = view[self._file.write(view) or 0 :]

    def commit(self, key: str, *, quarantine: bytes, account: bytes) -> None:
        """Make the part visible under its key: first what goes with it, then the scores, in one step each.

        A part without score bytes is its quarantine part alone.
        """
        if account:
            self._place(key + ACCOUNT, account)
        if quarantine:
            self._place(key + QUARANTINE, quarantine)
        if not self._renames:
            if self.size_bytes:
                self._file.seek(0)
                write_new(self._folder / key, iter(lambda: self._file.read(_MEMORY_BYTES), b""), durable=False)
            self._file.close()
            return
        self._file.close()
        if self.size_bytes:
            os.rename(self._temporary, self._folder / key)
        else:
            os.unlink(self._temporary)

    def abort(self) -> None:
        """Drop what was written."""
        self._file.close()
        if self._renames:
            self._temporary.unlink(missing_ok=True)

    def _place(self, name: str, data: bytes) -> None:
        if not self._renames:
            write_new(self._folder / name, [data], durable=False)
            return
        temporary = self._temporary.with_name(self._temporary.name + "-with")
        try:
            write_new(temporary, [data], durable=False)
            os.rename(temporary, self._folder / name)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
