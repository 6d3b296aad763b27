"""Too little memory for all workers: the job goes on with fewer, whoever is killed, and ends with the same bytes.

The limits are real: a cgroup of the test's own, in which the kernel kills. Where none can be made, they are skipped.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from runtime.limits import usable_cpus
from runtime.memory import find_memory
from runtime.running import RunningMark, workers_after
from runtime.score_file import ScoreFile
from tests.old_releases import save_code

PATIENCE_S = 120.0
ROWS = 24_000
V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


class Group:
    """A cgroup with a memory limit."""

    def __init__(self, folder: Path, limit: str) -> None:
        self._folder = folder
        self._limit = limit

    def limit(self, mebibytes: int) -> None:
        """Set the limit."""
        (self._folder / self._limit).write_text(f"{mebibytes * 2**20}\n")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a job in it."""
        program = f"echo $$ > {self._folder}/cgroup.procs && exec \"$@\""
        command = ["sh", "-c", program, "sh", sys.executable, "-m", "runtime.cli", "run", *arguments]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str) -> str:
        """Run a job in it to its good end, and return what it said."""
        job = self.start(*arguments)
        words = job.communicate(timeout=PATIENCE_S)[1]
        assert job.returncode == 0, words
        return words

    def kill(self) -> None:
        """Kill all that is in it at once, as Kubernetes does (memory.oom.group)."""
        while pids := (self._folder / "cgroup.procs").read_text().split():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.01)


@pytest.fixture
def group() -> Iterator[Group]:
    """Make a cgroup."""
    root, limit = (V1, "memory.limit_in_bytes") if V1.is_dir() else (V2, "memory.max")
    folder = root / f"scoreline-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    if not (folder / limit).exists():
        folder.rmdir()
        pytest.skip("the cgroups of this machine have no memory controller")
    made = Group(folder, limit)
    yield made
    made.kill()
    for _ in range(100):
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.05)


