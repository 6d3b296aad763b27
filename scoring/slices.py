"""Cut one file into slices of the grid's rows, in one pass."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

import numpy as np

from scoring.cells import InputFile, Slice
from scoring.errors import InputError
from scoring.files import DecodedStream, is_compressed
from scoring.rows import Dialect, header_names, split_fields
from scoring.scan_csv import BLOCK_BYTES, MAX_RECORD_BYTES, Block, ScanError, is_blank, scan_blocks, walk_records

SPOOL_POLL_S = 0.05
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the first records of a file say of all others.

    Attributes:
        columns: names of the fields.
        width: fields of a record: one more than columns where the file ends its records in an empty field.
        skip_bytes: bytes before the first record that can be a row: byte order mark, blank lines, header.
    """

    columns: tuple[str, ...] = ()
    width: int = 0
    skip_bytes: int = 0


def has_odd_numbers(data: bytes) -> bool:
    """Tell whether there may be a number in a spelling that Arrow reads and the rules do not: 0x10, nan(1)."""
    # one letter is found at once; two take the time of a copy
    return (
        (b"x" in data and b"0x" in data) or (b"X" in data and b"0X" in data) or (b"(" in data and b"n(" in data.lower())
    )


def layout(head: bytes, dialect: Dialect, *, final: bool) -> Layout | None:
    """Read the layout off the first bytes of a file, or None where more of them are needed."""
    bom_bytes = len(BOM) if head.startswith(BOM) else 0
    wanted = 1 + dialect.header
    delimiter = ord(dialect.delimiter)
    found: list[tuple[str, int]] = []
    for start, stop, after in walk_records(head, bom_bytes, delimiter, final=final):
        if not is_blank(head[start:stop], delimiter):
            found.append((head[start:stop].decode(dialect.stream_encoding, "backslashreplace"), after))
            if len(found) == wanted:
                break
    if len(found) < wanted and not final:
        return None
    columns, skip_bytes = dialect.columns, bom_bytes
    if dialect.header and found:
        columns = header_names(split_fields(found[0][0], dialect.delimiter)[0])
        skip_bytes = found[0][1]
    width = len(columns)
    if len(found) == wanted:
        fields, _ = split_fields(found[-1][0], dialect.delimiter)
        width += len(fields) == width + 1 and fields[-1] == ""
    return Layout(columns=columns, width=width, skip_bytes=skip_bytes)


