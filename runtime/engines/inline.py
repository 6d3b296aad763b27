"""The plainest engine: it scores in the process of the caller, one piece of work at a time.

It is the reference for what every engine does, and loads MLflow into the calling process: for tests and for looking
into a model with a debugger.
"""

from __future__ import annotations

import time
from collections import deque
from multiprocessing.connection import Connection, wait

from runtime.engines import Event, Running, Setup, Work
from runtime.errors import ScorelineError
from runtime.memory import Memory
from runtime.worker import Worker, load_failed

__all__ = ["InlineEngine"]


class InlineEngine:
    """One worker without a process. A model that kills its process kills the caller."""

    workers = 1
    memory: Memory | None = None

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._threads = 1
        self._work: deque[Work] = deque()
        self._events: list[Event] = []

    def start(self, setup: Setup) -> None:
        """Load the model; see `Engine.start`."""
        began = time.perf_counter()
        self._threads = setup.scorer.threads
        try:
            self._worker = Worker(setup)
        except ScorelineError as error:
            self._events.append(load_failed(0, error, setup))
        else:
            self._events.append(self._worker.ready(0, time.perf_counter() - began))

    def hire(self, workers: int) -> None:
        """Stay alone; see `Engine.hire`."""

    def wanted(self) -> int:
        """See `Engine.wanted`."""
        return 1 - len(self._work) if self._worker is not None else 0

    def submit(self, work: Work) -> None:
        """See `Engine.submit`."""
        self._work.append(work)

    def wait(self, timeout_s: float, also: Connection | None = None) -> list[Event]:
        """Do the next piece of work, if there is one; see `Engine.wait`."""
        if self._events:
            events, self._events = self._events, []
            return events
        if self._work and self._worker is not None:
            # comes with scikit-learn; the caller's own libraries have their threads already
            from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

            with threadpool_limits(self._threads):
                return [self._worker.do(self._work.popleft())]
        if also is not None:
            wait([also], timeout_s)
        return []

    def running(self) -> list[Running]:
        """See `Engine.running`."""
        return []

    def limit(self, worker: int, timeout_s: float) -> None:
        """Do nothing, for nobody could stop it; see `Engine.limit`."""

    def dismiss(self) -> None:
        """See `Engine.dismiss`."""

    def close(self, grace_s: float = 0.0) -> None:  # noqa: ARG002 (part of the protocol)
        """Forget the model; see `Engine.close`."""
        self._worker = None
        self._work.clear()
