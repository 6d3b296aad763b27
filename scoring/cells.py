"""Slices, cells and the fixed grid that cuts an input into them.

A *slice* is consecutive whole records of one file; a *cell* is the slices of one ``predict`` call. Everything here is
plain data: it crosses process boundaries as it is.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import FileIO

import xxhash

from scoring.patient_files import open_patiently

MAX_CELL_ROWS = 131_072
MIN_CELL_ROWS = 1_024
CELL_BYTES = 8 * 2**20
"""A cell's rows are chosen to hold about this many bytes of input at the most (design.md section 6)."""
WIDE_CELL_BYTES = 32 * 2**20
"""And this many where rows are so long that `MIN_CELL_ROWS` would hold more. A call has a price for each column: with
20,000 of them (3,000 rows, 2 workers) 32 rows a call took 96 s, 128 36 s and 777 MiB, 1,024 33 s and 1,861 MiB."""
CELLS_PER_INPUT = 16
"""An input is cut into at least this many cells, as far as `MIN_CELL_ROWS` allows."""
DIGEST_BYTES = 2**20
TABLES = frozenset({"csv", "parquet"})
"""Formats of files that hold rows; one of any other is a row by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One listed input file.

    Attributes:
        name: path below the input root, with ``/``.
        url: where it is read from.
        size_bytes: its size as stored.
        version: what changes when its content does: an etag, or the modification time in nanoseconds on disk.
        format: how it is read: csv, parquet or image; file: not at all, but by a scoring script; unknown: by nothing.
        problem: why it cannot be read; such a file fails alone.
    """

    name: str
    url: str
    size_bytes: int
    version: str
    format: str = "csv"
    problem: str = ""

    @property
    def identity(self) -> str:
        """What a staged part remembers of the file."""
        return f"{self.name}\0{self.size_bytes}\0{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Consecutive whole records of one file.

    The slices of a file cover it from byte 0 to its end without a gap: the header belongs to the first, blank lines to
    the slice they stand in. Those of a Parquet file are whole row groups; an image, or a file for a scoring script, is
    one slice of one row.

    Attributes:
        file: index of the file in the listing.
        name: path of the file below the input root.
        url: where the bytes are: the file, or a spool file that holds this slice decoded.
        format: csv, parquet, image, or file: the scoring script reads it.
        offset: where in `url` the slice begins.
        start: first byte covered, in the decoded stream of the file.
        stop: first byte behind it.
        skip_bytes: bytes of header at the start of the slice.
        first_row: 0-based number of its first row in the file.
        rows: rows in it.
        first_line: 1-based physical line of its first byte.
        lines: physical line ends in it.
        columns: names of the fields of a record.
        width: fields of a record: one more than the columns where the file ends its records in an empty field.
        plain: whether Arrow's parser sees the same records.
        odd_numbers: whether there may be numbers that Arrow reads and the rules do not.
        problem: why the rest of the file cannot be read; such a slice has no rows.
    """

    file: int
    name: str
    url: str
    offset: int
    start: int
    stop: int
    skip_bytes: int = 0
    first_row: int = 0
    rows: int = 0
    first_line: int = 1
    lines: int = 0
    columns: tuple[str, ...] = ()
    width: int = 0
    plain: bool = True
    odd_numbers: bool = False
    problem: str = ""
    format: str = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The rows of one ``predict`` call."""

    slices: tuple[Slice, ...]

    @property
    def rows(self) -> int:
        """Rows read from the input for it."""
        return sum(part.rows for part in self.slices)

    @property
    def size_bytes(self) -> int:
        """Bytes of (decoded) input covered."""
        return sum(part.stop - part.start for part in self.slices)


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniBatch:
    """Consecutive whole cells: what is dispatched, timed out, retried, staged and counted.

    Attributes:
        number: position in the plan, from 0.
        cells: what to score, in plan order.
        identity: digest of the identities of the files it covers.
    """

    number: int
    cells: tuple[Cell, ...]
    identity: bytes = field(default=b"", repr=False)

    @property
    def rows(self) -> int:
        """Rows read from the input for it."""
        return sum(cell.rows for cell in self.cells)

    @property
    def size_bytes(self) -> int:
        """Bytes of (decoded) input covered."""
        return sum(cell.size_bytes for cell in self.cells)

    @property
    def slices(self) -> tuple[Slice, ...]:
        """All slices, in plan order."""
        return tuple(part for cell in self.cells for part in cell.slices)

    def describe(self) -> str:
        """Name it for a person: files and rows."""
        first, last = self.slices[0], self.slices[-1]
        if first.format not in TABLES and first.file == last.file:
            return first.name
        if first.file == last.file:
            return f"{first.name} rows {first.first_row:,} to {last.first_row + last.rows - 1:,}"
        many = f"{self.rows:,} rows" if first.format in TABLES else f"{len(self.slices):,} files"
        return f"{first.name} to {last.name} ({many})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceAccount:
    """What became of the rows of one slice, so far as reading decides it.

    Attributes:
        name: the file.
        start: first byte covered.
        stop: first byte behind it.
        digest: digest of the bytes covered.
        rows: rows read.
        quarantined: rows that do not fit.
        given_up: rows of a file that failed as a whole.
        problem: why the rest of the file could not be read, and its rows not even be counted.
    """

    name: str
    start: int
    stop: int
    digest: bytes
    rows: int
    quarantined: int = 0
    given_up: int = 0
    problem: str = ""


