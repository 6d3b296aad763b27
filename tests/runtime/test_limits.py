"""What this process may use of the machine, read from trees of cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.limits import usable_cpus

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _own_folder(root: Path, controllers: str) -> Path:
    """Return the folder of this process in a tree of cgroups: v2 has no controllers in its name."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, named, path = line.split(":", 2)
        if named == controllers:
            return root / controllers / path.lstrip("/")
    return root / controllers


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", CPUS),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("100001 100000", min(CPUS, 2)),
        ("900000000 100000", CPUS),
        ("nonsense", CPUS),
        ("", CPUS),
    ],
)
def test_quota_of_cgroup_v2_is_rounded_up(tmp_path: Path, quota: str, expected: int) -> None:
    """A quota of part of a CPU is one CPU; no quota, or one that cannot be read, is none."""
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert expected == usable_cpus(tmp_path)


@pytest.mark.parametrize(
    ("quota_us", "expected"), [("-1", CPUS), ("100000", 1), ("150000", min(CPUS, 2)), ("900000000", CPUS)]
)
@pytest.mark.parametrize("controller", ["cpu", "cpu,cpuacct"])
def test_quota_of_cgroup_v1_counts(tmp_path: Path, controller: str, quota_us: str, expected: int) -> None:
    """The quota is found where the older cgroups have it."""
    folder = tmp_path / controller
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text(quota_us + "\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert expected == usable_cpus(tmp_path)


def test_smallest_quota_on_the_way_up_binds(tmp_path: Path) -> None:
    """A process is bound by its own group and by every group above it."""
    own = _own_folder(tmp_path, "")
    own.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (own / "cpu.max").write_text("100000 100000\n")
    assert usable_cpus(tmp_path) == 1


def test_machine_without_cgroups_gives_all_its_cpus(tmp_path: Path) -> None:
    """No tree of cgroups, no limit but the affinity of the process."""
    assert usable_cpus(tmp_path / "nothing") == CPUS


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_counts() -> None:
    """A process bound to one CPU uses one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cpus(Path("/nothing")) == 1
    finally:
        os.sched_setaffinity(0, before)
