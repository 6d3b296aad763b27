"""The fork server: imports what the model needs once, then forks a worker each time the driver asks.

    driver                     fork server                    worker
      ── number + its pipe ──────▶ fork ─────────────────────▶ a session of its own: serve the pipe
      ◀── F number, pid ──────────
      ◀── X pid, exit status ──── reap ◀────────────────────── ends

It runs no thread and holds no lock when it forks; where a library it imported has started a thread, workers begin
afresh (`runtime.spawned`). It dies with the driver, and the workers die with it.

This module imports little: whatever it needs delays every job.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import IO

from scoring.lifetime import die_with_parent

__all__ = [
    "STORAGE_CLIENT",
    "ForkServer",
    "end_process",
    "end_session",
    "forks",
    "main",
    "open_log",
    "start_module",
    "start_worker",
    "worker_environment",
]

LOOK_EVERY_S = 0.001
REPORT = struct.Struct("!cii")
REQUEST = struct.Struct("!i")
STORAGE_CLIENT = ("azure.storage.blob",)
"""What workers that stage on storage need, each a client of its own, and the server imports once for all of them."""
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"


def worker_environment(threads: int) -> dict[str, str]:
    """Return the environment of workers: native threads capped, nothing sent home."""
    environment = dict(os.environ)
    for name in (
        "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "LOKY_MAX_CPU_COUNT",
        "VECLIB_MAXIMUM_THREADS", "ARROW_NUM_THREADS",
    ):  # fmt: skip
        environment[name] = str(threads)
    # glibc gives large arrays back to the kernel at once and faults them in again for the next cell: a sixth of the
    # time of a light model (one file of 4 million rows, 2 workers)
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(256 * 2**20))
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(_largest_kept()))
    # a pool of Arrow's own gives pages back that the next cell faults in again, and lets NumPy have none of them
    environment.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # the one thread that importing Arrow starts, and a fork server must not have
    environment.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    environment.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    environment.setdefault("DO_NOT_TRACK", "true")
    return environment


def _largest_kept() -> int:
    """Say from which size on an array goes back to the kernel as soon as it is free.

    The largest of a cell never fit into what smaller ones left: kept, they cost 60 MB a worker (one file of 4 million
    rows). A kernel with huge pages takes hardly any time to give them anew, one without a quarter of a light model's.
    """
    try:
        with open(_HUGE_PAGES, encoding="ascii") as source:
            huge = "[never]" not in source.read()
    except OSError:
        huge = False
    return (8 if huge else 256) * 2**20


def start_module(
    module: str, descriptor: int, *arguments: str, environment: dict[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a module of ours in a process and session of its own, with an open descriptor and the pid of the driver.

    The module gets the descriptor, the arguments and the pid; what it prints goes to the log.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(descriptor), *arguments, str(os.getpid())],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[descriptor],
        start_new_session=True,
    )


def end_process(process: subprocess.Popen[bytes], wait_s: float) -> None:
    """Wait for a process that was told to end, by the end of its pipe, and end it where it is too busy to see that.

    What it has started ends with it.
    """
    deadline = time.monotonic() + wait_s
    # Popen.wait looks ever more seldom, and so adds 30 ms to every job
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    if process.poll() is None:
        process.kill()
    process.wait()
    end_session(process.pid)


def end_session(leader: int) -> None:
    """End whatever a process started, which leads a session of its own and has ended or is about to."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def forks(engine: str) -> bool:
    """Tell whether the workers of an engine (as `--engine` names it) come from a fork server: where forking is safe."""
    return engine == "forkserver" or (engine == "local" and sys.platform == "linux")


def open_log(*, debug: bool) -> IO[bytes]:
    """Open what takes the words of workers: it has no name, so that no kill leaves it behind.

    Raises:
        UsageError: no folder for temporary files can be written.
    """
    if debug:
        return open(2, "wb", closefd=False)
    from tempfile import TemporaryFile

    try:
        return TemporaryFile(prefix="scoreline-")
    except FileNotFoundError as error:
        from runtime.errors import UsageError

        raise UsageError(
            f"{error.strerror}: name a folder that can be written in TMPDIR (in a container: --tmpfs /tmp)"
        ) from None


