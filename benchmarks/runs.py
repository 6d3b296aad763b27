"""Run Scoreline and its peers, in turn, and check that they wrote the same."""

import filecmp
import json
import os
import re
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path

from rich.console import Console

from benchmarks.measure import Run, measure
from benchmarks.workloads import QUICK_WORKLOADS, WORKLOADS, Workload, make_model, make_workload

HERE = Path(__file__).parent
PEERS = HERE / "peers"
# Nobody's threads are capped for them, and nothing reaches for the network while the clock runs.
_CAPS = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "LOKY_MAX_CPU_COUNT"}
ENV = {name: value for name, value in os.environ.items() if name not in _CAPS} | {"MLFLOW_DISABLE_TELEMETRY": "true"}
ONE_THREAD = ENV | dict.fromkeys(sorted(_CAPS), "1")

commands_run: list[list[str]] = []
log = Console(stderr=True, highlight=False)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The choices of this invocation."""

    data: Path
    runs: int
    workers: int
    quick: bool

    @property
    def scratch(self) -> Path:
        """Return the folder that outputs are written to: on the disk of the data, empty between runs."""
        return self.data / "runs"


@dataclass(frozen=True, kw_only=True)
class OurRun:
    """One run of Scoreline: what it took, and its own account of it."""

    run: Run
    receipt: dict[str, dict[str, float]]
    scores: Path


def interleaved(bench: Bench, name: str, *, runs: int) -> list[tuple[OurRun, Run]]:
    """Run Scoreline and its peer in turn, and check each time that they wrote the same."""
    model = make_model(bench.data, "logistic")
    source = make_workload(bench.data, workload(bench, name))
    pairs = []
    for number in range(runs):
        ours = run_scoreline(bench, model, source)
        out = bench.scratch / "peer.csv"
        theirs = run(bench, peer_command(bench, name, model, source, out))
        check_same(ours.scores, out)
        pairs.append((ours, theirs))
        log.print(f"{name} {number + 1}/{runs}: scoreline {ours.run.wall_s:.2f} s, peer {theirs.wall_s:.2f} s")
    return pairs


def run_scoreline(
    bench: Bench, model: Path, source: Path, *, memory: bool = False, options: Sequence[str] = ()
) -> OurRun:
    """Score into a fresh folder, replacing that of the run before."""
    output = bench.scratch / "ours"
    shutil.rmtree(output, ignore_errors=True)
    measured, receipt = run_job(bench, model, str(source), str(output), memory=memory, options=options)
    return OurRun(run=measured, receipt=receipt, scores=output / "predictions.csv")


def run_job(
    bench: Bench,
    model: Path,
    source: str,
    output: str,
    *,
    env: dict[str, str] | None = None,
    memory: bool = False,
    options: Sequence[str] = (),
) -> tuple[Run, dict[str, dict[str, float]]]:
    """Score from one place to another, wherever they are; return what it took, and its receipt."""
    command = [scoreline(), "run", "--model", str(model), "--input", source, "--output", output]
    command += ["--workers", str(bench.workers), "--json", *options]
    measured = run(bench, command, env=env, memory=memory)
    return measured, json.loads(measured.stdout)


def run(bench: Bench, command: list[str], *, env: dict[str, str] | None = None, memory: bool = False) -> Run:
    """Measure one command."""
    bench.scratch.mkdir(parents=True, exist_ok=True)
    commands_run.append(command)
    return measure(command, env=ENV if env is None else env, cwd=HERE.parent, memory=memory)


@cache
def peak_bytes(bench: Bench, name: str) -> int:
    """Run Scoreline once more and return the peak PSS of its process tree."""
    model = make_model(bench.data, "logistic")
    source = make_workload(bench.data, workload(bench, name))
    peak = run_scoreline(bench, model, source, memory=True).run.peak_pss_bytes
    log.print(f"{name}: scoreline's peak PSS {peak / 1e6:.0f} MB")
    return peak


def pool_peak_bytes(bench: Bench, name: str) -> int:
    """Run the pool once more and return the peak PSS of its process tree."""
    model = make_model(bench.data, "logistic")
    source = make_workload(bench.data, workload(bench, name))
    peak = run(bench, peer_command(bench, name, model, source, bench.scratch / "peer.csv"), memory=True).peak_pss_bytes
    log.print(f"{name}: the pool's peak PSS {peak / 1e6:.0f} MB")
    return peak


def peer_command(bench: Bench, name: str, model: Path, source: Path, out: Path) -> list[str]:
    """Return what is run beside Scoreline: the pool, or for ten rows a plain script."""
    if name == "tiny":
        return [sys.executable, str(PEERS / "plain_script.py"), str(model), str(source), str(out)]
    return [sys.executable, str(PEERS / "pool.py"), str(model), str(source), str(out), str(bench.workers)]


def check_same(ours: Path, theirs: Path) -> None:
    """Fail with the first line that differs, unless both files hold the same bytes."""
    if filecmp.cmp(ours, theirs, shallow=False):
        return
    with open(ours) as our_lines, open(theirs) as their_lines:
        for number, (our_line, their_line) in enumerate(zip_longest(our_lines, their_lines), start=1):
            if our_line != their_line:
                sys.exit(f"outputs differ in line {number}: scoreline wrote {our_line!r}, the peer {their_line!r}")


def workload(bench: Bench, name: str) -> Workload:
    """Return the workload of that name, smaller where the bench is quick."""
    return (QUICK_WORKLOADS if bench.quick else WORKLOADS)[name]


def described(work: Workload) -> str:
    """Say how many rows in how many files."""
    return f"{work.files:,} x {work.rows:,} rows" if work.files > 1 else f"{work.rows:,} rows"


def median_wall_s(runs: Sequence[Run]) -> float:
    """Return the middle one of the wall times."""
    return statistics.median(run.wall_s for run in runs)


def shown(bench: Bench, command: list[str]) -> str:
    """Return a command as it reads on any machine."""
    text = " ".join(f"'{word}'" if " " in word and "/" not in word else word for word in command)
    places = {str(bench.scratch): "$OUT", str(bench.data): "$DATA", f"{HERE}/": "benchmarks/"}
    for place, name in ({scoreline(): "scoreline", sys.executable: "python"} | places).items():
        text = text.replace(place, name)
    # the port is another one each time
    return re.sub(r"http://127\.0\.0\.1:\d+/\w+", "$AZURITE", text)


def scoreline() -> str:
    """Find the command: beside this Python first, then on the path."""
    beside = Path(sys.executable).with_name("scoreline")
    found = str(beside) if beside.exists() else shutil.which("scoreline")
    return found or sys.exit("no scoreline command: install the project into this environment first")
