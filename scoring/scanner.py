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

from scoring.cells import (
    Cell,
    InputFile,
    Slice,
    cell_rows_for,
    ends_group,
    identity_digest,
    input_digest,
    is_small,
    name_digest,
    slice_digest,
)
from scoring.errors import InputError
from scoring.files import DecodedStream, check_readable, list_inputs
from scoring.lifetime import die_with_parent
from scoring.rows import Dialect
from scoring.scan import Begin, Grid, Refused, ScanEnd, StagedCells, StagedCover
from scoring.scan_csv import ScanError, scan_blocks
from scoring.slices import Cutter, Spool

SAMPLE_BYTES = 2**20


def sample(files: tuple[InputFile, ...], dialect: Dialect) -> tuple[float, float]:
    """Measure the first MiB of the input: (mean decoded bytes of a row, estimated rows of the whole)."""
    rows = decoded = stored = 0
    for file in files:
        if decoded >= SAMPLE_BYTES:
            break
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
    total = sum(file.size_bytes for file in files)
    return bytes_per_row, total * (decoded / max(stored, 1)) / max(bytes_per_row, 1.0)


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
        return input_digest((part.name, part.start, part.stop, _digest(part)) for part in slices) == cover.input_digest

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
            small = second is None and not first.problem and is_small(first.rows, self._cell_rows)
            alike = not group_rows or not first.rows or group_columns == set(first.columns)
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
        cutter = Cutter(index, file, self._dialect, self._spool, self._next_cut())
        for part in cutter.slices():
            self.rows += part.rows
            columns = self._interned.setdefault(part.columns, part.columns)
            yield part if columns is part.columns else replace(part, columns=columns)
            if self._limit_reached():
                return
            cutter.cut_rows = self._next_cut()

    def _next_cut(self) -> int:
        if not self._limit_rows:
            return self._cell_rows
        left = self._limit_rows - self.rows
        return min(left, self._cell_rows) if self._cell_rows else left

    def _limit_reached(self) -> bool:
        return 0 < self._limit_rows <= self.rows


def _digest(part: Slice) -> bytes:
    with open(part.url, "rb") as source:
        source.seek(part.offset)
        return slice_digest(source.read(part.stop - part.start))


def main(connection: Connection) -> None:
    """Scan as the driver at the other end of the pipe says: first the `InputSpec`, then `Begin`."""
    spec = connection.recv()
    try:
        listing = list_inputs(spec)
        for file in listing.files:
            check_readable(file, spec.dialect)
        connection.send(listing)
        begin = connection.recv()
        bytes_per_row, estimated_rows = sample(listing.files, spec.dialect)
        cell_rows = begin.cell_rows
        if cell_rows < 0:
            cell_rows = cell_rows_for(bytes_per_row=bytes_per_row, estimated_rows=estimated_rows)
        connection.send(Grid(cell_rows=cell_rows, estimated_rows=round(estimated_rows)))
        scan = Scan(listing.files, spec.dialect, begin, cell_rows)
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
