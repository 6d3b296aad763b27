"""What this process may use of the machine."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CGROUP", "OWN", "Cpus", "cgroup_folders", "find_cpus", "usable_cpus"]

CGROUP = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpus:
    """The CPUs that this process may use.

    Attributes:
        usable: how many workers can be busy at once: the smaller of the two, rounded up.
        affinity: the CPUs that it may run on, by its affinity and by the cpuset of its cgroups.
        quota: CPUs' worth of time that its cgroups allow; None where they do not limit it.
    """

    usable: int
    affinity: int
    quota: float | None


def find_cpus(cgroup: Path = CGROUP, own: Path = OWN) -> Cpus:
    """Find what binds this process: its affinity, which a cpuset is part of, and the quotas of its cgroups (v1 and v2).

    Args:
        cgroup: where the cgroups are mounted.
        own: the file that tells which of them this process is in.
    """
    of_process = getattr(os, "sched_getaffinity", None)
    affinity = len(of_process(0)) if of_process is not None else os.cpu_count() or 1
    quotas = [found for folder in cgroup_folders("cpu", cgroup, own) if (found := _quota(folder)) is not None]
    quota = min(quotas, default=None)
    usable = affinity if quota is None else min(affinity, math.ceil(quota))
    return Cpus(usable=max(1, usable), affinity=affinity, quota=quota)


def usable_cpus(cgroup: Path = CGROUP, own: Path = OWN) -> int:
    """Count the CPUs this process may use: its affinity, and the quota of its cgroups (v1 and v2), rounded up."""
    return find_cpus(cgroup, own).usable


def cgroup_folders(controller: str, cgroup: Path = CGROUP, own: Path = OWN) -> list[Path]:
    """List the cgroup folders of a controller that bind this process: its own and all above it.

    In a container only what lies below its own group is mounted, though its name may be that on the host: so the mounts
    themselves are among them.
    """
    folders = [cgroup, cgroup / controller, cgroup / "cpu,cpuacct"]
    try:
        lines = own.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for mount in _mounts(cgroup, controllers, controller):
            folder = mount / path.lstrip("/")
            while folder != cgroup and cgroup in folder.parents:
                if folder not in folders:
                    folders.append(folder)
                folder = folder.parent
    return folders


def _mounts(cgroup: Path, controllers: str, controller: str) -> list[Path]:
    """Say where a hierarchy may be mounted."""
    if not controllers:
        # v2 beside v1 is mounted so by systemd
        return [cgroup, cgroup / "unified"]
    # Red Hat mounts cpu,cpuacct and names cpuacct,cpu; each controller has a link of its own
    return [cgroup / controllers, cgroup / controller]


def _quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        except OSError:
            return None
    try:
        # "max" and -1 are no limit
        found = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return found if found > 0 else None
