"""Hold what Scoreline chooses by itself against values set by hand, and what `validate` estimates against what is.

Usage: python -m benchmarks.tuning [--quick] [--only grid estimates] [--workloads NAME ...] [--runs 3] [--data DIR]

grid       on four workloads a search over workers, rows of a call and calls of a mini-batch, once each; then the best
           of them and the automatic choice, in turn
estimates  the wall time and the memory that `validate` foretells, and those of the run that follows it

The tables are printed and, unless the bench is quick, written to results/<machine>-tuning.md and .json.
"""

import argparse
import json
import os
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.contenders import RACES
from benchmarks.measure import Run, measure
from benchmarks.results import commit, machine, machine_facts, now
from benchmarks.runs import ENV, HERE, Bench, count, log, scoreline, workload
from benchmarks.workloads import make_model, make_workload

SEARCHED = ("many_small", "one_big", "wide", "forest")
CHUNK_ROWS = (None, 4_096, 16_384, 131_072)
CALLS = (None, 1, 8)
FINALISTS = 3
"""So many of the hand-set choices are run again beside the automatic one."""
WITHIN = 1.10
ESTIMATES_WITHIN = 0.25


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Values that somebody sets; None leaves one to Scoreline."""

    workers: int | None = None
    chunk_rows: int | None = None
    calls: int | None = None

    @property
    def options(self) -> list[str]:
        """Return them as options of a run."""
        given = {
            "--workers": self.workers, "--chunk-rows": self.chunk_rows, "--cells-per-mini-batch": self.calls
        }  # fmt: skip
        return [word for name, value in given.items() if value is not None for word in (name, str(value))]

    @property
    def text(self) -> str:
        """Name them for a person."""
        return " ".join(self.options) or "automatic"


AUTOMATIC = Choice()


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What a search found.

    Attributes:
        name: of the workload.
        automatic_s: wall times of the automatic choice, beside those of the best.
        best: the fastest of those set by hand.
        best_s: its wall times.
        once_s: what every choice took when each was run once.
    """

    name: str
    automatic_s: tuple[float, ...]
    best: str
    best_s: tuple[float, ...]
    once_s: dict[str, float]

    @property
    def figure(self) -> float:
        """Return how many times longer the automatic choice takes."""
        return statistics.median(self.automatic_s) / statistics.median(self.best_s)


@dataclass(frozen=True, kw_only=True)
class Foretold:
    """An estimate and what came of it: wall seconds, and bytes of memory (PSS of all processes)."""

    name: str
    estimated_s: float
    wall_s: float
    estimated_bytes: int
    peak_bytes: int

    @property
    def off(self) -> tuple[float, float]:
        """Return by which share the estimates of time and memory are off."""
        return self.estimated_s / self.wall_s - 1, self.estimated_bytes / self.peak_bytes - 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, print it, and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="small inputs, one run; nothing is kept")
    parser.add_argument("--only", nargs="+", choices=("grid", "estimates"), default=("grid", "estimates"))
    parser.add_argument("--workloads", nargs="+", choices=RACES, metavar="NAME", help=", ".join(RACES))
    parser.add_argument("--runs", type=count, default=3, help="of the finalists of a search")
    parser.add_argument("--data", type=Path, default=HERE / ".data", help="where the data is made and kept")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where tables are kept")
    options = parser.parse_args(arguments)
    runs = 1 if options.quick else options.runs
    bench = Bench(data=options.data.resolve(), runs=runs, workers=os.cpu_count() or 1, quick=options.quick)
    load = os.getloadavg()[0]
    searched = [search(bench, name) for name in options.workloads or SEARCHED] if "grid" in options.only else []
    foretold = [foretell(bench, name) for name in options.workloads or RACES] if "estimates" in options.only else []
    shutil.rmtree(bench.scratch, ignore_errors=True)
    if options.quick:
        print(page(searched, foretold, load=load))
        return
    path = options.results / f"{machine()}-tuning.json"
    searched, foretold = keep(path, searched, foretold)
    text = page(searched, foretold, load=load)
    path.with_suffix(".md").write_text(text)
    print(f"{text}written to {path.with_suffix('.md')}")


def keep(
    path: Path, searched: Sequence[Searched], foretold: Sequence[Foretold]
) -> tuple[list[Searched], list[Foretold]]:
    """Write what was measured into a file, beside what it has of other workloads; return all of it."""
    kept = json.loads(path.read_text()) if path.exists() else {"searched": [], "foretold": []}
    before = [Searched(**each) for each in kept["searched"]], [Foretold(**each) for each in kept["foretold"]]
    both = {each.name: each for each in (*before[0], *searched)}, {each.name: each for each in (*before[1], *foretold)}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: [*map(asdict, found.values())] for name, found in zip(("searched", "foretold"), both, strict=True)}
    path.write_text(json.dumps({**machine_facts(), **content}, indent=1) + "\n")
    return [*both[0].values()], [*both[1].values()]


