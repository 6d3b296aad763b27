"""Progress: what is waiting, running, scored and given up, and what to do next. It knows no process, file or clock."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from runtime.engines import Failed, Returned, Scored
from runtime.errors import OutputBusyError, PredictionError, ScorelineError, ThresholdError, WorkerError
from scoring.cells import MiniBatch, SliceAccount

__all__ = ["FileCount", "Progress", "QuarantineLimit", "cause_text", "other_columns"]

MAX_ATTEMPTS = 2
DEFAULT_PERCENT = 1.0
DEFAULT_ROWS = 10


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
        limit: what the quarantine may hold.
        parts: place in the plan -> (key, score bytes) of what is staged.
        files: what became of the rows, by file.
        causes: how often which cause met a row that was not scored.
        columns: names of the output's columns, once known.
        attempts: attempts that ended, in good or ill.
        retries: attempts that failed and were made again.
        deaths: workers that died.
        error: why the job must stop.
    """

    limit: QuarantineLimit
    parts: dict[int, tuple[str, int]] = field(default_factory=dict)
    files: dict[str, FileCount] = field(default_factory=dict)
    causes: Counter[str] = field(default_factory=Counter)
    columns: tuple[str, ...] = ()
    rows: int = 0
    quarantined: int = 0
    given_up: int = 0
    bytes_done: int = 0
    attempts: int = 0
    retries: int = 0
    deaths: int = 0
    error: ScorelineError | None = None
    detail: str = ""
    _retry: deque[MiniBatch] = field(default_factory=deque)
    _running: dict[int, MiniBatch] = field(default_factory=dict)
    _failures: Counter[int] = field(default_factory=Counter)

    @property
    def scored(self) -> int:
        """Rows staged so far."""
        return self.rows - self.quarantined - self.given_up

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and nothing waits to run again."""
        return not self._running and not self._retry

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
        self.causes.update(dict(causes))

    def failed(self, event: Failed) -> None:
        """Take the bad outcome of an attempt: try again once, elsewhere; then stop the job."""
        batch = self._running.pop(event.number)
        self.attempts += 1
        self.deaths += event.kind in ("crashed", "timeout")
        self._failures[event.number] += 1
        self.detail = self.detail or event.detail
        if event.kind == "storage":
            self.error = OutputBusyError(f"{event.reason}; what is staged is kept, run again to go on")
        elif self._failures[event.number] < MAX_ATTEMPTS:
            self.retries += 1
            self._retry.append(batch)
        else:
            self.error = WorkerError(
                f"{batch.describe()} could not be scored in {MAX_ATTEMPTS} attempts: {event.reason}; "
                "nothing was published, what is staged is kept"
            )

    def check_limit(self, rows: int | None) -> None:
        """Stop when too much went to the quarantine.

        Args:
            rows: rows of the whole input, once they are known.
        """
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

    def main_cause(self) -> str:
        """Name the most frequent cause."""
        if not self.causes:
            return "no cause known"
        return cause_text(*self.causes.most_common(1)[0])


def other_columns(known: tuple[str, ...], found: tuple[str, ...]) -> str:
    """Say that the model changed its mind about its columns."""
    return (
        f"the model returned other columns than before: {', '.join(found)} instead of {', '.join(known)}; "
        "one output cannot hold both"
    )


def cause_text(cause: str, count: int) -> str:
    """Say how often a cause met a row: ``chol: 41,233 blanks where the signature says long``."""
    column, colon, reason = cause.rpartition(": ")
    many = "" if count == 1 else "s"
    if colon and reason.startswith("blank "):
        return f"{column}: {count:,} blank{many} {reason.removeprefix('blank ')}"
    if colon and reason.startswith(("not a", "out of range")):
        return f"{column}: {count:,} value{many} {reason}"
    if " fields where " in cause or cause.startswith(("not valid ", "quote is ")):
        return f"{count:,} record{many}: {cause}"
    return f"{cause} ({count:,})"
