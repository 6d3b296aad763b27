"""No peer's time counts unless it wrote what Scoreline wrote: the comparison finds every difference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.same_rows import (
    OutputsDifferError,
    check_same_bytes,
    check_same_rows,
    read_json_of_each,
    read_parts,
)

OURS = "row,prediction,file\n0,1,a.csv\n1,0,a.csv\n2,1,a.csv\n0,0,b.csv\n1,1,b.csv\n"


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """Return a score file of two files."""
    path = tmp_path / "predictions.csv"
    path.write_text(OURS)
    return path


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Return the folder that a peer writes into."""
    folder = tmp_path / "parts"
    folder.mkdir()
    return folder


def test_parts_in_the_order_of_their_names(ours: Path, parts: Path) -> None:
    """Files may be mixed and be named by their paths; the rows of one file are in order."""
    (parts / "part-0.csv").write_text('"prediction","file"\n0,"/data/b.csv"\n1,"/data/a.csv"\n0,"/data/a.csv"\n')
    (parts / "part-1.csv").write_text('"prediction","file"\n1.0,"/data/a.csv"\n1,"/data/b.csv"\n')
    (parts / "part-2.csv").touch()
    check_same_rows(ours, read_parts(parts))


def test_ids_tell_the_order(ours: Path, parts: Path) -> None:
    """Where a peer promises no order but has ids, the rows of a file are sorted by them."""
    (parts / "part-0.csv").write_text("id,prediction,file\n9,1,a.csv\n12,1,b.csv\n8,0,a.csv\n")
    (parts / "part-1.csv").write_text("id,prediction,file\n11,0,b.csv\n7,1,a.csv\n")
    check_same_rows(ours, read_parts(parts))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("1,a.csv\n0,a.csv\n0,a.csv\n0,b.csv\n1,b.csv\n", "1 rows, first in row 2 of a.csv"),
        ("0,a.csv\n1,a.csv\n1,a.csv\n0,b.csv\n1,b.csv\n", "2 rows, first in row 0 of a.csv"),
        ("1,a.csv\n0,a.csv\n1,a.csv\n0,b.csv\n", "5 rows, the peer 4"),
        ("1,a.csv\n0,a.csv\n1,b.csv\n0,b.csv\n1,b.csv\n", "of other files"),
        ("1,a.csv\n0,a.csv\n1,a.csv\n0,c.csv\n1,c.csv\n", "of other files"),
    ],
    ids=["another-prediction", "rows-swapped", "a-row-missing", "a-row-of-another-file", "another-file"],
)
def test_any_difference_is_told(ours: Path, parts: Path, rows: str, told: str) -> None:
    """One wrong row is enough, and is named."""
    (parts / "part-0.csv").write_text("prediction,file\n" + rows)
    with pytest.raises(OutputsDifferError, match=told):
        check_same_rows(ours, read_parts(parts))


def test_the_last_bit_of_a_number_counts(tmp_path: Path, parts: Path) -> None:
    """There is no tolerance."""
    ours = tmp_path / "predictions.csv"
    ours.write_text("row,prediction,file\n0,0.1,a.csv\n1,0.30000000000000004,a.csv\n")
    (parts / "part-0.csv").write_text("prediction,file\n0.1,a.csv\n0.30000000000000004,a.csv\n")
    check_same_rows(ours, read_parts(parts))
    (parts / "part-0.csv").write_text("prediction,file\n0.1,a.csv\n0.3,a.csv\n")
    with pytest.raises(OutputsDifferError, match="first in row 1"):
        check_same_rows(ours, read_parts(parts))


def test_a_document_for_each_file(ours: Path, parts: Path) -> None:
    """What `mlflow models predict` writes is compared file by file."""
    (parts / "a.csv.json").write_text(json.dumps({"predictions": [1, 0, 1]}))
    (parts / "b.csv.json").write_text(json.dumps({"predictions": [0, 1]}))
    check_same_rows(ours, read_json_of_each(parts))
    (parts / "b.csv.json").write_text(json.dumps({"predictions": [1, 1]}))
    with pytest.raises(OutputsDifferError, match=r"first in row 0 of b\.csv"):
        check_same_rows(ours, read_json_of_each(parts))


def test_the_first_line_that_differs_is_told(ours: Path, tmp_path: Path) -> None:
    """Peers that write the same format must write the same bytes."""
    theirs = tmp_path / "scores.csv"
    theirs.write_text(OURS)
    check_same_bytes(ours, theirs)
    theirs.write_text(OURS.replace("2,1,a.csv", "2,0,a.csv"))
    with pytest.raises(OutputsDifferError, match="line 4"):
        check_same_bytes(ours, theirs)
    theirs.write_text(OURS.removesuffix("1,1,b.csv\n"))
    with pytest.raises(OutputsDifferError, match="line 6"):
        check_same_bytes(ours, theirs)
