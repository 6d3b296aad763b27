"""Workers on this machine: one process each, one private pipe each.

driver ──── pipe ──── worker 0     a death is the end of its pipe; its exit status comes from
  │ └────── pipe ──── worker 1     the fork server (or the process object, where it was spawned)
  └ socket ─ fork server
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import IO, Literal

from runtime.engines import Event, Failed, LoadFailed, Ready, Returned, Score, Setup, Work
from runtime.engines.forkserver import REPORT, REQUEST

__all__ = ["LocalEngine", "StartMethod", "worker_environment"]

StartMethod = Literal["forkserver", "spawn"]

QUEUED = 2
"""Pieces of work at a worker: the one it does, and one so that it never waits for its pipe."""
LOG_TAIL_BYTES = 2_000
EXIT_WAIT_S = 5.0
END_WAIT_S = 0.3
MAX_EARLY_DEATHS = 3
"""So many deaths in a row without a result between them, and dead workers are not replaced."""


def default_start_method() -> StartMethod:
    """Choose the fork server where forking is safe."""
    return "forkserver" if sys.platform == "linux" else "spawn"


def worker_environment(threads: int) -> dict[str, str]:
    """Return the environment of workers: native threads capped, nothing sent home."""
    environment = dict(os.environ)
    for name in (
        "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "LOKY_MAX_CPU_COUNT",
        "VECLIB_MAXIMUM_THREADS", "ARROW_NUM_THREADS",
    ):  # fmt: skip
        environment[name] = str(threads)
    # glibc gives large arrays back to the kernel at once and faults them in again for the next cell: a sixth of the
    # time of a light model (one file of 4 million rows, 2 workers), against some 40 MB a worker
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        environment.setdefault(name, str(256 * 2**20))
    # the one thread that importing Arrow starts, and a fork server must not have
    environment.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    environment.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    environment.setdefault("DO_NOT_TRACK", "true")
    return environment


class _Process:
    """One worker as the driver sees it."""

    def __init__(self, number: int, pipe: Connection) -> None:
        self.number = number
        self.pipe = pipe
        self.pid = 0
        self.popen: subprocess.Popen[bytes] | None = None
        self.status: int | None = None
        self.ready = False
        self.work: deque[Work] = deque()
        self.since = time.monotonic()

    @property
    def due(self) -> float | None:
        """When the work in hand must be done, if it must."""
        timeout_s = self.work[0].timeout_s if self.work and isinstance(self.work[0], Score) else None
        return None if timeout_s is None else self.since + timeout_s


class LocalEngine:
    """A set of worker processes.

    Args:
        workers: how many.
        model_path: folder of the model, whose modules the fork server imports.
        threads: native threads of each worker.
        log: an open file that takes what the workers print.
        method: forkserver or spawn.
    """

    def __init__(
        self,
        workers: int,
        *,
        model_path: str,
        threads: int,
        log: IO[bytes],
        method: StartMethod | None = None,
    ) -> None:
        self.workers = workers
        self._model_path = model_path
        self._log = log
        self._environment = worker_environment(threads)
        self._setup: Setup | None = None
        self._processes: dict[Connection, _Process] = {}
        self._numbers = 0
        self._early_deaths = 0
        self._lost: list[Event] = []
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._reports = b""
        self._pids: dict[int, int] = {}
        self._statuses: dict[int, int] = {}
        if (method or default_start_method()) == "forkserver":
            self._start_server()

    def _start_server(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._server = self._popen("runtime.engines.forkserver", theirs.fileno(), self._model_path)
        self._control = ours
        self._reports = b""

    def _server_lost(self) -> bool:
        return self._server is not None and self._server.poll() is not None

    def _popen(self, module: str, descriptor: int, argument: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(descriptor), argument, str(os.getpid())],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[descriptor],
            start_new_session=True,
        )

    def start(self, setup: Setup) -> None:
        """See `Engine.start`."""
        self._setup = setup
        for _ in range(self.workers):
            self._hire()

    def _hire(self) -> None:
        if self._server_lost():
            self._start_server()
        ours, theirs = Pipe()
        process = _Process(self._numbers, ours)
        self._numbers += 1
        with theirs:
            if self._control is not None:
                with suppress(OSError):
                    socket.send_fds(self._control, [REQUEST.pack(process.number)], [theirs.fileno()])
            else:
                process.popen = self._popen("runtime.engines.spawned", theirs.fileno(), str(process.number))
                process.pid = process.popen.pid
        self._processes[ours] = process
        with suppress(OSError):
            ours.send(self._setup)

    def wanted(self) -> int:
        """See `Engine.wanted`."""
        return sum(QUEUED - len(process.work) for process in self._processes.values() if process.ready)

    def submit(self, work: Work) -> None:
        """See `Engine.submit`."""
        process = min((each for each in self._processes.values() if each.ready), key=lambda each: len(each.work))
        if not process.work:
            process.since = time.monotonic()
        process.work.append(work)
        # a worker that died meanwhile is noticed by the end of its pipe
        with suppress(OSError):
            process.pipe.send(work)

    def wait(self, timeout_s: float, also: Connection | None = None) -> list[Event]:
        """See `Engine.wait`."""
        events, self._lost = self._lost, []
        sources: list[Connection | socket.socket] = [*self._processes]
        if also is not None:
            sources.append(also)
        if self._control is not None:
            sources.append(self._control)
        readable = wait(sources, 0 if events else self._until(timeout_s))
        for source in readable:
            if source is self._control:
                self._read_reports()
            elif source is not also:
                events += self._receive(self._processes[source])  # type: ignore[index]  # all others are pipes of ours
        events += self._overdue()
        return events

    def _until(self, timeout_s: float) -> float:
        due = [process.due for process in self._processes.values()]
        return max(0.0, min([timeout_s, *(each - time.monotonic() for each in due if each is not None)]))

    def _overdue(self) -> list[Event]:
        events: list[Event] = []
        now = time.monotonic()
        for process in list(self._processes.values()):
            if process.due is not None and process.due < now:
                allowed = process.due - process.since
                self._kill(process)
                events += self._bury(process, "timeout", f"not done within {allowed:g} s")
        return events

    def _receive(self, process: _Process) -> list[Event]:
        try:
            event = process.pipe.recv()
        except (EOFError, OSError):
            return self._died(process)
        if isinstance(event, Ready):
            process.ready = True
        elif isinstance(event, LoadFailed):
            self._forget(process)
        else:
            process.work.popleft()
            process.since = time.monotonic()
            self._early_deaths = 0
        return [event]

    def _died(self, process: _Process) -> list[Event]:
        reason = f"the worker process died ({self._cause(process)})"
        if not process.ready:
            self._forget(process)
            if self._server_lost() and self._early_deaths < MAX_EARLY_DEATHS:
                self._early_deaths += 1
                self._hire()
                return []
            return [
                LoadFailed(worker=process.number, reason=f"{reason} while it loaded the model", detail=self.log_tail())
            ]
        return self._bury(process, "crashed", reason)

    def _bury(self, process: _Process, kind: Literal["timeout", "crashed"], reason: str) -> list[Event]:
        """Report what a dead worker leaves behind, and hire another."""
        self._forget(process)
        events: list[Event] = []
        for place, work in enumerate(process.work):
            number = work.batch.number if isinstance(work, Score) else -1
            if place == 0 and not self._server_lost():
                detail = self.log_tail()
                events.append(Failed(number=number, kind=kind, reason=reason, detail=detail, worker=process.number))
            else:
                events.append(Returned(number=number))
        self._early_deaths += 1
        if self._early_deaths <= MAX_EARLY_DEATHS * self.workers:
            self._hire()
        elif not self._processes:
            events.append(LoadFailed(worker=process.number, reason=f"workers die again and again: {reason}"))
        return events

    def _forget(self, process: _Process) -> None:
        process.ready = False
        del self._processes[process.pipe]
        process.pipe.close()

    def _cause(self, process: _Process) -> str:
        status = self._exit_status(process)
        if status is None:
            return "cause unknown"
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            return f"{name}, likely out of memory" if name == "SIGKILL" else name
        return f"exit code {os.waitstatus_to_exitcode(status)}"

    def _exit_status(self, process: _Process) -> int | None:
        if process.popen is not None:
            with suppress(subprocess.TimeoutExpired):
                code = process.popen.wait(EXIT_WAIT_S)
                return -code if code < 0 else code << 8
            return None
        if self._control is None:
            return None
        deadline = time.monotonic() + EXIT_WAIT_S
        self._note_pid(process)
        while process.pid not in self._statuses and (left := deadline - time.monotonic()) > 0:
            if not wait([self._control], left) or not self._read_reports():
                break
            self._note_pid(process)
        return self._statuses.pop(process.pid, None)

    def _note_pid(self, process: _Process) -> None:
        if not process.pid:
            process.pid = self._pids.get(process.number, 0)

    def _read_reports(self) -> bool:
        """Read what the fork server says; False once it is gone."""
        assert self._control is not None
        try:
            data = self._control.recv(4096)
        except OSError:
            data = b""
        if not data:
            self._control.close()
            self._control = None
            return False
        self._reports += data
        while len(self._reports) >= REPORT.size:
            kind, one, other = REPORT.unpack_from(self._reports)
            self._reports = self._reports[REPORT.size :]
            if kind == b"F":
                self._pids[one] = other
            else:
                self._statuses[one] = other
        return True

    def log_tail(self) -> str:
        """Return the end of what the workers printed."""
        try:
            size_bytes = os.fstat(self._log.fileno()).st_size
            tail = os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size_bytes - LOG_TAIL_BYTES))
        except OSError:
            # a terminal or a pipe: it was seen already
            return ""
        return tail.decode("utf-8", "replace").strip()

    def _kill(self, process: _Process) -> None:
        self._note_pid(process)
        if process.pid:
            # the whole session, for its children's sake
            for kill in (os.killpg, os.kill):
                with suppress(ProcessLookupError, PermissionError):
                    kill(process.pid, signal.SIGKILL)

    def close(self, grace_s: float = 0.0) -> None:
        """See `Engine.close`."""
        deadline = time.monotonic() + grace_s
        any_ready = any(process.ready for process in self._processes.values())
        running = {process.number: process.work[0] for process in self._processes.values() if process.work}
        while (left := deadline - time.monotonic()) > 0 and any(
            process.work and process.work[0] is running.get(process.number) for process in self._processes.values()
        ):
            self._lost += self.wait(left)
        for process in list(self._processes.values()):
            if process.work or not process.ready:
                self._kill(process)
            self._forget(process)
            if process.popen is not None:
                _end(process.popen, END_WAIT_S)
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            # one that still imports does not look at its socket
            _end(self._server, END_WAIT_S if any_ready else 0.0)


def _end(process: subprocess.Popen[bytes], wait_s: float) -> None:
    """Wait for a process that was told to end, by the end of its pipe, and end it where it is too busy to see that."""
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
