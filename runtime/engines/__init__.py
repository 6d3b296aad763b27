"""Engines: the set of workers, and what is said to and by them.

An engine hands out work and reports what became of it. It owns time and death, and never decides: a failure goes up to
`runtime.progress`. All that crosses is plain data; an error crosses as text.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal, Protocol

from runtime.memory import Memory
from runtime.parts import PartStore
from scoring.cells import Cell, MiniBatch, SliceAccount
from scoring.specs import ColumnSpec, ReadPlan, ScorerSpec, ScriptSpec

__all__ = [
    "DEFAULT_END_S",
    "KILLED",
    "Engine",
    "Event",
    "Failed",
    "LoadFailed",
    "Probe",
    "Probed",
    "Ready",
    "Reduced",
    "Returned",
    "Running",
    "Score",
    "Scored",
    "Setup",
    "Tried",
    "Try",
    "died_of",
    "number_of",
]

DEFAULT_END_S = 0.3
KILLED = "SIGKILL, likely out of memory"
"""What a process died of that the kernel or the driver killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What every worker is told first.

    Attributes:
        scorer: the model or the scoring script, and how it is used.
        plan: how cells are read; its columns are empty where they are not known yet.
        staging: where parts are staged.
        fingerprint: of the job, 6 bytes.
        logs: folder of the job's logs, where each worker keeps what it prints; empty: they share the driver's.
        load_attempts: how many workers in a row may fail to load before the job fails.
        isolates: whether a cell that fails is kept as read, for tries that follow.
        replaces_always: whether whoever dies at work is replaced however many have died, for each death costs an
            attempt, and these are counted (contract 5.2).
        load_timeout_s: how long a load may take; None: for ever.
        first_call_s: how much longer than its timeout the first work of a process may take.
        slot: which of the workers this is, from 0; one hired for another has its slot.
        end_s: how long an idle worker may take to end when it is asked to.
    """

    scorer: ScorerSpec | ScriptSpec
    plan: ReadPlan
    staging: PartStore
    fingerprint: bytes
    logs: str = ""
    load_attempts: int = 1
    isolates: bool = False
    replaces_always: bool = False
    load_timeout_s: float | None = None
    first_call_s: float = 0.0
    slot: int = 0
    end_s: float = DEFAULT_END_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Look at the first cell before anything is scored.

    Attributes:
        cell: the first cell of the input with rows.
        rows: how many of its rows to score whole and in two parts; 0 only finds the columns.
        timeout_s: how long it may take; None: for ever.
    """

    cell: Cell
    rows: int
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Score a mini-batch and stage its part.

    Attributes:
        batch: what to score.
        columns: what the model wants, where only the probe could tell.
        timeout_s: how long it may take; None: for ever.
        give_up: do not score it, but stage that it could not be, for this reason.
        avoid: a worker that failed with it, and shall not get it again as long as there is another.
        without: rows of its one cell that are not to be scored: (start, stop, why) in the order of `scoring.isolate`.
        pieces: the sets of its rows that are predicted in a call each; empty: all in one.
        wait_s: how long the worker waits first, for storage that failed before.
        prefer: the worker that keeps its cell; -1 for none.
    """

    batch: MiniBatch
    columns: tuple[ColumnSpec, ...] = ()
    timeout_s: float | None = None
    give_up: str = ""
    avoid: int = -1
    without: tuple[tuple[int, int, str], ...] = ()
    pieces: tuple[tuple[tuple[int, int], ...], ...] = ()
    wait_s: float = 0.0
    prefer: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """Predict for some rows of a cell that failed, and stage nothing.

    Attributes:
        number: of its mini-batch.
        cell: the cell.
        ranges: rows as (start, stop) in the order of `scoring.isolate`; none at all only tells the order.
        columns: what the model wants.
        timeout_s: how long it may take; None: for ever.
        prefer: the worker that keeps the cell; -1 for none.
        apart: do so in a copy of the worker, which may die for it.
    """

    number: int
    cell: Cell
    ranges: tuple[tuple[int, int], ...]
    columns: tuple[ColumnSpec, ...] = ()
    timeout_s: float | None = None
    prefer: int = -1
    apart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A worker has loaded the model.

    Attributes:
        worker: which one.
        columns: what the model wants; empty where only a file's header can tell.
        seconds: that it took.
        versions: of libraries, by name.
        own_bytes: memory that it shares with no other process.
    """

    worker: int
    columns: tuple[ColumnSpec, ...]
    seconds: float
    versions: tuple[tuple[str, str], ...]
    own_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailed:
    """A worker could not load the model, or died while it did.

    Attributes:
        worker: which one.
        reason: one sentence.
        detail: the traceback, or the end of what the process printed.
        refused: whether the options ask for what the model cannot do.
        goes_on: whether others do the work, so that this is worth a line in the logs and no more.
        died: what the process died of; empty where it did not.
    """

    worker: int
    reason: str
    detail: str = ""
    refused: bool = False
    goes_on: bool = False
    died: str = ""

    @property
    def told(self) -> str:
        """What a person is told: of a death the last words are all that is known; a failure said why."""
        return f"{self.reason}\n{self.detail}" if "died" in self.reason and self.detail else self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What the probe found: the columns, and why rows must not be cut or grouped, if so."""

    columns: tuple[ColumnSpec, ...]
    objection: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The rows tried passed.

    Attributes:
        number: of the mini-batch.
        rows: rows of the cell that fit.
        sizes: how many of them have the same columns null, class by class.
        nulls: which columns those are, a bit a column; -1 where that differs.
        worker: who did it.
    """

    number: int
    rows: int
    sizes: tuple[int, ...]
    nulls: tuple[int, ...]
    worker: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A mini-batch is staged.

    Attributes:
        number: of the mini-batch.
        key: of its part; empty where there was nothing to stage.
        size_bytes: score bytes staged.
        columns: names of the output's columns; empty where no row was scored.
        accounts: one for each slice.
        causes: how often which cause met a row that was not scored.
        seconds: from receipt of the work to its staging.
        predict_s: of these in the model.
        worker: who did it.
    """

    number: int
    key: str
    size_bytes: int
    columns: tuple[str, ...]
    accounts: tuple[SliceAccount, ...]
    causes: tuple[tuple[str, int], ...]
    seconds: float
    predict_s: float
    worker: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An attempt failed.

    Attributes:
        number: of the mini-batch; -1 for the probe.
        kind: error: the model or the reading raised; storage: a disk, a mount or a network failed; timeout; crashed:
            the process died.
        reason: one sentence.
        detail: the traceback, or the end of what the process printed.
        worker: whose attempt it was.
        may_pass: whether storage is worth another try.
        apart: whether a copy of the worker died, and the worker lives.
    """

    number: int
    kind: Literal["error", "storage", "timeout", "crashed"]
    reason: str
    detail: str = ""
    worker: int = -1
    may_pass: bool = False
    apart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """A mini-batch comes back untouched: its worker died before it began. This is no attempt."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced:
    """Memory is too little for all workers: one was stopped, or killed by the kernel, and the others go on.

    Attributes:
        worker: which one.
        workers: how many are left.
        reason: one sentence.
    """

    worker: int
    workers: int
    reason: str


Work = Probe | Score | Try
Event = Ready | LoadFailed | Probed | Tried | Scored | Failed | Returned | Reduced


def died_of(status: int) -> str:
    """Say why a process ended, by the status that waiting for it gave."""
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return KILLED if name == "SIGKILL" else name
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def number_of(work: Work) -> int:
    """Return the number of the mini-batch that a piece of work is for; -1 for the probe."""
    match work:
        case Score():
            return work.batch.number
        case Try():
            return work.number
        case Probe():
            return -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a worker is doing, for how long, and how long it may; None: for ever."""

    worker: int
    work: Work
    seconds: float
    allowed_s: float | None