def save(path: Path, hold_mib: int, loads: str = "") -> Path:
    """Save a model that holds so much, and counts its loads in a folder."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    columns = [ColSpec(DataType.long, "value"), ColSpec(DataType.long, "mib")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return save_code(
            path,
            Path(__file__).with_name("faults") / "hungry.py",
            model_config={"hold_mib": hold_mib, "loads": loads},
            signature=ModelSignature(inputs=Schema(columns)),  # type: ignore[arg-type]
        )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model that holds next to nothing."""
    return save(tmp_path_factory.mktemp("models") / "small", 1)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model of which two copies are too many."""
    return save(tmp_path_factory.mktemp("models") / "big", 300)


def write(path: Path, mib: dict[int, int], rows: int = ROWS) -> Path:
    """Write rows, some of which want memory: row -> MiB."""
    text = "".join(f"{row},{mib.get(row, 0)}\n" for row in range(rows))
    path.write_text("value,mib\n" + text)
    return path


def options(model: Path, data: Path, output: Path, workers: int) -> list[str]:
    """Return the options of a job of many mini-batches."""
    cut = ["--chunk-rows", "1024", "--cells-per-mini-batch", "1", "--workers", str(workers)]
    return ["--model", str(model), "--input", str(data), "--output", str(output), *cut]


def receipt(output: Path) -> Any:
    """Read a receipt."""
    return json.loads((output / "_predictions.receipt.json").read_text())


def expected(bad: int = -1, rows: int = ROWS) -> str:
    """Return the score file."""
    lines = [f"{row},{2 * row},in.csv" for row in range(rows) if row != bad]
    return "\n".join(["row,prediction,file", *lines]) + "\n"


def test_copies_that_do_not_fit_are_fewer_workers(group: Group, big: Path, tmp_path: Path) -> None:
    """A limit too small for all copies of a model: those that fit score all of it."""
    group.limit(700)
    words = group.run(*options(big, write(tmp_path / "in.csv", {}), tmp_path / "out", 4))
    assert "memory is too little for 4 workers" in words
    assert (tmp_path / "out/predictions.csv").read_text() == expected()
    invocation = receipt(tmp_path / "out")["invocation"]
    assert 1 <= invocation["workers"] < 4
    assert invocation["death_causes"].keys() == {"killed, likely out of memory"}
    assert invocation["worker_deaths"] >= 4 - invocation["workers"]


def test_rows_that_want_memory_together_are_scored_apart(group: Group, small: Path, tmp_path: Path) -> None:
    """What fits alone and not beside another is no poison: no row of it is lost."""
    group.limit(900)
    data = write(tmp_path / "in.csv", dict.fromkeys(range(2_000, ROWS, 1_024), 350))
    words = group.run(*options(small, data, tmp_path / "out", 3))
    assert "memory is too little for 3 workers" in words
    assert (tmp_path / "out/predictions.csv").read_text() == expected()
    assert receipt(tmp_path / "out")["invocation"]["workers"] < 3


def test_row_that_never_fits_is_set_aside_and_the_workers_come_back(
    group: Group, small: Path, tmp_path: Path
) -> None:
    """A row that takes all memory ends in the quarantine with that reason, and does not cost the others their pace."""
    group.limit(900)
    data = write(tmp_path / "in.csv", {5_000: 4_000})
    group.run(*options(small, data, tmp_path / "out", 2))
    assert (tmp_path / "out/predictions.csv").read_text() == expected(bad=5_000)
    (line,) = (tmp_path / "out/_predictions.quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 5_000
    assert json.loads(line)["reason"] == "killed, likely out of memory"
    assert receipt(tmp_path / "out")["invocation"]["workers"] == 2


def test_workers_that_load_beside_such_a_row_come_back_too(
    group: Group, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """A worker that is stopped while it loads, for a row that is known to fit nowhere, is not missing for ever."""
    (loads := tmp_path / "loads").mkdir()
    model = save(tmp_path_factory.mktemp("models") / "small", 1, str(loads))
    group.limit(900)
    data = write(tmp_path / "in.csv", {5_000: 4_000})
    group.run(*options(model, data, tmp_path / "out", 2))
    assert (tmp_path / "out/predictions.csv").read_text() == expected(bad=5_000)
    assert receipt(tmp_path / "out")["invocation"]["workers"] == 2


def test_cells_that_never_fit_at_once_are_scored_in_pieces(group: Group, small: Path, tmp_path: Path) -> None:
    """Cells whose rows take all memory together lose none, though others want memory while they are looked into.

    A death beside another worker says nothing of the rows that the one that died was trying.
    """
    group.limit(900)
    rows = 3 * 1_024
    data = write(tmp_path / "in.csv", dict.fromkeys(range(rows), 1), rows)
    group.run(*options(small, data, tmp_path / "out", 2))
    assert (tmp_path / "out/predictions.csv").read_text() == expected(rows=rows)
    assert not (tmp_path / "out/_predictions.quarantine.jsonl").exists()
    assert receipt(tmp_path / "out")["invocation"]["workers"] == 2


def test_model_that_does_not_fit_once_is_told(group: Group, big: Path, tmp_path: Path) -> None:
    """A limit too small for one copy ends the job at once, and says why."""
    group.limit(350)
    job = group.start(*options(big, write(tmp_path / "in.csv", {}), tmp_path / "out", 2))
    words = job.communicate(timeout=PATIENCE_S)[1]
    assert job.returncode == 1, words
    assert "likely out of memory" in words.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_only_as_many_workers_start_as_memory_is_enough_for(
    group: Group, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Where nobody says how many, the first worker tells what a copy of the model takes; nobody is killed for it."""
    if usable_cpus() < 2:
        pytest.skip("one CPU has one worker anyway")
    model = save(tmp_path_factory.mktemp("models") / "big", 300)
    with open(model / "ballast.bin", "wb") as file:
        # it looks as large as it is
        file.truncate(300 * 2**20)
    group.limit(700)
    command = options(model, write(tmp_path / "in.csv", {}), tmp_path / "out", 0)
    words = group.run(*command[: command.index("--workers")], "--explain")
    assert "one starts alone, for memory may be too little for all of them: the model has 300 MiB on disk" in words
    assert "memory is enough for 1 of " in words
    assert (tmp_path / "out/predictions.csv").read_text() == expected()
    invocation = receipt(tmp_path / "out")["invocation"]
    assert (invocation["workers"], invocation["worker_deaths"]) == (1, 0)


def marked(mark: Path) -> int:
    """Tell when the mark of a driver was left; 0 where there is none."""
    try:
        return mark.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def starting(words: str) -> list[int]:
    """Find with how many workers a job says that it starts."""
    return [int(found) for found in re.findall(r"starting with (\d+) instead of 8 workers", words)]


