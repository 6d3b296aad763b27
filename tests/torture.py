"""Kill random processes of random jobs at random times, run again until each is done, and compare with a calm run.

    make torture                          300 runs, some minutes
    python -m tests.torture --runs 20     a share of them, with a fixed seed

A run: a job starts; after a random time one of its processes (the driver, the scanner, the fork server, a worker), or
all of them, gets SIGKILL (a driver now and then SIGTERM or SIGSTOP and SIGKILL); the same command is given again, and
is killed again as often as the dice say, until it completes. Then the score file must have the bytes of a calm run, the
receipt must be true, and nothing may be left: no process, no staged part, no temporary file, no shared memory.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults.saving import save_fault

MARK = "SCORELINE_TORTURE"
PATIENCE_S = 120.0
MOST_STARTS = 12
"""A job that is killed so often is then left in peace."""
VICTIMS = ("driver", "scanner", "forkserver", "worker", "worker", "all")

SCRIPT = """
import os
import time
def init():
    pass
def run(mini_batch):
    time.sleep(0.005)
    return [f"{os.path.basename(path)} {sum(map(len, open(path)))}" for path in mini_batch]
"""
DEPLOYMENT = """
name: torture
endpoint_name: torture
type: model
model: {path: model, type: custom_model}
code_configuration: {code: code, scoring_script: score.py}
environment: {image: none}
compute: azureml:none
settings: {mini_batch_size: 3, max_concurrency_per_instance: 2, retry_settings: {max_retries: 10}}
"""


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of job.

    Attributes:
        name: of it.
        arguments: of ``scoreline run``, but for the output.
        calm: digests of what a calm run leaves, by name.
        seconds: that a calm run takes.
    """

    name: str
    arguments: tuple[str, ...]
    calm: dict[str, str]
    seconds: float


@dataclass(slots=True)
class Tally:
    """What happened, over all runs."""

    runs: int = 0
    starts: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    resumed: int = 0


def digests(folder: Path) -> dict[str, str]:
    """Digest what a job leaves but for its receipt, which tells of times."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.endswith(".receipt.json")
    }


def command(arguments: Sequence[str], output: Path) -> list[str]:
    """Return the command of a job."""
    return [sys.executable, "-m", "runtime.cli", "run", *arguments, "--output", str(output)]


def prepare(folder: Path, rng: random.Random) -> list[Work]:
    """Make models and inputs, and run each kind of job once in peace."""
    model = save_fault(folder / "by_row", "by_row", [("value", "long"), ("action", "string?"), ("mark", "string?")])
    table = folder / "table"
    table.mkdir()
    for number, rows in enumerate([400_000, 300, 200_000, *rng.choices(range(50, 900), k=25)]):
        lines = [f"{row}{'x' if row % 1_999 == 1_000 else ''},ok," for row in range(rows)]
        (table / f"{number:02}.csv").write_text("\n".join(["value,action,mark", *lines]) + "\n")
    poison = folder / "poison"
    poison.mkdir()
    for number in range(3):
        lines = [f"{row},{'raise' if row == 700 else 'ok'}," for row in range(1_500)]
        (poison / f"{number}.csv").write_text("\n".join(["value,action,mark", *lines]) + "\n")
    files = folder / "files"
    files.mkdir()
    for number in range(300):
        (files / f"{number:03}.txt").write_text("x" * rng.randrange(1_000))
    (folder / "model").mkdir()
    (folder / "code").mkdir()
    (folder / "code" / "score.py").write_text(SCRIPT)
    (folder / "deployment.yml").write_text(DEPLOYMENT)
    common = ("--workers", "2", "--quiet", "--max-quarantined", "100%")
    kinds = {
        "table": ("--model", str(model), "--input", str(table), "--chunk-rows", "1024", *common),
        "poison": ("--model", str(model), "--input", str(poison), "--chunk-rows", "1024", *common),
        "script": (
            str(folder / "deployment.yml"), "--input", str(files), "--workers", "2", "--quiet",
            "--logs", str(folder / "logs"),
        ),
    }  # fmt: skip
    works = []
    for name, arguments in kinds.items():
        output = folder / f"calm-{name}"
        began = time.monotonic()
        subprocess.run(command(arguments, output), check=True, env=_environment(folder, "calm"))
        works.append(Work(name, arguments, digests(output), time.monotonic() - began))
    return works


def _environment(folder: Path, mark: str) -> dict[str, str]:
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {**os.environ, MARK: mark, "TMPDIR": str(temporary), "MLFLOW_DISABLE_TELEMETRY": "true"}


def marked(mark: str) -> list[psutil.Process]:
    """Find the processes of a run, those without parents too."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError, psutil.NoSuchProcess):
            if wanted in path.read_bytes().split(b"\0"):
                process = psutil.Process(int(path.parent.name))
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def strike(driver: psutil.Process, mark: str, rng: random.Random) -> str:
    """Kill something; say what."""
    victim = rng.choice(VICTIMS)
    with suppress(psutil.NoSuchProcess):
        if victim == "driver":
            how = rng.choice(("SIGKILL", "SIGKILL", "SIGTERM", "SIGSTOP"))
            driver.send_signal(signal.Signals[how])
            if how == "SIGSTOP":
                time.sleep(0.05)
                driver.kill()
            return f"driver {how}"
        if victim == "all":
            for process in marked(mark):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            return victim
        children = driver.children()
        servers = [each for each in children if "runtime.forkserver" in _words(each)]
        chosen = {
            "scanner": [each for each in children if "scoring.scanner" in _words(each)],
            "forkserver": servers,
            "worker": [worker for server in servers for worker in server.children()],
        }[victim]
        if chosen:
            rng.choice(chosen).kill()
            return victim
    return "nothing"