class ForkServer:
    """The server as the driver sees it; it starts at once.

    Attributes:
        log: the open file that takes what the workers print.
        threads: native threads of each worker.
        socket: what becomes readable when there is something to `read`; None once the server is gone.
        pids: worker number -> pid.
        statuses: pid -> wait status of those that ended; whoever wants one takes it out.
        starts: how often it was started.
    """

    def __init__(
        self,
        model_path: str,
        *,
        threads: int,
        log: IO[bytes],
        environment: Mapping[str, str] | None = None,
        also: tuple[str, ...] = (),
    ) -> None:
        self.log = log
        self.threads = threads
        self._environment = dict(environment or {})
        self.pids: dict[int, int] = {}
        self.statuses: dict[int, int] = {}
        self.starts = 0
        self._arguments = (model_path, *also)
        self._unread = b""
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {**worker_environment(self.threads), **self._environment}
            self._process = start_module(
                "runtime.forkserver", theirs.fileno(), *self._arguments, environment=environment, log=self.log
            )
        self.socket: socket.socket | None = ours
        self.starts += 1
        self._unread = b""

    @property
    def lost(self) -> bool:
        """Whether the server has ended; the end of its socket comes before that of its process."""
        return self.socket is None or self._process.poll() is not None

    def fork(self, number: int, pipe: int) -> None:
        """Have a worker forked that serves a pipe; a server that was lost is started anew."""
        if self.lost:
            self.stop()
            self._start()
        assert self.socket is not None
        with suppress(OSError):
            socket.send_fds(self.socket, [REQUEST.pack(number)], [pipe])

    def read(self) -> bool:
        """Read what the server says; False once it is gone."""
        if self.socket is None:
            return False
        try:
            data = self.socket.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            # read already, by whoever waited for the end of a worker
            return True
        except OSError:
            data = b""
        if not data:
            self.hang_up()
            return False
        self._unread += data
        while len(self._unread) >= REPORT.size:
            kind, one, other = REPORT.unpack_from(self._unread)
            self._unread = self._unread[REPORT.size :]
            (self.pids if kind == b"F" else self.statuses)[one] = other
        return True

    def await_ends(self, numbers: Iterable[int], wait_s: float) -> None:
        """Wait for workers that were told to end."""
        deadline = time.monotonic() + wait_s
        for number in numbers:
            while self.socket is not None and self.pids.get(number, 0) not in self.statuses:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self.socket], [], [], left)[0] or not self.read():
                    return

    def hang_up(self) -> None:
        """Close the socket, at which the server ends, and with it every worker that has not ended."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def stop(self, wait_s: float = 0.0) -> None:
        """End the server and its workers, by force after a time."""
        self.hang_up()
        # one that still imports does not look at its socket
        end_process(self._process, wait_s)


def main(control: socket.socket, model_path: str, *also: str) -> None:
    """Serve the driver at the other end of the socket until it goes away."""
    from scoring.preload import preload

    # what is imported is never garbage: not looking at it saves a tenth of the time, and keeps its pages shared
    gc.disable()
    preload(model_path, "runtime.worker", *also)
    gc.freeze()
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    workers: set[int] = set()
    # the driver may go while it is asked or told something
    with suppress(BrokenPipeError, ConnectionResetError):
        _serve(control, (woken, waker), workers)
    for worker in workers:
        end_session(worker)
    os._exit(0)


def _serve(control: socket.socket, own: tuple[socket.socket, socket.socket], workers: set[int]) -> None:
    """Fork workers and tell of their ends until the driver goes away."""
    woken, _ = own
    while True:
        readable, _, _ = select.select([control, woken], [], [])
        if woken in readable:
            woken.recv(4096)
            _reap(control, workers)
        if control in readable:
            request, pipes, _, _ = socket.recv_fds(control, REQUEST.size, 1)
            if len(request) < REQUEST.size or not pipes:
                return
            (number,) = REQUEST.unpack(request)
            workers.add(_fork(control, own, pipes[0], number))


def _fork(control: socket.socket, own: tuple[socket.socket, socket.socket], pipe: int, number: int) -> int:
    """Fork a worker, tell the driver its pid, and return it; the worker never returns from here."""
    server = os.getpid()
    pid = os.fork()
    if pid:
        os.close(pipe)
        control.sendall(REPORT.pack(b"F", number, pid))
        return pid
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        gc.enable()
        die_with_parent(server)
        control.close()
        for end in own:
            end.close()
        if _has_threads():
            os.set_inheritable(pipe, True)
            module = ["-P", "-m", "runtime.spawned", str(pipe), str(number), str(server)]
            os.execv(sys.executable, [sys.executable, *module])  # noqa: S606 (no shell is wanted)
        start_worker(pipe, number)
        status = 0
    finally:
        # nothing of the server's own exit belongs in a worker
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _has_threads() -> bool:
    """Tell whether the server runs threads, native ones too: a lock that one holds would stay locked in a fork."""
    try:
        # a fork has one thread whatever its parent had
        return len(os.listdir(f"/proc/{os.getppid()}/task")) > 1
    except OSError:
        return False


def _reap(control: socket.socket, workers: set[int]) -> None:
    """Tell the driver of workers that ended, and end what they started."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        # before it is reaped, when its pid is nobody else's yet
        end_session(ended.si_pid)
        pid, status = os.waitpid(ended.si_pid, 0)
        workers.discard(pid)
        control.sendall(REPORT.pack(b"X", pid, status))


def start_worker(pipe: int, number: int) -> None:
    """Be a worker at the end of a pipe; what it prints goes where errors go."""
    import faulthandler
    from multiprocessing.connection import Connection

    from runtime.worker import serve

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    os.dup2(2, 1)
    serve(Connection(pipe), number)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[-1]))
    main(socket.socket(fileno=int(sys.argv[1])), *sys.argv[2:-1])
