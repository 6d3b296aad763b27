"""Run Scoreline and what people write today side by side, and print the table of what was asked and what came out.

Usage: python -m benchmarks.bench [--quick] [--only NAME ...] [--runs 3] [--workers 2] [--data DIR]
"""

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.azurite import azurite_many_small, azurite_one_big
from benchmarks.poison import blank_values, poison_row, save_brittle_model
from benchmarks.report import Line, commit, print_lines, save
from benchmarks.runs import (
    HERE,
    ONE_THREAD,
    Bench,
    commands_run,
    described,
    interleaved,
    log,
    median_wall_s,
    peak_bytes,
    pool_peak_bytes,
    run,
    run_scoreline,
    scoreline,
    shown,
    workload,
)
from benchmarks.workloads import make_model, make_once, make_workload
from scoring.demo import Kind

MEMORY_LIMIT_BYTES = 800_000_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, print the table, and keep it where it is the whole one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="one run, fewer rows, no 16 million rows; nothing is kept")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", type=Path, default=HERE / ".data", help="where the data is made and kept")
    options = parser.parse_args(arguments)
    bench = Bench(
        data=options.data.resolve(),
        runs=1 if options.quick else options.runs,
        workers=options.workers,
        quick=options.quick,
    )
    scoreline()
    names = options.only or [name for name in MEASUREMENTS if not (options.quick and name == "huge")]
    load = os.getloadavg()[0]
    measured_at = commit()
    shutil.rmtree(bench.scratch, ignore_errors=True)
    lines = [line for name in names for line in MEASUREMENTS[name](bench)]
    shutil.rmtree(bench.scratch, ignore_errors=True)

    print_lines(lines)
    if not options.quick and not options.only:
        commands = {shown(bench, command): None for command in commands_run}
        path = save(lines, HERE / "results", list(commands), measured_at, load)
        print(f"written to {path.relative_to(HERE.parent)}")


def many_small(bench: Bench) -> list[Line]:
    """Many small files, against the pool."""
    return [against_pool(bench, "many_small", at_least=4.5)]


def one_big(bench: Bench) -> list[Line]:
    """One file to cut, against the pool; and its memory, against what is allowed."""
    peak = peak_bytes(bench, "one_big")
    memory = Line(
        name="one_big",
        what=f"{described(workload(bench, 'one_big'))}: peak PSS",
        unit="MB",
        ours=(peak / 1e6,),
        other=(MEMORY_LIMIT_BYTES / 1e6,),
        other_name="limit",
        figure=peak / MEMORY_LIMIT_BYTES,
        at_most=1.0,
    )
    return [against_pool(bench, "one_big", at_least=2.7), memory]


def huge(bench: Bench) -> list[Line]:
    """Four times the rows need no more memory."""
    ours, other = peak_bytes(bench, "huge"), peak_bytes(bench, "one_big")
    line = Line(
        name="huge",
        what=f"{described(workload(bench, 'huge'))}: peak PSS",
        unit="MB",
        ours=(ours / 1e6,),
        other=(other / 1e6,),
        other_name="one_big",
        figure=ours / other,
        at_most=1.1,
    )
    return [line]


def many_big(bench: Bench) -> list[Line]:
    """Many big files, which the pool spreads as well as anyone."""
    return [against_pool(bench, "many_big", at_least=1.6)]


def tiny(bench: Bench) -> list[Line]:
    """Ten rows: all of it is start-up, against a plain script."""
    pairs = interleaved(bench, "tiny", runs=max(bench.runs, 2 if bench.quick else 5))
    ours, theirs = [ours.run for ours, _ in pairs], [theirs for _, theirs in pairs]
    line = Line(
        name="tiny",
        what=f"{described(workload(bench, 'tiny'))}: wall",
        unit="s",
        ours=tuple(run.wall_s for run in ours),
        other=tuple(run.wall_s for run in theirs),
        other_name="plain script",
        figure=median_wall_s(ours) / median_wall_s(theirs),
        at_most=1.1,
        ours_cpu_s=statistics.median(run.cpu_s for run in ours),
        other_cpu_s=statistics.median(run.cpu_s for run in theirs),
    )
    return [line]


def gradient_boosting(bench: Bench) -> list[Line]:
    """How near the scoring phase comes to bare predict, where predict is nearly all there is to do."""
    return [against_bare(bench, "gradient_boosting", "gradient_boosting", at_least=0.93)]


def logistic(bench: Bench) -> list[Line]:
    """How near the scoring phase comes to bare predict, where reading and writing weigh as much."""
    return [against_bare(bench, "logistic", "one_big", at_least=0.68)]


def help_text(bench: Bench) -> list[Line]:
    """Asking for help, against importing what the command line is made with."""
    ours, theirs = [], []
    for _ in range(5 if bench.quick else 15):
        ours.append(run(bench, [scoreline(), "--help"]))
        theirs.append(run(bench, [sys.executable, "-c", "import click"]))
    line = Line(
        name="help",
        what="scoreline --help: wall",
        unit="s",
        ours=tuple(run.wall_s for run in ours),
        other=tuple(run.wall_s for run in theirs),
        other_name="import click",
        figure=median_wall_s(ours) / median_wall_s(theirs),
        at_most=3.0,
    )
    return [line]


