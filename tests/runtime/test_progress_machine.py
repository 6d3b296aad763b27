"""A state machine over `Progress`, `Isolating` and `Plan`: whatever comes in whatever order, every row ends once.

The loop that drives them is the real one (`runtime.dispatch`); scanner, workers, model and output are played, without
processes, files and clocks. A rule is what may happen next: a cell is found, a worker ends its work, fails by chance,
dies with all that waits for it, cannot stage. The loop runs until it waits for the next of them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.dispatch import Dispatch
from runtime.engines import Event, Failed, Returned, Score, Scored, Tried, Try, Work, number_of
from runtime.errors import OutputBusyError, ScorelineError, ThresholdError, UsageError, WorkerError
from runtime.isolation import PROBES_PER_CELL
from runtime.parts import PartKey
from runtime.plan import Plan
from runtime.progress import ErrorThreshold, Progress, QuarantineLimit
from runtime.record import JobRecord
from scoring.cells import Cell, InputFile, Slice, SliceAccount
from scoring.scan import Grid, ScanEnd, StagedCells
from scoring.specs import ColumnSpec

PATIENCE_S = 60.0
MOST_CELLS = 12
"""So many isolations stay within the budget of a job."""
MOST_BAD = 2
"""So many bad rows of a cell are always found within its budget, besides a class of nulls."""
MISFIT = "it does not fit"
QUEUED = 2
PICKS = st.integers(0, 2)
CELLS = st.tuples(st.lists(st.integers(1, 24), min_size=1, max_size=2), st.booleans())
"""Rows of each slice, and whether another file begins."""
COLUMNS = (ColumnSpec(name="value", type="long"),)

Kind = Literal["error", "timeout", "crashed", "storage"]
RowName = tuple[str, int]
"""A row: its file and its number in it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a bad row does to the worker that predicts for it."""

    kind: Kind
    reason: str
    may_pass: bool = False

    @property
    def cause(self) -> str:
        """What the quarantine says of it."""
        return {"timeout": "timeout", "crashed": "SIGSEGV"}.get(self.kind, self.reason)


def fault(kind: Kind, text: str) -> Fault:
    """Make a fault, with the words of the engine."""
    words = {"timeout": "not done within 5 s", "crashed": "the worker process died (SIGSEGV)"}
    return Fault(kind, words.get(kind, f"ValueError: {text}"))


@dataclass(frozen=True, slots=True)
class Contents:
    """What a cell holds, which the loop cannot see.

    Attributes:
        rows: those that fit, in the order of `scoring.isolate`.
        sizes: how many of them are in each class of nulls.
        misfits: those that do not fit.
    """

    rows: tuple[RowName, ...]
    sizes: tuple[int, ...]
    misfits: frozenset[RowName]


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of the rows of a part that was staged."""

    scored: tuple[RowName, ...]
    lost: dict[RowName, str]
    given_up: tuple[RowName, ...]


class _OverError(Exception):
    """The test is over before the job is."""