class Engine(Protocol):
    """A set of workers.

    Attributes:
        workers: how many there are; to be changed before they start.
        memory: the limits under which the kernel kills them; None where there are none.
    """

    workers: int
    memory: Memory | None

    def start(self, setup: Setup) -> None:
        """Have every worker load the model; each answers with `Ready` or `LoadFailed`."""
        ...

    def hire(self, workers: int) -> None:
        """Have more workers, so many in all; none where there are as many, or can be no more."""
        ...

    def wanted(self) -> int:
        """Say how many pieces of work would find a worker idle or about to be."""
        ...

    def submit(self, work: Work) -> None:
        """Give work to the worker that has least."""
        ...

    def wait(self, timeout_s: float, also: Connection | None = None) -> list[Event]:
        """Wait for events, for `also` to become readable, or for the time to pass."""
        ...

    def running(self) -> list[Running]:
        """Say what is being worked on; nothing where that cannot be looked at meanwhile."""
        ...

    def limit(self, worker: int, timeout_s: float) -> None:
        """Say how long what a worker does may take, counted from where it began."""
        ...

    def dismiss(self) -> None:
        """Have the workers, which are all idle, end, and do not wait for it: `close` does."""
        ...

    def close(self, grace_s: float = 0.0) -> None:
        """Stop all workers: those that are idle by asking, the others by force after a grace time."""
        ...