def _words(process: psutil.Process) -> list[str]:
    # one that has ended may not be waited for yet
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def torture(work: Work, folder: Path, rng: random.Random, tally: Tally) -> None:
    """Run a job to its end through all that befalls it.

    Raises:
        AssertionError: it did not end as a calm run does.
    """
    mark = uuid.uuid4().hex
    output = folder / f"output-{mark}"
    shared = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    tally.runs += 1
    for start in range(MOST_STARTS + 1):
        tally.starts += 1
        process = subprocess.Popen(
            command(work.arguments, output), env=_environment(folder, mark), stderr=subprocess.PIPE, text=True
        )
        struck = ""
        if start < MOST_STARTS and rng.random() < (0.85 if start == 0 else 0.6):
            with suppress(subprocess.TimeoutExpired):
                # most of the time something is scored then
                process.wait(work.seconds * (rng.uniform(0.0, 1.1) if rng.random() < 0.3 else rng.uniform(0.3, 0.8)))
            if process.poll() is None:
                struck = strike(psutil.Process(process.pid), mark, rng)
                tally.kills[struck] += 1
        _, words = process.communicate(timeout=PATIENCE_S)
        if process.returncode == 0:
            break
        # what is killed may end the job, which can go on; nothing else may
        assert struck not in ("", "nothing"), f"{work.name}: exit {process.returncode}: {words}"
        tally.resumed += 1
    found = digests(output)
    assert found == work.calm, f"{work.name}: {found} instead of {work.calm}"
    assert sorted(path.name for path in output.iterdir() if path.name.startswith(".")) == []
    check = [sys.executable, "-m", "runtime.cli", "receipt", "check", str(output)]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    deadline = time.monotonic() + 10
    while left := marked(mark):
        assert time.monotonic() < deadline, f"{work.name}: orphans: {left}"
        time.sleep(0.02)
    left_over = [name for name in os.listdir(folder / "tmp") if name.startswith("scoreline-")]
    assert left_over == [], f"{work.name}: temporary files: {left_over}"
    if os.path.isdir("/dev/shm"):
        assert set(os.listdir("/dev/shm")) <= shared, f"{work.name}: shared memory"
    shutil.rmtree(output)


def run(runs: int, seed: int, most_s: float) -> Tally:
    """Torture so many jobs, or as many as the time allows; return what happened.

    Raises:
        AssertionError: one of them did not end as a calm run does.
    """
    rng = random.Random(seed)
    tally = Tally()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        folder = Path(name)
        works = prepare(folder, rng)
        for number in range(runs):
            if time.monotonic() - began > most_s:
                break
            torture(works[number % len(works)], folder, rng, tally)
    return tally


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=3_600.0, help="stop after so many")
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    sys.stdout.write(f"seed {seed}\n")
    sys.stdout.flush()
    began = time.monotonic()
    tally = run(arguments.runs, seed, arguments.seconds)
    kills = ", ".join(f"{count} {victim}" for victim, count in tally.kills.most_common())
    sys.stdout.write(
        f"{tally.runs} runs, {tally.starts} starts, {tally.resumed} of them died and were resumed, "
        f"{tally.kills.total()} kills ({kills}), {time.monotonic() - began:.0f} s: all as calm runs\n"
    )


if __name__ == "__main__":
    main()
