"""What is measured of Scoreline without a peer: memory, the scoring phase, scaling, growth, the driver."""

import json
import statistics
import sys
from dataclasses import replace

from benchmarks.models import ModelKind
from benchmarks.results import Line
from benchmarks.runs import (
    Bench,
    OurRun,
    bare_s_per_row,
    log,
    peak_bytes,
    run,
    run_scoreline,
    workload,
)
from benchmarks.workloads import Workload, make_model, make_workload

MEMORY_LIMIT_BYTES = 800_000_000
MINI_BATCHES = 100_000


def memory(bench: Bench) -> list[Line]:
    """What one big file takes, and that four times the rows need no more."""
    big, huge = peak_bytes(bench, "one_big"), peak_bytes(bench, "huge")
    shared = {"name": "memory", "unit": "MB"}
    return [
        Line(
            **shared,
            measure="peak PSS",
            what=workload(bench, "one_big").described,
            ours=(big / 1e6,),
            other=(MEMORY_LIMIT_BYTES / 1e6,),
            other_name="limit",
            figure=big / MEMORY_LIMIT_BYTES,
            at_most=1.0,
        ),
        Line(
            **shared,
            measure="peak PSS",
            what=workload(bench, "huge").described,
            ours=(huge / 1e6,),
            other=(big / 1e6,),
            other_name=workload(bench, "one_big").described,
            figure=huge / big,
            at_most=1.1,
        ),
    ]


def heavy_phase(bench: Bench) -> list[Line]:
    """How near the scoring phase comes to bare predict, where predict is nearly all there is to do."""
    return [_against_bare(bench, "heavy_phase", "gradient_boosting", "two_million", at_least=0.95)]


def light_phase(bench: Bench) -> list[Line]:
    """How near the scoring phase comes to bare predict, where reading and writing weigh as much."""
    return [_against_bare(bench, "light_phase", "logistic", "one_big", at_least=0.72)]


def _against_bare(bench: Bench, name: str, kind: ModelKind, workload_name: str, *, at_least: float) -> Line:
    """Compare the seconds of the scoring phase with those that bare predict would need on as many cores."""
    model, work = make_model(bench.data, kind), workload(bench, workload_name)
    source = make_workload(bench.data, work)
    limits_s, scoring_s = [], []
    for number in range(bench.runs):
        limits_s.append(bare_s_per_row(bench, workload_name, kind) * work.all_rows / bench.workers)
        scoring_s.append(_scoring_s(run_scoreline(bench, model, source)))
        log.print(f"{name} {number + 1}/{bench.runs}: scored in {scoring_s[-1]:.2f} s, limit {limits_s[-1]:.2f} s")
    return Line(
        name=name,
        measure="scoring phase",
        what=f"{work.described}, {kind.replace('_', ' ')}",
        unit="s",
        ours=tuple(scoring_s),
        other=tuple(limits_s),
        other_name="bare predict",
        figure=statistics.median(limits_s) / statistics.median(scoring_s),
        at_least=at_least,
    )


def scaling(bench: Bench) -> list[Line]:
    """What the second worker brings, of whole processes and of the scoring phase."""
    lines = []
    for name, workload_name, kind in (
        ("scaling_light", "many_big", "logistic"),
        ("scaling_one_file", "one_big", "logistic"),
        ("scaling_heavy", "heavy", "gradient_boosting"),
    ):
        lines += _scaling(bench, name, workload_name, kind)  # type: ignore[arg-type]
    return lines


def _scaling(bench: Bench, name: str, workload_name: str, kind: ModelKind) -> list[Line]:
    model, work = make_model(bench.data, kind), workload(bench, workload_name)
    source = make_workload(bench.data, work)
    one, two = [], []
    for number in range(bench.runs):
        one.append(run_scoreline(replace(bench, workers=1), model, source))
        two.append(run_scoreline(replace(bench, workers=2), model, source))
        log.print(f"{name} {number + 1}/{bench.runs}: {one[-1].run.wall_s:.2f} s, then {two[-1].run.wall_s:.2f} s")
    what = f"{work.described}, {kind.replace('_', ' ')}, 2 workers"
    return [
        Line(
            name=name,
            measure=measure,
            what=what,
            unit="s",
            ours=tuple(times(each) for each in two),
            other=tuple(times(each) for each in one),
            other_name="1 worker",
            figure=statistics.median(map(times, one)) / statistics.median(map(times, two)),
        )
        for measure, times in (("wall", _wall_s), ("scoring phase", _scoring_s))
    ]


def growth(bench: Bench) -> list[Line]:
    """Whether four and sixteen times the rows take four and sixteen times the time, after start-up."""
    model = make_model(bench.data, "logistic")
    names = ("million", "one_big", "huge")
    works = [workload(bench, name) for name in names]
    after_s: list[list[float]] = [[] for _ in names]
    for number in range(bench.runs):
        for place, work in enumerate(works):
            after_s[place].append(_after_start_s(run_scoreline(bench, model, make_workload(bench.data, work))))
        seconds = ", ".join(f"{each[-1]:.2f} s" for each in after_s)
        log.print(f"growth {number + 1}/{bench.runs}: {seconds} after start-up")
    lines = []
    for work, seconds in zip(works[1:], after_s[1:], strict=True):
        times = work.all_rows / works[0].all_rows
        per_row = statistics.median(seconds) / times
        lines.append(
            Line(
                name="growth",
                measure=f"time after start-up, {times:g} times",
                what=work.described,
                unit="s",
                ours=tuple(seconds),
                other=tuple(after_s[0]),
                other_name=works[0].described,
                figure=per_row / statistics.median(after_s[0]),
                at_most=1.05,
            )
        )
    return lines


def driver(bench: Bench) -> list[Line]:
    """What the driver takes for a mini-batch when the engine does nothing, and what it keeps of it."""
    rows = 20_000 if bench.quick else MINI_BATCHES
    source = make_workload(bench.data, Workload(files=1, rows=rows))
    command = [sys.executable, "-m", "benchmarks.driver", str(source)]
    found = [json.loads(run(bench, command).stdout) for _ in range(bench.runs)]
    assert all(each["batches"] == rows for each in found), found
    walls_ms = tuple(1e3 * each["wall_s"] / rows for each in found)
    memory_mb = [[each / 1e6 for each in run["memory_bytes"]] for run in found]
    early, late = zip(*memory_mb, strict=True)
    what = f"{rows:,} mini-batches, no-op engine, no staging"
    return [
        Line(
            name="driver",
            measure="wall of the loop for each",
            what=what,
            unit="ms",
            ours=walls_ms,
            other=(1.0,),
            other_name="limit",
            figure=statistics.median(walls_ms),
            at_most=1.0,
            ours_cpu_s=statistics.median(each["cpu_s"] for each in found),
        ),
        Line(
            name="driver",
            measure="resident memory of the driver",
            what=what,
            unit="MB",
            ours=tuple(late),
            other=tuple(early),
            other_name="after 10,000",
            figure=statistics.median(late) / statistics.median(early),
            at_most=1.1,
        ),
    ]


def _wall_s(ours: OurRun) -> float:
    return ours.run.wall_s


def _scoring_s(ours: OurRun) -> float:
    return ours.receipt["timings"]["scoring_s"]


def _after_start_s(ours: OurRun) -> float:
    timings = ours.receipt["timings"]
    return timings["total_s"] - timings["start_s"]
