"""Kill random processes of random jobs at random times, run again until each is done, and compare with a calm run.

    make torture                               300 runs on local disk, some minutes
    python -m tests.torture --runs 20          a share of them
    python -m tests.torture --store azurite    on Blob storage: Azurite is started for it

A run: a job starts; after a random time one of its processes (the driver, the scanner, the fork server, a worker, what
fetches the model), or all of them, gets SIGKILL (a driver now and then SIGTERM or SIGSTOP and SIGKILL); the same
command is given again, on storage with another signature of the same place, and is killed again as often as the dice
say, until it completes. Then the score file must have the bytes of a calm run on local disk, the receipt must be true,
and nothing may be left: no process, no staged part, no temporary file, no shared memory.

On storage every third run reads and writes there, every third reads there and writes to disk, every third the other way
round.
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import psutil

from tests.faults.saving import save_fault

MARK = "SCORELINE_TORTURE"
PATIENCE_S = 120.0
MOST_STARTS = 12
"""A job that is killed so often is then left in peace."""
VICTIMS = ("driver", "scanner", "fetcher", "forkserver", "worker", "worker", "all")
ADDED_S = 0.7
"""What storage adds to a start: a fetched model, a look at the places."""

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
        arguments: of ``scoreline run``, but for the model, the input and the output.
        model: folder of the model, for an option of its own; empty where the deployment names it.
        input: folder of the input.
        calm: digests of what a calm run leaves, by name.
        seconds: that a calm run takes.
    """

    name: str
    arguments: tuple[str, ...]
    model: str
    input: str
    calm: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class Place(Protocol):
    """Where inputs and outputs lie."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def environ(self) -> dict[str, str]:
        """What a job must have in its environment to reach it."""
        ...

    def uri(self, path: str, rng: random.Random) -> str:
        """Name what is there to a job, in one of the ways there are."""
        ...

    def put(self, source: Path, path: str) -> None:
        """Put a folder there."""
        ...

    def take(self, path: str, target: Path) -> None:
        """Copy all that is there to a folder, and delete it there."""
        ...


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder on this machine."""

    folder: Path
    name: str = "disk"
    environ: dict[str, str] = field(default_factory=dict)

    def uri(self, path: str, rng: random.Random) -> str:  # noqa: ARG002 (one shape)
        """Give its path."""
        return str(self.folder / path)

    def put(self, source: Path, path: str) -> None:
        """Copy it."""
        shutil.copytree(source, self.folder / path)

    def take(self, path: str, target: Path) -> None:
        """Move it."""
        (self.folder / path).rename(target)


@dataclass(slots=True)
class Tally:
    """What happened, over all runs."""

    runs: int = 0
    starts: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    ways: Counter[str] = field(default_factory=Counter)
    resumed: int = 0


