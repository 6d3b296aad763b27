"""A fault at a counted point of any process of a job: it dies, or what it asks of the system fails.

A *point* is something a process is about to do, as Python's audit hooks tell it: open, rename or remove a file, import
a module, or come to a place in a model that calls `sys.audit` (`tests/faults/at_points.py`). All processes of a job
count the arrivals together, so that "the second mini-batch" or "the first time only" is the same in each run. This file
is read by every process that Python starts, as its ``sitecustomize``, and so it imports next to nothing.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import json
import os
import re
import signal
import sys
import time

PLAN = "SCORELINE_CRASH_PLAN"
"""Names the file that says what fails where; who finds it in its environment belongs to the job."""
STARTED_AS = os.getpid()
ROLES = {
    "runtime.cli": "driver",
    "scoring.scanner": "scanner",
    "runtime.forkserver": "server",
    "runtime.spawned": "worker",
}


def role() -> str:
    """Say what this process is; a worker without a process is the driver."""
    found = next((ROLES[word] for word in sys.orig_argv if word in ROLES), "")
    return "worker" if found == "server" and os.getpid() != STARTED_AS else found


def processes(plan: str, wanted: str = "") -> list[int]:
    """Find the processes of a job, or those of them with a role, whatever became of their parents; this one is last."""
    mark = f"{PLAN}={plan}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as environment, open(f"/proc/{name}/cmdline", "rb") as command:
                belongs = mark in environment.read().split(b"\0")
                words = command.read().decode("utf-8", "replace").split("\0")
        except OSError:
            # it ended just now
            continue
        if belongs and (not wanted or any(ROLES.get(word) == wanted for word in words)):
            found.append(int(name))
    if wanted == "server":
        # its workers have its name
        found = [pid for pid in found if _parent(pid) not in found]
    return sorted(found, key=lambda pid: pid == os.getpid())


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


def _kill(wanted: str) -> None:
    for pid in processes(os.environ[PLAN], wanted):
        os.kill(pid, signal.SIGKILL)
    # whoever dies with another does not get any further
    time.sleep(600)


def act(action: str) -> None:
    """Die, or fail, as asked for."""
    match action:
        case "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        case "SIGSEGV":
            faulthandler.disable()
            ctypes.string_at(0)
        case "exit":
            os._exit(3)
        case "raise":
            raise ValueError("the model does not like it")
        case "memory":
            raise MemoryError
        case "hang":
            time.sleep(600)
        case "ENOSPC" | "EIO" | "EACCES" | "ESTALE" | "ETIMEDOUT":
            number = getattr(errno, action)
            raise OSError(number, os.strerror(number))
        case "everything":
            _kill("")
        case _:
            _kill(action)


def arrive() -> int:
    """Count an arrival at the point, over all processes; return which it is, from 1."""
    number = 1
    while True:
        try:
            os.close(os.open(f"{os.environ[PLAN]}.{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            number += 1
        else:
            return number


def watch() -> None:
    """Fail where and as often as the plan says."""
    with open(os.environ[PLAN]) as file:
        plan = json.load(file)
    events, where = frozenset(plan["events"]), re.compile(plan["where"])
    busy = False

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal busy
        # counting, too, opens files
        if event not in events or busy or plan["role"] not in ("", role()):
            return
        texts = [os.fsdecode(each) for each in arguments if isinstance(each, str | bytes | os.PathLike)]
        if not any(where.search(text) for text in texts):
            return
        busy = True
        try:
            number = arrive()
            if not plan["times"] or number in plan["times"]:
                act(plan["action"])
        finally:
            busy = False

    sys.addaudithook(hook)


if PLAN in os.environ and __name__ == "sitecustomize":
    watch()