class Workers:
    """The engine: workers without processes, and the model that they have loaded.

    Attributes:
        queues: what each worker has in hand, and what waits behind that.
        contents: of the cells.
        bad: what rows do to whoever predicts for them.
        staged: the parts, by key.
        given: the cells that were handed out at least once.
        searched: numbers of the mini-batches whose bad rows are looked for.
        attempts: outcomes of attempts, by the number of the mini-batch.
        probes: outcomes of what is none, by the same.
        deaths: of workers that were at work.
        disturbed: the cells that failed by chance.
        any_new: tells whether there is work that was never handed out.
    """

    memory = None

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.queues: dict[int, deque[Work]] = {number: deque() for number in range(workers)}
        self.contents: dict[Cell, Contents] = {}
        self.bad: dict[RowName, Fault] = {}
        self.staged: dict[str, Fate] = {}
        self.given: set[Cell] = set()
        self.searched: set[int] = set()
        self.attempts: Counter[int] = Counter()
        self.probes: Counter[int] = Counter()
        self.deaths = 0
        self.disturbed: set[Cell] = set()
        self.any_new: Callable[[], bool] = lambda: False
        self.said: SimpleQueue[list[Event] | None] = SimpleQueue()
        self.listens = threading.Semaphore(0)

    def wanted(self) -> int:
        """See `Engine.wanted`."""
        return sum(QUEUED - len(queue) for queue in self.queues.values())

    def submit(self, work: Work) -> None:
        """See `Engine.submit`."""
        number = number_of(work)
        assert number not in [number_of(each) for queue in self.queues.values() for each in queue], "twice at work"
        if isinstance(work, Try):
            self.searched.add(number)
        elif self.attempts[number] and number not in self.searched:
            assert not self.any_new(), "tried again before what is new"
        self.given |= set(cells_of(work))
        avoid = work.avoid if isinstance(work, Score) else -1
        worker = min(
            self.queues, key=lambda each: (len(self.queues[each]) >= QUEUED, each == avoid, len(self.queues[each]))
        )
        self.queues[worker].append(work)

    def wait(self, timeout_s: float, also: object = None) -> list[Event]:  # noqa: ARG002 (the protocol's)
        """See `Engine.wait`."""
        self.listens.release()
        events = self.said.get()
        if events is None:
            raise _OverError
        return events

    def running(self) -> list[Any]:
        """See `Engine.running`."""
        return []

    def limit(self, worker: int, timeout_s: float) -> None:
        """See `Engine.limit`."""

    def busy(self) -> list[int]:
        """Name the workers with something to do."""
        return [worker for worker, queue in self.queues.items() if queue]

    def finish(self, worker: int) -> list[Event]:
        """Have a worker do what it has in hand."""
        work = self.queues[worker][0]
        found = self._fault_of(work)
        if found is not None:
            return self.fail(worker, found)
        self.queues[worker].popleft()
        self._count(number_of(work))
        if isinstance(work, Try):
            contents = self.contents[work.cell]
            nulls = tuple(range(len(contents.sizes)))
            return [Tried(number=work.number, rows=len(contents.rows), sizes=contents.sizes, nulls=nulls)]
        assert isinstance(work, Score)
        return [self._staged(work, worker)]

    def fail(self, worker: int, found: Fault) -> list[Event]:
        """Have a worker fail at what it has in hand, and die where that is what it does."""
        number = number_of(self.queues[worker].popleft())
        if found.kind != "storage":
            self._count(number)
        self.deaths += found.kind in ("timeout", "crashed")
        failed = Failed(
            number=number, kind=found.kind, reason=found.reason, worker=worker, may_pass=found.may_pass
        )  # fmt: skip
        return [failed, *(self.lose(worker) if found.kind in ("timeout", "crashed") else ())]

    def lose(self, worker: int) -> list[Event]:
        """Give back all that a worker has, and hire another."""
        given_back: list[Event] = [Returned(number=number_of(work)) for work in self.queues.pop(worker)]
        self.queues[max([worker, *self.queues]) + 1] = deque()
        return given_back

    def _count(self, number: int) -> None:
        (self.probes if number in self.searched else self.attempts)[number] += 1

    def predicted(self, work: Work) -> list[list[RowName]]:
        """List the rows of each call of the model."""
        if isinstance(work, Try):
            rows = self.contents[work.cell].rows
            return [[row for start, stop in work.ranges for row in rows[start:stop]]]
        assert isinstance(work, Score)
        if work.give_up:
            return []
        if not (work.without or work.pieces):
            return [list(self.contents[cell].rows) for cell in work.batch.cells]
        (cell,) = work.batch.cells
        rows = self.contents[cell].rows
        lost = {row for start, stop, _ in work.without for row in rows[start:stop]}
        pieces = work.pieces or (((0, len(rows)),),)
        return [[row for start, stop in piece for row in rows[start:stop] if row not in lost] for piece in pieces]

    def _fault_of(self, work: Work) -> Fault | None:
        return next((self.bad[row] for call in self.predicted(work) for row in call if row in self.bad), None)

    def _staged(self, work: Score, worker: int) -> Scored:
        """Stage a part, which is never lost."""
        lost: dict[RowName, str] = {}
        if not work.give_up:
            lost = {row: MISFIT for cell in work.batch.cells for row in self.contents[cell].misfits}
        for start, stop, reason in work.without:
            lost |= dict.fromkeys(self.contents[work.batch.cells[0]].rows[start:stop], reason)
        given_up = tuple(rows_of(work.batch.slices)) if work.give_up else ()
        scored = tuple(sorted(row for call in self.predicted(work) for row in call))
        key = f"key {len(self.staged)}"
        self.staged[key] = Fate(scored, lost, given_up)
        return Scored(
            number=work.batch.number, key=key, size_bytes=len(scored), columns=("prediction",) if scored else (),
            accounts=tuple(account(part, lost, given_up) for part in work.batch.slices),
            causes=tuple(Counter([*lost.values(), *[work.give_up] * len(given_up)]).items()),
            seconds=1.0, predict_s=0.5, worker=worker,
        )  # fmt: skip


