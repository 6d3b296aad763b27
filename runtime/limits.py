"""What this process may use of the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["CGROUP", "cgroup_folders", "usable_cpus"]

CGROUP = Path("/sys/fs/cgroup")


def usable_cpus(cgroup: Path = CGROUP) -> int:
    """Count the CPUs this process may use: its affinity, and the quota of its cgroups (v1 and v2), rounded up."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quotas = [quota for folder in cgroup_folders("cpu", cgroup) if (quota := _quota(folder)) is not None]
    return max(1, min([cpus, *(math.ceil(quota) for quota in quotas)]))


def cgroup_folders(controller: str, cgroup: Path = CGROUP) -> list[Path]:
    """List the cgroup folders of a controller that bind this process: its own and all above it."""
    folders = [cgroup, cgroup / controller, cgroup / "cpu,cpuacct"]
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        folder = (cgroup / controllers if controllers else cgroup) / path.lstrip("/")
        while folder != cgroup and cgroup in folder.parents:
            folders.append(folder)
            folder = folder.parent
    return folders


def _quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
