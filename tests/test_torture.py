"""A small share of the torture, with a fixed seed; `make torture` runs all of it."""

from __future__ import annotations

from tests.torture import run


def test_random_kills_change_nothing() -> None:
    """Jobs killed at random, and run again, end with the bytes of calm runs and leave nothing behind."""
    tally = run(runs=3, seed=20_261_122, most_s=60.0, rows=150_000)
    assert tally.runs > 0
    assert tally.kills.total() > 0
