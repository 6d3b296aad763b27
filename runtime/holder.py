"""Who holds a claim: a process, told so that others can see whether it still lives."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path

from scoring.lifetime import boot_id

__all__ = ["described", "is_dead", "runs_here", "this_process"]


def this_process() -> bytes:
    """Say who this is."""
    pid = os.getpid()
    return json.dumps({**_place(), "pid": pid, "started": _state(pid)[1]}).encode()


def runs_here(text: bytes) -> bool:
    """Tell whether a holder runs here; of another machine nothing is known."""
    holder = _read(text)
    return holder is not None and _is_here(holder) and not is_dead(text)


def is_dead(text: bytes) -> bool:
    """Tell whether a holder ran here, and runs no more; of another machine nothing is known."""
    holder = _read(text)
    if holder is None or not _is_here(holder):
        return False
    with suppress(ValueError, TypeError, OSError):
        state, started = _state(holder["pid"])
        # a pid is given again, a time of start is not
        return state in ("", "Z", "X") or started != holder.get("started")
    return False


def described(text: bytes) -> str:
    """Name a holder to a person."""
    holder = _read(text)
    if holder is None:
        return "its name is not known"
    told = f"process {holder['pid']} on {holder['host']}"
    with suppress(ValueError, TypeError, OSError):
        if holder["host"] == socket.gethostname() and _state(holder["pid"])[0] in ("T", "t"):
            told += ", which is stopped"
    return told


def _is_here(holder: dict[str, object]) -> bool:
    return all(holder.get(name) == value for name, value in _place().items())


def _place() -> dict[str, str]:
    pids = ""
    with suppress(OSError):
        # two containers may share a host's name, and number their processes each for itself
        pids = os.readlink("/proc/self/ns/pid")
    return {"host": socket.gethostname(), "boot": boot_id(), "pids": pids}


def _state(pid: object) -> tuple[str, str]:
    """Return the state of a process and when it started, as the kernel says them; empty for one that is gone."""
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(int(str(pid)), 0)
        except ProcessLookupError:
            return "", ""
        return "S", ""
    try:
        fields = Path(f"/proc/{int(str(pid))}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
    return fields[0], fields[19]


def _read(text: bytes) -> dict[str, object] | None:
    with suppress(ValueError):
        holder = json.loads(text)
        if isinstance(holder, dict) and {"host", "pid"} <= holder.keys():
            return holder
    return None