def test_job_whose_driver_and_workers_are_killed_together_completes(
    group: Group, big: Path, tmp_path: Path
) -> None:
    """Killed with all its workers three times, at load and at work: each run starts with fewer, and the last ends."""
    group.limit(1_000)
    data, output = write(tmp_path / "in.csv", {}), tmp_path / "out"
    parts = output / ".predictions.csv.staging/parts"
    told: list[int] = []
    mark = parts.parent / "running.json"
    for enough in (0, 2, 4):
        before = marked(mark)
        job = group.start(*options(big, data, output, 8), "--debug")
        deadline = time.monotonic() + PATIENCE_S
        while job.poll() is None and time.monotonic() < deadline:
            loading = len(psutil.Process(job.pid).children()) > 1 and marked(mark) > before
            if loading and len(list(parts.glob("*"))) >= enough:
                break
            time.sleep(0.01)
        assert job.poll() is None, job.communicate()[1]
        group.kill()
        told += starting(job.communicate()[1])
    told += starting(group.run(*options(big, data, output, 8)))
    # where memory was ample with those, it is as many again; where it was too little in between, fewer than half
    assert len(told) == 3
    assert told == sorted(told, reverse=True)
    assert told[0] == 4
    assert told[1] < 4
    assert (output / "predictions.csv").read_text() == expected()
    assert sorted(path.name for path in output.iterdir()) == ["_predictions.receipt.json", "predictions.csv"]


@pytest.mark.parametrize(
    ("last", "peak", "fewer", "asked", "starts"),
    [
        (4, 1.0, False, 4, 2),
        (4, 0.6, False, 4, 2),
        (2, 1.0, True, 4, 1),
        (1, 1.0, True, 4, 1),
        (4, 0.4, False, 4, 4),
        (2, 0.4, True, 4, 2),
        (8, 1.0, False, 2, 2),
        (4, 1.0, False, 1, 1),
        (0, 1.0, False, 4, 2),
    ],
)
def test_workers_after_a_kill(
    group_files: Path, last: int, peak: float, *, fewer: bool, asked: int, starts: int
) -> None:
    """Half of those of the last run start, unless memory was ample; the sentence is said where that is fewer."""
    memory = find_memory(group_files)
    assert memory is not None
    left = RunningMark(output=ScoreFile("unused", "a.csv"), memory=memory, workers=last, peak=peak, fewer=fewer)
    workers, text = workers_after(left, asked)
    assert workers == starts
    assert bool(text) == (starts < asked)


@pytest.fixture
def group_files(tmp_path: Path) -> Path:
    """Write the files of a cgroup v2 by hand."""
    (tmp_path / "memory.max").write_text(f"{100 * 2**20}\n")
    (tmp_path / "memory.current").write_text(f"{90 * 2**20}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {20 * 2**20}\nactive_file {10 * 2**20}\n")
    (tmp_path / "memory.events").write_text("oom 2\noom_kill 1\n")
    return tmp_path


def test_files_in_the_cache_are_no_use_of_memory(group_files: Path) -> None:
    """What the kernel can take back at once is not counted; a kill is told once."""
    memory = find_memory(group_files)
    assert memory is not None
    assert memory.share() == pytest.approx(0.6)
    assert not memory.killed_again()
    (group_files / "memory.events").write_text("oom 2\noom_kill 2\n")
    assert memory.killed_again()
    assert not memory.killed_again()


@pytest.mark.parametrize("limit", ["max", str(2**62), ""])
def test_no_limit_is_none(tmp_path: Path, limit: str) -> None:
    """A group without a limit, or with one beyond the machine's memory, binds nobody."""
    (tmp_path / "memory.max").write_text(limit)
    assert find_memory(tmp_path) is None


def test_torn_mark_is_a_mark(group_files: Path) -> None:
    """A mark that the kill tore says that there was a driver, and no more."""
    memory = find_memory(group_files)
    assert memory is not None
    output = ScoreFile(str(group_files / "out"), "a.csv")
    output.claim()
    mark = RunningMark(output=output, memory=memory)
    path = output.staging_folder / "running.json"
    assert mark.left() is None
    mark.begin(4)
    assert path.read_text().rstrip() == '{"workers": 4, "peak": 1.0, "fewer": false}'
    path.write_text('{"work')
    left = mark.left()
    assert left is not None
    assert workers_after(left, 4)[0] == 2
    mark.end()
    assert mark.left() is None
    output.release()
