"""A benchmark is run in slices: what was measured before is kept, and shown with its own commit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.results import Line, load_lines, merge_lines, save_lines

POOL = Line(
    name="one_big", what="4 rows", unit="s", ours=(1.0, 1.5), other=(3.0,), other_name="pool", figure=3.0, at_least=2.7,
    versions={"ray": "2.0"}, commands=("scoreline run",), commit="abc", workers=2,
)  # fmt: skip
RAY = replace(POOL, other_name="ray", figure=2.0, commit="abc")
TINY = replace(POOL, name="tiny", commit="abc")


def test_lines_come_back_as_they_were(tmp_path: Path) -> None:
    """The file holds every figure of every line."""
    path = tmp_path / "results" / "machine.json"
    save_lines(path, [POOL, RAY])
    assert load_lines(path) == [POOL, RAY]
    assert [each.name for each in path.parent.iterdir()] == ["machine.json"]


def test_a_partial_run_loses_no_line(tmp_path: Path) -> None:
    """New lines replace those of the same name, measure and peer, and nothing else."""
    path = tmp_path / "machine.json"
    save_lines(path, [POOL, RAY, TINY])
    again = replace(RAY, figure=5.0, commit="def")
    memory = replace(RAY, measure="peak PSS", commit="def")
    merged = merge_lines(load_lines(path), [again, memory], ["tiny", "one_big"])
    assert merged == [TINY, POOL, again, memory]


def test_lines_of_another_format_are_not_taken(tmp_path: Path) -> None:
    """A file written before lines had commits of their own is written anew."""
    path = tmp_path / "machine.json"
    path.write_text('{"machine": "x", "lines": [{"name": "one_big"}]}')
    assert load_lines(path) == []


def test_a_target_is_a_bound() -> None:
    """A line passes on its bound, and a line without a target passes."""
    assert POOL.passed
    assert not replace(POOL, figure=2.69).passed
    assert replace(POOL, at_least=None, at_most=3.0).passed
    assert not replace(POOL, at_least=None, at_most=2.99).passed
    assert replace(POOL, at_least=None).passed
