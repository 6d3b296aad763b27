"""Run one command and measure its whole process tree: wall, CPU and, in a run of its own, peak memory.

    python -m benchmarks.measure [--memory] [--watch FOLDER] COMMAND...

`measure` runs that in a child of its own: the child declares itself the reaper of its descendants, so that the kernel
hands it every orphan, also one in another session. So nothing escapes: each process is found for sampling, and its CPU
seconds are counted when it is reaped.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from runtime.memory import pss_bytes

_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE_EVERY_S = 0.05
_WATCH_EVERY_S = 0.01
_NO_SCORES = (".", "_", "new-", "probe-")
"""How names begin of what is hidden, unfinished, or tells whether a disk can rename."""
_LEFTOVERS_MAY_TAKE_S = 60


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of a command took.

    Attributes:
        peak_pss_bytes: 0 where memory was not sampled.
        first_s: when the first scores lay in the folder watched; None where that was not seen.
    """

    wall_s: float
    cpu_s: float
    peak_pss_bytes: int
    stdout: str
    first_s: float | None = None


class CommandError(Exception):
    """The measured command ended with another exit code than 0, or left processes behind."""


def measure(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, memory: bool = False, watch: Path | None = None
) -> Run:
    """Run the command to its end and return what its process tree took.

    Args:
        command: what to run.
        env: its environment.
        cwd: its working folder.
        memory: whether its memory is sampled, which slows it.
        watch: the folder in which its first scores will lie.

    Raises:
        CommandError: it failed, or left processes behind.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        options = [*(["--memory"] if memory else []), *(["--watch", str(watch)] if watch is not None else [])]
        reaper = [sys.executable, __file__, *options, *command]
        code = subprocess.run(reaper, stdout=out, stderr=err, env=dict(env), cwd=cwd, check=False).returncode
        out.seek(0)
        err.seek(0)
        if code:
            raise CommandError(f"exit {code}: {' '.join(command)}\n{out.read()[-1000:]}\n{err.read()[-3000:]}")
        *stdout, figures = out.read().splitlines()
    return Run(**json.loads(figures), stdout="\n".join(stdout))


def main(arguments: list[str]) -> int:
    """Run the command as the reaper of its descendants; print the figures as the last line."""
    memory, arguments = arguments[0] == "--memory", arguments[arguments[0] == "--memory" :]
    watch, command = (arguments[1], arguments[2:]) if arguments[0] == "--watch" else ("", arguments)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sampler, watcher = _Sampler(), _Watcher(watch)
    start = time.perf_counter()
    child = subprocess.Popen(command)
    if memory:
        sampler.start()
    if watch:
        watcher.start()
    _, status, usage = os.wait4(child.pid, 0)
    wall_s = time.perf_counter() - start
    cpu_s = usage.ru_utime + usage.ru_stime + _reap_leftovers()
    sampler.stopped.set()
    watcher.stopped.set()
    if watch and not watcher.seen and _scores_in(watch):
        watcher.seen = start + wall_s
    first_s = watcher.seen - start if watcher.seen else None
    figures = {"wall_s": wall_s, "cpu_s": cpu_s, "peak_pss_bytes": sampler.peak_bytes, "first_s": first_s}
    sys.stdout.flush()
    print("\n" + json.dumps(figures))
    return os.waitstatus_to_exitcode(status)


def _reap_leftovers() -> float:
    """Wait for what outlived the command; return its CPU seconds."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_LEFTOVERS_MAY_TAKE_S)
    cpu_s = 0.0
    while True:
        try:
            _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            signal.alarm(0)
            return cpu_s
        cpu_s += usage.ru_utime + usage.ru_stime


def _give_up(*_: object) -> None:
    left = psutil.Process().children(recursive=True)
    names = ", ".join(f"{process.pid} {process.name()}" for process in left)
    for process in left:
        process.kill()
    sys.exit(f"still running {_LEFTOVERS_MAY_TAKE_S} s after the command ended: {names}")


class _Sampler(threading.Thread):
    """Keeps the highest sum of proportional set sizes over all descendants."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(_SAMPLE_EVERY_S):
            descendants = psutil.Process().children(recursive=True)
            self.peak_bytes = max(self.peak_bytes, sum(pss_bytes(process.pid) for process in descendants))


class _Watcher(threading.Thread):
    """Notes when a folder first holds a file that is not empty; what is hidden or unfinished does not count."""

    def __init__(self, folder: str) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.seen = 0.0
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.seen and not self.stopped.wait(_WATCH_EVERY_S):
            if _scores_in(self.folder):
                self.seen = time.perf_counter()


def _scores_in(folder: str) -> bool:
    return any(_has_bytes(os.path.join(path, name)) for path, _, names in os.walk(folder) for name in names)


def _has_bytes(path: str) -> bool:
    if os.path.basename(path).startswith(_NO_SCORES):
        return False
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False  # It was renamed or deleted.


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
