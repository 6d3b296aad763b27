"""Cut one file into slices of the grid's rows, in one pass."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import BinaryIO

import numpy as np

from scoring.cells import Cell, InputFile, Slice
from scoring.errors import InputBusyError, InputError
from scoring.files import DecodedStream, RawStream, is_compressed
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
    """What is decoded or fetched, on local disk, a file for each slice, which the driver removes once it is staged."""

    def __init__(self, folder: str, limit_bytes: int, least: int = 1) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._least = least
        self._sizes: dict[str, int] = {}
        self._total_bytes = 0
        self._held: set[str] = set()
        self._count = 0

    def open(self) -> BinaryIO:
        """Begin a slice, once the driver has made room; it is not waited for where it cannot, for want of more slices.

        Raises:
            InputBusyError: the disk fails.
        """
        own = self._next_path()
        try:
            return open(own, "xb")
        except OSError as error:
            raise spool_error(error) from None

    def open_named(self, name: str) -> BinaryIO:
        """Begin the copy of a file that keeps its name, and the folders it lies in."""
        own = self._next_path()
        segments = name.split("/")
        try:
            if not {"", ".", ".."} & set(segments):
                path = os.path.join(self._folder, f"{os.getpid()}-files", *segments)
                # on storage a file and a folder may have one name
                with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    return open(path, "xb")
            os.mkdir(own)
            return open(os.path.join(own, segments[-1].strip(".") or "file"), "xb")
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise InputError("its name is too long for a copy on this disk; rename it") from None
            raise spool_error(error) from None

    def _next_path(self) -> str:
        while self._total_bytes > self._limit_bytes:
            for path in [path for path in self._sizes if path not in self._held and not os.path.exists(path)]:
                self._total_bytes -= self._sizes.pop(path)
            if self._driver_holds() < self._least:
                break
            time.sleep(SPOOL_POLL_S)
        self._count += 1
        # another scanner of this job may have left something here
        return os.path.join(self._folder, f"{os.getpid()}-{self._count:08d}")

    def hold(self, path: str) -> None:
        """Count a finished slice that is not handed out yet."""
        self.hold_sparse(path, os.path.getsize(path))

    def hold_sparse(self, path: str, size_bytes: int) -> None:
        """Count one with holes, which takes less room than its size."""
        self._sizes[path] = size_bytes
        self._total_bytes += size_bytes
        self._held.add(path)

    def hand_out(self, cell: Cell) -> None:
        """Note that the driver is about to learn of a cell, and may remove its slices."""
        paths = list(dict.fromkeys(part.url for part in cell.slices if part.url in self._held))
        self._held.difference_update(paths)
        if paths:
            # they are removed together, and count as one
            self._sizes[paths[-1]] = sum(self._sizes.pop(path) for path in paths)

    def _driver_holds(self) -> int:
        """Count the cells that the driver has and did not remove."""
        return len(self._sizes) - len(self._held)


def spool_error(error: OSError) -> InputBusyError:
    """Say that what was fetched or decoded cannot be kept."""
    return InputBusyError(
        f"the spool cannot be written: {error.strerror or error}; make room, or give it less with --spool, "
        "and run again"
    )


def drop(sink: BinaryIO | None) -> None:
    """Remove a slice that was not finished."""
    if sink is not None:
        with suppress(OSError):
            sink.close()
        # it may be the null device
        if os.path.isfile(sink.name):
            os.unlink(sink.name)


class WholeFile:
    """A file that is not cut: an image, what a scoring script reads, or one that nothing can read.

    Args:
        index: of the file in the listing.
        file: the file.
        spool: where it is copied to, if it is fetched.
        stream: opens its bytes, if it is fetched.
    """

    def __init__(
        self,
        index: int,
        file: InputFile,
        spool: Spool | None = None,
        stream: Callable[[], RawStream] | None = None,
    ) -> None:
        self.cut_rows = 0
        self._index = index
        self._file = file
        self._spool = spool
        self._stream = stream

    def slices(self) -> Iterator[Slice]:
        """Yield the one slice."""
        file = self._file
        url, problem = file.url, file.problem
        if self._spool is not None and self._stream is not None and not problem:
            try:
                url = self._copy(self._spool, self._stream())
            except InputBusyError:
                raise
            except InputError as error:
                problem = str(error)
        yield Slice(
            file=self._index,
            name=file.name,
            url=url,
            offset=0,
            start=0,
            stop=file.size_bytes,
            rows=0 if problem else 1,
            format="file" if file.format == "unknown" else file.format,
            problem=problem,
        )

    def _copy(self, spool: Spool, stream: RawStream) -> str:
        sink = None
        try:
            while data := stream.read():
                sink = sink or spool.open_named(self._file.name)
                try:
                    sink.write(data)
                except OSError as error:
                    raise spool_error(error) from None
            sink = sink or spool.open_named(self._file.name)
            try:
                sink.close()
            except OSError as error:
                raise spool_error(error) from None
        except InputError:
            drop(sink)
            raise
        finally:
            stream.close()
        spool.hold(sink.name)
        return sink.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a file its slices begin: what is in front of it is staged."""

    start: int = 0
    first_row: int = 0
    first_line: int = 1
    layout: Layout = field(default_factory=Layout)


