"""Workers on this machine: one process each, one private pipe each.

driver ──── pipe ──── worker 0     a death is the end of its pipe; its exit status comes from
  │ └────── pipe ──── worker 1     the fork server (or the process object, where it was spawned)
  └ socket ─ fork server
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import ForkingPickler
from typing import IO, Literal

from runtime.engines import (
    DEFAULT_END_S,
    KILLED,
    Event,
    Failed,
    LoadFailed,
    Probe,
    Ready,
    Reduced,
    Returned,
    Running,
    Score,
    Scored,
    Setup,
    Work,
    died_of,
    number_of,
)
from runtime.forkserver import ForkServer, end_process, end_session, start_module, worker_environment
from runtime.memory import ACT_AT, Memory, private_bytes, size_text
from scoring.log_paths import stderr_path
from scoring.specs import ScriptSpec

__all__ = ["LocalEngine"]

QUEUED = 2
"""Pieces of work at a worker: the one it does, and one so that it never waits for its pipe."""
PIPE_BYTES = 32 * 2**10
"""So much fits into a pipe that nobody reads, whatever the system. Were more sent to a worker that sends its answer,
each would wait for the other for ever: with a mini-batch of thousands of files, or of thousands of columns."""
LOG_TAIL_BYTES = 8_000
LOG_TAIL_CHARS = 2_000
"""What is told of it: less than is read, so that no half of a secret passes for none."""
EXIT_WAIT_S = 5.0
MAX_EARLY_DEATHS = 3
"""So many deaths in a row without a result between them, and dead workers are not replaced."""
ACT_ALONE_AT = 0.97
"""The share of the memory limit at which the only worker is stopped."""
LOOK_S = 0.1
RELIEF_S = 0.5
"""How long what a worker leaves takes to be free again."""


class _Process:
    """One worker as the driver sees it."""

    def __init__(self, number: int, pipe: Connection, slot: int) -> None:
        self.number = number
        self.slot = slot
        self.pipe = pipe
        self.popen: subprocess.Popen[bytes] | None = None
        self.server_start = 0
        self.ready = False
        self.work: deque[Work] = deque()
        self.unsent: deque[bytes] = deque()
        self.since = time.monotonic()
        self.done = 0
        self.alone = False

    def send(self, work: Work) -> None:
        """Send work, or keep it until the worker waits for it where it is too large to lie in the pipe."""
        data = bytes(ForkingPickler.dumps(work))
        idle = not self.work
        self.work.append(work)
        if idle or (not self.unsent and len(data) <= PIPE_BYTES):
            self._send(data)
        else:
            self.unsent.append(data)

    def send_next(self) -> None:
        """Send what was kept: the worker has answered, and so it waits."""
        if self.unsent:
            self._send(self.unsent.popleft())

    def _send(self, data: bytes) -> None:
        # one that has died is noticed by the end of its pipe
        with suppress(OSError):
            self.pipe.send_bytes(data)

    def allowed_s(self, setup: Setup | None) -> float | None:
        """Say how long the load, or the work in hand, may take; None: for ever."""
        if not self.ready:
            return setup.load_timeout_s if setup is not None else None
        work = self.work[0] if self.work else None
        timeout_s = work.timeout_s if work is not None else None
        if timeout_s is not None and isinstance(work, Score):
            timeout_s += work.wait_s
        if timeout_s is None or self.done or setup is None:
            return timeout_s
        return timeout_s + setup.first_call_s


class LocalEngine:
    """A set of worker processes.

    Args:
        workers: how many.
        threads: native threads of each worker.
        log: an open file that takes what the workers print.
        server: the fork server they come from; None spawns each.
        memory: the limits under which the kernel kills; None where there are none.
    """

    def __init__(
        self,
        workers: int,
        *,
        threads: int,
        log: IO[bytes],
        server: ForkServer | None,
        memory: Memory | None = None,
    ) -> None:
        self.workers = workers
        self.memory = memory
        self._threads = threads
        self._log = log
        self._server = server
        self._setup: Setup | None = None
        self._processes: dict[Connection, _Process] = {}
        self._numbers = 0
        self._early_deaths = 0
        self._load_deaths = 0
        self._load_failures = 0
        self._loaded = False
        self._lost: list[Event] = []
        self._spawned: list[subprocess.Popen[bytes]] = []
        self._looked = 0.0
        self._reduced = 0
        self._beside = 0.0
        self._too_big: set[int] = set()
        self._owed = False
        self._dismissed = False

    def start(self, setup: Setup) -> None:
        """See `Engine.start`."""
        self._setup = setup
        for _ in range(self.workers):
            self._hire()

    def hire(self, workers: int) -> None:
        """See `Engine.hire`."""
        for _ in range(self.workers, workers):
            self.workers += 1
            self._hire()

    def _hire(self) -> None:
        ours, theirs = Pipe()
        taken = {process.slot for process in self._processes.values()}
        slot = min(set(range(len(taken) + 1)) - taken)
        process = _Process(self._numbers, ours, slot)
        process.alone = not self._processes
        self._numbers += 1
        with theirs:
            if self._server is not None:
                self._server.fork(process.number, theirs.fileno())
                process.server_start = self._server.starts
            else:
                process.popen = start_module(
                    "runtime.spawned",
                    theirs.fileno(),
                    str(process.number),
                    environment={**worker_environment(self._threads), **self._own_environment()},
                    log=self._log,
                )
        self._processes[ours] = process
        # a worker that died meanwhile is noticed by the end of its pipe
        with suppress(OSError):
            ours.send(replace(self._setup, slot=slot) if slot and self._setup is not None else self._setup)

    def _own_environment(self) -> dict[str, str]:
        return dict(self._script.environment) if self._script is not None else {}

    @property
    def _script(self) -> ScriptSpec | None:
        scorer = self._setup.scorer if self._setup is not None else None
        return scorer if isinstance(scorer, ScriptSpec) else None

    def wanted(self) -> int:
        """See `Engine.wanted`."""
        return sum(QUEUED - len(process.work) for process in self._processes.values() if process.ready)

    def submit(self, work: Work) -> None:
        """See `Engine.submit`."""
        avoid = work.avoid if isinstance(work, Score) else -1
        prefer = -1 if isinstance(work, Probe) else work.prefer
        ready = [each for each in self._processes.values() if each.ready]
        process = min(
            ready,
            key=lambda each: (
                len(each.work) >= QUEUED, each.number == avoid, each.number != prefer, len(each.work)
            ),
        )  # fmt: skip
        if not process.work:
            process.since = time.monotonic()
        process.send(work)
        self._come_back()

    def running(self) -> list[Running]:
        """See `Engine.running`."""
        now = time.monotonic()
        return [
            Running(
                worker=process.number,
                work=process.work[0],
                seconds=now - process.since,
                allowed_s=process.allowed_s(self._setup),
            )
            for process in self._processes.values()
            if process.work
        ]

    def limit(self, worker: int, timeout_s: float) -> None:
        """See `Engine.limit`."""
        for process in self._processes.values():
            if process.number == worker and process.work:
                process.work[0] = replace(process.work[0], timeout_s=timeout_s)

    def wait(self, timeout_s: float, also: Connection | None = None) -> list[Event]:
        """See `Engine.wait`."""
        events, self._lost = self._lost, []
        sources: list[Connection | socket.socket] = [*self._processes]
        if also is not None:
            sources.append(also)
        if self._server is not None and self._server.socket is not None:
            sources.append(self._server.socket)
        readable = wait(sources, 0 if events else self._until(timeout_s))
        for source in readable:
            if isinstance(source, Connection) and source is not also:
                events += self._receive(self._processes[source])
            elif self._server is not None and source is self._server.socket:
                self._server.read()
        events += self._overdue()
        events += self._relieve()
        return events

    def _until(self, timeout_s: float) -> float:
        now = time.monotonic()
        limits = [(process.since, process.allowed_s(self._setup)) for process in self._processes.values()]
        if self.memory is not None:
            timeout_s = min(timeout_s, LOOK_S)
        return max(0.0, min([timeout_s, *(since + allowed - now for since, allowed in limits if allowed is not None)]))

    def _overdue(self) -> list[Event]:
        events: list[Event] = []
        now = time.monotonic()
        for process in list(self._processes.values()):
            allowed = process.allowed_s(self._setup)
            if allowed is None or process.since + allowed > now:
                continue
            self._kill(process)
            if process.ready:
                detail = self._words(process)
                events += self._bury(process, "timeout", f"not done within {allowed:g} s", detail)
            else:
                reason = f"the worker was not ready within {allowed:g} s"
                if self._script is not None:
                    reason += ", for the script was being imported, or in its init(); --init-timeout allows more"
                events += self._not_loaded(process, LoadFailed(worker=process.number, reason=reason))
        return events

    def _relieve(self) -> list[Event]:
        """Stop the largest worker before the kernel kills it, or all of them with the driver."""
        now = time.monotonic()
        if self.memory is None or not self._processes or now < self._looked + LOOK_S:
            return []
        self._looked = now
        alone = len(self._processes) == 1
        if self.memory.share() < (ACT_ALONE_AT if alone else ACT_AT):
            return []
        known = [process for process in self._processes.values() if self._pid(process)]
        if not known:
            return []
        # nothing is lost with one that still loads
        process = max(known, key=lambda each: (not each.ready, private_bytes(self._pid(each))))
        self._looked = now + RELIEF_S
        self._kill(process)
        # what it held is free then, and whoever wants memory next has it
        self._exit_status(process)
        return self._died(process, KILLED)

    def _short_of_memory(self, process: _Process) -> list[Event] | None:
        """Go on with fewer workers where memory was too little for one; None where it was alone, and it is to blame.

        What it was doing is no attempt unless no other worker lived since it began: another may have taken the memory.
        Where work ends the last worker, it was this work, and the others come back once nobody does such work.
        """
        assert self.memory is not None
        if process.alone and not process.ready:
            return None
        if len(self._processes) == 1:
            if process.ready and not process.work:
                return None
            if process.ready and process.since >= self._beside:
                self._too_big.add(number_of(process.work[0]))
                self._owed = True
                return None
            # it began beside others, whose memory is free now
            self._forget(process)
            self._hire()
            return [Returned(number=number_of(work)) for work in process.work]
        doing = "worked" if process.ready else "loaded the model"
        self._forget(process)
        self.workers -= 1
        self._reduced += 1
        reason = (
            f"memory is too little for {self.workers + 1} workers: worker {process.number} was stopped while it {doing}"
            f" (limit {size_text(self.memory.limit_bytes)}); going on with {self.workers}"
        )
        returned = [Returned(number=number_of(work)) for work in process.work]
        return [*returned, Reduced(worker=process.number, workers=self.workers, reason=reason)]

    def _come_back(self) -> None:
        """Hire those again that were stopped for work that was too big beside them, unless somebody does such work."""
        if not self._owed:
            return
        at_hand = {number_of(work) for process in self._processes.values() for work in process.work}
        if not at_hand & self._too_big:
            self._owed = False
            missing, self._reduced = self._reduced, 0
            self.hire(self.workers + missing)

    def _receive(self, process: _Process) -> list[Event]:
        try:
            event = process.pipe.recv()
        except (EOFError, OSError):
            return self._died(process)
        if isinstance(event, Ready):
            process.ready = self._loaded = True
            self._load_failures = 0
        elif isinstance(event, LoadFailed):
            return self._not_loaded(process, event)
        else:
            if self._ate_copy(event) and (events := self._short_of_memory(process)) is not None:
                self._kill(process)
                return events
            process.work.popleft()
            process.since = time.monotonic()
            process.done += 1
            process.send_next()
            self._early_deaths = 0
            if isinstance(event, Scored) and event.number in self._too_big:
                # some were stopped once more, beside it or while they loaded
                self._owed = True
                self._come_back()
        return [event]

    def _ate_copy(self, event: Event) -> bool:
        """Tell whether the kernel killed a copy of a worker, in its stead, for want of memory."""
        if self.memory is None or not (isinstance(event, Failed) and event.apart and KILLED in event.reason):
            return False
        return self.memory.killed_again()

    def _not_loaded(self, process: _Process, event: LoadFailed) -> list[Event]:
        """Report a failed load, or try it once more in a fresh process."""
        self._forget(process)
        self._load_failures += 1
        if self._setup is None or event.refused or self._load_failures >= self._setup.load_attempts:
            return [event]
        self._hire()
        return [replace(event, goes_on=True)]

    def _died(self, process: _Process, cause: str = "") -> list[Event]:
        hungry = bool(cause)
        cause = cause or self._cause(process)
        if self.memory is not None and cause == KILLED:
            # by the driver, or by the kernel
            hungry = self.memory.killed_again() or hungry
        if hungry and (events := self._short_of_memory(process)) is not None:
            return events
        reason = f"the worker process died ({cause})"
        if not process.ready:
            self._forget(process)
            self._load_deaths += 1
            attempts = self._setup.load_attempts if self._setup is not None else 1
            # where somebody could load the model, this death has another cause
            allowed = max(MAX_EARLY_DEATHS * self._loaded, attempts - 1)
            if self._load_deaths <= (MAX_EARLY_DEATHS * self.workers if self._server_lost(process) else allowed):
                self._hire()
            # memory for fewer models than workers is enough for some
            goes_on = bool(self._processes)
            if goes_on and self._server_lost(process):
                return []
            reason += " while it loaded the model" if self._script is None else " while it loaded the script"
            detail = self._words(process)
            return [LoadFailed(worker=process.number, reason=reason, detail=detail, goes_on=goes_on, died=cause)]
        return self._bury(process, "crashed", reason, self._words(process))

    def _bury(self, process: _Process, kind: Literal["timeout", "crashed"], reason: str, detail: str) -> list[Event]:
        """Report what a dead worker leaves behind, and hire another."""
        self._forget(process)
        server_lost = self._server_lost(process)
        events: list[Event] = []
        for place, work in enumerate(process.work):
            number = number_of(work)
            if place == 0 and not server_lost:
                events.append(Failed(number=number, kind=kind, reason=reason, detail=detail, worker=process.number))
            else:
                events.append(Returned(number=number))
        attempted = any(isinstance(event, Failed) for event in events)
        if not (attempted and self._setup is not None and self._setup.replaces_always):
            self._early_deaths += 1
        if self._early_deaths <= MAX_EARLY_DEATHS * self.workers:
            self._hire()
        elif not self._processes:
            events.append(LoadFailed(worker=process.number, reason=f"workers die again and again: {reason}"))
        return events

    def _forget(self, process: _Process) -> None:
        process.ready = False
        del self._processes[process.pipe]
        if self._processes:
            self._beside = time.monotonic()
        process.pipe.close()
        if process.popen is not None:
            self._spawned.append(process.popen)

    def _cause(self, process: _Process) -> str:
        status = self._exit_status(process)
        if status is None:
            return "cause unknown"
        return died_of(status)

    def _exit_status(self, process: _Process) -> int | None:
        if process.popen is not None:
            with suppress(subprocess.TimeoutExpired):
                code = process.popen.wait(EXIT_WAIT_S)
                end_session(process.popen.pid)
                return -code if code < 0 else code << 8
            return None
        server = self._server
        if server is None or self._server_lost(process):
            return None
        deadline = time.monotonic() + EXIT_WAIT_S
        while (pid := server.pids.get(process.number, 0)) not in server.statuses:
            left = deadline - time.monotonic()
            if left <= 0 or server.socket is None or not wait([server.socket], left) or not server.read():
                break
        return server.statuses.pop(pid, None)

    def _server_lost(self, process: _Process) -> bool:
        """Tell whether a worker's fork server has ended, and the worker with it."""
        server = self._server
        return server is not None and (server.lost or server.starts != process.server_start)

    def _words(self, process: _Process) -> str:
        """Return the end of what a worker printed, as far as that is known."""
        try:
            if self._setup is not None and self._setup.logs:
                with open(stderr_path(self._setup.logs, process.number), "rb") as words:
                    text = _tail(words)
            else:
                text = _tail(self._log)
        except OSError:
            # a terminal or a pipe: it was seen already
            return ""
        if environment := self._own_environment():
            from scoring.script import conceal

            text = conceal(text, tuple(environment.items()))
        # Python writes it behind the traceback of a crash, and it is longer than that
        return re.sub("\n+Extension modules: .*", "", text)[-LOG_TAIL_CHARS:]

    def _pid(self, process: _Process) -> int:
        """Return its pid; 0 while that is not known."""
        if process.popen is not None:
            return process.popen.pid
        return self._server.pids.get(process.number, 0) if self._server is not None else 0

    def _kill(self, process: _Process) -> None:
        pid = self._pid(process)
        if pid:
            # the whole session, for its children's sake
            for kill in (os.killpg, os.kill):
                with suppress(ProcessLookupError, PermissionError):
                    kill(pid, signal.SIGKILL)

    def dismiss(self) -> None:
        """See `Engine.dismiss`."""
        for process in list(self._processes.values()):
            self._dismissed |= process.ready
            self._forget(process)
        if self._server is not None:
            self._server.hang_up()

    def close(self, grace_s: float = 0.0) -> None:
        """See `Engine.close`."""
        deadline = time.monotonic() + grace_s
        any_ready = self._dismissed or any(process.ready for process in self._processes.values())
        running = {process.number: process.work[0] for process in self._processes.values() if process.work}
        while (left := deadline - time.monotonic()) > 0 and any(
            process.work and process.work[0] is running.get(process.number) for process in self._processes.values()
        ):
            self._lost += self.wait(left)
        numbers = [process.number for process in self._processes.values()]
        for process in list(self._processes.values()):
            if process.work or not process.ready:
                self._kill(process)
            self._forget(process)
        end_s = self._setup.end_s if self._setup is not None and any_ready else 0.0
        for popen in self._spawned:
            end_process(popen, end_s)
        if self._server is not None:
            if any_ready and end_s > DEFAULT_END_S:
                # whose script has a shutdown function, which the end of the server would cut short
                self._server.await_ends(numbers, end_s)
            self._server.stop(end_s)


def _tail(log: IO[bytes]) -> str:
    size_bytes = os.fstat(log.fileno()).st_size
    tail = os.pread(log.fileno(), LOG_TAIL_BYTES, max(0, size_bytes - LOG_TAIL_BYTES))
    return tail.decode("utf-8", "replace").strip()
