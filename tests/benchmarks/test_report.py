"""The report is made of nothing but the lines that are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.report import write_page
from benchmarks.results import Line, machine, save_lines

ROOT = Path(__file__).parents[2]

POOL = Line(
    name="one_big", what="4,000,000 rows", unit="s", ours=(4.0, 5.0, 4.5), other=(9.0,), other_name="pool", figure=2.0,
    at_least=2.7, ours_cpu_s=6.0, other_cpu_s=16.0, ours_peak_bytes=6 * 10**8, other_peak_bytes=10**9, ours_first_s=2.0,
    other_first_s=8.5, bare_s=3.0, rows=4_000_000, input_bytes=10**8, workers=2, commit="abc", load=0.25,
    versions={"ray": "2.60"}, commands=("scoreline run --model m",), when="today",
)  # fmt: skip
SCALING = Line(
    name="scaling_light", what="all", unit="s", ours=(2.0,), other=(3.0,), other_name="1 worker", figure=1.5,
)  # fmt: skip


def report(folder: Path) -> None:
    """Have the report written in a process of its own, as matplotlib keeps its fonts open."""
    command = [sys.executable, "-m", "benchmarks.bench", "--report", "--results", str(folder), "--data", str(folder)]
    subprocess.run(command, cwd=ROOT, env=os.environ, check=True)


def test_page_and_plots(tmp_path: Path) -> None:
    """The page shows the figures, where a target is missed, the commands, and a plot of everything measured."""
    page = tmp_path / f"{machine()}.md"
    save_lines(page.with_suffix(".json"), [POOL, replace(POOL, other_name="dask", figure=3.0), SCALING])
    report(tmp_path)
    text = page.read_text()
    row = next(line for line in text.splitlines() if line.startswith("| one_big: 4,000,000 rows | pool"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "one_big: 4,000,000 rows", "pool", "4.50 s (4.00-5.00)", "9.00 s", "2.00", "at least 2.7", "MISS", "6.0 / 16.0",
        "600 / 1000", "2.0 / 8.5", "0.33 / 0.17", "444.4 / 222.2", "0.2, abc",
    ]  # fmt: skip
    assert "| one_big: 4,000,000 rows | 4.5 s | 600 MB | 2.0 | 3.0 |" in text
    assert "- one_big, wall, against pool: 2.00, at least 2.7" in text
    assert "against dask" not in text
    assert text.count("scoreline run --model m") == 1
    for part in ("wall", "efficiency", "scaling", "memory"):
        plot = page.with_name(f"{page.stem}-{part}.svg")
        assert f"({plot.name})" in text
        assert "<svg" in plot.read_text()


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    """A page without lines has no plots."""
    page = tmp_path / "machine.md"
    write_page([], page)
    assert [each.name for each in tmp_path.iterdir()] == ["machine.md"]
    assert "Nowhere." in page.read_text()