class Cutter:
    """Cuts one file: `slices` yields them in order; together they cover it without a gap.

    `cut_rows`, the rows of the next slice (0: all there are), may be changed between two of them; `layout` is what the
    first records said, once they are read.

    Args:
        index: of the file in the listing.
        file: the file.
        dialect: how it is written.
        spool: where slices are kept that are not read where they lie.
        cut_rows: rows of the first slice.
        stream: opens the bytes as stored, from the place on; without, they are read where the file is.
        place: where slices begin, if not at the start.
        spooled: whether the slices of every file are kept.
    """

    def __init__(
        self,
        index: int,
        file: InputFile,
        dialect: Dialect,
        spool: Spool,
        cut_rows: int,
        *,
        stream: Callable[[], RawStream] | None = None,
        place: Place = Place(),
        spooled: bool = False,
    ) -> None:
        self.cut_rows = cut_rows
        self.layout = place.layout
        self._index = index
        self._file = file
        self._dialect = dialect
        self._spool = spool if spooled or is_compressed(file.name) or not dialect.direct else None
        self._stream = stream
        self._sink: BinaryIO | None = None
        self._start = self._stop = place.start
        self._first_row = place.first_row
        self._first_line = place.first_line
        self._rows = 0
        self._lines = 0
        self._plain = True
        self._odd_numbers = False

    def slices(self) -> Iterator[Slice]:
        """Read the file once and yield its slices; the rest of one that cannot be read is a slice with the problem."""
        stream: DecodedStream | None = None
        try:
            stream = DecodedStream(self._file, self._dialect, self._stream() if self._stream is not None else None)
            yield from self._cut_stream(stream)
        except InputBusyError:
            raise
        except OSError as error:
            yield from self._broken(f"cannot be read: {error.strerror}")
        except (InputError, ScanError) as error:
            yield from self._broken(str(error))
        finally:
            if stream is not None:
                stream.close()
            drop(self._sink)

    def _cut_stream(self, stream: DecodedStream) -> Iterator[Slice]:
        chunks = iter(lambda: stream.read(BLOCK_BYTES), b"")
        if self._start:
            for block in scan_blocks(chunks, delimiter=self._dialect.delimiter, start=self._start):
                yield from self._cut_block(block)
            yield self._finish(self._rows, self._lines)
            return
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
        self.layout = found
        bom_bytes = len(BOM) if head.startswith(BOM) else 0
        self._write(head[:bom_bytes])
        self._stop = bom_bytes
        chunks = chain([head[bom_bytes:]], chunks)
        for block in scan_blocks(chunks, delimiter=self._dialect.delimiter, start=bom_bytes):
            yield from self._cut_block(block)
        yield self._finish(self._rows, self._lines)

    def _cut_block(self, block: Block) -> Iterator[Slice]:
        rows = block.row_stops
        if block.start < self.layout.skip_bytes:
            rows = rows[rows > self.layout.skip_bytes]
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
            try:
                self._sink.write(data)
            except OSError as error:
                raise spool_error(error) from None

    def _finish(self, rows: int, lines: int) -> Slice:
        url, offset = self._file.url, self._start
        if self._spool is not None:
            sink = self._sink or self._spool.open()
            try:
                sink.close()
            except OSError as error:
                raise spool_error(error) from None
            url, offset, self._sink = sink.name, 0, None
            self._spool.hold(url)
        part = Slice(
            file=self._index,
            name=self._file.name,
            url=url,
            offset=offset,
            start=self._start,
            stop=self._stop,
            skip_bytes=max(0, self.layout.skip_bytes - self._start),
            first_row=self._first_row,
            rows=rows,
            first_line=self._first_line,
            lines=lines,
            columns=self.layout.columns,
            width=self.layout.width,
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
            columns=self.layout.columns,
            width=self.layout.width,
            problem=problem,
        )
