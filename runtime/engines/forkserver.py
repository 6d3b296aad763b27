"""The fork server: imports what the model needs once, then forks a worker each time the driver asks.

    driver                     fork server                    worker
      ── "fork" + its pipe ──────▶ fork ─────────────────────▶ a session of its own: serve the pipe
      ◀── pid ───────────────────
      ◀── pid, exit status ────── reap ◀────────────────────── ends

It runs no thread and holds no lock when it forks; where a library it imported has started a thread, workers begin
afresh (`runtime.engines.spawned`). It dies with the driver, and the workers die with it.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import sys

from scoring.lifetime import die_with_parent

__all__ = ["REPORT", "main"]

REPORT = struct.Struct("!cii")
"""What the server says: F, number, pid of a new worker; or X, pid, wait status of one that ended."""
REQUEST = struct.Struct("!i")


def main(control: socket.socket, model_path: str) -> None:
    """Serve the driver at the other end of the socket until it goes away."""
    from scoring.preload import preload

    # what is imported is never garbage: not looking at it saves a tenth of the time, and keeps its pages shared
    gc.disable()
    preload(model_path)
    gc.freeze()
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    while True:
        readable, _, _ = select.select([control, woken], [], [])
        if woken in readable:
            woken.recv(4096)
            _reap(control)
        if control in readable:
            request, pipes, _, _ = socket.recv_fds(control, REQUEST.size, 1)
            if len(request) < REQUEST.size or not pipes:
                os._exit(0)
            (number,) = REQUEST.unpack(request)
            _fork(control, (woken, waker), pipes[0], number)


def _fork(control: socket.socket, own: tuple[socket.socket, socket.socket], pipe: int, number: int) -> None:
    server = os.getpid()
    pid = os.fork()
    if pid:
        os.close(pipe)
        control.sendall(REPORT.pack(b"F", number, pid))
        return
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
            module = ["-P", "-m", "runtime.engines.spawned", str(pipe), str(number), str(server)]
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


def _reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
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
    die_with_parent(int(sys.argv[3]))
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