class Spool:
    """Decoded slices on local disk, a file each, which the driver removes once they are staged."""

    def __init__(self, folder: str, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._sizes: dict[str, int] = {}
        self._held: set[str] = set()
        self._count = 0

    def open(self) -> BinaryIO:
        """Begin a slice, once the driver has made room; slices not handed out yet are never waited for."""
        while sum(self._sizes.values()) > self._limit_bytes:
            for path in [path for path in self._sizes if path not in self._held and not os.path.exists(path)]:
                del self._sizes[path]
            if len(self._sizes) <= len(self._held):
                break
            time.sleep(SPOOL_POLL_S)
        self._count += 1
        return open(os.path.join(self._folder, f"{self._count:08d}"), "xb")

    def hold(self, path: str) -> None:
        """Count a finished slice that is not handed out yet."""
        self._sizes[path] = os.path.getsize(path)
        self._held.add(path)

    def hand_out(self, slices: tuple[Slice, ...]) -> None:
        """Note that the driver is about to learn of slices, and may remove them."""
        self._held.difference_update(part.url for part in slices)


class WholeFile:
    """A file that is not cut: an image, what a scoring script reads, or one that nothing can read."""

    def __init__(self, index: int, file: InputFile) -> None:
        self.cut_rows = 0
        self._index = index
        self._file = file

    def slices(self) -> Iterator[Slice]:
        """Yield the one slice."""
        file = self._file
        yield Slice(
            file=self._index,
            name=file.name,
            url=file.url,
            offset=0,
            start=0,
            stop=file.size_bytes,
            rows=0 if file.problem else 1,
            format="file" if file.format == "unknown" else file.format,
            problem=file.problem,
        )


class Cutter:
    """Cuts one file: `slices` yields them in order; together they cover it without a gap.

    `cut_rows`, the rows of the next slice (0: all there are), may be changed between two of them.
    """

    def __init__(self, index: int, file: InputFile, dialect: Dialect, spool: Spool, cut_rows: int) -> None:
        self.cut_rows = cut_rows
        self._index = index
        self._file = file
        self._dialect = dialect
        self._spool = spool if is_compressed(file.name) or not dialect.direct else None
        self._sink: BinaryIO | None = None
        self._layout = Layout()
        self._start = 0
        self._stop = 0
        self._first_row = 0
        self._first_line = 1
        self._rows = 0
        self._lines = 0
        self._plain = True
        self._odd_numbers = False

    def slices(self) -> Iterator[Slice]:
        """Read the file once and yield its slices; the rest of one that cannot be read is a slice with the problem."""
        stream: DecodedStream | None = None
        try:
            stream = DecodedStream(self._file, self._dialect)
            yield from self._cut_stream(stream)
        except OSError as error:
            yield from self._broken(f"cannot be read: {error.strerror}")
        except (InputError, ScanError) as error:
            yield from self._broken(str(error))
        finally:
            if stream is not None:
                stream.close()

    def _cut_stream(self, stream: DecodedStream) -> Iterator[Slice]:
        chunks = iter(lambda: stream.read(BLOCK_BYTES), b"")
        head = b""
        found = None
        for chunk in chunks:
            head += chunk
            # short heads first: a whole block is needed for hardly any header
            found = layout(head[: 2**14], self._dialect, final=False) or layout(head, self._dialect, final=False)
            if found or len(head) > MAX_RECORD_BYTES:
                break
        if found is None:
            found = layout(head, self._dialect, final=True)
        assert found is not None  # a whole file always has one
        self._layout = found
        bom_bytes = len(BOM) if head.startswith(BOM) else 0
        self._write(head[:bom_bytes])
        self._stop = bom_bytes
        chunks = chain([head[bom_bytes:]], chunks)
        for block in scan_blocks(chunks, delimiter=self._dialect.delimiter, start=bom_bytes):
            yield from self._cut_block(block)
        yield self._finish(self._rows, self._lines)

    def _cut_block(self, block: Block) -> Iterator[Slice]:
        rows = block.row_stops
        if block.start < self._layout.skip_bytes:
            rows = rows[rows > self._layout.skip_bytes]
        used = lines_used = 0
        odd_numbers = has_odd_numbers(block.data)
        self._plain = self._plain and block.plain
        self._odd_numbers = self._odd_numbers or odd_numbers
        # a cut waits for the next row, so that no file ends in a slice without rows
        while 0 < self.cut_rows < self._rows + len(rows) - used:
            take = self.cut_rows - self._rows
            if take:
                used += take
                stop = int(rows[used - 1])
                self._write(block.data[self._stop - block.start : stop - block.start])
                lines = int(np.searchsorted(block.line_stops, stop, side="right"))
                self._lines += lines - lines_used
                self._stop, lines_used = stop, lines
            yield self._finish(self.cut_rows, self._lines)
            self._plain = block.plain
            self._odd_numbers = odd_numbers
        self._rows += len(rows) - used
        self._lines += len(block.line_stops) - lines_used
        self._write(block.data[self._stop - block.start :])
        self._stop = block.start + len(block.data)

    def _write(self, data: bytes) -> None:
        if self._spool is not None and data:
            if self._sink is None:
                self._sink = self._spool.open()
            self._sink.write(data)

    def _finish(self, rows: int, lines: int) -> Slice:
        url, offset = self._file.url, self._start
        if self._spool is not None:
            sink = self._sink or self._spool.open()
            sink.close()
            url, offset, self._sink = sink.name, 0, None
            self._spool.hold(url)
        part = Slice(
            file=self._index,
            name=self._file.name,
            url=url,
            offset=offset,
            start=self._start,
            stop=self._stop,
            skip_bytes=max(0, self._layout.skip_bytes - self._start),
            first_row=self._first_row,
            rows=rows,
            first_line=self._first_line,
            lines=lines,
            columns=self._layout.columns,
            width=self._layout.width,
            plain=self._plain,
            odd_numbers=self._odd_numbers,
        )
        self._start = self._stop
        self._first_row += rows
        self._first_line += lines
        self._rows = self._lines = 0
        return part

    def _broken(self, problem: str) -> Iterator[Slice]:
        """Yield what was cut so far, and then the rest as a slice with a problem."""
        if self._rows:
            yield self._finish(self._rows, self._lines)
        yield Slice(
            file=self._index,
            name=self._file.name,
            url=self._file.url,
            offset=0,
            start=self._start,
            stop=max(self._start, self._file.size_bytes),
            first_row=self._first_row,
            first_line=self._first_line,
            columns=self._layout.columns,
            width=self._layout.width,
            problem=problem,
        )
