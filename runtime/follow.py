"""Follow a running job: for the person who watches it, and for its logs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.dispatch import Dispatch
from runtime.engines import Engine, Failed, LoadFailed, Ready, Reduced, Score, Scored
from runtime.logs import JobLogs
from runtime.progress import UNNAMED, Progress
from runtime.running import RunningMark
from scoring.cells import InputFile, MiniBatch

__all__ = ["Following", "Report", "named"]

SHOWN_FILES = 3
SLOW_S = 60.0
"""A mini-batch without a limit is told of when it takes this long; one with a limit at half of it."""
LOOK_EVERY_S = 1.0


@dataclass(slots=True)
class Report:
    """What a watcher may know of a running job.

    Attributes:
        stage: loading, scoring or publishing.
        progress: outcomes so far.
        files: input files.
        bytes_total: bytes of input, as stored.
        estimated_rows: rows the input is thought to have; exact once it is scanned.
        workers: how many.
        scoring_since: when the first worker was ready (`time.monotonic`); 0 before.
        resumed_rows: rows that an earlier run staged.
        unit: what is counted: rows, or files where a script takes whole ones.
    """

    stage: str = "loading"
    progress: Progress | None = None
    files: int = 0
    bytes_total: int = 0
    estimated_rows: int = 0
    workers: int = 0
    scoring_since: float = 0.0
    resumed_rows: int = 0
    unit: str = "rows"


class Following:
    """The observer of a dispatch (`runtime.dispatch.Observer`).

    Args:
        watch: called now and then with a `Report`.
        notice: called with each sentence a person should read.
        check: raises when the job must stop.
        logs: where the job's logs go; None for none.
    """

    def __init__(
        self,
        *,
        watch: Callable[[Report], None],
        notice: Callable[[str], None],
        check: Callable[[], None],
        logs: JobLogs | None = None,
    ) -> None:
        self.report = Report()
        self.logs = logs
        self.versions: dict[str, str] = {}
        self.mark: RunningMark | None = None
        self._ready: set[int] = set()
        self._watch = watch
        self._notice = notice
        self._check = check
        self._dispatch: Dispatch | None = None
        self._attempts: Counter[int] = Counter()
        self._given_up: set[int] = set()
        self._told = False
        self._looked = time.monotonic()
        self._slow: set[tuple[int, int]] = set()

    def begin(self, dispatch: Dispatch, files: Sequence[InputFile], *, unit: str) -> None:
        """Follow a dispatch of some files that is about to run."""
        self.report.files = len(files)
        self.report.bytes_total = sum(file.size_bytes for file in files)
        self._dispatch = dispatch
        self.report.progress = dispatch.progress
        self.report.estimated_rows = dispatch.grid.estimated_rows
        self.report.workers = dispatch.engine.workers
        self.report.unit = unit

    def ready(self, event: Ready) -> None:
        """Note that a worker is ready."""
        self._ready.add(event.worker)
        if not self.report.scoring_since:
            self.report.scoring_since = time.monotonic()
            self.report.stage = "scoring"
            self.versions = dict(event.versions)
        if self.logs is not None:
            self.logs.worker_ready(event.worker, event.seconds)

    def load_failed(self, event: LoadFailed) -> None:
        """Note that a worker could not be had, or none at all."""
        if self.logs is not None:
            self.logs.attempt_failed(event.worker, -1, (), kind="load", reason=event.reason, detail=event.detail)
            self._tell(event.detail, "while it was loaded")

    def failed(self, event: Failed, batch: MiniBatch) -> None:
        """Note that an attempt failed."""
        self._attempts[batch.number] += 1
        if self.logs is None or self._dispatch is None:
            return
        files = _files(batch)
        self.logs.attempt_failed(
            event.worker, batch.number, files, kind=event.kind, reason=event.reason, detail=event.detail
        )
        if batch.number in self._dispatch.progress.abandoned:
            attempts = self._attempts[batch.number]
            self._given_up.add(batch.number)
            self.logs.mini_batch_failed(
                batch.number, files, reason=event.reason, seconds=0.0, worker=event.worker, attempts=attempts
            )
        self._tell(event.detail, "while it scored " + named(files))

    def scored(self, event: Scored, batch: MiniBatch) -> None:
        """Note that a mini-batch is staged."""
        attempts = self._attempts.pop(batch.number, 0) + 1
        # what was given up was told when it was; now it is staged
        if self.logs is None or batch.number in self._given_up:
            return
        failed = len({each.name for each in event.accounts if each.given_up or each.quarantined or each.problem})
        failed += dict(event.causes).get(UNNAMED, 0)
        files = _files(batch)
        self.logs.mini_batch_done(
            batch.number,
            files,
            items=max(0, len(files) - failed),
            failed=failed,
            seconds=event.seconds,
            worker=event.worker,
            attempts=attempts,
        )

    def reduced(self, event: Reduced) -> None:
        """Note that memory is too little for all workers."""
        self._notice(f"warning: {event.reason}")

    def tick(self) -> None:
        """Let the watcher look, and stop the job if it must."""
        dispatch = self._dispatch
        if dispatch is not None:
            if dispatch.plan.complete:
                self.report.estimated_rows = dispatch.plan.rows
            self.report.resumed_rows = dispatch.resumed_rows
            self.report.workers = dispatch.engine.workers
            if self.logs is not None:
                progress = dispatch.progress
                done = len(progress.parts) + len(progress.abandoned)
                threshold = progress.threshold.files if progress.threshold is not None else -1
                self.logs.progress(dispatch.plan.taken, done, progress.failed_count, threshold, self._left_s())
            self._tell_slow(dispatch.engine)
            if self.mark is not None and dispatch.staffing is None:
                workers = dispatch.engine.workers
                self.mark.see(workers, loaded=len(self._ready) >= workers)
        self._watch(self.report)
        self._check()

    def _tell_slow(self, engine: Engine) -> None:
        """Name a worker that takes long, before its time is over."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        for each in engine.running():
            allowed_s = each.allowed_s
            if not isinstance(each.work, Score) or each.seconds < (SLOW_S if allowed_s is None else allowed_s / 2):
                continue
            batch = each.work.batch
            if (each.worker, batch.number) not in self._slow:
                self._slow.add((each.worker, batch.number))
                limit = f"; it is stopped after {allowed_s:,.0f} s" if allowed_s is not None else ""
                told = f"worker {each.worker} has been scoring {batch.describe()} for {each.seconds:,.0f} s"
                self._notice(f"warning: {told}{limit}")

    def finished(self, status: Literal["Completed", "Failed", "Canceled"], reasons: Sequence[str]) -> None:
        """Note how the job ended."""
        if self.logs is not None:
            progress = self.report.progress
            failed = sorted(progress.failed_files) if progress is not None else []
            if progress is not None and progress.unnamed_failures:
                failed.append(f"({progress.unnamed_failures:,} that the script did not name)")
            self.logs.finished(status, reasons, failed)

    def _left_s(self) -> float | None:
        report = self.report
        rows = report.progress.rows - report.resumed_rows if report.progress is not None else 0
        if rows <= 0 or not report.scoring_since:
            return None
        left = report.estimated_rows - rows - report.resumed_rows
        return max(0.0, left) * (time.monotonic() - report.scoring_since) / rows

    def _tell(self, detail: str, when: str) -> None:
        """Show the first traceback of a user's code; the others are in the logs."""
        if detail and not self._told and self.logs is not None:
            self._told = True
            self._notice(f"{detail.rstrip()}\n(the first error, {when}; all of them are in {self.logs.folder})")


def _files(batch: MiniBatch) -> list[str]:
    return list(dict.fromkeys(part.name for part in batch.slices))


def named(files: Sequence[str]) -> str:
    """Name the first files, and how many more there are."""
    more = f" and {len(files) - SHOWN_FILES:,} more" if len(files) > SHOWN_FILES else ""
    return ", ".join(files[:SHOWN_FILES]) + more
