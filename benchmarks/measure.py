"""Run one command and measure its whole process tree: wall, CPU and, in a run of its own, peak memory.

    python -m benchmarks.measure [--memory] COMMAND...

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

_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE_EVERY_S = 0.05
_LEFTOVERS_MAY_TAKE_S = 10


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of a command took; `peak_pss_bytes` is 0 where memory was not sampled."""

    wall_s: float
    cpu_s: float
    peak_pss_bytes: int
    stdout: str


class CommandError(Exception):
    """The measured command ended with another exit code than 0, or left processes behind."""


def measure(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, memory: bool = False) -> Run:
    """Run the command to its end and return what its process tree took."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        reaper = [sys.executable, __file__, *(["--memory"] if memory else []), *command]
        code = subprocess.run(reaper, stdout=out, stderr=err, env=dict(env), cwd=cwd, check=False).returncode
        out.seek(0)
        err.seek(0)
        if code:
            raise CommandError(f"exit {code}: {' '.join(command)}\n{out.read()[-1000:]}\n{err.read()[-3000:]}")
        *stdout, figures = out.read().splitlines()
    return Run(**json.loads(figures), stdout="\n".join(stdout))


def main(arguments: list[str]) -> int:
    """Run the command as the reaper of its descendants; print the figures as the last line."""
    memory = arguments[0] == "--memory"
    command = arguments[1:] if memory else arguments
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sampler = _Sampler()
    start = time.perf_counter()
    child = subprocess.Popen(command)
    if memory:
        sampler.start()
    _, status, usage = os.wait4(child.pid, 0)
    wall_s = time.perf_counter() - start
    cpu_s = usage.ru_utime + usage.ru_stime + _reap_leftovers()
    sampler.stopped.set()
    figures = {"wall_s": wall_s, "cpu_s": cpu_s, "peak_pss_bytes": sampler.peak_bytes}
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
            self.peak_bytes = max(self.peak_bytes, sum(_pss_bytes(process.pid) for process in descendants))


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # It ended, or is a zombie.
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
