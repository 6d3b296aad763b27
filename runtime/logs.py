"""The logs of a job, as Azure ML lays them out (contract 3.5).

The driver writes what became of the work; what a scoring script prints is written by its worker, at the paths of
`scoring.log_paths`.

A later run in the same folder loses nothing of an earlier one: files grow, the overview with a line between two runs,
the table of mini-batches with a column that says which run. Only ``job_result.txt`` is the other way about: the newest
result comes first, so that its first line is the status.
"""

from __future__ import annotations

import csv
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from runtime.log_files import SEPARATOR, LogFiles, Notice
from scoring.log_paths import (
    NODE,
    README,
    entry_script_log_path,
    error_path,
    process_name,
    stderr_path,
    stdout_path,
    summary_path,
)

__all__ = ["NOTHING_SUCCEEDED", "JobLogs", "default_logs", "stalled", "threshold_exceeded"]

NOTHING_SUCCEEDED = "No succeeded mini batch item returned from run()"
"""Azure ML's reason where no file succeeded, whatever the threshold (contract 4.2 and 5.4)."""

PROGRESS_S = 10.0
CAUSES = 100
"""So many causes are told apart in the summary of errors: each may hold a value of the data."""
SHOWN = 3

OVERVIEW = "job_progress_overview.txt"
RESULT = "job_result.txt"
ERRORS = "job_error.txt"
USER_ERRORS = os.path.join("user", "error.txt")
REPORT = os.path.join("sys", "job_report", "processed_mini-batches.csv")
REPORT_HEADER = (
    "run,ended,mini_batch,result,node,process,files,items,failed,attempts,elapsed_s,first_file,last_file,error"
)


