"""Show the lines: a table on the console, and a page of tables and plots beside the file they are kept in."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.plots import draw
from benchmarks.results import Line, machine_facts

_RACE_HEADINGS = [
    "workload", "peer", "scoreline", "the peer", "times faster", "target", "verdict", "CPU s", "peak PSS MB",
    "first scores s", "efficiency", "krows/s per core", "load, commit",
]  # fmt: skip
_OTHER_HEADINGS = ["name", "measured", "scoreline", "other", "figure", "target", "verdict", "CPU s", "load, commit"]


def print_lines(lines: Sequence[Line]) -> None:
    """Print the lines."""
    table = Table(*_OTHER_HEADINGS[:-1], "peak PSS MB")
    for line in lines:
        table.add_row(*_other_cells(line)[:-1], _peaks(line), style=None if line.passed else "bold red")
    console = Console()
    # A pipe has no width; the table shall not be folded to 80 columns in a log.
    console.width = console.width if console.is_terminal else 200
    console.print(table)


def write_page(lines: Sequence[Line], path: Path) -> None:
    """Write the page and draw its plots, from nothing but the lines."""
    races = [line for line in lines if line.workers]
    others = [line for line in lines if not line.workers]
    plots = draw(lines, path)
    facts = machine_facts()
    text = [
        f"# Benchmarks on {facts['machine']}",
        "",
        *(f"- {name}: {facts[name]}" for name in ("cpu", "system", "versions")),
        *(f"- {name}: {number}" for name, number in _peer_versions(lines)),
        "",
        "`../README.md` says what is compared and how it is measured. Each time is the median of the runs, with the",
        "fastest and the slowest in brackets. CPU, peak PSS, first scores and efficiency are scoreline's before the",
        "other's. A line was measured by itself: the load of the machine just before, and the commit, are its own.",
        "",
        "## In short",
        "",
        "Wall time and peak memory of scoreline, and how many times longer each peer takes.",
        "",
        *_short(races),
        "",
        "## Against peers",
        "",
        *_table(_RACE_HEADINGS, [_race_cells(line) for line in races]),
        "",
        "## Everything else",
        "",
        *_table(_OTHER_HEADINGS, [_other_cells(line) for line in others]),
        "",
        "## Where a target is missed",
        "",
        *(_missed(lines) or ["Nowhere."]),
        "",
        *(part for plot, words in plots for part in (f"## {words}", "", f"![{words}]({plot.name})", "")),
        "## Commands",
        "",
        *_commands(lines),
    ]
    path.write_text("\n".join(text) + "\n")


def _short(races: Sequence[Line]) -> list[str]:
    """Make a table of one row for each race: what Scoreline took, and how many times longer each peer did."""
    peers = list(dict.fromkeys(line.other_name for line in races))
    rows = []
    for name in dict.fromkeys(line.name for line in races):
        lines = {line.other_name: line for line in races if line.name == name}
        one = next(iter(lines.values()))
        took = f"{statistics.median(statistics.median(line.ours) for line in lines.values()):.1f} s"
        peak = f"{one.ours_peak_bytes / 1e6:.0f} MB" if one.ours_peak_bytes else ""
        times = [f"{lines[peer].figure:.1f}" if peer in lines else "" for peer in peers]
        rows.append([f"{name}: {one.what}", took, peak, *times])
    return _table(["workload", "scoreline", "peak PSS", *peers], rows)


def _race_cells(line: Line) -> list[str]:
    per_core = [line.rows / 1e3 / (line.workers * statistics.median(walls)) for walls in (line.ours, line.other)]
    return [
        f"{line.name}: {line.what}",
        line.other_name,
        _spread(line.ours, line.unit),
        _spread(line.other, line.unit),
        f"{line.figure:.2f}",
        _target(line),
        _verdict(line),
        _cpu(line),
        _peaks(line),
        f"{line.ours_first_s:.1f} / {line.other_first_s:.1f}" if line.ours_first_s and line.other_first_s else "",
        " / ".join(f"{efficiency(line, walls):.2f}" for walls in (line.ours, line.other)) if line.bare_s else "",
        " / ".join(f"{each:,.1f}" for each in per_core),
        f"{line.load:.1f}, {line.commit}",
    ]


def _other_cells(line: Line) -> list[str]:
    return [
        line.name,
        f"{line.what}: {line.measure}",
        _spread(line.ours, line.unit),
        f"{line.other_name}: {_spread(line.other, line.unit)}",
        f"{line.figure:.2f}",
        _target(line),
        _verdict(line),
        _cpu(line),
        f"{line.load:.1f}, {line.commit}",
    ]


def efficiency(line: Line, walls: Sequence[float]) -> float:
    """Say which share of all workers' time bare `predict` would have needed."""
    return line.bare_s / (line.workers * statistics.median(walls))


def _missed(lines: Iterable[Line]) -> list[str]:
    return [
        f"- {line.name}, {line.measure}, against {line.other_name}: {line.figure:.2f}, {_target(line)}"
        for line in lines
        if not line.passed
    ]


def _target(line: Line) -> str:
    if line.at_least is not None:
        return f"at least {line.at_least:g}"
    return f"at most {line.at_most:g}" if line.at_most is not None else ""


def _verdict(line: Line) -> str:
    if line.at_least is None and line.at_most is None:
        return ""
    return "pass" if line.passed else "MISS"


def _cpu(line: Line) -> str:
    server = f", Azurite {line.server_cpu_s:.1f}" if line.server_cpu_s else ""
    return f"{line.ours_cpu_s:.1f} / {line.other_cpu_s:.1f}{server}" if line.ours_cpu_s else ""


def _peaks(line: Line) -> str:
    return f"{line.ours_peak_bytes / 1e6:.0f} / {line.other_peak_bytes / 1e6:.0f}" if line.ours_peak_bytes else ""


def _peer_versions(lines: Iterable[Line]) -> list[tuple[str, str]]:
    return sorted({pair for line in lines for pair in line.versions.items()})


def _commands(lines: Iterable[Line]) -> list[str]:
    """Name each command once, under the measurement that ran it."""
    text: list[str] = []
    for name in dict.fromkeys(line.name for line in lines):
        commands = dict.fromkeys(command for line in lines if line.name == name for command in line.commands)
        when = ", ".join(dict.fromkeys(line.when for line in lines if line.name == name))
        text += [f"{name} ({when}):", "", "```", *commands, "```", ""]
    return text


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)]


def _spread(values: Sequence[float], unit: str) -> str:
    digits = 0 if unit == "MB" else 2 if unit == "s" else 3
    middle = f"{statistics.median(values):.{digits}f} {unit}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"
