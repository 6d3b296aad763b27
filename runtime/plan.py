"""The plan: the cells that the scanner finds, packed into mini-batches."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Pipe
from statistics import median
from typing import IO, TypeVar

from runtime.errors import InputBusyError, InputError
from scoring.cells import Cell, InputFile, MiniBatch, identity_digest
from scoring.files import InputSpec, Listing
from scoring.scan import Begin, Grid, Refused, ScanEnd, StagedCells

__all__ = ["Plan", "Scanner", "skipped_texts"]

Message = TypeVar("Message")

READ_AHEAD_CELLS = 2_000
"""The scanner waits when so many cells lie unused at the driver."""
TARGET_S = 2.0
"""Mini-batches aim at this many seconds: little is lost with a worker, and little is said between."""
MAX_PARTS_PER_INPUT = 20_000
PATIENCE_CELLS = 5
PATIENCE_LEAST_S = 300.0
PROBE_LEAST_S = 30.0
PATIENCE_TIMES = 20
"""A mini-batch hangs when it takes so many times as long as others did, and this many seconds at least."""


class Scanner:
    """The scanner process, started at once."""

    def __init__(self, spec: InputSpec, log: IO[bytes]) -> None:
        self.pipe, theirs = Pipe()
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        # what is fetched goes from thread to thread; a heap for each of them keeps what the others would use again
        environment.setdefault("MALLOC_ARENA_MAX", "1")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "scoring.scanner", str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._send(spec)

    def _send(self, message: InputSpec | Begin) -> None:
        # one that has died says so when it is listened to
        with suppress(OSError):
            self.pipe.send(message)

    def receive(self) -> Grid | Listing | Cell | StagedCells | ScanEnd:
        """Wait for what the scanner says next.

        Raises:
            InputError: it refused the input, or died.
        """
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            raise InputError(f"the scanner ended unexpectedly (exit code {code}); --debug shows what it said") from None
        if isinstance(message, Refused):
            raise InputBusyError(message.reason) if message.later else InputError(message.reason)
        return message  # type: ignore[no-any-return]  # the scanner says nothing else

    def expect(self, kind: type[Message]) -> Message:
        """Wait for a message of one kind."""
        message = self.receive()
        assert isinstance(message, kind), message
        return message

    def begin(self, begin: Begin) -> Grid:
        """Have it scan."""
        self._send(begin)
        return self.expect(Grid)

    def close(self) -> None:
        """Stop it."""
        self.pipe.close()
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedRun:
    """A place in the plan whose part is staged already."""

    number: int
    key: str
    cells: tuple[Cell, ...]


class Plan:
    """Takes what the scanner says, and gives mini-batches of as many cells as suits.

    Args:
        files: all of the input.
        workers: how many.
        cells_per_batch: so many cells in each mini-batch; 0: as many as take the time aimed at.
        estimated_cells: how many there will be.
        by_folder: whether files of two folders never share a mini-batch (contract 5.1).

    Attributes:
        rows: rows found so far.
        complete: whether the scanner has come to the end.
    """

    def __init__(
        self,
        files: tuple[InputFile, ...],
        *,
        workers: int,
        cells_per_batch: int = 0,
        estimated_cells: int = 0,
        by_folder: bool = False,
    ) -> None:
        self.rows = 0
        self.complete = False
        self._files = files
        self._workers = workers
        self._fixed = cells_per_batch
        self._by_folder = by_folder
        self._estimated_cells = estimated_cells
        self._items: deque[Cell | StagedCells] = deque()
        self._columns: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._found = 0
        self._taken = 0
        self._cell_s = 0.0
        self._cell_times: deque[float] = deque(maxlen=1_001)
        self._numbers = 0

    @property
    def cells(self) -> int:
        """How many cells there are, or are thought to be."""
        return self._found if self.complete else max(self._found, self._estimated_cells)

    @property
    def most_batches(self) -> int:
        """How many mini-batches there may be, as far as that is known before the input was read."""
        files = len(self._files) if self._by_folder else 0
        return -(-max(files, self._estimated_cells) // max(self._fixed, 1))

    @property
    def file_count(self) -> int:
        """How many input files there are."""
        return len(self._files)

    def batch_of(self, cells: tuple[Cell, ...]) -> MiniBatch:
        """Make a mini-batch of cells that were taken."""
        covered = dict.fromkeys(part.file for cell in cells for part in cell.slices)
        identity = identity_digest(self._files[index] for index in covered)
        return MiniBatch(number=self._number(), cells=cells, identity=identity)

    @property
    def taken(self) -> int:
        """How many mini-batches there are so far."""
        return self._numbers

    @property
    def wants_cells(self) -> bool:
        """Whether the scanner should be listened to."""
        return not self.complete and len(self._items) < max(READ_AHEAD_CELLS, self._least())

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to take."""
        return self.complete and not self._items

    def add(self, message: Cell | StagedCells | ScanEnd) -> None:
        """Take what the scanner says next."""
        if isinstance(message, ScanEnd):
            self.complete = True
            return
        if isinstance(message, Cell):
            message = self._with_shared_columns(message)
        cells = (message,) if isinstance(message, Cell) else message.cells
        self._items.append(message)
        self._found += len(cells)
        self.rows += sum(cell.rows for cell in cells)

    def _with_shared_columns(self, cell: Cell) -> Cell:
        """Keep the names of columns once: each message of the scanner has them anew, and there may be thousands."""
        slices = tuple(
            part
            if (known := self._columns.setdefault(part.columns, part.columns)) is part.columns
            else replace(part, columns=known)
            for part in cell.slices
        )
        return Cell(slices=slices)

    def learn(self, cells: int, seconds: float) -> None:
        """Learn how long a cell takes."""
        per_cell = seconds / max(cells, 1)
        self._cell_times.append(per_cell)
        self._cell_s = per_cell if not self._cell_s else 0.7 * self._cell_s + 0.3 * per_cell

    @property
    def has_staged(self) -> bool:
        """Whether the next place of the plan is staged already."""
        return bool(self._items) and isinstance(self._items[0], StagedCells)

    def next_staged(self) -> StagedRun | None:
        """Take the next place of the plan if it is staged already."""
        if not self._items or not isinstance(first := self._items[0], StagedCells):
            return None
        self._items.popleft()
        self._taken += len(first.cells)
        return StagedRun(number=self._number(), key=first.key, cells=first.cells)

    def patience_s(self, cells: int) -> float | None:
        """Say how long so many cells may take before they hang; None while too little is known."""
        if len(self._cell_times) < PATIENCE_CELLS:
            return None
        return max(PATIENCE_LEAST_S, PATIENCE_TIMES * cells * median(self._cell_times))

    def probe_patience_s(self) -> float | None:
        """Say how long a probe of several rows of a cell may take: where that is too little, only probes are lost."""
        patience_s = self.patience_s(1)
        return None if patience_s is None else max(PROBE_LEAST_S, PATIENCE_TIMES * median(self._cell_times))

    def next(self, *, waits: bool = True) -> MiniBatch | None:
        """Take the next mini-batch, if enough is known for it, and the next place is not staged already.

        Args:
            waits: whether the scanner may find more; else it waits, too, for room in the spool.
        """
        if not self._items:
            return None
        least = self._least()
        wanted = self._fixed or max(least, self._suitable())
        cells: list[Cell] = []
        for item in self._items:
            if len(cells) == wanted or not isinstance(item, Cell):
                break
            if self._by_folder and cells and _folder(item) != _folder(cells[0]):
                break
            cells.append(item)
        if len(cells) == len(self._items) < least and not self.complete and (waits or self._by_folder):
            return None
        if not cells:
            return None
        for _ in cells:
            self._items.popleft()
        self._taken += len(cells)
        return self.batch_of(tuple(cells))

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers - 1

    def _least(self) -> int:
        """Say how many cells a mini-batch must have: as many as were chosen, or as keep the number of parts in bounds.

        Of an input with more cells than were thought of, ten times as many make 23,000 parts more.
        """
        if self._fixed:
            return self._fixed
        beyond = 2 * self._found if self._found > self._estimated_cells else 0
        return max(1, -(-max(self._estimated_cells, beyond) // MAX_PARTS_PER_INPUT))

    def _suitable(self) -> int:
        """Fit a mini-batch to the time aimed at, and to what is left for all workers to end together."""
        share = max(1, (self.cells - self._taken) // (4 * self._workers))
        by_time = int(TARGET_S / self._cell_s) if self._cell_s else 1
        return max(1, min(by_time, share))


def skipped_texts(listing: Listing) -> list[str]:
    """Say which files of the input are left out, a sentence for each reason."""
    hints = {"nested": " (--recursive takes them)", "hidden": " (names that begin with _ or .)"}
    return [
        f"skipped {count:,} {reason} file{'s' if count != 1 else ''}{hints.get(reason, '')}"
        for reason, count in listing.skipped
    ]


def _folder(cell: Cell) -> str:
    return cell.slices[0].name.rpartition("/")[0]