def default_logs(job_folder: str, environ: Mapping[str, str]) -> str:
    """Choose the folder of the logs, and make it (contract 3.5).

    That is ``./logs`` in a job of Azure ML, which uploads it, else ``logs`` in the job's folder, else a temporary
    folder: the first of them that can be written.

    Args:
        job_folder: of the job on this machine; empty, or a URL, where it has none.
        environ: environment variables of this process.
    """
    folders = [os.path.abspath("logs")] if environ.get("AZUREML_RUN_ID") else []
    if job_folder and "://" not in job_folder:
        folders.append(os.path.join(os.path.abspath(job_folder), "logs"))
    for folder in folders:
        with suppress(OSError):
            os.makedirs(folder, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    with suppress(OSError):
        return tempfile.mkdtemp(prefix="scoreline-logs-")
    # JobLogs says why it cannot be written
    return folders[0] if folders else os.path.abspath("logs")


def threshold_exceeded(failed_files: int, threshold: int) -> str:
    """Give the reason of a job that stops at its ``error_threshold`` (contract 5.4)."""
    return f"The number of failed files, {failed_files}, exceeds error_threshold {threshold}"


def stalled(seconds: float) -> str:
    """Give Azure ML's reason of a job in which nothing moves (contract 5.5)."""
    return f"No progress update in {seconds:.0f} seconds"


@dataclass(slots=True)
class _WorkerCount:
    """What one worker did."""

    since: float
    until: float
    mini_batches: int = 0
    files: int = 0
    failed_files: int = 0
    failed_attempts: int = 0
    run_s: float = 0.0


class JobLogs:
    """The log files of one run of a job.

    A failure to write them never fails the job: it is told once, and nothing more is logged.

    Attributes:
        folder: where they are.
    """

    def __init__(self, folder: str, *, notice: Notice, clock: Callable[[], float]) -> None:
        self.folder = folder
        self._clock = clock
        self._began = clock()
        self._files = LogFiles(folder, headers={REPORT: REPORT_HEADER}, notice=notice)
        self._csv = csv.writer(_ReturnedText(), lineterminator="\n")
        self._workers: dict[int, _WorkerCount] = {}
        self._causes: Counter[str] = Counter()
        self._details: dict[int, str] = {}
        self._progress = ""
        self._progress_written = ""
        self._progress_at: float | None = None
        paths = (stdout_path, stderr_path, entry_script_log_path, error_path, summary_path)
        folders = (*(os.path.dirname(path("", 0)) for path in paths), os.path.dirname(REPORT))
        self._files.make(folders=folders, path="readme.txt", text=README)

    @classmethod
    def at(cls, folder: str, *, notice: Notice = lambda _: None, clock: Callable[[], float] = time.time) -> JobLogs:
        """Make the folders of the logs, also those that workers write to.

        Args:
            folder: of the logs.
            notice: called at most once, where logs cannot be written.
            clock: seconds since 1970.
        """
        return cls(os.path.abspath(folder), notice=notice, clock=clock)

    def began(self, description: Sequence[str]) -> None:
        """Note that the job begins.

        Args:
            description: what is scored by what, a line each.
        """
        now = self._began = self._clock()
        lines = "".join(f"{_time(now)} {_line(text)}\n" for text in ("began", *description))
        self._files.add(OVERVIEW, SEPARATOR + lines, now)

    def worker_ready(self, worker: int, seconds: float) -> None:
        """Note that a worker has loaded the model."""
        now = self._clock()
        self._count(worker, now)
        self._files.add(OVERVIEW, f"{_time(now)} {process_name(worker)} is ready after {seconds:.1f} s\n", now)

    def attempt_failed(
        self, worker: int, mini_batch: int, files: Sequence[str], *, kind: str, reason: str, detail: str = ""
    ) -> None:
        """Note a failed attempt, with its traceback.

        Args:
            worker: whose attempt it was.
            mini_batch: its number; -1 where the worker was still loading the model or in ``init()``.
            files: of the mini-batch.
            kind: error, storage, timeout, crashed or load.
            reason: one sentence.
            detail: the traceback, or the end of what the process printed.
        """
        now = self._clock()
        count = self._count(worker, now)
        count.failed_attempts += 1
        count.until = now
        path = error_path("", worker)
        reason = _line(reason)
        fields = f"mini_batch={mini_batch} kind={kind}" if mini_batch >= 0 else f"kind={kind}"
        head = f"{_time(now)} {process_name(worker)} {fields}"
        named = "".join(f"  {_line(name)}\n" for name in files)
        body = f"{detail.rstrip()}\n" if detail else ""
        if detail and detail == self._details.get(worker):
            body = "(traceback as of the attempt before)\n"
        self._details[worker] = detail
        self._files.add(path, f"{head}\n{named}{reason}\n{body}\n", now)
        at = f" files={_some(files)}" if files else ""
        self._files.add(USER_ERRORS, f"{head}{at} reason={reason}\n", now)
        cause = f"{kind}: {reason}"
        if cause not in self._causes and len(self._causes) < CAUSES:
            first = f"first of {_some(files)}, " if files else ""
            self._files.add(ERRORS, f"{_time(now)} {cause}; {first}see {path}\n", now)
        self._causes[cause if cause in self._causes or len(self._causes) < CAUSES else "other reasons"] += 1

    def mini_batch_done(
        self, number: int, files: Sequence[str], *, items: int, failed: int, seconds: float, worker: int, attempts: int
    ) -> None:
        """Note that a mini-batch is processed.

        Args:
            number: of the mini-batch.
            files: in it.
            items: what ``run()`` returned, counted as contract 2.3 counts.
            failed: files that count as failed all the same.
            seconds: of the attempt that succeeded.
            worker: whose attempt that was.
            attempts: how many there were.
        """
        self._processed(number, files, items=items, failed=failed, seconds=seconds, worker=worker, attempts=attempts)

    def mini_batch_failed(
        self, number: int, files: Sequence[str], *, reason: str, seconds: float, worker: int, attempts: int
    ) -> None:
        """Note that the attempts of a mini-batch are used up, so that all its files failed (contract 5.3).

        Args:
            number: of the mini-batch.
            files: in it.
            reason: of the last failure.
            seconds: of the last attempt.
            worker: whose attempt that was.
            attempts: how many there were.
        """
        self._processed(
            number, files, items=0, failed=len(files), seconds=seconds, worker=worker, attempts=attempts, error=reason
        )

    def progress(
        self, scheduled: int, processed: int, failed_files: int, threshold: int, eta_s: float | None = None
    ) -> None:
        """Note how far the job is; to be called often, for it also writes what waits to be written.

        The overview gets a line at most every 10 seconds, and the first and the last.

        Args:
            scheduled: mini-batches known so far.
            processed: mini-batches that succeeded or failed for good.
            failed_files: so far.
            threshold: the ``error_threshold``.
            eta_s: seconds the rest may take; None where that is not known.
        """
        now = self._clock()
        eta = "unknown" if eta_s is None else f"{eta_s:.0f}"
        self._progress = (
            f"scheduled={scheduled} processed={processed} failed_files={failed_files} "
            f"error_threshold={threshold} eta_s={eta}"
        )
        # a clock that was set back is no reason to fall silent
        if self._progress_at is None or not 0 <= now - self._progress_at < PROGRESS_S:
            self._write_progress(now)
        self._files.tick(now)

    def finished(
        self, status: Literal["Completed", "Failed", "Canceled"], reasons: Sequence[str], failed_files: Sequence[str]
    ) -> None:
        """Note how the job ended (contract 5.7), and write all that waits to be written.

        Args:
            status: the final status.
            reasons: why, a sentence each.
            failed_files: by name.
        """
        now = self._clock()
        if self._progress != self._progress_written:
            self._write_progress(now)
        for worker, count in sorted(self._workers.items()):
            self._files.add(summary_path("", worker), self._summary(worker, count), now)
        if self._causes:
            counts = "".join(f"  {count:,} x {cause}\n" for cause, count in self._causes.most_common())
            self._files.add(ERRORS, f"{_time(now)} failed attempts: {self._causes.total():,}\n{counts}", now)
        why = [f"reason: {_line(reason)}" for reason in reasons]
        overview = "".join(f"{_time(now)} {line}\n" for line in (f"finished: {status}", *why))
        self._files.add(OVERVIEW, overview, now)
        self._files.flush(now)
        result = [
            status,
            *why,
            f"began: {_time(self._began)}",
            f"ended: {_time(now)}",
            f"duration_s: {now - self._began:.1f}",
            *([f"progress: {self._progress}"] if self._progress else []),
            f"failed files: {len(failed_files)}",
            *(f"  {_line(name)}" for name in failed_files),
        ]
        self._files.put_first(RESULT, "\n".join(result) + "\n")

    def _processed(
        self,
        number: int,
        files: Sequence[str],
        *,
        items: int,
        failed: int,
        seconds: float,
        worker: int,
        attempts: int,
        error: str | None = None,
    ) -> None:
        now = self._clock()
        count = self._count(worker, now)
        count.until = now
        count.mini_batches += 1
        count.files += len(files)
        count.failed_files += failed
        count.run_s += seconds
        first, last = (_line(files[0]), _line(files[-1])) if files else ("", "")
        result = "succeeded" if error is None else "failed"
        row = (
            _time(self._began), _time(now), number, result, NODE, process_name(worker), len(files), items, failed,
            attempts, f"{seconds:.3f}", first, last, _line(error or ""),
        )  # fmt: skip
        # the writer returns what its file returns: the line
        self._files.add(REPORT, str(self._csv.writerow(row)), now)

    def _count(self, worker: int, now: float) -> _WorkerCount:
        if worker not in self._workers:
            self._workers[worker] = _WorkerCount(since=now, until=now)
        return self._workers[worker]

    def _summary(self, worker: int, count: _WorkerCount) -> str:
        return (
            f"run: {_time(self._began)}\nprocess: {process_name(worker)}\nstart: {_time(count.since)}\n"
            f"duration_s: {count.until - count.since:.1f}\nrun_time_s: {count.run_s:.3f}\n"
            f"mini_batches: {count.mini_batches}\nfailed_attempts: {count.failed_attempts}\n"
            f"items_total: {count.files}\nitems_succeeded: {count.files - count.failed_files}\n"
            f"items_failed: {count.failed_files}\n\n"
        )

    def _write_progress(self, now: float) -> None:
        self._progress_at = now
        self._progress_written = self._progress
        self._files.add(OVERVIEW, f"{_time(now)} {self._progress}\n", now)


class _ReturnedText:
    """Has `csv.writer` return each line instead of writing it."""

    def write(self, text: str) -> str:
        """Return the text."""
        return text


def _time(now: float) -> str:
    """Write a time: ``2026-03-01T12:00:00Z``."""
    return _second(int(now))


@lru_cache(maxsize=4)
def _second(now: int) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _line(text: str) -> str:
    """Bring text on one line."""
    return " ".join(text.splitlines())


def _some(files: Sequence[str]) -> str:
    """Name the first files."""
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return ", ".join(_line(name) for name in files[:SHOWN]) + more
