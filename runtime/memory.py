"""How much memory this container may use, and how much of it is used."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runtime.limits import CGROUP, OWN, cgroup_folders

__all__ = [
    "ACT_AT", "Memory", "find_memory", "own_bytes", "private_bytes", "process_limit", "pss_bytes", "size_text",
    "tree_bytes",
]  # fmt: skip

ACT_AT = 0.9
"""The share of a memory limit at which the largest worker is stopped."""

_NO_LIMIT = 2**60
_LIMITS = (
    ("memory.max", "memory.current", ""),
    # beyond it nobody is killed, but everybody is slowed down until nothing moves
    ("memory.high", "memory.current", ""),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)


@dataclass(slots=True, kw_only=True)
class Memory:
    """The memory limits that bind this process, which the kernel enforces by killing.

    Attributes:
        limit_bytes: the smallest of them.
        source: the file that it stands in.
        peak: the largest share of a limit that was seen in use, from 0 to 1.
    """

    limit_bytes: int
    source: str = ""
    peak: float = 0.0
    _limits: list[tuple[Path, int, str, str]] = field(repr=False)
    _kills: int = 0

    def __post_init__(self) -> None:
        self._kills = self._count_kills()

    def share(self) -> float:
        """Tell how much of the limit that is nearest is in use, without what the kernel could take back at once."""
        used = max(_used_bytes(folder, usage, prefix) / limit for folder, limit, usage, prefix in self._limits)
        self.peak = max(self.peak, used)
        return used

    def free_bytes(self) -> int:
        """Tell how much may be used before a worker is stopped for it; less than 0 where that is too much already."""
        return min(
            int(limit * ACT_AT) - _used_bytes(folder, usage, prefix) for folder, limit, usage, prefix in self._limits
        )

    def killed_again(self) -> bool:
        """Tell whether the kernel has killed a process for want of memory that was not asked about yet."""
        killed = self._count_kills() > self._kills
        self._kills += killed
        return killed

    def _count_kills(self) -> int:
        return sum(
            _stat(folder / name).get("oom_kill", 0)
            for folder in {folder for folder, *_ in self._limits}
            for name in ("memory.events", "memory.oom_control")
        )


def find_memory(cgroup: Path = CGROUP, own: Path = OWN) -> Memory | None:
    """Find the limits of the cgroups (v1 and v2) of this process; None where there are none.

    Args:
        cgroup: where the cgroups are mounted.
        own: the file that tells which of them this process is in.
    """
    limits: list[tuple[Path, int, str, str]] = []
    sources: list[tuple[int, str]] = []
    for folder in cgroup_folders("memory", cgroup, own):
        for limit, usage, prefix in _LIMITS:
            found = _number(folder / limit)
            if found is not None and 0 < found < min(_NO_LIMIT, _installed_bytes()):
                limits.append((folder, found, usage, prefix))
                sources.append((found, str(folder / limit)))
    if not limits:
        return None
    limit_bytes, source = min(sources)
    return Memory(limit_bytes=limit_bytes, source=source, _limits=limits)


def process_limit() -> tuple[int, str] | None:
    """Return the bytes that each process may map (`ulimit -v`, `ulimit -d`), and which of the two; None for any number.

    It binds the driver and every worker by itself, so that another number of workers changes nothing.
    """
    limits = [
        (soft, name)
        for name, kind in (("RLIMIT_AS", resource.RLIMIT_AS), ("RLIMIT_DATA", resource.RLIMIT_DATA))
        if (soft := resource.getrlimit(kind)[0]) != resource.RLIM_INFINITY
    ]
    return min(limits, default=None)


def own_bytes(pid: int | str = "self") -> int:
    """Return the bytes that a process shares with no other; 0 where it has ended."""
    try:
        return _rollup(pid, "Private_")
    except (OSError, ValueError):
        return private_bytes(pid)


def pss_bytes(pid: int | str) -> int:
    """Return the proportional set size of a process: private pages, and its share of others; 0 where it has ended."""
    try:
        return _rollup(pid, "Pss:")
    except (OSError, ValueError):
        return 0


def _rollup(pid: int | str, prefix: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(prefix))


def tree_bytes(pid: int) -> int:
    """Return the bytes that a process and all below it use, what they share among each other counted once (PSS).

    0 where the system does not tell.
    """
    total = 0
    waiting = [pid]
    while waiting:
        pid = waiting.pop()
        # it may have ended
        with suppress(OSError, ValueError):
            waiting += _children(pid)
        total += pss_bytes(pid)
    return total


def _children(pid: int) -> list[int]:
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        # a kernel may be built without it
        with suppress(FileNotFoundError):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii")
            found += [int(child) for child in text.split()]
    return found


def private_bytes(pid: int | str) -> int:
    """Return the bytes that a process would give back if it ended; 0 where it has ended."""
    try:
        _, resident, shared = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def size_text(size_bytes: int) -> str:
    """Write a size for a person."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.3g} {name}"
    return f"{size_bytes:,} bytes"


def _used_bytes(folder: Path, usage: str, prefix: str) -> int:
    stat = _stat(folder / "memory.stat")
    return (_number(folder / usage) or 0) - sum(stat.get(f"{prefix}{name}_file", 0) for name in ("inactive", "active"))


def _stat(path: Path) -> dict[str, int]:
    """Read a file of names and numbers; nothing where there is none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        # "max", or no such file
        return None


def _installed_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
