"""Rows that the model does not take are found and set aside, at a bounded price, and all others are scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.saving import save_fault
from tests.runtime.commands import Outcome, scoreline

MILLION = 1_000_000
POISON = 654_321


@pytest.fixture(scope="module")
def by_row(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save the model that does what its rows say."""
    columns = [("value", "long"), ("action", "string"), ("mark", "string?")]
    return save_fault(tmp_path_factory.mktemp("models") / "by_row", "by_row", columns)


def receipt(output: Path) -> Any:
    """Read a receipt."""
    return json.loads((output / "_predictions.receipt.json").read_text())


def run(model: Path, data: Path, *options: object) -> Outcome:
    """Score a file with real workers, into the folder out beside it."""
    place = ["--input", data, "--output", data.with_name("out")]
    return scoreline("run", "--engine", "local", "--model", model, *place, *options)


def quarantine(output: Path) -> list[Any]:
    """Read the quarantine."""
    return [json.loads(line) for line in (output / "_predictions.quarantine.jsonl").read_text().splitlines()]


def test_one_segfaulting_row_in_a_million(by_row: Path, tmp_path: Path) -> None:
    """999,999 rows are scored and the one is named, for under 40 extra calls of predict (issue 4)."""
    rows = "".join(f"{row},{'segv' if row == POISON else ''},\n" for row in range(MILLION))
    (tmp_path / "in.csv").write_text("value,action,mark\n" + rows)
    done = run(by_row, tmp_path / "in.csv")
    assert done.code == 0, done.stderr
    expected = "".join(f"{row},{2 * row},in.csv\n" for row in range(MILLION) if row != POISON)
    assert (tmp_path / "out/predictions.csv").read_text() == "row,prediction,file\n" + expected
    (lost,) = quarantine(tmp_path / "out")
    assert (lost["file"], lost["row"], lost["line"], lost["reason"]) == ("in.csv", POISON, POISON + 2, "SIGSEGV")
    assert lost["values"] == {"value": str(POISON), "action": "segv", "mark": None}
    assert receipt(tmp_path / "out")["invocation"]["probes"] < 40
    assert scoreline("receipt", "check", tmp_path / "out").code == 0


def test_missing_values_that_the_model_refuses(
    heart_model: Path, heart_rows: Callable[[int], Path], tmp_path: Path
) -> None:
    """Of a column with 1 % missing exactly those rows are lost, and most cells cost a look at two rows of them."""
    header, *lines = heart_rows(200_000).read_text().splitlines()
    place = header.split(",").index("oldpeak")
    for row in range(50, len(lines), 100):
        fields = lines[row].split(",")
        fields[place] = ""
        lines[row] = ",".join(fields)
    (tmp_path / "in.csv").write_text("\n".join([header, *lines]) + "\n")
    arguments = ["--chunk-rows", 8_192, "--cells-per-mini-batch", 1, "--max-quarantined", "2%"]
    done = run(heart_model, tmp_path / "in.csv", *arguments)
    assert done.code == 0, done.stderr
    assert [lost["row"] for lost in quarantine(tmp_path / "out")] == list(range(50, 200_000, 100))
    invocation = receipt(tmp_path / "out")["invocation"]
    cells = 25
    assert invocation["attempts"] == 2 * cells + invocation["retries"]
    assert invocation["retries"] <= 2
    assert invocation["probes"] <= 5 * cells


def test_model_that_takes_only_so_many_rows_at_once(by_row: Path, tmp_path: Path) -> None:
    """It was size and no row's fault: nothing is lost, and the receipt says which cell was predicted in pieces."""
    rows = "".join(f"{row},few,\n" for row in range(1_000))
    (tmp_path / "in.csv").write_text("value,action,mark\n" + rows)
    done = run(by_row, tmp_path / "in.csv")
    assert done.code == 0, done.stderr
    assert (tmp_path / "out/predictions.csv").read_text().count("\n") == 1_001
    assert receipt(tmp_path / "out")["invocation"]["in_pieces"] == ["in.csv rows 0 to 999"]