def poison(bench: Bench) -> list[Line]:
    """One row in a million that kills its process, and one value in a hundred missing, against calm runs."""
    inner = make_model(bench.data, "logistic")
    brittle = make_once(inner.with_name(f"brittle-{inner.name}"), lambda path: save_brittle_model(path, inner))
    million = workload(bench, "million")
    calm = make_workload(bench.data, million)
    row = million.rows * 2 // 3
    poisoned = make_once(calm.with_name("poisoned.csv"), lambda path: poison_row(calm, path, row))
    big = make_workload(bench.data, workload(bench, "one_big"))
    blanked = make_once(big.with_name("blanked.csv"), lambda path: blank_values(big, path, "oldpeak", every=100))
    return [
        against_calm(bench, "poison", brittle, calm=calm, disturbed=poisoned, what="one row dies of SIGSEGV"),
        against_calm(bench, "nulls", inner, calm=big, disturbed=blanked, what="1 % of a column missing"),
    ]


MEASUREMENTS: dict[str, Callable[[Bench], list[Line]]] = {
    "many_small": many_small,
    "one_big": one_big,
    "huge": huge,
    "many_big": many_big,
    "tiny": tiny,
    "gradient_boosting": gradient_boosting,
    "logistic": logistic,
    "poison": poison,
    "azurite_one_big": azurite_one_big,
    "azurite_many_small": azurite_many_small,
    "help": help_text,
}


def against_pool(bench: Bench, name: str, *, at_least: float) -> Line:
    """Compare the wall time of whole processes with the pool's."""
    pairs = interleaved(bench, name, runs=bench.runs)
    ours, theirs = [ours.run for ours, _ in pairs], [theirs for _, theirs in pairs]
    # Sampled in runs of their own, as sampling slows what it looks at.
    ours_peak, other_peak = (0, 0) if bench.quick else (peak_bytes(bench, name), pool_peak_bytes(bench, name))
    return Line(
        name=name,
        what=f"{described(workload(bench, name))}: wall",
        unit="s",
        ours=tuple(run.wall_s for run in ours),
        other=tuple(run.wall_s for run in theirs),
        other_name="pool",
        figure=median_wall_s(theirs) / median_wall_s(ours),
        at_least=at_least,
        ours_cpu_s=statistics.median(run.cpu_s for run in ours),
        other_cpu_s=statistics.median(run.cpu_s for run in theirs),
        ours_peak_bytes=ours_peak,
        other_peak_bytes=other_peak,
    )


def against_bare(bench: Bench, name: Kind, workload_name: str, *, at_least: float) -> Line:
    """Compare the seconds of the scoring phase with those that bare predict would need on as many cores."""
    model = make_model(bench.data, name)
    source = make_workload(bench.data, workload(bench, workload_name))
    all_rows = workload(bench, workload_name).all_rows
    limits_s, scoring_s = [], []
    for number in range(bench.runs):
        bare = run(bench, [sys.executable, "-m", "benchmarks.bare", str(model), str(source)], env=ONE_THREAD)
        ours = run_scoreline(bench, model, source)
        limits_s.append(float(bare.stdout) * all_rows / bench.workers)
        scoring_s.append(ours.receipt["timings"]["scoring_s"])
        log.print(f"{name} {number + 1}/{bench.runs}: scored in {scoring_s[-1]:.2f} s, limit {limits_s[-1]:.2f} s")
    return Line(
        name=name,
        what=f"{described(workload(bench, workload_name))}, {name.replace('_', ' ')}: scoring phase",
        unit="s",
        ours=tuple(scoring_s),
        other=tuple(limits_s),
        other_name="bare predict",
        figure=statistics.median(limits_s) / statistics.median(scoring_s),
        at_least=at_least,
    )


def against_calm(bench: Bench, name: str, model: Path, *, calm: Path, disturbed: Path, what: str) -> Line:
    """Compare the wall time of a job of which rows must be found and set aside with that of a calm one."""
    ours, theirs = [], []
    for number in range(bench.runs):
        theirs.append(run_scoreline(bench, model, calm).run)
        ours.append(run_scoreline(bench, model, disturbed, options=("--max-quarantined", "2%")).run)
        log.print(f"{name} {number + 1}/{bench.runs}: {ours[-1].wall_s:.2f} s, calm {theirs[-1].wall_s:.2f} s")
    return Line(
        name=name,
        what=f"{what}: wall",
        unit="s",
        ours=tuple(run.wall_s for run in ours),
        other=tuple(run.wall_s for run in theirs),
        other_name="calm run",
        figure=median_wall_s(ours) / median_wall_s(theirs),
        at_most=2.0,
        ours_cpu_s=statistics.median(run.cpu_s for run in ours),
        other_cpu_s=statistics.median(run.cpu_s for run in theirs),
    )


if __name__ == "__main__":
    main()
