"""Run Scoreline and what people use instead side by side; keep what came out, line by line, and write the report.

Usage: python -m benchmarks.bench [--quick] [--only NAME ...] [--peers NAME ...] [--resume] [--data DIR] ...
"""

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.azurite import azurite_many_small, azurite_one_big
from benchmarks.contenders import PEER_BY_NAME, RACES
from benchmarks.environments import python_of_ours
from benchmarks.figures import driver, growth, heavy_phase, light_phase, memory, scaling
from benchmarks.poison import blank_values, poison_row, save_brittle_model
from benchmarks.racing import failures, peers_of, race
from benchmarks.report import print_lines, write_page
from benchmarks.results import Line, commit, load_lines, machine, merge_lines, now, save_lines
from benchmarks.runs import (
    HERE,
    Bench,
    commands_run,
    count,
    log,
    median_wall_s,
    run,
    run_scoreline,
    scoreline,
    shown,
    workload,
)
from benchmarks.workloads import make_model, make_once, make_workload


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, keep each measurement as soon as it is made, and write the report."""
    options = _parser().parse_args(arguments)
    bench = Bench(
        data=options.data.resolve(),
        runs=1 if options.quick else options.runs,
        workers=options.workers,
        quick=options.quick,
        peers=tuple(options.peers or ()),
    )
    names = [] if options.report else options.only or (QUICK if options.quick else [*MEASUREMENTS])
    kept = options.results / f"{machine()}.json"
    at = commit() if names else ""
    done = {line.key for line in load_lines(kept) if line.commit == at} if options.resume else set()
    shutil.rmtree(bench.scratch, ignore_errors=True)
    lines: list[Line] = []
    for name in names:
        wanted = _left(bench, name, done)
        if wanted is None:
            log.print(f"{name}: is measured already at {at}")
            continue
        new = _measured(wanted, name, at)
        lines += new
        if not options.quick:
            save_lines(kept, merge_lines(load_lines(kept), new, ORDER))
    shutil.rmtree(bench.scratch, ignore_errors=True)
    if lines:
        print_lines(lines)
    if not options.quick and (known := load_lines(kept)):
        page = kept.with_suffix(".md")
        write_page(known, page)
        print(f"written to {page}")
    if failures:
        sys.exit("\n".join(failures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="one run, small inputs; nothing is kept")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--peers", nargs="+", choices=PEER_BY_NAME, metavar="NAME", help=", ".join(PEER_BY_NAME))
    parser.add_argument("--resume", action="store_true", help="leave out what was measured already at this commit")
    parser.add_argument("--report", action="store_true", help="measure nothing: write the report of what is kept")
    parser.add_argument("--runs", type=count, default=3)
    parser.add_argument("--workers", type=count, default=2)
    parser.add_argument(
        "--data", type=Path, default=HERE / ".data", help="where data and environments are made and kept"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where lines are kept")
    return parser


def _left(bench: Bench, name: str, done: set[tuple[str, str, str]]) -> Bench | None:
    """Return what is left to measure of a name: fewer peers of a race; None for nothing."""
    if name not in RACES:
        return None if any(key[0] in (name, *SEVERAL.get(name, ())) for key in done) else bench
    left = [peer for peer in peers_of(bench, name) if (name, "wall", peer) not in done]
    if not left:
        return None
    # all of them is another thing than a choice of all of them: quick benches leave some out
    return bench if len(left) == len(peers_of(bench, name)) else replace(bench, peers=tuple(left))


def _measured(bench: Bench, name: str, at: str) -> list[Line]:
    """Make one measurement, and note with each line what it was made with."""
    commands_run.clear()
    load, when = os.getloadavg()[0], now()
    lines = MEASUREMENTS[name](bench)
    commands = tuple(dict.fromkeys(shown(bench, command) for command in commands_run))
    return [replace(line, commit=at, when=when, load=load, commands=commands) for line in lines]


def help_text(bench: Bench) -> list[Line]:
    """Asking for help, against importing what the command line is made with."""
    ours, theirs = [], []
    for _ in range(5 if bench.quick else 15):
        ours.append(run(bench, [scoreline(bench), "--help"]))
        theirs.append(run(bench, [python_of_ours(bench.data), "-c", "import click"]))
    line = Line(
        name="help",
        what="scoreline --help",
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
        _against_calm(bench, "poison", brittle, calm=calm, disturbed=poisoned, what="one row dies of SIGSEGV"),
        _against_calm(bench, "nulls", inner, calm=big, disturbed=blanked, what="1 % of a column missing"),
    ]


def _against_calm(bench: Bench, name: str, model: Path, *, calm: Path, disturbed: Path, what: str) -> Line:
    """Compare the wall time of a job of which rows must be found and set aside with that of a calm one."""
    ours, theirs = [], []
    for number in range(bench.runs):
        theirs.append(run_scoreline(bench, model, calm).run)
        ours.append(run_scoreline(bench, model, disturbed, options=("--max-quarantined", "2%")).run)
        log.print(f"{name} {number + 1}/{bench.runs}: {ours[-1].wall_s:.2f} s, calm {theirs[-1].wall_s:.2f} s")
    return Line(
        name=name,
        what=what,
        unit="s",
        ours=tuple(run.wall_s for run in ours),
        other=tuple(run.wall_s for run in theirs),
        other_name="calm run",
        figure=median_wall_s(ours) / median_wall_s(theirs),
        at_most=2.0,
        ours_cpu_s=statistics.median(run.cpu_s for run in ours),
        other_cpu_s=statistics.median(run.cpu_s for run in theirs),
    )


MEASUREMENTS: dict[str, Callable[[Bench], list[Line]]] = {
    **{name: partial(race, name=name) for name in RACES},
    "memory": memory,
    "heavy_phase": heavy_phase,
    "light_phase": light_phase,
    "scaling": scaling,
    "growth": growth,
    "driver": driver,
    "poison": poison,
    "azurite_one_big": azurite_one_big,
    "azurite_many_small": azurite_many_small,
    "help": help_text,
}
SEVERAL = {"scaling": ("scaling_light", "scaling_one_file", "scaling_heavy"), "poison": ("nulls",)}
"""Measurements whose lines have names of their own."""
ORDER = [line for name in MEASUREMENTS for line in (name, *SEVERAL.get(name, ()))]
QUICK = [name for name in RACES if name not in ("million", "huge")] + ["light_phase", "driver", "help"]


if __name__ == "__main__":
    main()
