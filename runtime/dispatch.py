"""The loop of a job: cells come from the scanner, mini-batches go to the workers, outcomes to `Progress`.

scanner ── cells ──▶ plan ── mini-batches ──▶ engine
                                                 │
          what next? ◀── progress ◀── outcomes ──┘
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from runtime.disk import remove_below
from runtime.engines import (
    KILLED,
    Engine,
    Event,
    Failed,
    LoadFailed,
    Probe,
    Probed,
    Ready,
    Reduced,
    Returned,
    Score,
    Scored,
    Tried,
    Try,
)
from runtime.errors import ModelLoadError, ModelUseError, ScorelineError, UsageError, WorkerError
from runtime.isolating import Isolating
from runtime.logs import NOTHING_SUCCEEDED, stalled
from runtime.output import Output
from runtime.parts import PartKey, read_account
from runtime.plan import Plan, Scanner, StagedRun
from runtime.progress import MAX_ATTEMPTS, Progress
from runtime.record import JobRecord
from runtime.staffing import Staffing
from scoring.cells import TABLES, Cell, MiniBatch, SliceAccount
from scoring.files import Listing
from scoring.scan import Grid
from scoring.specs import ColumnSpec

__all__ = ["Dispatch", "Observer", "probe_rows", "probe_timeout_s"]

POLL_S = 0.5
STUCK_S = 5.0
STUCK_AGAIN_S = 0.2
LOOK_AFTER_S = 1.0
"""What a worker has done for less is not asked about."""
PROBE_ROWS = 1_000
PROBE_LEAST_ROWS = 16
PROBE_SHARE = 32
"""The probe looks at no more than one row in so many of the input."""


class Observer(Protocol):
    """Whoever follows the loop."""

    def ready(self, event: Ready) -> None:
        """Learn that a worker is ready."""
        ...

    def load_failed(self, event: LoadFailed) -> None:
        """Learn that a worker could not be had, or none at all."""
        ...

    def scored(self, event: Scored, batch: MiniBatch) -> None:
        """Learn that a mini-batch is staged."""
        ...

    def failed(self, event: Failed, batch: MiniBatch) -> None:
        """Learn that an attempt failed."""
        ...

    def reduced(self, event: Reduced) -> None:
        """Learn that fewer workers go on."""
        ...

    def tick(self) -> None:
        """Look; raise to stop the job."""
        ...


@dataclass(kw_only=True)
class Dispatch:
    """One run of the loop.

    Attributes:
        engine: the workers, started.
        scanner: the scanner, begun.
        plan: where its cells go.
        progress: where outcomes go.
        output: where parts are staged.
        record: the job, with the columns once they are known.
        grid: as the scanner chose it.
        staged: score bytes of the parts that are staged already, by key.
        probing: whether the model is probed before rows are cut or grouped.
        by_file: whether a scoring script takes whole files, so that there are no columns to find.
        empty_allowed: whether the job may complete though nothing was scored (contract 5.4 forbids it to append_row).
        files_per_timeout: the timeout is for so many files; a mini-batch of more has more; 0: for each mini-batch.
        observer: who follows.
        staffing: who is hired once the first worker is ready; None where all have started.
        timeout_s: how long a mini-batch may take; None: as long as others let expect.
        stall_s: how long nothing may be found and nothing end; None: for ever.
        stuck_s: how long nothing may run and nothing be found before fewer cells than wanted are a mini-batch.
        resumed: mini-batches taken from what was staged.
        resumed_rows: rows in them.
        predict_s: seconds spent in the model, over all workers.
    """

    engine: Engine
    scanner: Scanner
    plan: Plan
    progress: Progress
    output: Output
    record: JobRecord
    grid: Grid
    staged: dict[str, int]
    probing: bool
    observer: Observer
    by_file: bool = False
    empty_allowed: bool = False
    files_per_timeout: int = 0
    timeout_s: float | None = None
    stall_s: float | None = None
    stuck_s: float = STUCK_S
    staffing: Staffing | None = None
    resumed: int = 0
    resumed_rows: int = 0
    predict_s: float = 0.0
    _columns: tuple[ColumnSpec, ...] = ()
    _probe: Literal["unknown", "running", "done"] = "unknown"
    _first: Cell | None = None
    _kept: MiniBatch | None = None
    _cells: int = 0
    _moved: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Score until nothing is left.

        Raises:
            ScorelineError: the job must stop; what is staged is kept.
        """
        self._columns = self.record.columns
        if self.by_file:
            self._probe = "done"
        isolating = self._isolating = Isolating(self.plan, self.progress, by_file=self.by_file)
        # what the probe says counts, though all was scored beside it
        while not (self.plan.exhausted and self.progress.idle and isolating.idle and self._probe == "done"):
            self._listen()
            self._isolate()
            self._hand_out()
            self._limit_hanging()
            self.observer.tick()
            self._check_stalled()
            self._stop_if_needed()
        if self.plan.rows == 0 and not any(count.problem for count in self.progress.files.values()):
            raise UsageError("the input has no rows to score")
        self.progress.check_limit(self.plan.rows)
        self._stop_if_needed()
        if not self.progress.scored and not self.empty_allowed:
            raise ScorelineError(self._nothing_scored())
        self._stage_abandoned()

    def _nothing_scored(self) -> str:
        if self.by_file or self.progress.threshold is not None:
            return f"{NOTHING_SUCCEEDED}: {self.progress.failures_text()}; nothing was published"
        why = self.progress.failures_text() if self.progress.abandoned else self.progress.main_cause()
        return f"no row could be scored: {why}; nothing was published"

    def _stage_abandoned(self) -> None:
        """Account for what could not be scored, now that the job completes in spite of it."""
        progress = self.progress
        lost, progress.abandoned = progress.abandoned, {}
        waiting = [each.batch for each in lost.values()]
        failures: Counter[int] = Counter()
        while waiting or not progress.idle:
            # what came back is waiting, too
            while self.engine.wanted() > 0 and (batch := progress.again() or (waiting.pop() if waiting else None)):
                progress.started(batch)
                reason, wait_s = lost[batch.number].reason, progress.wait_s(batch.number)
                self.engine.submit(Score(batch=batch, give_up=reason, wait_s=wait_s))
            for event in self.engine.wait(POLL_S):
                self._take(event)
            self.observer.tick()
            failed = [*progress.abandoned.values(), *progress.exhausted]
            progress.abandoned, progress.exhausted = {}, []
            waiting += [each.batch for each in failed]
            failures.update(each.batch.number for each in failed)
            if progress.error is None and any(count >= MAX_ATTEMPTS for count in failures.values()):
                raise ScorelineError(f"what was not scored cannot be staged: {progress.failures_text()}")
            self._stop_if_needed()

    @property
    def probes(self) -> int:
        """How many probes looked for bad rows."""
        return self._isolating.probes

    def _isolate(self) -> None:
        """Look into mini-batches whose attempts are used up, unless everything fails alike."""
        if not self.progress.exhausted:
            return
        waiting, self.progress.exhausted = self.progress.exhausted, []
        for abandoned in waiting:
            self._isolating.begin(abandoned)
        self._check_hopeless()

    def _check_hopeless(self) -> None:
        reason = "" if self.by_file else self._isolating.hopeless(self.timeout_s)
        if reason:
            raise WorkerError(f"everything fails alike, so the job stops early: {reason}; nothing was published")

    def _check_stalled(self) -> None:
        """Fail a deployment in which nothing moves (contract 5.5)."""
        still_s = time.monotonic() - self._moved
        if self.stall_s is not None and still_s > self.stall_s:
            raise ScorelineError(f"{stalled(self.stall_s)}; what is staged is kept, run again to go on")

    def _limit_hanging(self) -> None:
        """Have what began before anything was known of its time take no longer than what begins now."""
        if self.timeout_s is not None:
            return
        for each in self.engine.running():
            if each.allowed_s is not None or each.seconds < LOOK_AFTER_S:
                continue
            # the probe scores its rows twice
            cells = len(each.work.batch.cells) if isinstance(each.work, Score) else 2
            if (patience_s := self.plan.patience_s(cells)) is not None:
                self.engine.limit(each.worker, patience_s)

    def _listen(self) -> None:
        """Take what the workers and the scanner say, waiting only where neither has anything to say."""
        pipe = self.scanner.pipe if self.plan.wants_cells else None
        for event in self.engine.wait(0.0 if pipe is not None and pipe.poll() else POLL_S, pipe):
            self._moved = time.monotonic()
            self._take(event)
        while self.plan.wants_cells and self.scanner.pipe.poll():
            self._moved = time.monotonic()
            message = self.scanner.receive()
            assert not isinstance(message, Grid | Listing), message
            self.plan.add(message)
            if isinstance(message, Cell):
                self._cells += 1
                if message.rows and (self._first is None or _tells_more(message, self._first)):
                    self._first = message

    def _take(self, event: Event) -> None:
        match event:
            case Ready():
                self._columns = self._columns or event.columns
                self._hire_others(event)
                self.observer.ready(event)
            case LoadFailed():
                self._load_failed(event)
            case Probed():
                self._probed(event)
            case Scored():
                self._scored(event)
            case Tried():
                self._isolating.tried(event)
            case Failed() if self._isolating.failed(event):
                self._check_hopeless()
            case Failed(number=-1):
                if not self._columns:
                    # nobody else can tell what is to be read
                    raise ModelLoadError(event.reason)
                # what the probe met, the scoring meets again, and reports
                self._end_probe()
            case Failed():
                batch = self.progress.failed(event)
                self.observer.failed(event, batch)
                self.progress.check_limit(self.plan.rows if self.plan.complete else None)
            case Reduced():
                self.progress.died(KILLED)
                self.observer.reduced(event)
            case Returned():
                self._returned(event)

    def _returned(self, event: Returned) -> None:
        if event.number < 0:
            self._probe = "unknown"
        elif self._isolating.returned(event.number):
            self.progress.set_aside(event)
        else:
            self.progress.returned(event)

    def _hire_others(self, first: Ready) -> None:
        """Hire as many as fit beside the first worker, which alone can tell what it takes."""
        staffing, self.staffing = self.staffing, None
        if staffing is None:
            return
        workers, reason = staffing.fitting(first.own_bytes)
        self.engine.hire(workers)
        if reason:
            self.observer.reduced(Reduced(worker=first.worker, workers=workers, reason=reason))

    def _load_failed(self, event: LoadFailed) -> None:
        self.observer.load_failed(event)
        if event.died:
            self.progress.died(event.died)
        if event.goes_on:
            return
        if event.refused:
            raise ModelUseError(event.reason)
        raise ModelLoadError(event.told)

    def _scored(self, event: Scored) -> None:
        named = bool(self.progress.columns)
        batch = self.progress.scored_batch(event)
        self._isolating.scored(event.number)
        self.plan.learn(len(batch.cells), event.seconds)
        self.predict_s += event.predict_s
        if self.progress.columns and not named:
            self.output.record_header(self.progress.columns)
        if self._probe == "done" or self._first not in batch.cells:
            self._make_room(batch.cells)
        else:
            self._kept = batch
        self.observer.scored(event, batch)
        self.progress.check_limit(self.plan.rows if self.plan.complete else None)

    def _end_probe(self) -> None:
        self._probe = "done"
        if self._kept is not None:
            kept, self._kept = self._kept, None
            self._make_room(kept.cells)

    def _make_room(self, cells: Sequence[Cell]) -> None:
        """Remove from the spool what lies there of cells that nobody reads any more."""
        remove_below(self.output.spool, (part.url for cell in cells for part in cell.slices))

    def _probed(self, event: Probed) -> None:
        self._end_probe()
        self._columns = event.columns
        if event.objection:
            # other workers may have staged something meanwhile
            self.engine.close()
            self.output.discard()
            raise UsageError(event.objection)
        if not self.record.columns:
            self.record = self.record.with_columns(event.columns)
            self.output.record_job(self.record.to_json())

    def _hand_out(self) -> None:
        if self._probe == "unknown":
            self._start_probe()
        while self._may_score() and self.progress.error is None:
            staged = self.plan.next_staged()
            if staged is not None:
                self._adopt(staged)
                continue
            if self.engine.wanted() <= 0:
                return
            wanted = self._isolating.next()
            if wanted is not None:
                self.engine.submit(self._completed(wanted))
                continue
            # a retry goes to the back of the queue
            batch = self.plan.next() or self._next_of_stuck() or self.progress.again()
            if batch is None:
                return
            self.progress.started(batch)
            self.engine.submit(
                Score(
                    batch=batch,
                    columns=self._columns,
                    timeout_s=self._timeout_s(batch),
                    avoid=self.progress.failed_at(batch.number),
                    wait_s=self.progress.wait_s(batch.number),
                )
            )

    def _next_of_stuck(self) -> MiniBatch | None:
        """Take what was found where nothing runs and the scanner says nothing: it may wait until that is scored."""
        if not self.progress.idle or time.monotonic() - self._moved <= self.stuck_s:
            return None
        batch = self.plan.next(waits=False)
        if batch is not None:
            # where it waited once, it will wait for each of those that follow
            self.stuck_s = min(self.stuck_s, STUCK_AGAIN_S)
        return batch

    def _completed(self, work: Try | Score) -> Try | Score:
        cell = work.cell if isinstance(work, Try) else work.batch.cells[0]
        timeout_s = self._timeout_s(MiniBatch(number=-1, cells=(cell,)))
        if self.timeout_s is None and isinstance(work, Try) and sum(stop - start for start, stop in work.ranges) > 1:
            timeout_s = self.plan.probe_patience_s()
        return replace(work, columns=self._columns, timeout_s=timeout_s)

    def _timeout_s(self, batch: MiniBatch) -> float | None:
        if self.timeout_s is None:
            return self.plan.patience_s(len(batch.cells))
        if not self.files_per_timeout:
            return self.timeout_s
        files = len({part.file for part in batch.slices})
        return self.timeout_s * max(1, -(-files // self.files_per_timeout))

    def _may_score(self) -> bool:
        if self._first is None:
            # what has no rows needs no columns, and the scanner may wait until it is out of the way
            return True
        # where the signature names the columns, other workers need not wait for the probe
        return self._probe == "done" or (self._probe == "running" and bool(self._columns))

    def _start_probe(self) -> None:
        """Find the columns, and whether rows may be cut and grouped."""
        if self._first is None:
            # nothing to score, or all of it was probed when it was scored
            if self.plan.complete or self.plan.has_staged:
                self._probe = "done"
            return
        if self.engine.wanted() <= 0:
            return
        rows = self._probe_rows(self._first)
        if rows is None:
            return
        if self._columns and not rows:
            self._probe = "done"
            return
        self._probe = "running"
        self.engine.submit(Probe(cell=self._first, rows=rows, timeout_s=probe_timeout_s(self.timeout_s)))

    def _probe_rows(self, first: Cell) -> int | None:
        """Say how many rows to probe; None while it is not known whether anything is cut or grouped."""
        if not self.probing or self.staged:
            return 0
        if len(first.slices) == 1 and self._cells < 2:
            return 0 if self.plan.complete else None
        return probe_rows(self.grid)

    def _adopt(self, staged: StagedRun) -> None:
        """Count what an earlier run staged."""
        key = PartKey.decode(staged.key)
        assert key is not None, staged
        causes: Sequence[tuple[str, int]] = ()
        if key.account:
            accounts, causes = read_account(self.output.account(staged.key))
        else:
            accounts = tuple(
                SliceAccount(name=part.name, start=part.start, stop=part.stop, digest=b"", rows=part.rows)
                for cell in staged.cells
                for part in cell.slices
            )
        self.resumed += 1
        self.resumed_rows += key.rows
        self.progress.staged(staged.number, staged.key, self.staged[staged.key], accounts, causes)
        self._make_room(staged.cells)

    def _stop_if_needed(self) -> None:
        if self.progress.error is not None:
            raise self.progress.error
        self.output.check_claim()


def probe_rows(grid: Grid) -> int:
    """Say how many rows the probe looks at, where rows are cut or grouped."""
    return max(PROBE_LEAST_ROWS, min(PROBE_ROWS, grid.estimated_rows // PROBE_SHARE))


def probe_timeout_s(timeout_s: float | None) -> float | None:
    """Say how long the probe may take, which scores its rows twice, where a mini-batch may take so long."""
    return None if timeout_s is None else 2 * timeout_s


def _tells_more(cell: Cell, first: Cell) -> bool:
    """Tell whether a cell has columns to tell, which the first one, an image, has not."""
    return cell.slices[0].format in TABLES and first.slices[0].format not in TABLES