def digests(folder: Path) -> dict[str, str]:
    """Digest what a job leaves but for its receipt, which tells of times."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.endswith(".receipt.json")
    }


def command(work: Work, output: str, source: Place, rng: random.Random) -> list[str]:
    """Return the command of a job.

    Args:
        work: what it does.
        output: where to.
        source: where input and model lie.
        rng: dice.
    """
    model = ("--model", source.uri(work.model, rng)) if work.model else ()
    return [
        sys.executable, "-m", "runtime.cli", "run", *work.arguments, *model,
        "--input", source.uri(work.input, rng), "--output", output,
    ]  # fmt: skip


def prepare(folder: Path, rng: random.Random, *, kinds: Sequence[str], rows: int) -> list[Work]:
    """Make models and inputs, and run each kind of job once in peace.

    Args:
        folder: for all that.
        rng: dice.
        kinds: names of those to make.
        rows: of the largest file.
    """
    save_fault(folder / "by_row", "by_row", [("value", "long"), ("action", "string?"), ("mark", "string?")])
    table = folder / "table"
    table.mkdir()
    for number, count in enumerate([rows, 300, rows // 2, *rng.choices(range(50, 900), k=25)]):
        lines = [f"{row}{'x' if row % 1_999 == 1_000 else ''},ok," for row in range(count)]
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
    deployed = (str(folder / "deployment.yml"), "--workers", "2", "--quiet", "--logs", str(folder / "logs"))
    cells = ("--chunk-rows", "1024", *common)
    works = [
        work
        for work in (
            Work("table", cells, "by_row", "table"),
            Work("poison", cells, "by_row", "poison"),
            Work("script", deployed, "", "files"),
        )
        if work.name in kinds
    ]
    for number, work in enumerate(works):
        output = folder / f"calm-{work.name}"
        began = time.monotonic()
        calm = command(work, str(output), Disk(folder), rng)
        subprocess.run(calm, check=True, env=_environment(folder, "calm", {}))
        works[number] = replace(work, calm=digests(output), seconds=time.monotonic() - began)
    return works


def _environment(folder: Path, mark: str, more: dict[str, str]) -> dict[str, str]:
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {**os.environ, MARK: mark, "TMPDIR": str(temporary), "MLFLOW_DISABLE_TELEMETRY": "true", **more}


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
    """Kill something of what there is; say what."""
    with suppress(psutil.NoSuchProcess):
        children = driver.children()
        servers = [each for each in children if "runtime.forkserver" in _words(each)]
        there = {
            "driver": [driver],
            "all": [driver],
            "scanner": [each for each in children if "scoring.scanner" in _words(each)],
            "fetcher": [each for each in children if "scoring.fetch_blobs" in _words(each)],
            "forkserver": servers,
            "worker": [worker for server in servers for worker in server.children()],
        }
        victim = rng.choice([each for each in VICTIMS if there[each]])
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
        rng.choice(there[victim]).kill()
        return victim
    return "nothing"


def _words(process: psutil.Process) -> list[str]:
    # one that has ended may not be waited for yet
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def torture(
    work: Work, folder: Path, rng: random.Random, tally: Tally, *, places: tuple[Place, Place] | None = None
) -> None:
    """Run a job to its end through all that befalls it.

    Args:
        work: what it does.
        folder: where the works were prepared.
        rng: dice.
        tally: of all runs.
        places: where it reads and where it writes; None: both on disk.

    Raises:
        AssertionError: it did not end as a calm run does.
    """
    mark = uuid.uuid4().hex
    source, target = places or (Disk(folder), Disk(folder))
    title = f"{work.name}, {source.name} to {target.name}"
    output = f"output-{mark}"
    remote = source.name != "disk" or target.name != "disk"
    environment = _environment(folder, mark, source.environ | target.environ)
    seconds = work.seconds + (ADDED_S if remote else 0.0)
    shared = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    tally.runs += 1
    tally.ways[title] += 1
    for start in range(MOST_STARTS + 1):
        tally.starts += 1
        process = subprocess.Popen(
            command(work, target.uri(output, rng), source, rng), env=environment, stderr=subprocess.PIPE, text=True
        )
        struck = ""
        if start < MOST_STARTS and rng.random() < (0.85 if start == 0 else 0.6):
            with suppress(subprocess.TimeoutExpired):
                # most of the time something is scored then
                process.wait(seconds * (rng.uniform(0.0, 1.1) if rng.random() < 0.3 else rng.uniform(0.3, 0.8)))
            if process.poll() is None:
                struck = strike(psutil.Process(process.pid), mark, rng)
                tally.kills[struck] += 1
        _, words = process.communicate(timeout=PATIENCE_S)
        if process.returncode == 0:
            break
        # what is killed may end the job, which can go on; nothing else may
        assert struck not in ("", "nothing"), f"{title}: exit {process.returncode}: {words}"
        tally.resumed += 1
    taken = folder / f"taken-{mark}"
    target.take(output, taken)
    found = digests(taken)
    assert found == work.calm, f"{title}: {found} instead of {work.calm}"
    assert sorted(path.name for path in taken.iterdir() if path.name.startswith(".")) == []
    check = [sys.executable, "-m", "runtime.cli", "receipt", "check", str(taken), "--input", str(folder / work.input)]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    deadline = time.monotonic() + 60
    while left := marked(mark):
        assert time.monotonic() < deadline, f"{title}: orphans: {left}"
        time.sleep(0.02)
    left_over = [name for name in os.listdir(folder / "tmp") if name.startswith("scoreline-")]
    assert left_over == [], f"{title}: temporary files: {left_over}"
    if os.path.isdir("/dev/shm"):
        assert set(os.listdir("/dev/shm")) <= shared, f"{title}: shared memory"
    shutil.rmtree(taken)


def run(
    runs: int,
    seed: int,
    most_s: float,
    *,
    store: str = "local",
    kinds: Sequence[str] = ("table", "poison", "script"),
    rows: int = 400_000,
) -> Tally:
    """Torture so many jobs, or as many as the time allows; return what happened.

    Args:
        runs: how many.
        seed: of the dice.
        most_s: when to stop.
        store: local or azurite.
        kinds: of jobs.
        rows: of the largest file.

    Raises:
        AssertionError: one of them did not end as a calm run does.
    """
    rng = random.Random(seed)
    tally = Tally()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        folder = Path(name)
        works = prepare(folder, rng, kinds=kinds, rows=rows)
        ways = _ways(folder, works, store)
        for number in range(runs):
            if time.monotonic() - began > most_s:
                break
            work, way = works[number % len(works)], ways[number // len(works) % len(ways)]
            torture(work, folder, rng, tally, places=way)
    return tally


def _ways(folder: Path, works: Sequence[Work], store: str) -> list[tuple[Place, Place]]:
    """Say from where to where jobs go, and put their inputs there."""
    disk = Disk(folder)
    if store == "local":
        return [(disk, disk)]
    from tests.azure.torture_place import new_place

    blobs: Place = new_place()
    for name in dict.fromkeys(path for work in works for path in (work.model, work.input) if path):
        blobs.put(folder / name, name)
    return [(blobs, blobs), (disk, blobs), (blobs, disk)]


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=3_600.0, help="stop after so many")
    parser.add_argument("--store", choices=["local", "azurite"], default="local", help="where inputs and outputs lie")
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    sys.stdout.write(f"seed {seed}\n")
    sys.stdout.flush()
    began = time.monotonic()
    tally = run(arguments.runs, seed, arguments.seconds, store=arguments.store)
    kills = ", ".join(f"{count} {victim}" for victim, count in tally.kills.most_common())
    for way, count in sorted(tally.ways.items()):
        sys.stdout.write(f"{count:5} {way}\n")
    sys.stdout.write(
        f"{tally.runs} runs, {tally.starts} starts, {tally.resumed} of them died and were resumed, "
        f"{tally.kills.total()} kills ({kills}), {time.monotonic() - began:.0f} s: all as calm runs\n"
    )


if __name__ == "__main__":
    main()
