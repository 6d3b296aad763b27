"""Carry isolations through: what is to be tried next, and what came of it (design.md section 8).

    a mini-batch whose attempts are used up
      ├── of several cells     each becomes a mini-batch of its own, with one attempt
      ├── of one cell          its bad rows are looked for (`runtime.isolation`), and the rest is scored in one call
      └── of a script          its files are halved, where that is asked for

Decisions only: `runtime.dispatch` submits the work and brings the outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runtime.engines import Failed, Score, Tried, Try
from runtime.isolation import Failure, Isolation, IsolationBudget, alike_text, fails_alike, too_slow
from runtime.plan import Plan
from runtime.progress import Abandoned, Progress, cause_of
from scoring.cells import Cell, MiniBatch

__all__ = ["Isolating"]

@dataclass(slots=True)
class _Case:
    """A cell whose bad rows are looked for."""

    batch: MiniBatch
    isolation: Isolation
    budget: int
    worker: int
    crashes: bool
    in_flight: bool = False


class Isolating:
    """All isolations of a job.

    Args:
        plan: gives numbers to the mini-batches that one is split into.
        progress: takes them.
        by_file: whether a scoring script takes whole files, which are halved.

    Attributes:
        probes: how many were made so far.
        isolated: cells whose isolation has ended.
    """

    def __init__(self, plan: Plan, progress: Progress, *, by_file: bool) -> None:
        self.probes = 0
        self.isolated = 0
        self._plan = plan
        self._progress = progress
        self._by_file = by_file
        self._budget = IsolationBudget()
        self._cases: dict[int, _Case] = {}
        self._failures: list[Failure] = []
        self._bad_nulls: set[int] = set()

    @property
    def idle(self) -> bool:
        """Whether nothing is looked for."""
        return not self._cases

    def begin(self, abandoned: Abandoned) -> None:
        """Take a mini-batch whose attempts are used up."""
        batch, reason = abandoned.batch, abandoned.reason
        if self._by_file:
            if len(batch.cells) == 1:
                self._progress.abandon(abandoned)
                return
            half = len(batch.cells) // 2
            self._split(batch, (batch.cells[:half], batch.cells[half:]))
            return
        files = frozenset(part.name for part in batch.slices)
        self._failures.append(Failure(files=files, reason=reason, timed_out=abandoned.kind == "timeout"))
        if len(batch.cells) > 1:
            self._split(batch, tuple((cell,) for cell in batch.cells))
            return
        budget = self._budget.take(self._plan.cells)
        isolation = Isolation(reason, budget, proved=abandoned.proved, hint=self._bad_nulls)
        self._cases[batch.number] = _Case(
            batch, isolation, budget, abandoned.worker, abandoned.kind == "crashed"
        )

    def _split(self, batch: MiniBatch, groups: Iterable[tuple[Cell, ...]]) -> None:
        for place, cells in enumerate(groups):
            part = self._plan.batch_of(cells)
            self._progress.split_off(part, batch, place)

    def next(self) -> Try | Score | None:
        """Say what is to be tried next, if anything; it is in flight then."""
        for case in self._cases.values():
            if case.in_flight:
                continue
            case.in_flight = True
            ranges = case.isolation.next()
            if ranges is not None:
                self.probes += 1
                # what a worker dies of costs a load each time; the last word is spoken without such help
                apart = case.crashes and sum(stop - start for start, stop in ranges) > 1
                return Try(
                    number=case.batch.number,
                    cell=case.batch.cells[0],
                    ranges=ranges,
                    prefer=case.worker,
                    apart=apart,
                )
            self._progress.started(case.batch)
            wait_s = self._progress.wait_s(case.batch.number)
            if case.isolation.given_up:
                return Score(batch=case.batch, give_up=case.isolation.given_up, wait_s=wait_s)
            isolation = case.isolation
            return Score(
                batch=case.batch,
                without=isolation.without,
                pieces=isolation.pieces,
                wait_s=wait_s,
                prefer=case.worker,
            )
        return None

    def tried(self, event: Tried) -> None:
        """Take the good outcome of a probe."""
        case = self._cases[event.number]
        case.in_flight = False
        case.worker = event.worker
        case.isolation.passed(event.rows, event.sizes, event.nulls)

    def failed(self, event: Failed) -> bool:
        """Take the bad outcome of a probe, or of scoring the rest; False where it is none of ours."""
        case = self._cases.get(event.number)
        if case is None:
            return False
        case.in_flight = False
        case.worker = event.worker
        self._progress.set_aside(event)
        if event.kind == "storage":
            # none of the cell's doing: the same again, unless that stops the job
            self._progress.storage_may_do(event)
            return True
        if case.isolation.given_up:
            # not even that it cannot be scored can be staged
            del self._cases[event.number]
            self._progress.abandon(Abandoned(batch=case.batch, reason=case.isolation.given_up, kind=event.kind))
        else:
            case.isolation.failed(cause_of(event))
        return True

    def returned(self, number: int) -> bool:
        """Take back what no worker began; False where it is none of ours."""
        case = self._cases.get(number)
        if case is not None:
            case.in_flight = False
        return case is not None

    def scored(self, number: int) -> None:
        """Note that a mini-batch is staged, and learn what the model does not take."""
        case = self._cases.pop(number, None)
        if case is None:
            return
        self.isolated += 1
        isolation = case.isolation
        # what others taught costs two rows, however many cells there are
        used = 0 if isolation.by_hint else isolation.probes
        self._budget.give_back(case.budget - used)
        if isolation.pieces:
            self._progress.in_pieces.append(case.batch.describe())
        if isolation.bad_nulls:
            self._bad_nulls |= isolation.bad_nulls
            self._progress.isolated.add(alike_text(isolation.reason))

    def hopeless(self, timeout_s: float | None) -> str:
        """Say why everything fails from the start; empty where something may come of it yet."""
        batches = self._plan.taken if self._plan.complete else None
        scored, files = self._progress.scored, self._plan.file_count
        reason = fails_alike(self._failures, scored=scored, isolated=self.isolated, batches=batches, files=files)
        return reason or too_slow(self._failures, scored=scored, batches=batches, timeout_s=timeout_s or 0.0)