def cells_of(work: Work) -> tuple[Cell, ...]:
    """Return the cells that a piece of work is about."""
    return work.batch.cells if isinstance(work, Score) else (work.cell,)


def rows_of(slices: Iterable[Slice]) -> list[RowName]:
    """Name the rows of slices."""
    return [(part.name, part.first_row + row) for part in slices for row in range(part.rows)]


def account(part: Slice, lost: Iterable[RowName], given_up: Iterable[RowName]) -> SliceAccount:
    """Say what became of the rows of a slice."""
    rows = set(rows_of([part]))
    return SliceAccount(
        name=part.name, start=part.start, stop=part.stop, digest=b"", rows=part.rows,
        quarantined=len(rows & set(lost)), given_up=len(rows & set(given_up)),
    )  # fmt: skip


class Found:
    """The scanner: what it has found and not yet said."""

    def __init__(self) -> None:
        self.pipe = self
        self.messages: deque[Cell | StagedCells | ScanEnd] = deque()

    def poll(self) -> bool:
        """Tell whether it has something to say."""
        return bool(self.messages)

    def receive(self) -> Cell | StagedCells | ScanEnd:
        """Say it."""
        return self.messages.popleft()


class Nobody:
    """An output and an observer that take everything and do nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return a function that does nothing."""
        return lambda *_, **__: None


