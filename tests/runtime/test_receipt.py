"""The receipt: the account of a job, that adds up."""

from __future__ import annotations

import csv
import json
import shutil
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import run
from runtime.progress import Progress, QuarantineLimit
from runtime.receipt import header_line, inputs_digest
from scoring.cells import InputFile, SliceAccount

HEADER = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal"


@pytest.fixture(scope="module")
def account(
    tmp_path_factory: pytest.TempPathFactory, heart_model: Path, heart_rows: Callable[..., Path]
) -> dict[str, Any]:
    """Return the receipt of a job with good and bad files, as it stands beside the scores."""
    folder = tmp_path_factory.mktemp("receipt")
    data = folder / "data"
    data.mkdir()
    shutil.copy(heart_rows(3_000), data / "large.csv")
    shutil.copy(heart_rows(20, 1), data / "small.csv")
    (data / "empty.csv").write_text(HEADER + "\n")
    (data / "narrow.csv").write_text("age,sex\n1,2\n3,4\n")
    (data / "bad.csv").write_text(f"{HEADER}\n{'x,' * 12}x\n{',' * 12}\n1,2\n")
    (data / "_skipped.csv").touch()
    receipt = run(
        model=heart_model, input=data, output=folder / "score", engine="inline", max_quarantined=10, chunk_rows=1_024,
        keep="age",
    )  # fmt: skip
    content = json.loads((folder / "score" / "_predictions.receipt.json").read_text())
    assert content == receipt.content
    assert isinstance(content, dict)
    return content


def test_every_row_is_accounted_for(account: dict[str, Any]) -> None:
    """Rows read are those scored, quarantined and given up: of each file, and of all."""
    files = {file["file"]: file for file in account["files"]}
    counts = {
        name: [file[kind] for kind in ("read", "scored", "quarantined", "given_up")] for name, file in files.items()
    }
    assert counts == {
        "bad.csv": [3, 0, 3, 0],
        "empty.csv": [0, 0, 0, 0],
        "large.csv": [3_000, 3_000, 0, 0],
        "narrow.csv": [2, 0, 0, 2],
        "small.csv": [20, 20, 0, 0],
    }
    assert account["rows"] == {
        kind: sum(file[kind] for file in account["files"]) for kind in ("read", "scored", "quarantined", "given_up")
    }
    assert sum(account["causes"].values()) == 5
    assert account["skipped"] == {"hidden": 1}


def test_rows_of_the_score_file_are_those_of_the_receipt(account: dict[str, Any]) -> None:
    """The file has as many rows of each input file as the receipt says."""
    with open(account["output"]["url"], newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == account["output"]["columns"]
    assert Counter(row[-1] for row in rows) == {
        file["file"]: file["scored"] for file in account["files"] if file["scored"]
    }


def test_bytes_of_the_score_file_are_those_of_the_receipt(account: dict[str, Any]) -> None:
    """Size and checksum, those of its parts too."""
    data = Path(account["output"]["url"]).read_bytes()
    assert account["output"]["size_bytes"] == len(data)
    assert account["output"]["crc32"] == f"{zlib.crc32(data):08x}"
    header = len(data.split(b"\n", 1)[0]) + 1
    assert sum(account["parts"].values()) == len(data) - header
    assert [entry["length"] for entry in account["appended"]] == [len(data)]


def test_quarantine_has_a_line_for_each_lost_row_or_file(account: dict[str, Any]) -> None:
    """Rows one by one; a file that failed as a whole is one line with its number of rows."""
    entries = [json.loads(line) for line in Path(account["output"]["quarantine"]).read_text().splitlines()]
    assert [(entry["file"], entry["row"], entry.get("rows")) for entry in entries] == [
        ("bad.csv", 0, None),
        ("bad.csv", 1, None),
        ("bad.csv", 2, None),
        ("narrow.csv", None, 2),
    ]


def test_receipt_says_how_it_was_done(account: dict[str, Any]) -> None:
    """Grid, threads, versions, attempts and timings are there, and nothing that is a value of a row."""
    assert account["status"] == "Completed"
    assert account["grid"] == {"cell_rows": 1_024}
    assert account["threads"] == 1
    assert {"scoreline", "mlflow", "pandas", "numpy", "sklearn", "pyarrow"} <= account["versions"].keys()
    invocation = account["invocation"]
    assert invocation["attempts"] == invocation["mini_batches"] > 0
    assert (invocation["resumed"], invocation["retries"], invocation["worker_deaths"]) == (0, 0, 0)
    assert all(seconds >= 0 for seconds in account["timings"].values())
    assert account["timings"]["total_s"] >= account["timings"]["scoring_s"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))))
def test_totals_are_sums_of_files(parts: list[tuple[int, int, int]]) -> None:
    """However a file was cut, its counts and those of the job are the sums of its parts."""
    progress = Progress(limit=QuarantineLimit.parse(None))
    for number, (scored, quarantined, given_up) in enumerate(parts):
        slice_account = SliceAccount(
            name=f"{number % 3}.csv", start=0, stop=1, digest=b"", rows=scored + quarantined + given_up,
            quarantined=quarantined, given_up=given_up,
        )  # fmt: skip
        progress.staged(number, "key", 1, [slice_account], [])
    counts = progress.files.values()
    assert progress.scored == sum(scored for scored, _, _ in parts) == sum(count.scored for count in counts)
    assert progress.quarantined == sum(count.quarantined for count in counts)
    assert progress.given_up == sum(count.given_up for count in counts)
    assert progress.rows == sum(count.read for count in counts)


def test_inputs_are_told_apart() -> None:
    """Another name, size or version of any file, or another order, makes another digest."""

    def file(name: str, size_bytes: int = 1, version: str = "1") -> InputFile:
        return InputFile(name=name, url="/anywhere", size_bytes=size_bytes, version=version)

    listings = [
        [], [file("a")], [file("b")], [file("a", 2)], [file("a", 1, "2")], [file("a"), file("b")],
        [file("b"), file("a")], [file("a\0001"), file("b")],
    ]  # fmt: skip
    assert len({inputs_digest(listing) for listing in listings}) == len(listings)
    assert inputs_digest([file("a")]) == inputs_digest([file("a")])


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["row", "prediction", "file"], b"row,prediction,file\n"),
        (["a,b", 'c"d', "e\nf", "g\rh", " i ", ""], b'"a,b","c""d","e\nf","g\rh", i ,\n'),
        (["é", "\udcff"], "é,\\udcff\n".encode()),
    ],
)
def test_header_is_a_line_of_csv(names: list[str], line: bytes) -> None:
    """Names are quoted where they must be."""
    assert header_line(names) == line
