"""Draw what was measured: wall by peer, memory against the size of the input, efficiency, scaling."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS = "scoreline"
_COLORS = {
    OURS: "#d62728", "pool": "#1f77b4", "ray": "#2ca02c", "dask": "#ff7f0e", "spark": "#9467bd", "mlflow": "#8c564b",
    "streaming": "#7f7f7f", "plain": "#bcbd22", "2 workers": "#d62728", "1 worker": "#7f7f7f",
}  # fmt: skip


def draw(lines: Sequence[Line], page: Path) -> list[tuple[Path, str]]:
    """Draw the plots beside a page; return each with what it shows, without those that nothing was measured for."""
    races = [line for line in lines if line.workers]
    walls = _by_side(races, lambda line: (statistics.median(line.ours), statistics.median(line.other)))
    shares = _by_side(
        [line for line in races if line.bare_s],
        lambda line: tuple(
            line.bare_s / (line.workers * statistics.median(values)) for values in (line.ours, line.other)
        ),
    )
    memory = _by_size([line for line in races if line.ours_peak_bytes and line.name in ("million", "one_big", "huge")])
    scaling = {
        line.name.removeprefix("scaling_"): {
            "1 worker": statistics.median(line.other),
            "2 workers": statistics.median(line.ours),
        }
        for line in lines
        if line.name.startswith("scaling_") and line.measure == "wall"
    }
    drawn: list[tuple[Path, str]] = []
    for part, words, data, label in (
        ("wall", "Wall time, whole processes", walls, "seconds, logarithmic"),
        ("efficiency", "Efficiency: bare predict over workers times wall", shares, "share"),
        ("scaling", "One worker and two", scaling, "seconds"),
    ):
        if data:
            path = page.with_name(f"{page.stem}-{part}.svg")
            _bars(data, path, label=label, logarithmic=part == "wall")
            drawn.append((path, words))
    if memory:
        path = page.with_name(f"{page.stem}-memory.svg")
        _curves(memory, path)
        drawn.append((path, "Peak memory against the size of the input"))
    return drawn


def _by_side(lines: Sequence[Line], pair: Callable[[Line], tuple[float, ...]]) -> dict[str, dict[str, float]]:
    """Return workload -> side -> value; Scoreline's is the median of what it took beside each peer."""
    found: dict[str, dict[str, float]] = {}
    ours: dict[str, list[float]] = {}
    for line in lines:
        mine, theirs = pair(line)
        ours.setdefault(line.name, []).append(mine)
        found.setdefault(line.name, {OURS: 0.0})[line.other_name] = theirs
    return {name: sides | {OURS: statistics.median(ours[name])} for name, sides in found.items()}


def _by_size(lines: Sequence[Line]) -> dict[str, list[tuple[float, float]]]:
    """Return side -> input and peak in MB, by the size of the input."""
    found: dict[str, dict[float, float]] = {}
    for line in lines:
        size = line.input_bytes / 1e6
        found.setdefault(OURS, {})[size] = line.ours_peak_bytes / 1e6
        found.setdefault(line.other_name, {})[size] = line.other_peak_bytes / 1e6
    return {side: sorted(points.items()) for side, points in found.items()}


def _bars(data: dict[str, dict[str, float]], path: Path, *, label: str, logarithmic: bool) -> None:
    figure, axes = _figure(max(6.0, 1.2 * len(data) + 2))
    sides = list(dict.fromkeys(side for values in data.values() for side in values))
    width = 0.8 / len(sides)
    for number, side in enumerate(sides):
        places = [
            place + (number - (len(sides) - 1) / 2) * width for place, name in enumerate(data) if side in data[name]
        ]
        heights = [values[side] for values in data.values() if side in values]
        axes.bar(places, heights, width, label=side, color=_COLORS.get(side))
    axes.set_xticks(range(len(data)), list(data), rotation=30, ha="right")
    axes.set_ylabel(label)
    if logarithmic:
        axes.set_yscale("log")
        axes.set_ylim(bottom=1)
    _finish(figure, axes, path)


def _curves(data: dict[str, list[tuple[float, float]]], path: Path) -> None:
    figure, axes = _figure(7.0)
    for side, points in data.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=side, color=_COLORS.get(side))
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = sorted({size for points in data.values() for size, _ in points})
    axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("input, MB")
    axes.set_ylabel("peak PSS of the process tree, MB")
    _finish(figure, axes, path)


def _figure(width: float) -> tuple[Figure, Axes]:
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    # the same lines give the same file, and texts stay texts
    rcParams.update({"svg.hashsalt": "scoreline", "svg.fonttype": "none"})
    figure = Figure(figsize=(width, 4.0), layout="constrained")
    return figure, figure.subplots()


def _finish(figure: Figure, axes: Axes, path: Path) -> None:
    axes.grid(axis="y", alpha=0.3)
    figure.legend(fontsize="small", loc="outside right upper")
    figure.savefig(path, format="svg", metadata={"Date": None})