class PlayedJob:
    """A job whose loop runs in a thread of its own, and stands still unless it is spoken to.

    Attributes:
        ended: whether the loop has.
        error: what it ended with; None where the job would be published now.
        complete: whether all cells were found.
        cells: those found, without those that were staged before.
        rows: all rows found, in the order of the input.
        adopted: rows of the parts that were staged before, by key.
        may_fail_for_good: whether storage may, which ends the job.
        storage_failed: whether it ever did.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        by_file: bool = False,
        isolates: bool = True,
        max_attempts: int = 2,
        cells_per_batch: int = 1,
        threshold: int | None = None,
        limit: str | None = "100%",
        may_fail_for_good: bool = False,
    ) -> None:
        self.ended = self.complete = self.storage_failed = False
        self.error: BaseException | None = None
        self.cells: list[Cell] = []
        self.rows: list[RowName] = []
        self.adopted: dict[str, tuple[RowName, ...]] = {}
        self.by_file, self.isolates, self.max_attempts = by_file, isolates, max_attempts
        self.cells_per_batch = cells_per_batch
        self.may_fail_for_good = may_fail_for_good
        self.workers = Workers(workers)
        self.workers.any_new = self.any_new
        self.found = Found()
        self.files = [InputFile(name=f"{number:03}", url="", size_bytes=1, version="1") for number in range(200)]
        self.progress = Progress(
            limit=QuarantineLimit.parse(limit) if threshold is None or limit is not None else None,
            threshold=None if threshold is None else ErrorThreshold(files=threshold),
            isolates=isolates,
            max_attempts=max_attempts,
        )
        self.dispatch = Dispatch(
            engine=self.workers,
            scanner=self.found,  # type: ignore[arg-type]  # it is played
            plan=Plan(tuple(self.files), workers=workers, cells_per_batch=cells_per_batch),
            progress=self.progress,
            output=Nobody(),  # type: ignore[arg-type]  # it is played
            record=JobRecord(model="", settings={}, columns=COLUMNS),
            grid=Grid(cell_rows=30, estimated_rows=100),
            staged={},
            probing=False,
            by_file=by_file,
            observer=Nobody(),  # type: ignore[arg-type]  # it is played
            timeout_s=5.0,
            # no rule waits for the clock
            stuck_s=float("inf"),
        )
        self._next = (0, 0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._await_loop()

    def _run(self) -> None:
        try:
            self.dispatch.run()
        except BaseException as error:  # noqa: BLE001 (it is looked at where the test runs)
            self.error = error
        self.ended = True
        self.workers.listens.release()

    def _await_loop(self) -> None:
        assert self.workers.listens.acquire(timeout=PATIENCE_S), "the loop neither waits nor ends"
        if self.error is not None and not isinstance(self.error, ScorelineError | _OverError):
            raise self.error

    def say(self, *events: Event) -> None:
        """Let events come, and the loop act upon them."""
        self.workers.said.put(list(events))
        self._await_loop()
        if not self.ended:
            self.check_queues()

    def close(self) -> None:
        """Let the loop go."""
        if not self.ended:
            self.workers.said.put(None)
        self._thread.join()

    def cell(self, *rows: int, another_file: bool = True) -> Cell:
        """Make the next cell: a slice for each number of rows, each of another file or all of the same."""
        slices = []
        for count in rows:
            file, first = self._next
            if first and (another_file or slices):
                file, first = file + 1, 0
            self._next = file, first + count
            slices.append(
                Slice(
                    file=file, name=self.files[file].name, url="", offset=0, start=first, stop=first + count,
                    first_row=first, rows=count, format="file" if self.by_file else "csv",
                )
            )  # fmt: skip
        return Cell(slices=tuple(slices))

    def find(self, cell: Cell, contents: Contents, bad: dict[RowName, Fault] | None = None) -> None:
        """Let the scanner find a cell."""
        self.rows += rows_of(cell.slices)
        self.cells.append(cell)
        self.workers.contents[cell] = contents
        self.workers.bad |= bad or {}
        self.found.messages.append(cell)
        self.say()

    def find_staged(self, cell: Cell) -> None:
        """Let the scanner find a cell that an earlier run staged."""
        key = PartKey(
            fingerprint=bytes(6), name_digest=bytes(4), start=cell.slices[0].start, length=cell.size_bytes,
            rows=cell.rows, lines=cell.rows, identity=bytes(4), input_digest=bytes(8), crc=len(self.rows),
            nonce=bytes(3),
        ).encode()  # fmt: skip
        self.adopted[key] = tuple(rows_of(cell.slices))
        self.rows += self.adopted[key]
        self.dispatch.staged[key] = cell.rows
        self.found.messages.append(StagedCells(key=key, cells=(cell,)))
        self.say()

    def find_end(self) -> None:
        """Let the scanner come to the end."""
        self.complete = True
        self.found.messages.append(ScanEnd(rows=len(self.rows)))
        self.say()

    def fail(self, worker: int, found: Fault) -> None:
        """Let a worker fail whatever the rows are."""
        work = self.workers.queues[worker][0]
        self.workers.disturbed |= set(cells_of(work))
        self.say(*self.workers.fail(worker, found))

    def fail_storage(self, worker: int, *, may_pass: bool) -> None:
        """Let a worker meet storage that fails, which is neither its fault nor that of the rows."""
        self.storage_failed = True
        self.say(*self.workers.fail(worker, Fault("storage", "it is broken", may_pass=may_pass)))

    def lose_all(self) -> None:
        """Let all workers die with their fork server."""
        self.say(*(event for worker in list(self.workers.queues) for event in self.workers.lose(worker)))

    def finish(self) -> None:
        """Let the job run to its end."""
        if not self.ended and not self.complete:
            self.find_end()
        turns = 0
        while not self.ended:
            turns += 1
            assert turns < 20_000, "it never ends"
            self.check_going()
            busy = self.workers.busy()
            self.say(*self.workers.finish(busy[turns % len(busy)]))

    # What is always true

    def check_going(self) -> None:
        """Once the input is known, somebody works, or the job has ended."""
        if not self.ended and self.complete:
            assert self.workers.busy(), "nothing runs, and the job does not end"

    def any_new(self) -> bool:
        """Tell whether there is a mini-batch that was never handed out."""
        waiting = sum(cell not in self.workers.given for cell in self.cells)
        return waiting > 0 and (self.complete or waiting >= self.cells_per_batch)

    def check_queues(self) -> None:
        """Whoever wants work gets what there is, and nothing is tried more often than allowed."""
        assert self.workers.wanted() <= 0 or not self.any_new()
        assert all(count <= self.max_attempts for count in self.workers.attempts.values()) or self.complete
        assert all(count <= PROBES_PER_CELL + 2 for count in self.workers.probes.values())

    def check_parts(self) -> None:
        """No mini-batch is both staged and given up, and no row is in two parts."""
        assert not self.progress.parts.keys() & self.progress.abandoned.keys()
        rows = [row for fate in self.fates() for row in (*fate.scored, *fate.lost, *fate.given_up)]
        assert len(set(rows)) == len(rows), "a row was staged twice"

    def fates(self) -> list[Fate]:
        """Say what has become of the rows of each part, in the order in which the parts would be published."""
        progress = self.progress
        keys = [progress.parts[number][0] for number in sorted(progress.parts, key=progress.place)]
        return [self.workers.staged.get(key) or Fate(self.adopted[key], {}, ()) for key in keys]

    def check_end(self) -> None:
        """Look at what has become of everything."""
        progress, workers = self.progress, self.workers
        if self.error is not None:
            self.check_error(self.error)
            return
        fates = self.fates()
        scored = [row for fate in fates for row in fate.scored]
        lost = {row: reason for fate in fates for row, reason in fate.lost.items()}
        given_up = [row for fate in fates for row in fate.given_up]
        assert progress.error is None
        assert sorted([*scored, *lost, *given_up]) == self.rows
        assert scored == sorted(scored), "rows are not in the order of the input"
        counts = {name: (count.scored, count.quarantined, count.given_up) for name, count in progress.files.items()}
        tallies = [Counter(name for name, _ in rows) for rows in (scored, lost, given_up)]
        assert counts == {name: tuple(tally[name] for tally in tallies) for name, _ in self.rows}
        assert (progress.scored, progress.quarantined, progress.given_up) == (len(scored), len(lost), len(given_up))
        assert sum(progress.causes.values()) == len(lost) + len(given_up)
        assert progress.deaths.total() == workers.deaths
        if not self.storage_failed:
            found = [number for number in workers.searched if number in progress.parts]
            assert progress.attempts == workers.attempts.total() + len(found)
        self.check_lost(lost, given_up)

    def check_lost(self, lost: dict[RowName, str], given_up: list[RowName]) -> None:
        """Hold what was found against what is bad, where nothing failed by chance."""
        workers = self.workers
        assert not workers.bad.keys() - lost.keys() - set(given_up), "a bad row was scored"
        if self.by_file:
            if self.isolates and not workers.disturbed:
                assert set(given_up) == workers.bad.keys()
            return
        for cell in [each for each in self.cells if each not in workers.disturbed]:
            contents = workers.contents[cell]
            found = {row: lost[row] for row in contents.rows if row in lost}
            bad = {row: workers.bad[row].cause for row in contents.rows if row in workers.bad}
            few = len(bad.keys() & set(contents.rows[: contents.sizes[0]])) <= MOST_BAD
            if self.isolates and few:
                assert found == bad
            assert contents.misfits == {row for row in rows_of(cell.slices) if lost.get(row) == MISFIT} or given_up

    def check_error(self, error: BaseException) -> None:
        """Look whether there was a reason to stop."""
        progress, workers = self.progress, self.workers
        lost = len(progress.failed_files) + progress.quarantined + progress.given_up
        match error:
            case OutputBusyError():
                assert self.storage_failed
            case ThresholdError():
                assert lost
            case UsageError():
                assert not self.rows
            case WorkerError():
                assert workers.bad or workers.disturbed
            case _:
                assert not progress.scored or workers.disturbed


def usually(value: Any, *others: Any) -> st.SearchStrategy[Any]:
    """Return a value half of the time, and others, for a truth value the other one, the rest of it."""
    others = others or (value, not value)
    return st.sampled_from([*[value] * len(others), *others])


class AnyJob(RuleBasedStateMachine):
    """One job, and all that may happen to it."""

    job: PlayedJob | None = None

    @initialize(
        workers=st.integers(1, 3), by_file=usually(False), isolates=usually(True), max_attempts=st.integers(1, 3),
        cells_per_batch=st.integers(0, 3), threshold=usually(None, -1, -1, 0, 2),
        limit=usually("100%", "100%", None, "3", "50%"), may_fail_for_good=usually(False),
    )  # fmt: skip
    def begin(self, **options: Any) -> None:
        """A job starts."""
        self.job = PlayedJob(**options)

    def teardown(self) -> None:
        """It ends, whatever happened to it, and every row has ended once."""
        if self.job is None:
            return
        try:
            self.job.finish()
            self.job.check_parts()
            self.job.check_end()
        finally:
            self.job.close()

    finds = precondition(lambda self: not self.job.ended and not self.job.complete)
    busy = precondition(lambda self: not self.job.ended and self.job.workers.busy())

    @finds
    @precondition(lambda self: len(self.job.cells) < MOST_CELLS)
    @rule(data=st.data(), cells=st.lists(CELLS, min_size=1, max_size=4))
    def cells_are_found(self, data: st.DataObject, cells: list[tuple[list[int], bool]]) -> None:
        """Cells come from the scanner."""
        for rows, another_file in cells:
            if not self.job.ended:
                self.find(data, self.job.cell(*([1] if self.job.by_file else rows), another_file=another_file))

    def find(self, data: st.DataObject, cell: Cell) -> None:
        """Find a cell of which some rows do not fit, some have nulls, some are bad."""
        kinds = st.sampled_from(["error", "error", "crashed", "timeout"])
        names = rows_of(cell.slices)
        misfits = set() if self.job.by_file else data.draw(st.sets(st.sampled_from(names), max_size=2))
        fit = [row for row in names if row not in misfits]
        nulls = 0 if self.job.by_file else data.draw(st.integers(0, len(fit) // 3))
        clean = len(fit) - nulls
        bad = {}
        if nulls and data.draw(st.booleans()):
            # the model takes no nulls
            bad = dict.fromkeys(fit[clean:], fault("error", "it contains NaN"))
        if clean and data.draw(st.integers(0, 2)) == 0:
            for row in data.draw(st.sets(st.sampled_from(fit[:clean]), min_size=1, max_size=4)):
                bad[row] = fault(data.draw(kinds), f"bad is {'ABCDEFGH'[row[1] % 8]}")
        sizes = (clean, nulls) if nulls else (clean,)
        self.job.find(cell, Contents(tuple(fit), sizes, frozenset(misfits)), bad)

    @finds
    @rule(rows=st.integers(1, 24))
    def staged_cell_is_found(self, rows: int) -> None:
        """An earlier run has scored it."""
        self.job.find_staged(self.job.cell(1 if self.job.by_file else rows))

    @finds
    @precondition(lambda self: len(self.job.cells) > 3)
    @rule()
    def scanner_ends(self) -> None:
        """The input was read to its end."""
        self.job.find_end()

    @busy
    @rule(picks=st.lists(PICKS, min_size=1, max_size=4))
    def workers_end_their_work(self, picks: list[int]) -> None:
        """One or several outcomes come at once, as the model lets them."""
        workers = self.job.workers
        self.job.say(*(event for pick in picks if workers.busy() for event in workers.finish(self.picked(pick))))

    @busy
    @rule(pick=PICKS, kind=st.sampled_from(["error", "timeout", "crashed"]))
    def worker_fails_by_chance(self, pick: int, kind: Kind) -> None:
        """It fails whatever the rows are."""
        self.job.fail(self.picked(pick), fault(kind, "by chance"))

    @busy
    @rule(pick=PICKS)
    def worker_is_lost(self, pick: int) -> None:
        """Memory is too little for all: what one had comes back."""
        self.job.say(*self.job.workers.lose(self.picked(pick)))

    @busy
    @rule()
    def fork_server_is_lost(self) -> None:
        """All workers die with it, and what they had comes back."""
        self.job.lose_all()

    @busy
    @rule(pick=PICKS, passes=usually(True))
    def storage_fails(self, pick: int, passes: bool) -> None:
        """A file cannot be read, or a part not be written: for a while, or for good."""
        if passes or self.job.may_fail_for_good:
            self.job.fail_storage(self.picked(pick), may_pass=passes)

    @precondition(lambda self: self.job.ended)
    @rule()
    def nothing_more(self) -> None:
        """Nothing happens to a job that has ended."""

    def picked(self, pick: int) -> int:
        """Return one of the workers that have something to do."""
        busy = self.job.workers.busy()
        return busy[pick % len(busy)]

    @invariant()
    def every_row_is_somewhere_once(self) -> None:
        """Whatever happened so far."""
        if self.job is not None:
            self.job.check_going()
            self.job.check_parts()


def job_with_a_file_given_up(*, isolates: bool) -> PlayedJob:
    """Return a job of a script that has scored its files but the first, which a worker is about to give up."""
    job = PlayedJob(by_file=True, threshold=-1, isolates=isolates)
    for number in range(2):
        cell = job.cell(1)
        bad = {row: fault("error", "it is bad") for row in rows_of(cell.slices) if number == 0}
        job.find(cell, Contents(tuple(rows_of(cell.slices)), (1,), frozenset()), bad)
    job.find_end()
    while not any(isinstance(work, Score) and work.give_up for queue in job.workers.queues.values() for work in queue):
        job.say(*job.workers.finish(job.workers.busy()[0]))
    return job


GIVING_UP: dict[str, Callable[[PlayedJob], None]] = {
    "the fork server is lost": PlayedJob.lose_all,
    "memory is too little": lambda job: job.say(*job.workers.lose(job.workers.busy()[0])),
    "storage fails for a while": lambda job: job.fail_storage(job.workers.busy()[0], may_pass=True),
    "the worker dies": lambda job: job.fail(job.workers.busy()[0], fault("crashed", "by chance")),
}


@pytest.mark.parametrize("isolates", [False, True], ids=["no isolation", "isolation"])
@pytest.mark.parametrize("happens", GIVING_UP.values(), ids=GIVING_UP.keys())
def test_what_is_given_up_is_staged_whatever_happens(happens: Callable[[PlayedJob], None], isolates: bool) -> None:
    """What comes back at the very end is handed out again: the job ends, and every file is accounted for."""
    job = job_with_a_file_given_up(isolates=isolates)
    try:
        happens(job)
        job.finish()
        assert job.error is None
        job.check_end()
    finally:
        job.close()


AnyJob.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestAnyJob = AnyJob.TestCase


def test_nobody_waits_for_cells_that_cannot_come() -> None:
    """A scanner whose spool is full finds no more until what it found is scored, though a mini-batch wants more."""
    job = PlayedJob(cells_per_batch=3)
    try:
        cells = [job.cell(4) for _ in range(2)]
        for cell in cells:
            job.find(cell, Contents(tuple(rows_of(cell.slices)), (4,), frozenset()))
        assert job.workers.busy() == []
        job.dispatch.stuck_s = 0.5
        deadline = time.monotonic() + PATIENCE_S
        while not job.workers.busy() and time.monotonic() < deadline:
            time.sleep(0.05)
            job.say()
        (worker,) = job.workers.busy()
        # it will happen again and again
        assert job.dispatch.stuck_s < 0.5
        assert [cells_of(work) for work in job.workers.queues[worker]] == [tuple(cells)]
        last = job.cell(4)
        job.find(last, Contents(tuple(rows_of(last.slices)), (4,), frozenset()))
        # what runs makes room when it ends
        assert len(job.workers.queues[worker]) == 1
        job.finish()
        job.check_parts()
    finally:
        job.close()
