"""The scanner process: lists the input, reads each file once, and sends the cells of the grid.

It is light and started first, so that it works while the workers import MLflow. It blocks on its pipe when the driver
does not read, and on the spool when that is full. `scoring.scan` has what is said.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
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
from scoring.errors import InputError
from scoring.files import DecodedStream, InputSpec, Listing, check_readable, list_inputs, unreadable
from scoring.lifetime import die_with_parent
from scoring.rows import Dialect
from scoring.scan import Begin, Grid, Refused, ScanEnd, StagedCells, StagedCover
from scoring.scan_csv import ScanError, scan_blocks
from scoring.slices import Cutter, Spool, WholeFile

if TYPE_CHECKING:
    from scoring.row_groups import RowGroups

SAMPLE_BYTES = 2**20


def sample(files: tuple[InputFile, ...], dialect: Dialect) -> tuple[float, float]:
    """Measure the first MiB of the tables: (mean decoded bytes of a row, estimated rows of the whole input)."""
    rows = decoded = stored = 0
    tables = [file for file in files if file.format in TABLES and not file.problem]
    for file in tables:
        if decoded >= SAMPLE_BYTES:
            break
        if file.format == "parquet":
            from scoring.row_groups import measure

            file_rows, file_bytes = measure(file)
            rows += file_rows
            decoded += file_bytes
            stored += file.size_bytes
            continue
        stream = DecodedStream(file, dialect)
        try:
            data = stream.read(SAMPLE_BYTES - decoded)
            blocks = list(scan_blocks([data], delimiter=dialect.delimiter))
            rows += sum(len(block.row_stops) for block in blocks) - (dialect.header and bool(blocks))
            decoded += len(data)
            stored += stream.stored_bytes
        except (InputError, ScanError, OSError):
            # the scan itself meets it again, and says so
            continue
        finally:
            stream.close()
    bytes_per_row = decoded / max(rows, 1)
    total = sum(file.size_bytes for file in tables)
    others = sum(file.format not in TABLES for file in files)
    return bytes_per_row, total * (decoded / max(stored, 1)) / max(bytes_per_row, 1.0) + others


def choose_grid(files: tuple[InputFile, ...], dialect: Dialect, cell_rows: int) -> Grid:
    """Take the grid given, or choose one where it is -1; files that are a row each need none."""
    bytes_per_row, estimated_rows = sample(files, dialect)
    if all(file.format not in TABLES for file in files):
        return Grid(cell_rows=max(cell_rows, 0), estimated_rows=len(files))
    if cell_rows < 0:
        cell_rows = cell_rows_for(bytes_per_row=bytes_per_row, estimated_rows=estimated_rows)
    return Grid(cell_rows=cell_rows, estimated_rows=round(estimated_rows))


class Scan:
    """One pass over the files of a listing."""

    def __init__(self, files: tuple[InputFile, ...], dialect: Dialect, begin: Begin, cell_rows: int) -> None:
        self._files = files
        self._dialect = dialect
        self._cell_rows = cell_rows
        self._limit_rows = begin.limit_rows
        self._spool = Spool(begin.spool, begin.spool_bytes)
        self._interned: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._staged: dict[tuple[bytes, int], list[StagedCover]] = {}
        for cover in begin.staged:
            self._staged.setdefault((cover.name_digest, cover.start), []).append(cover)
        self._cells_left = self._cells()
        self._held: deque[Cell] = deque()
        self.rows = 0

    def run(self) -> Iterator[Cell | StagedCells]:
        """Yield the cells in plan order, those already staged together under their key."""
        while (first := self._ahead(0)) is not None:
            staged = self._staged_from(first)
            cells = staged.cells if staged is not None else (first,)
            for _ in cells:
                self._held.popleft()
            self._hand_out(*cells)
            yield staged or first

    def _ahead(self, place: int) -> Cell | None:
        """Look at the cell so many places ahead, or None where the input ends before."""
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
            while size_bytes <= cover.length and (cell := self._ahead(len(run))) is not None:
                run.append(cell)
                size_bytes += cell.size_bytes
                if size_bytes == cover.length and self._same_input(run, cover):
                    return StagedCells(key=cover.key, cells=tuple(run))
        return None

    def _hand_out(self, *cells: Cell) -> None:
        for cell in cells:
            self._spool.hand_out(cell.slices)

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

    def _cells(self) -> Iterator[Cell]:
        """Lay the grid: large files by themselves, whole small ones together where they have the same columns."""
        group: list[Slice] = []
        group_rows = 0
        group_columns: set[str] = set()
        for index, file in enumerate(self._files):
            slices = self._slices(index, file)
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

    def _slices(self, index: int, file: InputFile) -> Iterator[Slice]:
        cutter = self._cutter(index, file)
        for part in cutter.slices():
            self.rows += part.rows
            columns = self._interned.setdefault(part.columns, part.columns)
            yield part if columns is part.columns else replace(part, columns=columns)
            if self._limit_reached():
                return
            cutter.cut_rows = self._next_cut()

    def _cutter(self, index: int, file: InputFile) -> Cutter | RowGroups | WholeFile:
        if file.problem or file.format not in TABLES:
            return WholeFile(index, file)
        if file.format == "parquet":
            from scoring.row_groups import RowGroups

            return RowGroups(index, file, self._next_cut(), limit_rows=self._limit_left())
        return Cutter(index, file, self._dialect, self._spool, self._next_cut())

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
    try:
        listing = _checked(spec, list_inputs(spec))
        connection.send(listing)
        begin = connection.recv()
        grid = choose_grid(listing.files, spec.dialect, begin.cell_rows)
        connection.send(grid)
        scan = Scan(listing.files, spec.dialect, begin, grid.cell_rows)
        for cells in scan.run():
            connection.send(cells)
        connection.send(ScanEnd(rows=scan.rows))
    except InputError as error:
        connection.send(Refused(reason=str(error)))
    except (BrokenPipeError, ConnectionResetError, EOFError):
        # the driver went away; whatever it wanted, it no longer does
        return


if __name__ == "__main__":
    die_with_parent()
    main(Connection(int(sys.argv[1])))
