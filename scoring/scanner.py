"""The scanner process: lists the input, reads each file once, and sends the cells of the grid.

It is light and started first, so that it works while the workers import MLflow. It blocks on its pipe when the driver
does not read, and on the spool when that is full. `scoring.scan` has what is said.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from scoring.cells import (
    TABLES,
    Cell,
    InputFile,
    Slice,
    cell_rows_for,
    covered_digest,
    ends_group,
    identity_digest,
    input_digest,
    is_small,
    name_digest,
)
from scoring.errors import InputBusyError, InputError
from scoring.files import (
    HEAD_BYTES,
    DecodedStream,
    FileRange,
    InputSpec,
    Listing,
    RawStream,
    check_readable,
    head_trouble,
    list_inputs,
    unreadable,
)
from scoring.lifetime import die_with_parent
from scoring.remote_streams import Piece, ReadAhead, tail_of
from scoring.rows import Dialect
from scoring.scan import Begin, Grid, Refused, ScanEnd, StagedCells, StagedCover
from scoring.scan_csv import MAX_RECORD_BYTES, ScanError, scan_blocks
from scoring.slices import Cutter, Layout, Place, Spool, WholeFile, layout
from scoring.staged import Step, covered_cells, find_spans, steps_of

if TYPE_CHECKING:
    from scoring.row_groups import RowGroups

SAMPLE_BYTES = 2**20


def sample(files: tuple[InputFile, ...], dialect: Dialect, reads: ReadAhead | None = None) -> tuple[float, float]:
    """Measure the first MiB of the tables: (mean decoded bytes of a row, estimated rows of the whole input).

    What is fetched for it is kept for the scan.
    """
    rows = decoded = stored = 0
    for index, file in enumerate(files):
        if file.format not in TABLES or file.problem:
            continue
        if decoded >= SAMPLE_BYTES:
            break
        if file.format == "parquet":
            from scoring.row_groups import Fetched, measure

            # nothing is copied for it
            fetched = Fetched(index, file, reads, Spool("", 0)) if reads is not None else None
            file_rows, file_bytes = measure(file, fetched)
            rows += file_rows
            decoded += file_bytes
            stored += file.size_bytes
            continue
        raw = reads.open(Piece(index, 0, file.size_bytes), keep=True) if reads is not None else None
        try:
            stream = DecodedStream(file, dialect, raw)
        except OSError:
            # the scan itself meets it again, and says so
            continue
        try:
            data = stream.read(SAMPLE_BYTES - decoded)
            blocks = list(scan_blocks([data], delimiter=dialect.delimiter))
            rows += sum(len(block.row_stops) for block in blocks) - (dialect.header and bool(blocks))
            decoded += len(data)
            stored += stream.stored_bytes
        except InputBusyError:
            raise
        except (InputError, ScanError, OSError):
            # the scan itself meets it again, and says so
            continue
        finally:
            stream.close()
    bytes_per_row = decoded / max(rows, 1)
    total = sum(file.size_bytes for file in files if file.format in TABLES and not file.problem)
    others = sum(file.format not in TABLES for file in files)
    return bytes_per_row, total * (decoded / max(stored, 1)) / max(bytes_per_row, 1.0) + others


def choose_grid(files: tuple[InputFile, ...], dialect: Dialect, cell_rows: int, reads: ReadAhead | None = None) -> Grid:
    """Take the grid given, or choose one where it is -1; files that are a row each need none."""
    if all(file.format not in TABLES for file in files):
        return Grid(cell_rows=max(cell_rows, 0), estimated_rows=len(files))
    bytes_per_row, estimated_rows = sample(files, dialect, reads)
    if cell_rows < 0:
        cell_rows = cell_rows_for(bytes_per_row=bytes_per_row, estimated_rows=estimated_rows)
    return Grid(cell_rows=cell_rows, estimated_rows=round(estimated_rows), bytes_per_row=bytes_per_row)


def resumed_grid(files: Sequence[InputFile], begin: Begin) -> Grid | None:
    """Return the grid of a job that goes on, where what is staged tells how long rows are, and nothing need be read."""
    rows = sum(cover.rows for cover in begin.staged)
    covered = sum(cover.length for cover in begin.staged)
    if begin.cell_rows < 0 or not rows or not covered:
        return None
    total = sum(file.size_bytes for file in files if file.format in TABLES)
    others = sum(file.format not in TABLES for file in files)
    return Grid(
        cell_rows=begin.cell_rows, estimated_rows=round(total * rows / covered) + others, bytes_per_row=covered / rows
    )


def plan_steps(files: tuple[InputFile, ...], dialect: Dialect, begin: Begin) -> Iterator[list[Step]]:
    """Say what is done with each file: read, or skipped where it is staged."""
    # under a limit cells end where the rows before them say
    covers = begin.staged if begin.cell_rows >= 0 and not begin.limit_rows else ()
    return steps_of(files, find_spans(files, covers, dialect, begin.cell_rows, steady=begin.steady))


def _pieces(files: tuple[InputFile, ...], steps: Iterator[list[Step]]) -> Iterator[Piece]:
    """Say what is fetched, in order."""
    for index, each in enumerate(steps):
        file = files[index]
        wanted = [step.piece for step in each if step.kind != "skip"]
        if file.problem or not wanted:
            continue
        if file.format != "parquet":
            yield from wanted
            continue
        tail = tail_of(index, file.size_bytes)
        yield tail
        yield from (Piece(index, at.start, min(at.stop, tail.start)) for at in wanted if at.start < tail.start)


def read_ahead(spec: InputSpec, files: tuple[InputFile, ...], begin: Begin) -> ReadAhead:
    """Begin to fetch what will be read of a remote input.

    Raises:
        InputError: it is not there any more.
    """
    from scoring.remote_files import BlobRanges, HttpRanges

    if spec.access is not None:
        ranges: BlobRanges | HttpRanges = BlobRanges(spec.access)
    else:
        ranges = HttpRanges(spec.url, spec.query)
        ranges.find()
    return ReadAhead(
        lambda index, start, stop: ranges.get(files[index], start, stop),
        _pieces(files, plan_steps(files, spec.dialect, begin)),
        in_flight=ranges.in_flight,
    )


class _Checked:
    """The bytes of a fetched CSV file, whose first are looked at when they come."""

    def __init__(self, stream: RawStream, file: InputFile, dialect: Dialect) -> None:
        self.trouble = ""
        self._stream = stream
        self._file = file
        self._dialect = dialect
        self._first = True

    def read(self, size_bytes: int = -1, /) -> bytes | None:
        """Read the next bytes.

        Raises:
            InputError: they are no text.
        """
        data = self._stream.read(size_bytes)
        if self._first:
            self._first = False
            self.trouble = head_trouble(self._file, (data or b"")[:HEAD_BYTES], self._dialect)
            if self.trouble:
                raise InputError(self.trouble)
        return data

    def tell(self) -> int:
        """Return the offset of what is read next."""
        return self._stream.tell()

    def close(self) -> None:
        """Stop reading."""
        self._stream.close()


class Scan:
    """One pass over the files of a listing.

    Args:
        files: the listing.
        dialect: how CSV files are written.
        begin: what the driver said.
        cell_rows: the grid.
        reads: where bytes come from that are fetched.
        refuse: whether one fetched file that is no text stops all.
    """

    def __init__(
        self,
        files: tuple[InputFile, ...],
        dialect: Dialect,
        begin: Begin,
        cell_rows: int,
        *,
        reads: ReadAhead | None = None,
        refuse: bool = False,
    ) -> None:
        self._files = files
        self._reads = reads
        self._refuse = refuse
        self._checked: _Checked | None = None
        self._steps = plan_steps(files, dialect, replace(begin, cell_rows=cell_rows))
        self._row, self._line, self._layout = 0, 1, Layout()
        self._dialect = dialect
        self._cell_rows = cell_rows
        self._limit_rows = begin.limit_rows
        self._spool = Spool(begin.spool, begin.spool_bytes, begin.spool_cells)
        self._interned: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._staged: dict[tuple[bytes, int], list[StagedCover]] = {}
        for cover in begin.staged:
            self._staged.setdefault((cover.name_digest, cover.start), []).append(cover)
        self._cells_left = self._cells()
        self._held: deque[Cell | StagedCells] = deque()
        self.rows = 0

    def run(self) -> Iterator[Cell | StagedCells]:
        """Yield the cells in plan order, those already staged together under their key."""
        while (first := self._ahead(0)) is not None:
            staged = first if isinstance(first, StagedCells) else self._staged_from(first)
            if staged is None or staged is first:
                self._held.popleft()
            else:
                for _ in staged.cells:
                    self._held.popleft()
            self._hand_out(*(staged.cells if staged is not None else (first,)))
            yield staged or first

    def _ahead(self, place: int) -> Cell | StagedCells | None:
        """Look at what is so many places ahead, or None where the input ends before."""
        while len(self._held) <= place:
            cell = next(self._cells_left, None)
            if cell is None:
                return None
            self._held.append(cell)
        return self._held[place]

    def _staged_from(self, first: Cell) -> StagedCells | None:
        """Find a part that covers this cell and those behind it."""
        part = first.slices[0]
        for cover in self._staged.get((name_digest(part.name), part.start), ()):
            run: list[Cell] = []
            size_bytes = 0
            # cells of files without a byte may follow where the length is reached
            while size_bytes <= cover.length and isinstance(cell := self._ahead(len(run)), Cell):
                run.append(cell)
                size_bytes += cell.size_bytes
                if size_bytes == cover.length and self._same_input(run, cover):
                    return StagedCells(key=cover.key, cells=tuple(run))
        return None

    def _hand_out(self, *cells: Cell) -> None:
        for cell in cells:
            self._spool.hand_out(cell)

    def _same_input(self, run: list[Cell], cover: StagedCover) -> bool:
        slices = [part for cell in run for part in cell.slices]
        if sum(part.rows for part in slices) != cover.rows:
            return False
        covered = [self._files[index] for index in dict.fromkeys(part.file for part in slices)]
        if identity_digest(covered) == cover.identity:
            return True
        # other times on the files say nothing of their content
        digests = ((part.name, part.start, part.stop, covered_digest(part)) for part in slices)
        return input_digest(digests) == cover.input_digest

    def _cells(self) -> Iterator[Cell | StagedCells]:
        """Lay the grid: large files by themselves, whole small ones together where they have the same columns."""
        group: list[Slice] = []
        group_rows = 0
        group_columns: set[str] = set()
        for index, (file, steps) in enumerate(zip(self._files, self._steps, strict=True)):
            if len(steps) > 1 or steps[0].kind != "read":
                if group:
                    yield Cell(slices=tuple(group))
                    group, group_rows = [], 0
                yield from self._around_staged(index, file, steps)
                continue
            slices = self._slices(index, file, steps[0].piece)
            first = next(slices, None)
            if first is None:
                continue
            second = next(slices, None)
            table = first.format in TABLES and not first.problem
            small = table and second is None and is_small(first.rows, self._cell_rows)
            alike = not group_rows or not first.rows or group_columns == set(first.columns)
            alike = alike and (not group or group[0].format == first.format)
            if group and not (small and alike and group_rows + first.rows <= self._cell_rows):
                yield Cell(slices=tuple(group))
                group, group_rows = [], 0
            if small:
                group.append(first)
                group_rows += first.rows
                group_columns = set(first.columns) if first.rows else group_columns
                if ends_group(first.name, first.rows, self._cell_rows):
                    yield Cell(slices=tuple(group))
                    group, group_rows = [], 0
            elif second is not None and not self._cell_rows:
                # a whole file is one cell, the part of it that cannot be read too
                yield Cell(slices=(first, second, *slices))
            else:
                yield Cell(slices=(first,))
                if second is not None:
                    yield Cell(slices=(second,))
                yield from (Cell(slices=(part,)) for part in slices)
            if self._limit_reached():
                break
        if group:
            yield Cell(slices=tuple(group))

    def _around_staged(self, index: int, file: InputFile, steps: list[Step]) -> Iterator[Cell | StagedCells]:
        """Skip what is staged of a file, and cut the rest: it is large, or all of it is staged."""
        self._row, self._line, self._layout = 0, 1, Layout()
        for step in steps:
            if step.span is not None:
                if step.span.pieces[0] == step.piece:
                    yield covered_cells(self._files, step.span, self._cell_rows, self._row, self._line)
                    self.rows += step.span.cover.rows
                if len(step.span.pieces) == 1:
                    self._row += step.span.cover.rows
                    self._line += step.span.cover.lines
            elif step.kind == "head":
                self._layout = self._head(file, step.piece)
            elif step.kind == "count":
                self._count(index, file, step.piece)
            else:
                for part in self._slices(index, file, step.piece):
                    self._row = part.first_row + part.rows
                    self._line = part.first_line + part.lines
                    self._layout = Layout(columns=part.columns, width=part.width)
                    yield Cell(slices=(part,))

    def _head(self, file: InputFile, piece: Piece) -> Layout:
        """Read what the first records of a file say, again."""
        while True:
            stream = self._raw(file, piece)
            try:
                data = b"".join(iter(lambda: stream.read() or b"", b""))  # noqa: B023 (used at once)
            except InputBusyError:
                raise
            except (InputError, OSError):
                # what follows cannot be read either, and says so
                return Layout()
            finally:
                stream.close()
            whole = len(data) >= min(file.size_bytes, MAX_RECORD_BYTES)
            if (found := layout(data, self._dialect, final=whole)) is not None:
                return found
            piece = Piece(piece.file, 0, min(file.size_bytes, 8 * len(data)))

    def _count(self, index: int, file: InputFile, piece: Piece) -> None:
        """Count rows and lines of what is staged together with other files."""
        cutter = Cutter(index, file, self._dialect, self._spool, 0, stream=partial(self._raw, file, piece))
        for part in cutter.slices():
            self._row, self._line = part.first_row + part.rows, part.first_line + part.lines
        self._layout = cutter.layout

    def _raw(self, file: InputFile, piece: Piece) -> RawStream:
        if self._reads is not None:
            return self._reads.open(piece)
        return FileRange(file.url, piece.start, piece.stop)

    def _slices(self, index: int, file: InputFile, piece: Piece) -> Iterator[Slice]:
        cutter = self._cutter(index, file, piece)
        for part in cutter.slices():
            if part.problem and self._refuse and self._checked is not None and self._checked.trouble:
                raise InputError(f"{file.url}: {part.problem}")
            self.rows += part.rows
            columns = self._interned.setdefault(part.columns, part.columns)
            yield part if columns is part.columns else replace(part, columns=columns)
            if self._limit_reached():
                return
            cutter.cut_rows = self._next_cut()

    def _cutter(self, index: int, file: InputFile, piece: Piece) -> Cutter | RowGroups | WholeFile:
        reads = self._reads
        if file.problem or file.format not in TABLES:
            return WholeFile(index, file, self._spool, partial(reads.open, piece) if reads is not None else None)
        if file.format == "parquet":
            from scoring.row_groups import Fetched, RowGroups

            fetched = Fetched(index, file, reads, self._spool) if reads is not None else None
            limit_rows = self._limit_left()
            return RowGroups(index, file, self._next_cut(), limit_rows=limit_rows, piece=piece, fetched=fetched)
        place = Place()
        if piece.start:
            place = Place(start=piece.start, first_row=self._row, first_line=self._line, layout=self._layout)
        stream = None
        if reads is not None:
            stream = partial(self._fetched_text, file, piece)
        elif piece.start or piece.stop < file.size_bytes:
            stream = partial(self._raw, file, piece)
        return Cutter(
            index, file, self._dialect, self._spool, self._next_cut(), stream=stream, place=place,
            spooled=reads is not None,
        )  # fmt: skip

    def _fetched_text(self, file: InputFile, piece: Piece) -> RawStream:
        stream = self._raw(file, piece)
        if piece.start:
            return stream
        self._checked = _Checked(stream, file, self._dialect)
        return self._checked

    def _limit_left(self) -> int:
        return max(0, self._limit_rows - self.rows)

    def _next_cut(self) -> int:
        if not self._limit_rows:
            return self._cell_rows
        left = self._limit_rows - self.rows
        return min(left, self._cell_rows) if self._cell_rows else left

    def _limit_reached(self) -> bool:
        return 0 < self._limit_rows <= self.rows


def _checked(spec: InputSpec, listing: Listing) -> Listing:
    """Look at the first bytes of each file; one that cannot be read is refused, or fails alone, as the spec says."""
    if spec.unknown == "refuse":
        for file in listing.files:
            check_readable(file, spec.dialect)
        return listing
    files = tuple(
        replace(file, problem=trouble) if (trouble := unreadable(file, spec.dialect)) else file
        for file in listing.files
    )
    return replace(listing, files=files)


def main(connection: Connection) -> None:
    """Scan as the driver at the other end of the pipe says: first the `InputSpec`, then `Begin`."""
    spec = connection.recv()
    reads = None
    try:
        listing = list_inputs(spec)
        if not spec.is_remote:
            listing = _checked(spec, listing)
        connection.send(listing)
        begin = connection.recv()
        files = listing.files
        if spec.is_remote:
            reads = read_ahead(spec, files, begin)
        grid = resumed_grid(files, begin) or choose_grid(files, spec.dialect, begin.cell_rows, reads)
        connection.send(grid)
        scan = Scan(files, spec.dialect, begin, grid.cell_rows, reads=reads, refuse=spec.unknown == "refuse")
        for cells in scan.run():
            connection.send(cells)
        connection.send(ScanEnd(rows=scan.rows))
    except InputError as error:
        connection.send(Refused(reason=str(error), later=isinstance(error, InputBusyError)))
    except (BrokenPipeError, ConnectionResetError, EOFError):
        # the driver went away; whatever it wanted, it no longer does
        return
    finally:
        if reads is not None:
            reads.close()


if __name__ == "__main__":
    die_with_parent()
    main(Connection(int(sys.argv[1])))
