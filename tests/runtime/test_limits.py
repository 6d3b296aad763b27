"""What this process may use of the machine, read from trees of cgroups."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.limits import CGROUP, find_cpus, usable_cpus
from runtime.memory import find_memory

ROOT = Path(__file__).parents[2]
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


def own(tmp_path: Path, *lines: str) -> Path:
    """Write what /proc/self/cgroup would say."""
    path = tmp_path / "own"
    path.write_text("\n".join(lines) + "\n")
    return path


def group_of(folder: Path, **files: str) -> Path:
    """Write a folder of a cgroup; a name's double underscore is a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")
    return folder


HALF = {"cpu__cfs_quota_us": "50000", "cpu__cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("4:cpu,cpuacct:/kubepods/pod1/c1", "cpu,cpuacct/kubepods/pod1/c1"),
        ("4:cpu,cpuacct:/kubepods/pod1/c1", "cpu,cpuacct/kubepods"),
        ("4:cpu,cpuacct:/kubepods/pod1/c1", "cpu/kubepods/pod1"),
        # in a container its own group is mounted, and named as on the host
        ("4:cpu,cpuacct:/docker/0123", "cpu,cpuacct"),
        ("4:cpuacct,cpu:/docker/0123", "cpu,cpuacct"),
        ("4:cpuacct,cpu:/system.slice/a.service", "cpu/system.slice/a.service"),
        ("1:cpu:/jobs/7", "cpu/jobs/7"),
    ],
)
def test_groups_of_v1_are_found_where_they_are_mounted(tmp_path: Path, line: str, folder: str) -> None:
    """The quota counts, whatever the host mounts together and whatever it calls that."""
    group_of(tmp_path / "tree" / folder, **HALF)
    assert find_cpus(tmp_path / "tree", own(tmp_path, "3:cpuset:/", line, "0::/")).quota == 0.5


@pytest.mark.parametrize("line", ["4:cpuset:/jobs/7", "4:name=systemd:/jobs/7", "4:cpuacct:/jobs/7"])
def test_other_hierarchies_do_not_count(tmp_path: Path, line: str) -> None:
    """A folder of another controller binds no CPU."""
    group_of(tmp_path / "tree" / "cpu" / "jobs" / "7", **HALF)
    assert find_cpus(tmp_path / "tree", own(tmp_path, line)).quota is None


@pytest.mark.parametrize("folder", ["", "kubepods.slice", "kubepods.slice/pod1/c1", "unified/kubepods.slice/pod1"])
def test_groups_of_v2_are_found(tmp_path: Path, folder: str) -> None:
    """The quota of the own group and of all above it counts, also where v2 is mounted beside v1."""
    group_of(tmp_path / "tree" / folder, cpu__max="150000 100000")
    found = find_cpus(tmp_path / "tree", own(tmp_path, "0::/kubepods.slice/pod1/c1"))
    assert found.quota == 1.5
    assert found.usable == min(CPUS, 2)


GIB = 2**30


@pytest.mark.parametrize(
    ("line", "folder", "files"),
    [
        ("0::/pod/c", "", {"memory__max": "max"}),
        ("0::/pod/c", "pod/c", {"memory__max": str(2**50)}),
        ("5:memory:/docker/01", "memory", {"memory__limit_in_bytes": str(2**63 - 4096)}),
    ],
)
def test_no_limit_of_memory_binds_nobody(tmp_path: Path, line: str, folder: str, files: dict[str, str]) -> None:
    """No limit, or one beyond what the machine has, is none."""
    group_of(tmp_path / "tree" / folder, **files)
    assert find_memory(tmp_path / "tree", own(tmp_path, line)) is None


@pytest.mark.parametrize(
    ("line", "folder", "name", "usage"),
    [
        ("0::/pod/c", "pod/c", "memory__max", "memory__current"),
        ("0::/pod/c", "pod", "memory__max", "memory__current"),
        ("0::/pod/c", "unified/pod/c", "memory__max", "memory__current"),
        # beyond it the kernel slows everything down
        ("0::/pod/c", "pod/c", "memory__high", "memory__current"),
        ("5:memory:/docker/01", "memory", "memory__limit_in_bytes", "memory__usage_in_bytes"),
        ("5:memory:/jobs/7", "memory/jobs", "memory__limit_in_bytes", "memory__usage_in_bytes"),
    ],
)
def test_limit_of_memory_is_found(tmp_path: Path, line: str, folder: str, name: str, usage: str) -> None:
    """The smallest limit on the way up binds, and says what of it is free."""
    group_of(tmp_path / "tree", memory__max="max")
    group = group_of(tmp_path / "tree" / folder, **{name: str(GIB // 2), usage: str(GIB // 4)})
    memory = find_memory(tmp_path / "tree", own(tmp_path, line))
    assert memory is not None
    assert memory.limit_bytes == GIB // 2
    assert memory.source == str(group / name.replace("__", "."))
    assert memory.free_bytes() == int(GIB // 2 * 0.9) - GIB // 4


# On the cgroups of this machine


SHOW = "from runtime.limits import find_cpus; found = find_cpus(); print(found.usable, found.affinity, found.quota)"


@pytest.fixture
def real_group(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Make a cgroup with a controller of this machine, v1 or v2."""
    controller = request.param
    root = CGROUP / controller if (CGROUP / controller).is_dir() else CGROUP
    folder = root / f"scoreline-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    yield folder
    for _ in range(600):
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)


def seen_in(folder: Path, **files: str) -> str:
    """Set up a cgroup, and say what a process in it finds."""
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        if not path.exists():
            pytest.skip(f"the cgroups of this machine have no {path.name}")
        try:
            path.write_text(text)
        except OSError as error:
            pytest.skip(f"{path.name} cannot be set here: {error}")
    enter = f"echo $$ > {folder}/cgroup.procs || exit 77; exec \"$@\""
    found = subprocess.run(
        ["sh", "-c", enter, "sh", sys.executable, "-c", SHOW], cwd=ROOT, check=False, capture_output=True, text=True
    )
    if found.returncode == 77:
        pytest.skip(f"no process may enter a cgroup here: {found.stderr}")
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.mark.parametrize("real_group", ["cpu"], indirect=True)
def test_real_quota_binds(real_group: Path) -> None:
    """A process in a cgroup of half a CPU has one worker."""
    v2 = (real_group / "cpu.max").exists()
    limits = {"cpu__max": "50000 100000"} if v2 else {"cpu__cfs_period_us": "100000", "cpu__cfs_quota_us": "50000"}
    assert seen_in(real_group, **limits) == f"1 {CPUS} 0.5"


@pytest.mark.parametrize("real_group", ["cpuset"], indirect=True)
def test_real_cpuset_binds(real_group: Path) -> None:
    """A process in a cpuset of one CPU has one worker."""
    one = str(min(os.sched_getaffinity(0)))
    limits = {"cpuset__cpus": one, "cpuset__mems": "0"}
    assert seen_in(real_group, **limits).split()[:2] == ["1", "1"]
