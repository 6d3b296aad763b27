"""A job that is given again knows what it did, whatever happened to the times of its files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime import run
from runtime.errors import OutputError, ThresholdError
from runtime.plan import PATIENCE_LEAST_S, Plan

Repeat = Callable[..., dict[str, Any]]


@pytest.fixture
def data(tmp_path: Path, heart_rows: Callable[..., Path]) -> Path:
    """Return a folder of three files, one of which is cut."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number, rows in enumerate((30, 900, 40)):
        (folder / f"{number}.csv").write_bytes(heart_rows(rows, seed=number).read_bytes())
    return folder


@pytest.fixture
def repeat(tmp_path: Path, heart_model: Path, data: Path) -> Repeat:
    """Return a function that gives the same job again."""

    def again(**options: Any) -> dict[str, Any]:
        said: list[str] = []
        receipt = run(
            model=heart_model, input=data, output=tmp_path / "out", chunk_rows=256, engine="inline",
            notice=said.append, **options,
        )  # fmt: skip
        return {**receipt.content, "said": said}

    return again


def test_complete_job_is_known_when_files_were_touched(repeat: Repeat, data: Path) -> None:
    """Other times on the same bytes are no other input: nothing is scored again."""
    first = repeat()
    for file in data.iterdir():
        os.utime(file, ns=(1, 1))
    second = repeat()
    assert second["said"][0].startswith("already complete, nothing to do")
    assert (first["output"], first["timings"]) == (second["output"], second["timings"])


def test_complete_job_does_not_claim_other_bytes(repeat: Repeat, data: Path) -> None:
    """A file of the same size and another content is another input, and the output is not touched."""
    first = repeat()
    file = data / "1.csv"
    text = file.read_text()
    file.write_text(text[:-1].rpartition("\n")[0] + "\n" + text[:-1].rpartition("\n")[2][::-1] + "\n")
    assert file.stat().st_size == first["files"][1]["size_bytes"]
    with pytest.raises(OutputError, match=r"predictions\.csv exists already: was made from other input files"):
        repeat()
    assert Path(first["output"]["url"]).stat().st_size == first["output"]["size_bytes"]


def test_mini_batches_hang_when_they_take_much_longer_than_others() -> None:
    """Patience ends at 20 times the median, and at 300 s at the earliest; before 5 mini-batches it never ends."""
    plan = Plan((), workers=2)
    for seconds in (1.0, 100.0, 60.0, 80.0):
        plan.learn(1, seconds)
    assert plan.patience_s(1) is None
    plan.learn(2, 140.0)
    assert plan.patience_s(1) == 20 * 70.0
    assert plan.patience_s(3) == 3 * 20 * 70.0
    for _ in range(1_001):
        plan.learn(1, 0.1)
    assert plan.patience_s(1) == PATIENCE_LEAST_S


def test_parts_without_named_columns_are_scored_again(repeat: Repeat, data: Path, tmp_path: Path) -> None:
    """A driver killed before it named the columns leaves nothing that could be published without them."""
    file = data / "2.csv"
    file.write_text(file.read_text() + "1,2,3\n" * 20)
    with pytest.raises(ThresholdError):
        repeat()
    (tmp_path / "out" / ".predictions.csv.staging" / "header").unlink()
    receipt = repeat(max_quarantined="50%")
    assert receipt["invocation"]["resumed"] == 0
    assert Path(receipt["output"]["url"]).read_text().startswith("row,prediction,file\n0,")


def test_what_changed_since_it_was_staged_is_named(repeat: Repeat, data: Path, heart_rows: Callable[..., Path]) -> None:
    """A changed and a vanished file cost their own mini-batches; a touched one costs nothing, and is not named."""
    for number in (3, 4, 5):
        (data / f"{number}.csv").write_bytes(heart_rows(700, seed=number).read_bytes())
    bad = data / "9.csv"
    bad.write_text("age\n1\n")
    with pytest.raises(ThresholdError):
        repeat(max_quarantined="0")
    bad.unlink()
    (data / "4.csv").unlink()
    with open(data / "5.csv", "a") as changed:
        changed.write((data / "3.csv").read_text().splitlines()[1] + "\n")
    os.utime(data / "3.csv", ns=(1, 1))
    told = repeat()
    assert told["said"][1] == "changed since it was scored, and scored again: 5.csv"
    assert told["said"][2].endswith("of files that are gone: left out")
    assert told["rows"]["scored"] == 30 + 900 + 40 + 700 + 701
