"""Progress: what is waiting, running, scored and given up, and what to do next. It knows no process, file or clock."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from runtime.engines import Failed, Returned, Scored
from runtime.errors import OutputBusyError, PredictionError, ScorelineError, ThresholdError, WorkerError
from runtime.isolation import alike_text
from runtime.part_table import PartTable
from scoring.cells import MiniBatch, SliceAccount
from scoring.patient_files import WAITS_S

__all__ = [
    "NO_RESULT", "UNNAMED", "Abandoned", "ErrorThreshold", "FileCount", "Progress", "QuarantineLimit", "cause_of",
    "cause_text", "other_columns",
]  # fmt: skip

MAX_ATTEMPTS = 2
DEFAULT_PERCENT = 1.0
DEFAULT_ROWS = 10
UNNAMED = "run() returned fewer results than files"
"""The cause of failed files that a scoring script did not name (contract 2.3)."""
NO_RESULT = "run() returned no result"
"""Why all files of a mini-batch failed that a scoring script returned nothing for (contract 2.3)."""
SHOWN_FILES = 3
KNOWN_FAILURES = 3
"""So many mini-batches that fail with one text have a cause in common, which no retry cures."""
_IN_BRACKETS = re.compile(r"\((.*)\)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineLimit:
    """How many rows may go to the quarantine before the job stops.

    Attributes:
        rows: so many.
        percent: or so many of a hundred rows read.
        given: whether the job was started with a limit: only then are files forgiven whose rows cannot be counted.
    """

    rows: int | None = None
    percent: float | None = None
    given: bool = False

    @classmethod
    def parse(cls, text: str | None) -> QuarantineLimit:
        """Read ``N`` or ``N%``; nothing means 1 % once that is more than 10 rows.

        Raises:
            ValueError: it is neither.
        """
        if text is None:
            return cls(rows=DEFAULT_ROWS, percent=DEFAULT_PERCENT)
        number = float(text.removesuffix("%")) if text.endswith("%") else int(text)
        if not 0 <= number <= (100 if text.endswith("%") else number):
            raise ValueError(text)
        return cls(percent=number, given=True) if text.endswith("%") else cls(rows=int(number), given=True)

    def exceeded(self, quarantined: int, rows: int) -> bool:
        """Tell whether so many of so many rows are too many."""
        allowed = max(self.rows or 0, rows * (self.percent or 0.0) / 100)
        return quarantined > allowed

    def __str__(self) -> str:
        """Write the limit as it is given."""
        return f"{self.percent:g} %" if self.percent is not None else f"{self.rows:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorThreshold:
    """How many failed files a deployment tolerates (contract 5.4).

    Attributes:
        files: so many; -1 for any number.
    """

    files: int = -1

    def exceeded(self, failed: int) -> bool:
        """Tell whether so many are too many."""
        return 0 <= self.files < failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned:
    """A mini-batch whose attempts are used up, and why the last of them failed.

    Attributes:
        batch: the mini-batch.
        reason: why its last attempt failed.
        kind: as `runtime.engines.Failed` says.
        worker: whose that was.
        proved: whether all attempts were made; else it failed as others did.
    """

    batch: MiniBatch
    reason: str
    kind: str = "error"
    worker: int = -1
    proved: bool = True


@dataclass(slots=True)
class FileCount:
    """What became of the rows of one file."""

    read: int = 0
    quarantined: int = 0
    given_up: int = 0
    problem: str = ""

    @property
    def scored(self) -> int:
        """Rows in the score file."""
        return self.read - self.quarantined - self.given_up


@dataclass(slots=True)
class Progress:
    """Takes outcomes and says what is next.

    Attributes:
        limit: what the quarantine may hold; None where only the threshold decides.
        threshold: failed files tolerated; None where a mini-batch that cannot be scored stops the job.
        isolates: whether a mini-batch whose attempts are used up is looked into (`runtime.isolating`).
        exhausted: mini-batches that wait for that.
        isolated: of what failed because of rows that were found: the text, without numbers and values.
        in_pieces: cells of which the model took only so many rows at once.
        max_attempts: how often a mini-batch is tried.
        abandoned: mini-batches given up, by their place in the plan.
        failed_files: why a file failed as a whole, by its name, in the order in which that was known; nothing where
            rows of it were not scored.
        unnamed_failures: failed files that a script did not name.
        parts: place in the plan -> (key, score bytes) of what is staged.
        files: what became of the rows, by file.
        causes: how often which cause met a row that was not scored.
        columns: names of the output's columns, once known.
        attempts: attempts that ended, in good or ill.
        retries: attempts that failed and were made again.
        deaths: workers that died, by cause.
        error: why the job must stop.
    """

    limit: QuarantineLimit | None
    threshold: ErrorThreshold | None = None
    isolates: bool = False
    exhausted: list[Abandoned] = field(default_factory=list)
    isolated: set[str] = field(default_factory=set)
    in_pieces: list[str] = field(default_factory=list)
    max_attempts: int = MAX_ATTEMPTS
    abandoned: dict[int, Abandoned] = field(default_factory=dict)
    failed_files: dict[str, str] = field(default_factory=dict)
    unnamed_failures: int = 0
    parts: PartTable = field(default_factory=PartTable)
    files: dict[str, FileCount] = field(default_factory=dict)
    causes: Counter[str] = field(default_factory=Counter)
    columns: tuple[str, ...] = ()
    rows: int = 0
    quarantined: int = 0
    given_up: int = 0
    bytes_done: int = 0
    attempts: int = 0
    retries: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    error: ScorelineError | None = None
    detail: str = ""
    _retry: deque[MiniBatch] = field(default_factory=deque)
    _running: dict[int, MiniBatch] = field(default_factory=dict)
    _failures: Counter[int] = field(default_factory=Counter)
    _storage_failures: Counter[int] = field(default_factory=Counter)
    _alike: dict[str, set[int]] = field(default_factory=dict)
    _reasons: dict[int, tuple[str, str]] = field(default_factory=dict)
    _avoid: dict[int, int] = field(default_factory=dict)
    _places: dict[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def scored(self) -> int:
        """Rows staged so far."""
        return self.rows - self.quarantined - self.given_up

    @property
    def failed_count(self) -> int:
        """Failed files so far (contract 5.4)."""
        return len(self.failed_files) + self.unnamed_failures

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and nothing waits to run again."""
        return not self._running and not self._retry and not self.exhausted

    def again(self) -> MiniBatch | None:
        """Take a mini-batch that must be tried again."""
        return self._retry.popleft() if self._retry else None

    def started(self, batch: MiniBatch) -> None:
        """Note that an attempt begins."""
        self._running[batch.number] = batch

    def returned(self, event: Returned) -> None:
        """Take back a mini-batch that no worker began."""
        self._retry.appendleft(self._running.pop(event.number))

    def scored_batch(self, event: Scored) -> MiniBatch:
        """Take the good outcome of an attempt."""
        batch = self._running.pop(event.number)
        self.attempts += 1
        if event.columns:
            self.see_columns(event.columns)
        self.staged(event.number, event.key, event.size_bytes, event.accounts, event.causes)
        return batch

    def see_columns(self, columns: tuple[str, ...]) -> None:
        """Hold the model to the columns it returned first."""
        self.columns = self.columns or columns
        if columns != self.columns:
            self.error = PredictionError(other_columns(self.columns, columns))

    def staged(
        self,
        number: int,
        key: str,
        size_bytes: int,
        accounts: Iterable[SliceAccount],
        causes: Iterable[tuple[str, int]],
    ) -> None:
        """Count a part, staged now or by an earlier run."""
        self.parts[number] = (key, size_bytes)
        counts = dict(causes)
        nothing = NO_RESULT if NO_RESULT in counts else ""
        for account in accounts:
            count = self.files.setdefault(account.name, FileCount())
            count.read += account.rows
            count.quarantined += account.quarantined
            count.given_up += account.given_up
            count.problem = count.problem or account.problem
            self.rows += account.rows
            self.quarantined += account.quarantined
            self.given_up += account.given_up
            self.bytes_done += account.stop - account.start
            if account.problem or account.given_up or account.quarantined:
                self.failed_files.setdefault(account.name, account.problem or nothing)
        unnamed = counts.get(UNNAMED, 0)
        self.unnamed_failures += unnamed
        self.given_up += unnamed
        self.causes.update(counts)

    def failed(self, event: Failed) -> MiniBatch:
        """Take the bad outcome of an attempt: try again, elsewhere; then give the mini-batch up, or stop the job."""
        batch = self._running.pop(event.number)
        self.attempts += 1
        self._count_death(event)
        self.detail = self.detail or event.detail
        if event.kind == "storage":
            if self.storage_may_do(event):
                self._retry.append(batch)
            return batch
        self._failures[event.number] += 1
        untried = self._failures[event.number] < self.max_attempts and not self._again_alike(event)
        if untried and not self._is_known(event):
            self.retries += 1
            self._retry.append(batch)
        elif self.isolates:
            self.exhausted.append(
                Abandoned(
                    batch=batch, reason=event.reason, kind=event.kind, worker=event.worker, proved=not untried
                )
            )
        elif self.threshold is not None:
            self.abandon(Abandoned(batch=batch, reason=event.reason, kind=event.kind))
        else:
            tries = self._failures[event.number]
            many = "" if tries == 1 else "s"
            self.error = WorkerError(
                f"{batch.describe()} could not be scored in {tries} attempt{many}: {event.reason}; "
                "nothing was published, what is staged is kept"
            )
        return batch

    def storage_may_do(self, event: Failed) -> bool:
        """Tell whether to try again what storage failed at, apart from the model's attempts; else stop the job."""
        self._storage_failures[event.number] += 1
        again = event.may_pass and self._storage_failures[event.number] <= len(WAITS_S)
        self._avoid[event.number] = event.worker
        self.retries += again
        if not again:
            self.error = OutputBusyError(f"{event.reason}; what is staged is kept, run again to go on")
        return again

    def wait_s(self, number: int) -> float:
        """Say how long to wait before a mini-batch is tried again that storage failed at."""
        failures = self._storage_failures[number]
        return WAITS_S[failures - 1] if failures else 0.0

    def abandon(self, abandoned: Abandoned) -> None:
        """Give a mini-batch up: its files failed."""
        self.abandoned[abandoned.batch.number] = abandoned
        for part in abandoned.batch.slices:
            self.failed_files.setdefault(part.name, abandoned.reason)

    def set_aside(self, event: Failed | Returned) -> None:
        """Take the end of work that is no attempt: a probe, or scoring without the rows found so far."""
        self._running.pop(event.number, None)
        if isinstance(event, Failed):
            self._count_death(event)

    def _count_death(self, event: Failed) -> None:
        if event.kind in ("crashed", "timeout") and not event.apart:
            self.died(cause_of(event))

    def died(self, cause: str) -> None:
        """Count the death of a worker."""
        self.deaths[_told(cause)] += 1

    def split_off(self, part: MiniBatch, whole: MiniBatch, place: int) -> None:
        """Take a part of a mini-batch that failed, to be tried once by itself, at its place in the plan."""
        self._places[part.number] = (*self.place(whole.number), place)
        self._failures[part.number] = self.max_attempts - 1
        self._avoid[part.number] = self.failed_at(whole.number)
        self._retry.append(part)

    def place(self, number: int) -> tuple[int, ...]:
        """Return where in the plan a mini-batch stands."""
        return self._places.get(number, (number,))

    def _again_alike(self, event: Failed) -> bool:
        """Tell whether an exception repeats itself word for word, so that rows may be looked for at once."""
        before = self._reasons.get(event.number)
        self._reasons[event.number] = (event.kind, event.reason)
        self._avoid[event.number] = event.worker
        return self.isolates and event.kind == "error" and before == (event.kind, event.reason)

    def _is_known(self, event: Failed) -> bool:
        """Tell whether others failed so, too: then single rows are looked for without another attempt."""
        if not self.isolates or event.kind != "error":
            return False
        text = alike_text(event.reason)
        others = self._alike.setdefault(text, set())
        others.add(event.number)
        return text in self.isolated or len(others) >= KNOWN_FAILURES

    def failed_at(self, number: int) -> int:
        """Name the worker that failed last with a mini-batch; -1 for none."""
        return self._avoid.get(number, -1)

    def check_limit(self, rows: int | None) -> None:
        """Stop when too many files failed, or too much went to the quarantine.

        Args:
            rows: rows of the whole input, once they are known.
        """
        if self.threshold is not None and self.threshold.exceeded(self.failed_count):
            self.error = ThresholdError(
                f"{self.failed_count:,} file{'s' * (self.failed_count > 1)} failed, more than error_threshold "
                f"{self.threshold.files} allows: {self.failures_text()}; nothing was published, what is staged is kept"
            )
        if self.limit is None:
            return
        unknown = next(((name, count.problem) for name, count in self.files.items() if count.problem), None)
        lost = self.quarantined + self.given_up
        if rows is not None and self.limit.exceeded(lost, rows):
            self.error = ThresholdError(
                f"{lost:,} of {rows:,} rows cannot be scored, more than --max-quarantined {self.limit} allows: "
                f"{self.main_cause()}; nothing was published, what is staged is kept: mend the input, "
                "or run again with a higher --max-quarantined"
            )
        elif unknown and not self.limit.given:
            self.error = ThresholdError(
                f"{unknown[0]}: {unknown[1]}; an unknown number of its rows cannot be scored; nothing was published, "
                "what is staged is kept: mend the file, or accept it by giving --max-quarantined"
            )

    def failure_of(self, name: str) -> str:
        """Say why a file failed."""
        count = self.files.get(name, FileCount())
        lost = count.quarantined + count.given_up
        return self.failed_files[name] or f"{lost:,} of {count.read:,} rows not scored"

    def failures_text(self) -> str:
        """Name the first failed files, each with its reason."""
        reasons: dict[str, list[str]] = {}
        for name in list(self.failed_files)[:SHOWN_FILES]:
            reasons.setdefault(self.failure_of(name), []).append(name)
        named = [f"{', '.join(names)} ({reason})" for reason, names in reasons.items()]
        if len(self.failed_files) > SHOWN_FILES:
            named.append(f"{len(self.failed_files) - SHOWN_FILES:,} more")
        if self.unnamed_failures:
            named.append(f"{self.unnamed_failures:,} unnamed ({UNNAMED})")
        return ", ".join(named)

    def main_cause(self) -> str:
        """Name the most frequent cause."""
        if not self.causes:
            return "no cause known"
        return cause_text(*self.causes.most_common(1)[0])