def cell_rows_for(*, bytes_per_row: float, estimated_rows: float) -> int:
    """Choose the rows of a cell: the largest power of two that the input allows.

    It depends on nothing but the input, so that every machine lays the same grid, and a container with little memory
    gives the same bytes as one with much: there, fewer workers hold fewer cells. What keeps cells of wide tables small
    is how long their rows are.
    """
    limit = min(row_limits(bytes_per_row=bytes_per_row, estimated_rows=estimated_rows).values())
    rows = 1
    while rows * 2 <= limit:
        rows *= 2
    return rows


def row_limits(*, bytes_per_row: float, estimated_rows: float) -> dict[str, float]:
    """Say what each of the bounds allows a cell, in rows: of any input, by its bytes, and as a share of the input."""
    row_bytes = max(bytes_per_row, 1.0)
    return {
        "most": MAX_CELL_ROWS,
        "bytes": max(CELL_BYTES / row_bytes, min(MIN_CELL_ROWS, WIDE_CELL_BYTES / row_bytes)),
        "share": max(MIN_CELL_ROWS, estimated_rows / CELLS_PER_INPUT),
    }


def is_small(rows: int, cell_rows: int) -> bool:
    """Tell whether a whole file is scored together with its neighbours."""
    return cell_rows > 0 and rows * 2 < cell_rows


def ends_group(name: str, rows: int, cell_rows: int) -> bool:
    """Tell whether a group of small files ends behind this one, whatever its size.

    The border depends on the name, not on what came before: a file added to the input then moves only the groups
    near it, and all others keep what is staged for them. Groups end so once a cell's worth of rows, on average.
    """
    return zlib.crc32(name.encode("utf-8", "surrogateescape")) * cell_rows < rows * 2**32


def slice_digest(data: bytes | bytearray | memoryview) -> bytes:
    """Digest the bytes a slice covers (8 bytes).

    It tells whether they changed, against chance and not against malice: all of the input goes through it, and SHA-256
    takes 3 % of the time of a light model, or 7 % on a CPU without instructions for it.
    """
    return xxhash.xxh3_64_digest(data)


def file_digest(url: str, start: int, stop: int) -> bytes:
    """Digest a range of a file as `slice_digest` does its bytes, without ever holding all of them."""
    whole = xxhash.xxh3_64()
    with open_patiently(url) as source:
        _take_in(whole, source, start, stop)
    return whole.digest()


def covered_digest(part: Slice) -> bytes:
    """Digest what a slice covers, where it lies (8 bytes).

    The footer of a Parquet file says how the bytes of every row group are read, so that it counts with each.
    """
    whole = xxhash.xxh3_64()
    with open_patiently(part.url) as source:
        _take_in(whole, source, part.offset, part.offset + part.stop - part.start)
        if part.format == "parquet":
            size_bytes = source.seek(0, os.SEEK_END)
            source.seek(max(0, size_bytes - 8))
            footer_bytes = int.from_bytes(source.read(4), "little")
            _take_in(whole, source, max(0, size_bytes - 8 - footer_bytes), size_bytes)
    return whole.digest()


def _take_in(whole: xxhash.xxh3_64, source: FileIO, start: int, stop: int) -> None:
    source.seek(start)
    while start < stop and (data := source.read(min(DIGEST_BYTES, stop - start))):
        whole.update(data)
        start += len(data)


def input_digest(slices: Iterable[tuple[str, int, int, bytes]]) -> bytes:
    """Digest a part's input from its slices' (name, start, stop, digest) in plan order (8 bytes)."""
    whole = xxhash.xxh3_64()
    for name, start, stop, digest in slices:
        whole.update(f"{name}\0{start}\0{stop}\0".encode("utf-8", "surrogateescape") + digest)
    return whole.digest()


def identity_digest(files: Iterable[InputFile]) -> bytes:
    """Digest the identities of the files a part covers (4 bytes)."""
    whole = xxhash.xxh3_64()
    for file in files:
        whole.update(file.identity.encode("utf-8", "surrogateescape") + b"\n")
    return whole.digest()[:4]


def name_digest(name: str) -> bytes:
    """Digest the name of a file for the index of staged parts (4 bytes)."""
    return xxhash.xxh3_64_digest(name.encode("utf-8", "surrogateescape"))[:4]
