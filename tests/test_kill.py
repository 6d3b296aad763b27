"""Killed at any moment: nothing half-written, no orphan, and the same command goes on to the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from runtime.parts import KEY_LENGTH
from tests.faults.saving import save_fault, write_actions
from tests.thorough import usual

ROWS = 200_000
CELLS = -(-ROWS // 1_024)
PATIENCE_S = 100.0
BASE = ["_predictions.receipt.json", "predictions.csv"]

# A driver that dies when it is about to give a file its name, or to remove a folder: `os.kill` is as hard as any kill.
DYING = """
import os, signal, sys
target = sys.argv.pop(1)
def watch(event, arguments):
    if event in ("os.rename", "os.link", "shutil.rmtree"):
        path = arguments[0] if event == "shutil.rmtree" else arguments[1]
        if str(path).endswith(target):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
from runtime.cli import main
main()
"""


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def receipt(output: Path) -> Any:
    """Read a receipt."""
    return json.loads((output / "_predictions.receipt.json").read_text())


@pytest.fixture(scope="module")
def job(heart_model: Path, heart_rows: Callable[[int], Path]) -> list[str]:
    """Return the options of a job of many small mini-batches."""
    options = ["run", "--model", str(heart_model), "--input", str(heart_rows(ROWS)), "--chunk-rows", "1024"]
    return [*options, "--cells-per-mini-batch", "2", "--workers", "2"]


@pytest.fixture(scope="module")
def calm(job: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the digest of the scores of a run that nobody disturbs."""
    output = tmp_path_factory.mktemp("calm")
    subprocess.run([sys.executable, "-m", "runtime.cli", *job, "--output", output, "--quiet"], check=True)
    return sha256(output / "predictions.csv")


class Run:
    """A job in a process of its own, to be killed."""

    def __init__(self, arguments: list[str], output: Path, dying_at: str = "") -> None:
        program = ["-c", DYING, dying_at] if dying_at else ["-m", "runtime.cli"]
        self.output = output
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments, "--output", str(output)], stderr=subprocess.PIPE, text=True
        )

    @property
    def staged(self) -> int:
        """How many parts are staged."""
        try:
            names = os.listdir(self.output / ".predictions.csv.staging/parts")
            return sum(len(name) == KEY_LENGTH for name in names)
        except FileNotFoundError:
            return 0

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for something to become true; fail if the job ends before."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert self.process.poll() is None, f"it ended too early: {self.process.communicate()[1]}"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        return found

    def servers(self) -> list[psutil.Process]:
        """Find the fork server."""
        return [each for each in _children(psutil.Process(self.process.pid)) if "runtime.forkserver" in _words(each)]

    def workers(self) -> list[psutil.Process]:
        """Find the workers."""
        return [worker for server in self.servers() for worker in _children(server)]

    def all(self) -> list[psutil.Process]:
        """Find the driver and all below it."""
        driver = psutil.Process(self.process.pid)
        return [driver, *driver.children(recursive=True)]

    def end(self) -> tuple[int, str]:
        """Wait for the end, of orphans too; return the exit code and what was said."""
        words = self.process.communicate(timeout=PATIENCE_S)[1]
        deadline = time.monotonic() + PATIENCE_S
        while left := _marked():
            assert time.monotonic() < deadline, f"orphans: {left}"
            time.sleep(0.005)
        return self.process.returncode, words

    def check_nothing_half_written(self, calm: str) -> None:
        """Check that the score file is not there, or whole."""
        path = self.output / "predictions.csv"
        assert not path.exists() or sha256(path) == calm


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children()
    return []


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def _marked() -> list[int]:
    """Find what this test started, by the mark that `tests/conftest.py` puts into its environment."""
    mark = f"SCORELINE_TEST_RUN={os.environ['SCORELINE_TEST_RUN']}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


@contextmanager
def started(arguments: list[str], output: Path, dying_at: str = "") -> Iterator[Run]:
    """Start a job, and see to it that nothing of it stays."""
    run = Run(arguments, output, dying_at)
    try:
        yield run
    finally:
        for process in run.all() if run.process.poll() is None else []:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        run.process.wait()
        assert run.process.stderr is not None
        run.process.stderr.close()


