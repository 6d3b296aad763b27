"""Run Scoreline and its peers and measure what they take."""

import json
import os
import re
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from rich.console import Console

from benchmarks.contenders import Peer
from benchmarks.environments import python_of_ours
from benchmarks.measure import Run, measure
from benchmarks.models import ModelKind
from benchmarks.workloads import QUICK_WORKLOADS, WORKLOADS, Workload, make_model, make_workload

HERE = Path(__file__).parent
PEERS = HERE / "peers"
# Nobody's threads are capped for them, and nothing reaches for the network while the clock runs.
_CAPS = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "LOKY_MAX_CPU_COUNT"}
ENV = {name: value for name, value in os.environ.items() if name not in _CAPS} | {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}
ONE_THREAD = ENV | dict.fromkeys(sorted(_CAPS), "1")

commands_run: list[list[str]] = []
log = Console(stderr=True, highlight=False)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The choices of this invocation.

    Attributes:
        data: where data, models, environments and outputs lie.
        runs: how often each side runs.
        workers: how many workers each has.
        quick: whether inputs are small, and nothing is kept.
        peers: the peers that may take part; empty: all.
    """

    data: Path
    runs: int
    workers: int
    quick: bool
    peers: tuple[str, ...] = ()

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


def run_scoreline(
    bench: Bench, model: Path, source: Path, *, memory: bool = False, options: Sequence[str] = ()
) -> OurRun:
    """Score into a fresh folder, replacing that of the run before."""
    output = bench.scratch / "ours"
    shutil.rmtree(output, ignore_errors=True)
    # a part that is whole has been renamed into its place
    watch = output / ".predictions.csv.staging" / "parts"
    measured, receipt = run_job(
        bench, model, str(source), str(output), memory=memory, options=options, watch=None if memory else watch
    )
    if not memory and measured.first_s is None:
        # it was published within a hundredth of a second
        measured = replace(measured, first_s=measured.wall_s)
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
    watch: Path | None = None,
) -> tuple[Run, dict[str, dict[str, float]]]:
    """Score from one place to another, wherever they are; return what it took, and its receipt."""
    command = [scoreline(bench), "run", "--model", str(model), "--input", source, "--output", output]
    command += ["--workers", str(bench.workers), "--json", *options]
    measured = run(bench, command, env=env, memory=memory, watch=watch)
    return measured, json.loads(measured.stdout)


def run_peer(
    bench: Bench, peer: Peer, model: Path, source: Path, *, memory: bool = False, options: Sequence[str] = ()
) -> tuple[Run, Path]:
    """Have a peer score into a fresh folder; return what it took, and the folder."""
    out = bench.scratch / peer.name
    shutil.rmtree(out, ignore_errors=True)
    command = peer.command(bench.data, model, source, out, bench.workers)
    return run(bench, [*command, *options], memory=memory, watch=None if memory else out), out


def run(
    bench: Bench,
    command: list[str],
    *,
    env: dict[str, str] | None = None,
    memory: bool = False,
    watch: Path | None = None,
) -> Run:
    """Measure one command."""
    bench.scratch.mkdir(parents=True, exist_ok=True)
    commands_run.append(command)
    return measure(command, env=ENV if env is None else env, cwd=HERE.parent, memory=memory, watch=watch)


@cache
def peak_bytes(bench: Bench, name: str, kind: ModelKind = "logistic") -> int:
    """Run Scoreline once more and return the peak PSS of its process tree."""
    model, source = make_model(bench.data, kind), make_workload(bench.data, workload(bench, name))
    peak = run_scoreline(bench, model, source, memory=True).run.peak_pss_bytes
    log.print(f"{name}, {kind}: scoreline's peak PSS {peak / 1e6:.0f} MB")
    return peak


def bare_s_per_row(bench: Bench, name: str, kind: ModelKind) -> float:
    """Measure what a row takes in bare `predict`, on one core and in one thread."""
    model, source = make_model(bench.data, kind), make_workload(bench.data, workload(bench, name))
    command = [sys.executable, "-m", "benchmarks.bare", str(model), str(source)]
    return float(run(bench, command, env=ONE_THREAD).stdout)


def count(text: str) -> int:
    """Read a number of runs or workers from the command line; none is none.

    Raises:
        ValueError: it is none.
    """
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def workload(bench: Bench, name: str) -> Workload:
    """Return the workload of that name, smaller where the bench is quick."""
    return (QUICK_WORKLOADS if bench.quick else WORKLOADS)[name]


def median_wall_s(runs: Sequence[Run]) -> float:
    """Return the middle one of the wall times."""
    return statistics.median(run.wall_s for run in runs)


def shown(bench: Bench, command: list[str]) -> str:
    """Return a command as it reads on any machine."""
    text = " ".join(f"'{word}'" if " " in word and "/" not in word else word for word in command)
    environments = re.escape(str(bench.data / "environments"))
    text = re.sub(environments + r"/scoreline-\w+/bin/(\w+)", r"\1", text)
    text = re.sub(environments + r"/(\w+)-\w+/bin/python", r"python-of-\1", text)
    places = {str(bench.scratch): "$OUT", str(bench.data): "$DATA", f"{HERE}/": "benchmarks/"}
    for place, name in ({sys.executable: "python"} | places).items():
        text = text.replace(place, name)
    # the port is another one each time
    return re.sub(r"http://127\.0\.0\.1:\d+/\w+", "$AZURITE", text)


def scoreline(bench: Bench) -> str:
    """Return the command, installed from what is checked out."""
    return str(Path(python_of_ours(bench.data)).with_name("scoreline"))