def search(bench: Bench, name: str) -> Searched:
    """Run every choice once, then the best of them and the automatic one in turn."""
    cpus = len(os.sched_getaffinity(0))
    choices = [
        Choice(workers=workers, chunk_rows=rows, calls=calls)
        for workers, rows, calls in product(sorted({1, cpus, 2 * cpus}), CHUNK_ROWS, CALLS)
    ]
    once: dict[Choice, float] = {}
    score(bench, name, AUTOMATIC)
    for number, choice in enumerate(choices, start=1):
        once[choice] = score(bench, name, choice).wall_s
        log.print(f"{name} {number}/{len(choices)}: {once[choice]:.2f} s with {choice.text}")
    finalists = sorted(choices, key=lambda choice: once[choice])[:FINALISTS]
    again: dict[Choice, list[float]] = {choice: [] for choice in (AUTOMATIC, *finalists)}
    for _ in range(bench.runs):
        for choice, times in again.items():
            times.append(score(bench, name, choice).wall_s)
    # the median of the runs beside the automatic ones: what was fastest once may have had a quiet moment
    best = min(finalists, key=lambda choice: statistics.median(again[choice]))
    return Searched(
        name=name,
        automatic_s=tuple(again[AUTOMATIC]),
        best=best.text,
        best_s=tuple(again[best]),
        once_s={choice.text: seconds for choice, seconds in once.items()},
    )


def foretell(bench: Bench, name: str) -> Foretold:
    """Have `validate` estimate a job, run it, and run it once more to see its memory.

    One run goes before: files that only the estimate had to read from disk would make it too long.
    """
    score(bench, name, AUTOMATIC)
    shutil.rmtree(bench.scratch, ignore_errors=True)
    output = json.loads(command(bench, "validate", name, ["--json"]).stdout)
    estimate: dict[str, Any] = output["checked"]["estimate"]
    wall_s = score(bench, name, AUTOMATIC).wall_s
    peak_bytes = score(bench, name, AUTOMATIC, memory=True).peak_pss_bytes
    found = Foretold(
        name=name,
        estimated_s=estimate["wall_s"],
        wall_s=wall_s,
        estimated_bytes=estimate["peak_bytes"],
        peak_bytes=peak_bytes,
    )
    log.print(f"{name}: estimated {found.estimated_s:.2f} s, took {wall_s:.2f} s")
    return found


def score(bench: Bench, name: str, choice: Choice, *, memory: bool = False) -> Run:
    """Score a workload into a fresh folder."""
    shutil.rmtree(bench.scratch, ignore_errors=True)
    return command(bench, "run", name, ["--quiet", *choice.options], memory=memory)


def command(bench: Bench, verb: str, name: str, options: Sequence[str], *, memory: bool = False) -> Run:
    """Measure one command of Scoreline on a workload."""
    race = RACES[name]
    source = make_workload(bench.data, workload(bench, race.workload))
    words = [scoreline(bench), verb, "--model", str(make_model(bench.data, race.model)), "--input", str(source)]
    words += ["--output", str(bench.scratch / "ours"), *options]
    return measure(words, env=ENV, cwd=HERE.parent, memory=memory)


def page(searched: Sequence[Searched], foretold: Sequence[Foretold], *, load: float) -> str:
    """Write the tables."""
    facts = machine_facts()
    text = [
        f"# Tuning by itself on {facts['machine']}",
        "",
        f"{facts['cpu']}; {facts['system']}; {facts['versions']}; commit {commit()}, {now()}, load before {load:.1f}.",
        "Repeat it with `python -m benchmarks.tuning`. Times are of whole processes.",
    ]
    if searched:
        text += [
            "",
            f"## Against a search by hand (target: at most {WITHIN:.2f} times the best)",
            "",
            "| workload | automatic s | best set by hand | s | quotient | verdict |",
            "|---|---|---|---|---|---|",
            *map(searched_row, searched),
        ]
    if foretold:
        text += [
            "",
            f"## What validate estimates (target: within {ESTIMATES_WITHIN:.0%})",
            "",
            "| workload | estimated s | took s | off by | estimated MB | used MB | off by | verdict |",
            "|---|---|---|---|---|---|---|---|",
            *map(foretold_row, foretold),
        ]
    return "\n".join(text) + "\n"


def searched_row(each: Searched) -> str:
    """Write one row of the table of searches."""
    verdict = "ok" if each.figure <= WITHIN else "MISSED"
    best = f"`{each.best}` | {times(each.best_s)}"
    return f"| {each.name} | {times(each.automatic_s)} | {best} | {each.figure:.2f} | {verdict} |"


def foretold_row(each: Foretold) -> str:
    """Write one row of the table of estimates."""
    time_off, memory_off = each.off
    verdict = "ok" if max(abs(time_off), abs(memory_off)) <= ESTIMATES_WITHIN else "MISSED"
    seconds = f"{each.estimated_s:.2f} | {each.wall_s:.2f} | {time_off:+.0%}"
    megabytes = f"{each.estimated_bytes / 1e6:.0f} | {each.peak_bytes / 1e6:.0f} | {memory_off:+.0%}"
    return f"| {each.name} | {seconds} | {megabytes} | {verdict} |"


def times(seconds: Sequence[float]) -> str:
    """Write the median, with the fastest and the slowest."""
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
