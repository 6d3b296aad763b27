"""What every test may use, and what no test may leave behind."""

from __future__ import annotations

import fcntl
import gc
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import shutil
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

GRACE_S = 20.0
# A library opens a file for good when it is first used (a data base of time zones, a random source).
SPARE_FILES = 2

# An example may be slow because another test runs beside it; a hang is pytest-timeout's to find.
settings.register_profile(
    "scoreline", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("scoreline")


@pytest.fixture(scope="session", autouse=True)
def private_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give this process, and all it starts, a temporary folder of its own."""
    # Asked for first, so that pytest's own folders stay where they can be looked at after a failure.
    tmp_path_factory.getbasetemp()
    # Not inside them: the path of a Unix socket in it must stay under 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="sl-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        # Hundreds of processes are started, each of which would compile Scoreline anew.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        # Python keeps one such process for as long as it lives: started here, no test is blamed for it.
        multiprocessing.resource_tracker.ensure_running()
        # At exit, and after multiprocessing has deleted its own folder in there, which has the priority -100.
        multiprocessing.util.Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=-1000)
        yield folder


@pytest.fixture(autouse=True)
def leave_nothing_behind(private_temporary_folder: Path) -> Iterator[None]:
    """Fail a test that leaves a process, a thread, an open file or a temporary file behind."""
    run = uuid.uuid4().hex
    before = _held(private_temporary_folder)
    with pytest.MonkeyPatch.context() as patch:
        # Goes down to every process the test starts, and so finds those whose parents are gone.
        patch.setenv("SCORELINE_TEST_RUN", run)
        yield
    deadline = time.monotonic() + GRACE_S
    while (leaks := _leaks(before, private_temporary_folder, run)) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    if leaks:
        _clear(before, private_temporary_folder, run)
        pytest.fail("left behind:\n" + "\n".join(leaks), pytrace=False)


@pytest.fixture(scope="session")
def shared_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of this test run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if hasattr(request.config, "workerinput") else folder


@pytest.fixture(scope="session")
def heart_model(shared_folder: Path) -> Path:
    """Return the folder of a logistic heart model, trained once for the whole test run; not to be changed."""

    def train(path: Path) -> None:
        from scoring.demo import save_heart_model

        save_heart_model(path)

    return _made_once(shared_folder / "heart-model", train)


@pytest.fixture(scope="session")
def heart_rows(shared_folder: Path) -> Callable[[int], Path]:
    """Return a function from a number of rows to a CSV file of so many heart patients; not to be changed."""

    def heart_csv(rows: int, seed: int = 0) -> Path:
        def write(path: Path) -> None:
            from scoring.demo import write_heart_csv

            write_heart_csv(path, rows, seed)

        return _made_once(shared_folder / f"heart-{rows}-{seed}.csv", write)

    return heart_csv


def _made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """Make a file or folder unless another worker of the test run has; wait for it where one is about to."""
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_name(f".{path.name}.new")
            make(unfinished)
            unfinished.rename(path)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What this process holds at one moment.

    Attributes:
        files: what each open descriptor of a file, a pipe or a socket stands for.
        temporary: Scoreline's files and folders in the temporary folder.
    """

    processes: frozenset[psutil.Process]
    threads: frozenset[threading.Thread]
    files: frozenset[tuple[int, str]]
    temporary: frozenset[Path]


def _held(temporary_folder: Path) -> _Held:
    return _Held(
        processes=frozenset(_children()),
        threads=frozenset(thread for thread in threading.enumerate() if not thread.daemon),
        files=frozenset(_open_files()),
        temporary=frozenset(temporary_folder.glob("scoreline*")),
    )


def _children() -> Iterator[psutil.Process]:
    """Find the processes that this one started: those below them have the mark of a test, or go with their parents."""
    try:
        # psutil looks at all processes of the machine, which each test would pay for twice
        pids = [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    except FileNotFoundError:  # a thread has just ended
        pids = [str(child.pid) for child in psutil.Process().children()]
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            yield psutil.Process(int(pid))


def _open_files() -> Iterator[tuple[int, str]]:
    for link in Path("/proc/self/fd").glob("*"):
        try:
            mode = os.fstat(int(link.name)).st_mode
            target = os.readlink(link)
        except OSError:  # the descriptor of this very listing
            continue
        if stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            yield int(link.name), target


def _orphans(run: str) -> Iterator[psutil.Process]:
    """Find the processes a test started, however far away they have moved from this one."""
    mark = f"SCORELINE_TEST_RUN={run}".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes():
                yield psutil.Process(int(pid))
        except (OSError, psutil.NoSuchProcess):  # it ended, or belongs to somebody else
            continue


def _leaks(before: _Held, temporary_folder: Path, run: str) -> list[str]:
    now = _held(temporary_folder)
    files = sorted(now.files - before.files) if len(now.files) > len(before.files) + SPARE_FILES else []
    return [
        *(f"process {_described(process)}" for process in {*(now.processes - before.processes), *_orphans(run)}),
        *(f"thread {thread.name}" for thread in now.threads - before.threads),
        *(f"open file {number}: {target}" for number, target in files),
        *(f"temporary file {path}" for path in sorted(now.temporary - before.temporary)),
    ]


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({process.status()}): {' '.join(process.cmdline())}"
    except psutil.NoSuchProcess:
        return f"{process.pid}: ended just now"


def _clear(before: _Held, temporary_folder: Path, run: str) -> None:
    """Remove what a test left, so that the next one starts clean."""
    processes = {*psutil.Process().children(recursive=True), *_orphans(run)} - before.processes
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(list(processes), timeout=GRACE_S)
    for path in set(temporary_folder.glob("scoreline*")) - before.temporary:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