def test_driver_killed_again_and_again(job: list[str], calm: str, tmp_path: Path) -> None:
    """SIGKILL of the driver while it loads and scores, and of all processes at once: what was staged is used."""
    moments = random.Random(20)
    with started(job, tmp_path) as run:
        time.sleep(moments.uniform(0.1, 1.0))
        run.process.kill()
        assert run.end()[0] == -signal.SIGKILL
        run.check_nothing_half_written(calm)
    staged = 0
    for everything in (False, True):
        with started(job, tmp_path) as run:
            enough = staged + moments.randint(1, CELLS // 8)
            run.until(lambda enough=enough, run=run: run.staged >= enough)  # type: ignore[misc]  # bound at once
            for process in run.all() if everything else [psutil.Process(run.process.pid)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            assert run.end()[0] == -signal.SIGKILL
            run.check_nothing_half_written(calm)
            staged = run.staged
            assert staged >= enough
    with started(job, tmp_path) as run:
        code, words = run.end()
    assert code == 0, words
    assert re.search(rf"resuming: {staged:,} of about [\d,]+ mini-batches are already scored", words)
    assert sha256(tmp_path / "predictions.csv") == calm == receipt(tmp_path)["output"]["sha256"]
    assert receipt(tmp_path)["invocation"]["resumed"] == staged
    assert sorted(os.listdir(tmp_path)) == BASE


def test_driver_killed_while_it_publishes(heart_model: Path, heart_rows: Callable[[int], Path], tmp_path: Path) -> None:
    """Before and after each file appears: the same command goes on there, and scores nothing again."""
    job = ["run", "--model", str(heart_model), "--input", str(heart_rows(2_000)), "--chunk-rows", "1024"]
    output = tmp_path / "score"
    seen = []
    for moment in ("/publish.json", "/predictions.csv", "/_predictions.receipt.json", ".staging/parts"):
        with started(job, output, moment) as run:
            code, words = run.end()
        assert code == -signal.SIGKILL, words
        seen.append(sorted(name for name in os.listdir(output) if not name.startswith(".")))
    assert seen == [[], [], ["predictions.csv"], BASE]
    appeared = (output / "predictions.csv").stat()
    assert receipt(output)["invocation"]["attempts"] == 0
    assert receipt(output)["output"]["sha256"] == sha256(output / "predictions.csv")
    with started(job, output) as run:
        code, words = run.end()
    assert code == 0
    assert "already complete, nothing to do" in words
    assert (output / "predictions.csv").stat() == appeared
    assert sorted(os.listdir(output)) == BASE


def test_workers_and_fork_server_killed_under_way(job: list[str], calm: str, tmp_path: Path) -> None:
    """The job hires others and goes on by itself, even when its fork server is gone before anybody has loaded."""
    moments = random.Random(21)
    with started(job, tmp_path) as run:
        (server,) = run.until(run.servers)
        time.sleep(moments.uniform(0.0, 1.0))
        server.kill()
        for find in (run.workers, run.servers, run.workers):
            enough = run.staged + moments.randint(1, CELLS // 16)
            run.until(lambda enough=enough: run.staged >= enough)  # type: ignore[misc]  # bound at once
            moments.choice(run.until(find)).kill()
        code, words = run.end()
    assert code == 0, words
    assert sha256(tmp_path / "predictions.csv") == calm
    assert receipt(tmp_path)["invocation"]["worker_deaths"] >= 1
    assert sorted(os.listdir(tmp_path)) == BASE


def test_worker_killed_while_it_loads_is_told(job: list[str], calm: str, tmp_path: Path) -> None:
    """A model that may be too large for the machine is not loaded for ever: the job ends, and may be given again."""
    with started(job, tmp_path) as run:
        run.until(run.workers)[0].kill()
        code, words = run.end()
        run.check_nothing_half_written(calm)
    assert code in (0, 1)
    if code:
        assert "SIGKILL, likely out of memory) while it loaded the model" in words.splitlines()[-1]
    with started(job, tmp_path) as run:
        assert run.end()[0] == 0
    assert sha256(tmp_path / "predictions.csv") == calm


@pytest.mark.parametrize(
    ("number", "code"), usual([(signal.SIGINT, 130), (signal.SIGTERM, 143)], seldom=[(signal.SIGTERM, 143)])
)
def test_signal_stops_a_job_that_goes_on_later(
    job: list[str], calm: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """What runs is finished and staged, the exit code says which signal it was, and the last line how to go on."""
    with started(job, tmp_path) as run:
        run.until(lambda: run.staged >= 5)
        run.process.send_signal(number)
        ended, words = run.end()
        run.check_nothing_half_written(calm)
        staged = run.staged
    assert ended == code
    assert words.splitlines()[-1] == (
        f"scoreline: stopped by {number.name}; what is staged is kept, the same command goes on from there"
    )
    assert list(tmp_path.glob(".predictions.csv.staging/parts/.*")) == []
    with started(job, tmp_path) as run:
        ended, words = run.end()
    assert ended == 0
    assert receipt(tmp_path)["invocation"]["resumed"] == staged
    assert sha256(tmp_path / "predictions.csv") == calm


@pytest.mark.parametrize(("grace_s", "signals"), [("0.5", 1), ("600", 2)])
def test_signal_ends_a_job_that_hangs(tmp_path: Path, grace_s: str, signals: int) -> None:
    """After the grace time, or at the second signal, whoever still runs is killed, with all its children."""
    model = save_fault(tmp_path / "model", "by_row", [("value", "long"), ("action", "string"), ("mark", "string?")])
    rows = write_actions(tmp_path / "in.csv", "child", "hang")
    job = ["run", "--model", str(model), "--input", str(rows), "--grace", grace_s, "--workers", "1"]
    with started([*job, "--chunk-rows", "0"], tmp_path / "score") as run:
        run.until(lambda: any("sleep" in _words(each) for each in run.all()))
        assert run.process.stderr is not None
        run.process.send_signal(signal.SIGINT)
        if signals == 2:
            said = run.process.stderr.readline()
            assert re.search(r"stopping: what runs has 600 s to end; a second signal stops at once", said)
            run.process.send_signal(signal.SIGINT)
        code, _ = run.end()
    assert code == 130
    assert not (tmp_path / "score").exists()
