"""What the search by hand tries, and what is kept and shown of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.tuning import AUTOMATIC, Choice, Foretold, Searched, keep, page

SEARCHED = Searched(
    name="one_big", automatic_s=(4.0, 4.4, 4.2), best="--workers 2", best_s=(4.1, 4.0, 3.9), once_s={"--workers 2": 3.9}
)
FORETOLD = Foretold(name="tiny", estimated_s=2.4, wall_s=2.0, estimated_bytes=3 * 10**8, peak_bytes=2 * 10**8)


def test_choice_is_given_as_options() -> None:
    """What is left to Scoreline is no option."""
    assert AUTOMATIC.options == []
    assert AUTOMATIC.text == "automatic"
    assert Choice(workers=2, calls=8).options == ["--workers", "2", "--cells-per-mini-batch", "8"]
    assert Choice(chunk_rows=4_096).text == "--chunk-rows 4096"


def test_page_judges_medians() -> None:
    """Quotients of medians, each with its verdict."""
    text = page([SEARCHED, replace(SEARCHED, name="wide", automatic_s=(5.0,))], [FORETOLD], load=0.5).splitlines()
    assert "| one_big | 4.20 (4.00 to 4.40) | `--workers 2` | 4.00 (3.90 to 4.10) | 1.05 | ok |" in text
    assert "| wide | 5.00 (5.00 to 5.00) | `--workers 2` | 4.00 (3.90 to 4.10) | 1.25 | MISSED |" in text
    assert "| tiny | 2.40 | 2.00 | +20% | 300 | 200 | +50% | MISSED |" in text


def test_partial_run_keeps_what_others_measured(tmp_path: Path) -> None:
    """What is measured again replaces its older self, and nothing else."""
    path = tmp_path / "results" / "machine-tuning.json"
    keep(path, [SEARCHED], [])
    keep(path, [], [FORETOLD])
    newer = replace(SEARCHED, automatic_s=(1.0,))
    searched, foretold = keep(path, [newer], [])
    assert [each.figure for each in searched] == [newer.figure]
    assert foretold == [FORETOLD]