def cause_of(event: Failed) -> str:
    """Name the cause of a failed attempt in a word or two: the exception's text, a signal, the time."""
    if event.kind == "timeout":
        return "timeout"
    if event.kind == "crashed":
        found = _IN_BRACKETS.search(event.reason)
        cause = found[1] if found is not None else event.reason
        return _told(cause)
    return event.reason


def _told(cause: str) -> str:
    return cause.replace("SIGKILL", "killed")


def other_columns(known: tuple[str, ...], found: tuple[str, ...]) -> str:
    """Say that the model changed its mind about its columns."""
    return (
        f"the model returned other columns than before: {', '.join(found)} instead of {', '.join(known)}; "
        "one output cannot hold both"
    )


def cause_text(cause: str, count: int) -> str:
    """Say how often a cause met a row: ``chol: 41,233 blanks where the signature says long``."""
    column, colon, reason = cause.rpartition(": ")
    if cause.startswith("Error processing input file"):
        # Azure ML's words for a whole file, which hold those for a row
        return f"{cause} ({count:,})"
    many = "" if count == 1 else "s"
    if colon and reason.startswith("blank "):
        return f"{column}: {count:,} blank{many} {reason.removeprefix('blank ')}"
    if colon and reason.startswith(("not a", "out of range")):
        return f"{column}: {count:,} value{many} {reason}"
    if " fields where " in cause or cause.startswith(("not valid ", "quote is ")):
        return f"{count:,} record{many}: {cause}"
    return f"{cause} ({count:,})"
