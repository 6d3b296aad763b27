"""Look into input files before a job: their columns, their first and last rows, whether they can be read.

A process of its own does this, for it loads what the driver must not. A piece of a large CSV file is written as a file
of its own, and then cut and read as any other is: what fits is decided where a job decides it. Of what lies on storage
not more than that is fetched.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from scoring.cells import Cell, InputFile, Slice
from scoring.errors import InputError
from scoring.files import InputSpec, is_compressed
from scoring.lifetime import die_with_parent
from scoring.rows import Dialect, split_fields
from scoring.sampled_file import Fetched, OnDisk
from scoring.specs import ReadPlan

if TYPE_CHECKING:
    from scoring.remote_files import BlobRanges, HttpRanges
    from scoring.slices import Layout

__all__ = ["Cause", "Order", "Sampled", "main", "sampled", "samples"]

PIECE_BYTES = 2**20
"""What is read of each end of a large CSV file; one of twice that is read whole."""
PIECE_ROWS = 5_000
"""What is read of each end of a Parquet file."""
LARGE_BYTES = 32 * 2**20
"""A row group or an image of more is not looked into."""
EXAMPLES = 3
BORDERS = 50
BORDER_RECORDS = 20
"""A line end is taken for the end of a record when so many records behind it have the right number of fields."""
AT_ONCE = 8
"""So many files are looked into at once where they must be fetched."""

_QUOTED = re.compile(rb'"[^"]*"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to look into.

    Attributes:
        files: the files.
        plan: how they are read; without columns only the fields of records are counted.
        folder: where pieces of files may lie for a while.
        input: what the files are of, where they must be fetched.
    """

    files: tuple[InputFile, ...]
    plan: ReadPlan
    folder: str
    input: InputSpec | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why rows of a file do not fit.

    Attributes:
        column: the column; None where the record as a whole is to blame.
        reason: what is wrong.
        rows: how many of those looked at.
        examples: the first of them: the row in the file from 0, or from its end from -1, and the value where the plan
            shows values.
    """

    column: str | None
    reason: str
    rows: int
    examples: tuple[tuple[int, str | None], ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What one file looks like.

    Attributes:
        name: of the file.
        rows: how many rows were looked at.
        missing: columns that are wanted and not there.
        extra: columns that are there and not wanted.
        causes: why rows do not fit.
        problem: why the file cannot be read.
    """

    name: str
    rows: int = 0
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Rows of a file that are looked at, and where row 0 of the slice is in the file."""

    part: Slice
    dialect: Dialect
    first_row: int = 0


def sampled(file: InputFile, plan: ReadPlan, folder: str, ranges: BlobRanges | HttpRanges | None = None) -> Sampled:
    """Look into one file."""
    import pyarrow as pa

    from scoring.scan_csv import ScanError

    source = OnDisk(file) if ranges is None else Fetched(file, ranges)
    try:
        if file.format == "csv":
            return _judged(file, _csv_pieces(source, plan.dialect, Path(folder)), plan)
        if file.format == "parquet":
            return _judged(file, _parquet_pieces(source, plan.dialect, Path(folder)), plan)
        return _opened(source)
    except OSError as error:
        return Sampled(name=file.name, problem=f"cannot be read: {error.strerror or error}")
    except (InputError, ScanError, pa.ArrowException) as error:
        return Sampled(name=file.name, problem=str(error))


def _opened(source: OnDisk | Fetched) -> Sampled:
    """Open an image, or what only a scoring script can read."""
    file = source.file
    if file.format == "image" and file.size_bytes <= LARGE_BYTES:
        from scoring.images import decode

        decode(source.read(0, file.size_bytes))
    else:
        source.read(0, 1)
    return Sampled(name=file.name, rows=1)


def _judged(file: InputFile, pieces: Iterable[_Piece], plan: ReadPlan) -> Sampled:
    from scoring.readers import read_cell

    rows = 0
    columns: tuple[str, ...] = ()
    entries: list[tuple[int, dict[str, Any]]] = []
    for piece in pieces:
        part = piece.part
        if part.problem:
            return Sampled(name=file.name, rows=rows, problem=part.problem)
        columns = part.columns
        present = tuple(column for column in plan.columns if column.name in columns)
        read = read_cell(Cell(slices=(part,)), replace(plan, columns=present, keep=(), dialect=piece.dialect))
        lost = next((entry["reason"] for entry in read.quarantine if entry["row"] is None), "")
        if lost:
            return Sampled(name=file.name, rows=rows, problem=lost)
        rows += part.rows
        entries += [(piece.first_row + entry["row"], entry) for entry in read.quarantine]
    wanted = {column.name for column in plan.columns}
    needed = [*(column.name for column in plan.columns if column.required), *plan.keep]
    return Sampled(
        name=file.name,
        rows=rows,
        # of a file without a header line there is nothing to say but that it has no rows
        missing=tuple(name for name in dict.fromkeys(needed) if name not in columns) if columns else (),
        extra=tuple(name for name in columns if name not in wanted and name not in plan.keep) if wanted else (),
        causes=_causes(entries),
    )


def _causes(entries: Iterable[tuple[int, dict[str, Any]]]) -> tuple[Cause, ...]:
    found: dict[tuple[str | None, str], list[tuple[int, str | None]]] = {}
    for row, entry in entries:
        for misfit in (entry, *entry.get("more", ())):
            found.setdefault((misfit["column"], misfit["reason"]), []).append((row, misfit.get("value")))
    return tuple(
        Cause(column=column, reason=reason, rows=len(rows), examples=tuple(rows[:EXAMPLES]))
        for (column, reason), rows in found.items()
    )


# CSV


def _csv_pieces(source: OnDisk | Fetched, dialect: Dialect, folder: Path) -> Iterator[_Piece]:
    """Give the first and the last rows of a file, or all of a small one."""
    data, whole = _first_bytes(source, dialect)
    # what is decoded here is UTF-8 already
    direct = dialect.direct and not is_compressed(source.file.name)
    read_as = dialect if dialect.direct else replace(dialect, encoding="utf-8")
    if whole:
        yield from _cut(data, read_as, folder)
        return
    yield from _cut(_whole_rows(data[:PIECE_BYTES], read_as), read_as, folder)
    if direct and source.ends_are_near:
        last = _last_rows(source, data[:PIECE_BYTES], read_as)
        for piece in _cut(last, read_as, folder) if last else ():
            yield replace(piece, first_row=-piece.part.rows)


def _first_bytes(source: OnDisk | Fetched, dialect: Dialect) -> tuple[bytes, bool]:
    """Read the begin of a file, decoded, and say whether that is all of it."""
    stream = source.stream(dialect)
    try:
        data = bytearray()
        while len(data) <= 2 * PIECE_BYTES:
            more = stream.read(2 * PIECE_BYTES + 1 - len(data))
            if not more:
                return bytes(data), True
            data += more
        return bytes(data), False
    finally:
        stream.close()


def _whole_rows(data: bytes, dialect: Dialect) -> bytes:
    """Leave out the last record, which may go on."""
    from scoring.scan_csv import scan_blocks
    from scoring.slices import BOM

    begin = len(BOM) if data.startswith(BOM) else 0
    blocks = scan_blocks([data[begin:]], delimiter=dialect.delimiter, start=begin)
    stops = [int(stop) for block in blocks for stop in block.row_stops[-2:]]
    return data[: stops[-2]] if len(stops) > 1 else b""


def _last_rows(source: OnDisk | Fetched, head: bytes, dialect: Dialect) -> bytes:
    """Read the last rows, with the header before them; nothing where no record can be told to begin."""
    from scoring.slices import layout

    found = layout(head, dialect, final=False)
    if found is None:
        return b""
    size_bytes = source.file.size_bytes
    tail = source.read(max(0, size_bytes - PIECE_BYTES), size_bytes)
    begin = _border(tail, dialect, found)
    return head[: found.skip_bytes] + tail[begin:] if begin else b""


def _border(tail: bytes, dialect: Dialect, found: Layout) -> int:
    """Find a byte behind which a record begins, or 0: a line end may stand inside quotes."""
    end = b"\n" if b"\n" in tail else b"\r"
    place = tail.find(end)
    for _ in range(BORDERS):
        if place < 0:
            break
        if b'"' not in tail or _records_fit(tail, place + 1, dialect, found):
            return place + 1
        place = tail.find(end, place + 1)
    return 0


def _records_fit(tail: bytes, begin: int, dialect: Dialect, found: Layout) -> bool:
    from scoring.scan_csv import is_blank, walk_records

    delimiter = ord(dialect.delimiter)
    for start, stop, _ in islice(walk_records(tail, begin, delimiter, final=True), BORDER_RECORDS):
        record = tail[start:stop]
        fields, _ = split_fields(record.decode(dialect.stream_encoding, "replace"), dialect.delimiter)
        bare = _QUOTED.sub(b"", record).split(dialect.delimiter.encode())
        if not is_blank(record, delimiter) and (len(fields) != found.width or any(map(_ends_quoted, bare))):
            return False
    return True


def _ends_quoted(field: bytes) -> bool:
    """Tell whether a field without what it has in quotes ends in one: then it began before the record did."""
    return field.endswith(b'"')


def _cut(data: bytes, dialect: Dialect, folder: Path) -> Iterator[_Piece]:
    """Cut bytes as a file of their own."""
    from scoring.slices import Cutter, Spool

    path = folder / "piece.csv"
    path.write_bytes(data)
    file = InputFile(name=path.name, url=str(path), size_bytes=len(data), version="")
    for part in Cutter(0, file, dialect, Spool(str(folder), sys.maxsize), 0).slices():
        yield _Piece(part=part, dialect=dialect)


# Parquet


def _parquet_pieces(source: OnDisk | Fetched, dialect: Dialect, folder: Path) -> Iterator[_Piece]:
    """Give the first and the last rows of a file, or all of a small one."""
    from scoring.row_groups import RowGroups

    file = source.with_footer(str(folder / "piece.parquet"))
    parts = list(RowGroups(0, file, 1).slices())
    rows = sum(part.rows for part in parts)
    first, last = range(min(rows, PIECE_ROWS)), range(max(0, rows - PIECE_ROWS), rows)
    for wanted in (first, last) if rows > 2 * PIECE_ROWS else (range(rows),):
        touched = [part for part in parts if part.first_row in wanted or wanted.start in _rows(part)]
        size_bytes = sum(part.stop - part.start for part in touched)
        looked_at = len(wanted) if size_bytes <= LARGE_BYTES else 0
        if looked_at:
            source.fill(file, touched[0].start, touched[-1].stop)
        # which row groups are read follows from the rows; the bytes are only for a digest that nobody asks for
        yield _Piece(
            part=replace(parts[0], stop=parts[0].start, first_row=wanted.start, rows=looked_at), dialect=dialect
        )


def _rows(part: Slice) -> range:
    return range(part.first_row, part.first_row + part.rows)


def samples(order: Order) -> Iterator[Sampled]:
    """Look into all files of an order; several at once where they must be fetched."""
    if order.input is None or not order.input.is_remote:
        yield from (sampled(file, order.plan, order.folder) for file in order.files)
        return
    from scoring.remote_files import BlobRanges, HttpRanges

    if order.input.access is not None:
        ranges: BlobRanges | HttpRanges = BlobRanges(order.input.access)
    else:
        ranges = HttpRanges(order.input.url, order.input.query)
        ranges.find()

    def look(file: InputFile) -> Sampled:
        with TemporaryDirectory(dir=order.folder) as folder:
            return sampled(file, order.plan, folder, ranges)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(look, order.files)


def main(connection: Connection) -> None:
    """Do what the driver at the other end of the pipe orders: a `Sampled` for each file, in order."""
    order: Order = connection.recv()
    try:
        for each in samples(order):
            connection.send(each)
    except (BrokenPipeError, ConnectionResetError):
        # the driver went away; whatever it wanted, it no longer does
        return


if __name__ == "__main__":
    # what it sends is known to the driver as of this name
    from scoring.sample import main as serve

    die_with_parent(int(sys.argv[2]))
    serve(Connection(int(sys.argv[1])))
