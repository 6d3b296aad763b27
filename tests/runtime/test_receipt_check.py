"""A receipt that is held against its files: a true one passes, and each damage is told with both numbers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from runtime import run
from runtime.errors import OutputError, UsageError
from runtime.findings import Findings
from runtime.receipt_check import check_receipt
from scoring.recount import NameCounter, score_rows
from tests.faults.script_jobs import ScriptJob
from tests.faults.scripts import scoring_script
from tests.runtime.commands import scoreline

HEADER = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal"
SCORES = "predictions.csv"
RECEIPT = "_predictions.receipt.json"
QUARANTINE = "_predictions.quarantine.jsonl"
ODD_NAMES = ("a,b.csv", "line\nend.csv", 'quo"te.csv', "é.csv", 'x,"y".csv')


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, heart_rows: Callable[..., Path]) -> Path:
    """Return a folder of good files, files with rows that do not fit, and files that fail as a whole."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copy(heart_rows(3_000), folder / "large.csv")
    for number, name in enumerate(ODD_NAMES, 1):
        shutil.copy(heart_rows(10 * number, number), folder / name)
    (folder / "empty.csv").write_text(HEADER + "\n")
    (folder / "narrow.csv").write_text("age,sex\n1,2\n3,4\n")
    good = "63,1,1,145,233,1,2,150,0,2.3,3,0,fixed"
    (folder / "bad.csv").write_text(f"{HEADER}\n{'x,' * 12}x\n{good}\n{good}\n\n1,2\n")
    return folder


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, heart_model: Path, data: Path) -> Callable[..., Path]:
    """Return a function from options to the output of a job over that folder."""

    def scored(**options: Any) -> Path:
        folder = tmp_path_factory.mktemp("job") / "score"
        run(
            **{"model": heart_model, "input": data, "output": folder, "engine": "inline", "max_quarantined": 100}
            | {"chunk_rows": 1_024, **options}
        )
        return folder

    return scored


@pytest.fixture(scope="module")
def complete(job: Callable[..., Path]) -> Path:
    """Return an output, not to be changed."""
    return job(keep="thal")


@pytest.fixture
def output(complete: Path, tmp_path: Path) -> Path:
    """Return a copy of that output, to be damaged."""
    return shutil.copytree(complete, tmp_path / "copy")


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, heart_model: Path, heart_rows: Callable[..., Path]) -> Path:
    """Return an output that a second job appended to, both with rows that do not fit; not to be changed."""
    folder = tmp_path_factory.mktemp("twice")
    for number, rows in ((1, 40), (2, 30)):
        text = heart_rows(rows, number).read_text().splitlines()
        text[5:5] = ["1,2"] * number
        (folder / f"{number}.csv").write_text("\n".join(text))
        run(
            model=heart_model, input=folder / f"{number}.csv", output=folder / "score", engine="inline",
            if_exists="append", max_quarantined=10,
        )  # fmt: skip
    return folder / "score"


def content(folder: Path) -> dict[str, Any]:
    """Read the receipt of an output."""
    receipt: dict[str, Any] = json.loads((folder / RECEIPT).read_text())
    return receipt


def edit(folder: Path, *keys: str | int, value: Any) -> None:
    """Change what stands in the receipt of an output at a place."""
    receipt: Any = content(folder)
    inner = receipt
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (folder / RECEIPT).write_text(json.dumps(receipt))


def sums(folder: Path) -> list[str]:
    """Say that the score file has other bytes than its receipt says."""
    data, said = (folder / SCORES).read_bytes(), content(folder)["output"]
    found = (
        (f"{SCORES} has {len(data):,} bytes", f"{said['size_bytes']:,}", f"{len(data):,}"),
        (f"{SCORES} has the CRC-32 {zlib.crc32(data):08x}", said["crc32"], f"{zlib.crc32(data):08x}"),
        (f"{SCORES} has the SHA-256 {(sha := hashlib.sha256(data).hexdigest())}", said["sha256"], sha),
    )
    return [f"{text}, and the receipt says {wanted}" for text, wanted, actual in found if wanted != actual]


def change(path: Path, how: Callable[[bytes], bytes]) -> None:
    """Change the bytes of a file."""
    path.write_bytes(how(path.read_bytes()))


def without_line(number: int) -> Callable[[bytes], bytes]:
    """Return what removes a line."""

    def remove(data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        del lines[number]
        return b"".join(lines)

    return remove


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, 3_152),
        ({"keep": "thal"}, 3_152),
        ({"output_format": "jsonl", "output_header": False}, 3_152),
        ({"output_format": "azureml", "output_header": False}, 3_152),
        ({"output_header": False}, 3_152),
        ({"strict": True, "mini_batch_size": 3, "chunk_rows": None}, 3_150),
        ({"quarantine_values": "none"}, 3_152),
    ],
    ids=["csv", "keep", "jsonl", "azureml", "no header", "strict", "no values"],
)
def test_true_receipt_passes(job: Callable[..., Path], data: Path, options: dict[str, Any], rows: int) -> None:
    """Whatever the format and the names of the files, all is counted and as the receipt says."""
    folder = job(**options)
    told: list[tuple[str, str]] = []
    found = check_receipt(folder, input=data, recount_input=True, tell=lambda *each: told.append(each))
    assert (found.errors, found.warnings) == ((), ())
    assert {kind for kind, _ in told} == {"ok"}
    names = len(ODD_NAMES) + 4
    assert found.checked == {
        "receipt": str(folder / RECEIPT),
        "score_file": str(folder / SCORES),
        "files": names,
        "size_bytes": (folder / SCORES).stat().st_size,
        "crc32": content(folder)["output"]["crc32"],
        "sha256": content(folder)["output"]["sha256"],
        "rows": rows,
        "quarantine_lines": 2 if options.get("strict") else 3,
        "input": {"unchanged": names, "touched": 0, "other_size": 0, "missing": 0, "rows": 3_156},
    }


def test_each_check_is_a_line(complete: Path) -> None:
    """The command tells every check, and the verdict last; the output may be named in three ways."""
    said = content(complete)["output"]
    lines = [
        "ok: 3,156 rows of 9 files read = scored + quarantined + given up",
        "ok: 1 job wrote predictions.csv, without a gap",
        f"ok: predictions.csv has {said['size_bytes']:,} bytes, as the receipt says",
        f"ok: predictions.csv has the CRC-32 {said['crc32']}, as the receipt says",
        f"ok: predictions.csv has the SHA-256 {said['sha256']}, as the receipt says",
        "ok: predictions.csv begins with the columns that the receipt names",
        "ok: predictions.csv has 3,152 rows, as the receipt says",
        "ok: predictions.csv has as many rows of each file as the receipt says",
        "ok: _predictions.quarantine.jsonl has 2 quarantined and 2 given up, as the receipt says for each file",
        f"{complete / RECEIPT} is true: 0 errors, 0 warnings",
    ]
    for path in (complete, complete / SCORES, complete / RECEIPT):
        outcome = scoreline("receipt", "check", path)
        told = [line for line in outcome.stdout.splitlines() if not line.startswith("ok: 9 input files ")]
        assert (outcome.code, told, outcome.stderr) == (0, lines, "")


def lost_sum(folder: Path) -> str:
    """Say that the quarantine has other bytes than its receipt says."""
    said = content(folder)["appended"][-1]["quarantine"]
    size_bytes = (folder / QUARANTINE).stat().st_size
    return f"{QUARANTINE} has {size_bytes:,} bytes, and the receipt says {said['offset'] + said['length']:,}"


def flip(folder: Path) -> list[str]:
    """Change a byte of a prediction."""
    change(folder / SCORES, lambda data: data[:1_000].replace(b"fixed,1", b"fixed,7", 1) + data[1_000:])
    return sums(folder)


def truncate(folder: Path) -> list[str]:
    """Cut off the rows of the last file."""
    change(folder / SCORES, lambda data: data[: data.index(",é.csv\n".encode())].rpartition(b"\n")[0] + b"\n")
    return [
        *sums(folder),
        f"{SCORES} has 3,112 rows, and the receipt says 3,152",
        f"{SCORES} has 0 rows of é.csv, and the receipt says 40 scored",
    ]


def tear(folder: Path) -> list[str]:
    """Cut off the end of the last line."""
    change(folder / SCORES, lambda data: data[:-5])
    return [
        *sums(folder),
        f"{SCORES} has 39 rows of é.csv, and the receipt says 40 scored",
        f"{SCORES} has 1 row of files that are not in the receipt, and should have 0: 'é' is the first",
    ]


def remove_line(folder: Path) -> list[str]:
    """Remove a row."""
    change(folder / SCORES, without_line(2_000))
    return [
        *sums(folder),
        f"{SCORES} has 3,151 rows, and the receipt says 3,152",
        f"{SCORES} has 2,999 rows of large.csv, and the receipt says 3,000 scored",
    ]


def repeat_line(folder: Path) -> list[str]:
    """Write the last row twice."""
    change(folder / SCORES, lambda data: data + data.splitlines(keepends=True)[-1])
    return [
        *sums(folder),
        f"{SCORES} has 3,153 rows, and the receipt says 3,152",
        f"{SCORES} has 41 rows of é.csv, and the receipt says 40 scored",
    ]


def swap_names(folder: Path) -> list[str]:
    """Give a row to another file."""
    change(folder / SCORES, lambda data: data.replace(b",large.csv\n", b",\xc3\xa9.csv\n", 1))
    return [
        *sums(folder),
        f"{SCORES} has 2,999 rows of large.csv, and the receipt says 3,000 scored",
        f"{SCORES} has 41 rows of é.csv, and the receipt says 40 scored",
    ]


def remove_header(folder: Path) -> list[str]:
    """Remove the header: the first row is taken for it."""
    change(folder / SCORES, without_line(0))
    first = (folder / SCORES).read_bytes()[:25].decode()
    return [
        *sums(folder),
        f"{SCORES} begins with {first!r}, and the receipt says 'row,thal,prediction,file'",
        f"{SCORES} has 3,151 rows, and the receipt says 3,152",
        f"{SCORES} has 9 rows of a,b.csv, and the receipt says 10 scored",
    ]


def open_quote(folder: Path) -> list[str]:
    """Write a quote before the last column of the last file's rows, that is never closed."""
    change(folder / SCORES, lambda data: data.replace(",é.csv\n".encode(), ',"é.csv\n'.encode(), 1))
    return [
        *sums(folder),
        f"{SCORES} has 3,113 rows, and the receipt says 3,152",
        f"{SCORES} has 0 rows of é.csv, and the receipt says 40 scored",
        f"{SCORES} has 1 row of files that are not in the receipt, and should have 0: ",
    ]


def remove_scores(folder: Path) -> list[str]:
    """Remove the score file."""
    (folder / SCORES).unlink()
    return [f"{SCORES} is not there, and the receipt says {content(folder)['output']['size_bytes']:,} bytes"]


def remove_quarantined(folder: Path) -> list[str]:
    """Remove the line of a row."""
    change(folder / QUARANTINE, without_line(0))
    return [lost_sum(folder), f"{QUARANTINE} has 1 row of bad.csv, and the receipt says 2 quarantined"]


def remove_given_up(folder: Path) -> list[str]:
    """Remove the line of a file."""
    change(folder / QUARANTINE, without_line(-1))
    return [lost_sum(folder), f"{QUARANTINE} gives up 0 rows of narrow.csv, and the receipt says 2 given up"]


def change_rows_given_up(folder: Path) -> list[str]:
    """Say that a file had more rows."""
    change(folder / QUARANTINE, lambda data: data.replace(b'"rows": 2', b'"rows": 12'))
    return [lost_sum(folder), f"{QUARANTINE} gives up 12 rows of narrow.csv, and the receipt says 2 given up"]


def change_quarantined_file(folder: Path) -> list[str]:
    """Quarantine a row of a file that nobody knows."""
    change(folder / QUARANTINE, lambda data: data.replace(b"bad.csv", b"mad.csv", 1))
    return [
        f"{QUARANTINE} has 1 row of bad.csv, and the receipt says 2 quarantined",
        f"{QUARANTINE} has 1 row of files that are not in the receipt, and should have 0",
    ]


def tear_quarantine(folder: Path) -> list[str]:
    """Cut off the end of the quarantine."""
    change(folder / QUARANTINE, lambda data: data[:-9])
    return [
        lost_sum(folder),
        f"{QUARANTINE} has 1 line that cannot be read, and should have 0: line 3 is the first",
        f"{QUARANTINE} ends in the middle of line 3",
        f"{QUARANTINE} gives up 0 rows of narrow.csv, and the receipt says 2 given up",
    ]


def remove_quarantine(folder: Path) -> list[str]:
    """Remove the quarantine."""
    (folder / QUARANTINE).unlink()
    return [f"{QUARANTINE} is not there, and the receipt says 4 quarantined or given up"]


def deny_quarantine(folder: Path) -> list[str]:
    """Say that there is none."""
    edit(folder, "output", "quarantine", value=None)
    return [f"{QUARANTINE} is there, and the receipt says that there is none"]


def edit_size(folder: Path) -> list[str]:
    """Say another size."""
    edit(folder, "output", "size_bytes", value=12)
    size_bytes = (folder / SCORES).stat().st_size
    return [f"appended: job 1 ends at byte {size_bytes:,} and the score file at 12", *sums(folder)]


def edit_total(folder: Path) -> list[str]:
    """Say that more rows were read of all."""
    edit(folder, "rows", "read", value=4_000)
    return [
        "all files: the receipt says 4,000 read, and 3,152 scored + 2 quarantined + 2 given up is 3,156",
        "all files: the receipt says 4,000 read, and its files sum to 3,156",
    ]


def edit_file(folder: Path) -> list[str]:
    """Say that fewer rows of a file were scored."""
    place = [file["file"] for file in content(folder)["files"]].index("large.csv")
    edit(folder, "files", place, "scored", value=2_990)
    return [
        "large.csv: the receipt says 3,000 read, and 2,990 scored + 0 quarantined + 0 given up is 2,990",
        "all files: the receipt says 3,152 scored, and its files sum to 3,142",
        f"{SCORES} has 3,000 rows of large.csv, and the receipt says 2,990 scored",
    ]


def edit_appended(folder: Path) -> list[str]:
    """Say that fewer rows were appended."""
    edit(folder, "appended", 0, "rows", value=3_000)
    return [
        "appended: the last job has 3,000 rows, and 3,152 are scored in its files",
        f"{SCORES} has 3,152 rows, and the receipt says 3,000",
    ]


def edit_parts(folder: Path) -> list[str]:
    """Say that there was no part."""
    edit(folder, "parts", value={})
    size_bytes = (folder / SCORES).stat().st_size
    return [f"appended: the last job has {size_bytes:,} bytes, and its parts have 0 and its header 25"]


DAMAGES = (
    flip, truncate, tear, remove_line, repeat_line, swap_names, remove_header, open_quote, remove_scores,
    remove_quarantined, remove_given_up, change_rows_given_up, change_quarantined_file, tear_quarantine,
    remove_quarantine, deny_quarantine, edit_size, edit_total, edit_file, edit_appended, edit_parts,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_told(output: Path, damage: Callable[[Path], list[str]]) -> None:
    """Each difference is one sentence with both numbers, and the command fails."""
    expected = damage(output)
    assert expected
    outcome = scoreline("receipt", "check", output)
    lines = outcome.stdout.splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if damage is open_quote:
        # what the quote swallows is shown in part
        assert len(errors[-1]) < len(expected[-1]) + 120
        errors[-1] = errors[-1][: len(expected[-1])]
    assert errors == expected
    assert lines[-1] == f"{output / RECEIPT} is not true: {len(expected)} errors, 0 warnings"
    assert outcome.code == 1


def test_many_differences_are_not_all_told(output: Path) -> None:
    """Of more than a screen of them the number and the last are told."""
    receipt = content(output)
    receipt["files"] += [{**receipt["files"][0], "file": f"{number:02}.csv"} for number in range(23)]
    (output / RECEIPT).write_text(json.dumps(receipt))
    errors = [error for error in check_receipt(output).errors if error.startswith((SCORES, "and "))]
    assert errors == [
        *(f"{SCORES} has 0 rows of {number:02}.csv, and the receipt says 10 scored" for number in range(20)),
        f"and 3 more like these, the last: {SCORES} has 0 rows of 22.csv, and the receipt says 10 scored",
    ]


def test_rows_of_json_are_counted(job: Callable[..., Path]) -> None:
    """A missing line, and one of another file, show in jsonl too, whatever stands in the texts."""
    folder = job(output_format="jsonl", output_header=False, keep="thal")
    tricky = json.dumps({"row": 0, "thal": ', "file": "large.csv"}', "prediction": 1, "file": "no.csv"}).encode()
    change(folder / SCORES, lambda data: without_line(-1)(data).replace(data.splitlines()[0], tricky))
    assert check_receipt(folder).errors == (
        *sums(folder),
        f"{SCORES} has 3,151 rows, and the receipt says 3,152",
        f"{SCORES} has 9 rows of a,b.csv, and the receipt says 10 scored",
        f"{SCORES} has 39 rows of é.csv, and the receipt says 40 scored",
        f"{SCORES} has 1 row of files that are not in the receipt, and should have 0: 'no.csv' is the first",
    )


def test_appended_rows_are_told_apart(twice: Path) -> None:
    """Each job's rows are counted by themselves, and the quarantine of the last behind that of the first."""
    told: list[str] = []
    found = check_receipt(twice, tell=lambda _, text: told.append(text))
    assert found.errors == ()
    assert told[1] == "2 jobs wrote predictions.csv, without a gap"
    lines = (twice / QUARANTINE).read_bytes().splitlines(keepends=True)
    lost = [each["quarantine"] for each in content(twice)["appended"]]
    assert lost == [
        {"offset": 0, "length": len(lines[0])},
        {"offset": len(lines[0]), "length": len(lines[1] + lines[2])},
    ]
    assert told[-2] == (
        f"{QUARANTINE} has 2 quarantined and 0 given up, as the receipt says for each file, "
        "behind 1 line of earlier jobs"
    )
    assert found.checked["rows"] == 70


def test_appended_to_rows_of_somebody_else(tmp_path: Path, heart_model: Path, heart_rows: Callable[..., Path]) -> None:
    """What was there before is counted neither as a job nor as rows."""
    (tmp_path / SCORES).write_text("row,prediction,file\n0,1,old.csv")
    run(
        model=heart_model, input=heart_rows(20, 2), output=tmp_path, engine="inline", if_exists="append"
    )  # fmt: skip
    told: list[str] = []
    assert check_receipt(tmp_path, tell=lambda _, text: told.append(text)).errors == ()
    assert told[1] == f"1 job wrote {SCORES}, without a gap, behind 31 bytes that were there before"


def swap_bytes(folder: Path) -> list[str]:
    """Write the rows of the second job before those of the first: a row of the first is then cut in two."""
    header = b"row,prediction,file\n"
    offset = content(folder)["appended"][1]["offset"]
    change(folder / SCORES, lambda data: header + data[offset:] + data[len(header) : offset])
    example = (folder / SCORES).read_bytes()[offset:].partition(b"\n")[0].rpartition(b",")[2].decode()
    return [
        *sums(folder),
        f"{SCORES} has 41 rows of job 1, and the receipt says 40",
        f"{SCORES} has 0 rows of 2.csv, and the receipt says 30 scored",
        f"{SCORES} has 30 rows of files that are not in the receipt, and should have 0: {example!r} is the first",
    ]


def swap_entries(folder: Path) -> list[str]:
    """Name the second job first."""
    first, second = content(folder)["appended"]
    edit(folder, "appended", value=[second, first])
    size_bytes, lost_bytes = ((folder / name).stat().st_size for name in (SCORES, QUARANTINE))
    parts_bytes = sum(content(folder)["parts"].values())
    return [
        f"appended: job 2 begins at byte 0 and what is before it ends at byte {size_bytes}",
        f"appended: job 2 ends at byte {first['length']} and the score file at {size_bytes}",
        f"appended: the last job has {first['length']} bytes, and its parts have {parts_bytes} and its header 20",
        "appended: the last job has 40 rows, and 30 are scored in its files",
        f"{SCORES} has 70 rows of job 2, and the receipt says 40",
        f"{SCORES} has 40 rows of files that are not in the receipt, and should have 0: '1.csv' is the first",
        f"{QUARANTINE}: job 2 begins at byte 0 and what is before it ends at byte {lost_bytes}",
        f"{QUARANTINE} has {lost_bytes} bytes, and the receipt says {first['quarantine']['length']}",
        f"{QUARANTINE} has 1 row of files that are not in the receipt, and should have 0",
    ]


def make_gap(folder: Path) -> list[str]:
    """Say that the second job began later."""
    second = content(folder)["appended"][1]
    edit(folder, "appended", 1, "offset", value=second["offset"] + 7)
    size_bytes = (folder / SCORES).stat().st_size
    return [
        f"appended: job 2 begins at byte {second['offset'] + 7} and what is before it ends at byte {second['offset']}",
        f"appended: job 2 ends at byte {size_bytes + 7} and the score file at {size_bytes}",
        f"{SCORES} has 29 rows of 2.csv, and the receipt says 30 scored",
        f"{SCORES} has 1 row of files that are not in the receipt, and should have 0: 'sv' is the first",
    ]


def remove_appended_line(folder: Path) -> list[str]:
    """Remove a quarantine line of the second job."""
    change(folder / QUARANTINE, without_line(-1))
    return [lost_sum(folder), f"{QUARANTINE} has 1 row of 2.csv, and the receipt says 2 quarantined"]


def lose_earlier_line(folder: Path) -> list[str]:
    """Remove the quarantine line of the first job: what is behind it moves to the front."""
    change(folder / QUARANTINE, without_line(0))
    return [lost_sum(folder), f"{QUARANTINE} has 1 row of 2.csv, and the receipt says 2 quarantined"]


def move_quarantine(folder: Path) -> list[str]:
    """Say that the lines of the second job begin where those of the first do."""
    second = content(folder)["appended"][1]["quarantine"]
    edit(folder, "appended", 1, "quarantine", "offset", value=0)
    return [
        f"{QUARANTINE}: job 2 begins at byte 0 and what is before it ends at byte {second['offset']}",
        lost_sum(folder),
        f"{QUARANTINE} has 1 row of files that are not in the receipt, and should have 0",
    ]


def forget_quarantine(folder: Path) -> list[str]:
    """Say nothing of where lines of the quarantine are, and remove one: another job's line stands in its place."""
    for place in (0, 1):
        edit(folder, "appended", place, "quarantine", value=None)
    assert check_receipt(folder).errors == ()
    change(folder / QUARANTINE, without_line(-1))
    return [
        f"{QUARANTINE} has 1 row of 2.csv, and the receipt says 2 quarantined",
        f"{QUARANTINE} has 1 row of files that are not in the receipt, and should have 0",
    ]


APPENDED_DAMAGES = [
    swap_bytes, swap_entries, make_gap, remove_appended_line, lose_earlier_line, move_quarantine, forget_quarantine,
]  # fmt: skip


@pytest.mark.parametrize("damage", APPENDED_DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_of_appended_rows_is_told(twice: Path, tmp_path: Path, damage: Callable[[Path], list[str]]) -> None:
    """Ranges that do not lie one behind the other, and rows that are in another range, are differences."""
    folder = shutil.copytree(twice, tmp_path / "copy")
    expected = damage(folder)
    assert list(check_receipt(folder).errors) == expected


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"output_format": "csv", "output_header": True}, "csv"), ({"output_action": "summary_only"}, "")],
    ids=["append_row", "summary_only"],
)
def test_output_of_a_script(tmp_path: Path, options: dict[str, Any], kind: str) -> None:
    """Its rows are its own: bytes and accounts are checked, and failed files, named or not."""
    body = "if 'a.txt' in names: return rows[:1]\nif 'c.txt' in names: raise ValueError('no')"
    job = ScriptJob(tmp_path, scoring_script(body), workers=1, **options)
    outcome = job.run()
    assert outcome.error is None
    told: list[str] = []
    found = check_receipt(outcome.output, input=tmp_path / "in", recount_input=True, tell=lambda _, x: told.append(x))
    assert found.errors == ()
    assert told[0] == "5 files read = scored + quarantined + given up"
    own = f"the rows of {SCORES} are the script's own: they are not counted against files"
    none = f"the script wrote its output into {outcome.output} by itself: there is no score file to count"
    assert (own in told, none in told) == (bool(kind), not kind)
    assert (f"{SCORES} begins with the columns that the receipt names" in told) == (kind == "csv")
    assert f"{QUARANTINE} has 0 quarantined and 3 given up, as the receipt says for each file" in told
    assert told[-1] == "the script read whole files: they have no rows to count"
    change(outcome.output / QUARANTINE, without_line(0))
    edit(outcome.output, "rows", "given_up", value=4)
    expected = [
        "all files: the receipt says 5 read, and 2 scored + 0 quarantined + 4 given up is 6",
        "all files: the receipt says 2 scored, and its files sum to 1",
    ]
    expected += [lost_sum(outcome.output), f"{QUARANTINE} gives up 0 files without a name, and the receipt says 2"]
    assert list(check_receipt(outcome.output).errors) == expected


def test_input_that_changed_is_a_warning(tmp_path: Path, heart_model: Path, heart_rows: Callable[..., Path]) -> None:
    """Files that went, grew or were written again are named; those of the same size are counted again if asked."""
    data = tmp_path / "in"
    data.mkdir()
    for name in ("gone.csv", "longer.csv", "same.csv", "touched.csv"):
        shutil.copy(heart_rows(20, 1), data / name)
    run(model=heart_model, input=data, output=tmp_path / "out", engine="inline")
    (data / "gone.csv").unlink()
    size_bytes = (data / "longer.csv").stat().st_size
    change(data / "longer.csv", lambda text: text + b"\n")
    change(data / "touched.csv", lambda text: text[:-30].replace(b"\n", b" ", 1) + b"\n" * 30)
    os.utime(data / "touched.csv", (1, 1))
    found = check_receipt(tmp_path / "out", input=data)
    assert found.errors == ()
    assert found.warnings == (
        "1 input file written since, of the same size: touched.csv",
        f"1 input file changed since: longer.csv ({size_bytes + 1:,} bytes, and {size_bytes:,} were read)",
        f"1 input file not in {data} any more: gone.csv",
    )
    outcome = scoreline("receipt", "check", tmp_path / "out", "--input", data / "*.csv", "--recount-input", "--json")
    told = json.loads(outcome.stdout)
    assert told["warnings"] == list(found.warnings)
    assert told["errors"] == ["touched.csv has 19 rows, and the receipt says 20 read"]
    assert told["checked"]["input"] == {"unchanged": 1, "touched": 1, "other_size": 1, "missing": 1, "rows": 39}
    assert outcome.code == 1


@pytest.mark.parametrize("kind", ["csv.gz", "utf-16", "parquet"])
def test_rows_of_any_input_are_counted(
    tmp_path: Path, heart_model: Path, heart_rows: Callable[..., Path], kind: str
) -> None:
    """What is decompressed, decoded or no text at all is counted as the job did, and nothing is left of it."""
    import gzip

    import pandas as pd

    text = heart_rows(2_000).read_text()
    data = tmp_path / f"in.{kind.replace('utf-16', 'csv')}"
    if kind == "parquet":
        pd.read_csv(heart_rows(2_000)).to_parquet(data, row_group_size=600)
    else:
        data.write_bytes(gzip.compress(text.encode()) if kind == "csv.gz" else text.encode("utf-16"))
    options = {"encoding": kind} if kind == "utf-16" else {}
    run(model=heart_model, input=data, output=tmp_path / "out", engine="inline", **options)
    edit(tmp_path / "out", "input", value=str(data))
    found = check_receipt(tmp_path / "out", recount_input=True)
    assert (found.errors, found.checked["input"]["rows"]) == ((), 2_000)


@pytest.mark.parametrize(
    ("prepare", "given", "message"),
    [
        (lambda _: None, "", "{folder}: there is no receipt in it: no job was completed there"),
        (
            lambda folder: (folder / f".{SCORES}.staging").mkdir(),
            "",
            "{folder}: there is no receipt in it: its job is not complete, run the same command again",
        ),
        (
            lambda folder: (folder / SCORES).write_text("1\n"),
            SCORES,
            f"{{folder}}/{SCORES}: there is no receipt {RECEIPT} beside it: no job was completed there",
        ),
        (
            lambda folder: [(folder / f"_{name}.receipt.json").write_text("{}") for name in "ab"],
            "",
            "{folder}: has 2 receipts (_a.receipt.json and _b.receipt.json); name the score file instead",
        ),
        (
            lambda folder: (folder / RECEIPT).write_text('{"output": {"size_bytes": 1, "url": "/x/predictions.csv"}}'),
            "predictions.txt",
            "{folder}/predictions.txt: the receipt beside it is that of predictions.csv",
        ),
        (
            lambda folder: (folder / RECEIPT).write_text('{"output": {"size_bytes": 1, "url": "/x/other.csv"}}'),
            "",
            "{folder}/_predictions.receipt.json: is damaged: it says that it is of other.csv",
        ),
        (
            lambda folder: (folder / RECEIPT).write_text("{"),
            SCORES,
            "{folder}/_predictions.receipt.json: is damaged; move it away, or use --restart",
        ),
        (
            lambda folder: (folder / RECEIPT).write_text('{"format": 2}'),
            SCORES,
            "{folder}/_predictions.receipt.json: is of format 2, and this Scoreline reads 1",
        ),
        (
            lambda folder: (folder / RECEIPT).write_text('{"format": 1}'),
            SCORES,
            "{folder}/_predictions.receipt.json: is damaged: 'output' is missing in it",
        ),
    ],
    ids=["none", "unfinished", "no receipt", "two", "of another", "wrong name", "no json", "format", "empty"],
)
def test_without_a_receipt_nothing_is_checked(
    tmp_path: Path, prepare: Callable[[Path], object], given: str, message: str
) -> None:
    """The command says which receipt is missing or cannot be read, and exits with 2."""
    prepare(tmp_path)
    outcome = scoreline("receipt", "check", tmp_path / given if given else tmp_path)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr == f"scoreline: {message.format(folder=tmp_path)}\n"


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("rows", "read"), "many", "read is 'many', which is no count"),
        (("output", "size_bytes"), -1, "size_bytes is -1, which is no count"),
        (("appended",), [], "appended names no job"),
        (("files",), 3, "'int' object is not iterable"),
    ],
)
def test_receipt_that_makes_no_sense(output: Path, keys: tuple[str, ...], value: Any, message: str) -> None:
    """Counts that are none are damage, not a difference."""
    edit(output, *keys, value=value)
    with pytest.raises(OutputError) as caught:
        check_receipt(output)
    assert str(caught.value) == f"{output / RECEIPT}: is damaged: {message}"


def test_input_that_is_not_known_cannot_be_counted(output: Path) -> None:
    """Where neither the receipt nor the caller says where it is, that is said."""
    edit(output, "input", value="")
    with pytest.raises(UsageError, match="the receipt does not say where the input is; give --input"):
        check_receipt(output, recount_input=True)


def test_moved_output_is_checked_where_it_is(output: Path) -> None:
    """The receipt may name another folder."""
    change(output / SCORES, lambda data: data + b"x")
    found: Findings = check_receipt(output)
    assert found.checked["score_file"] == str(output / SCORES)
    assert sums(output)[0] in found.errors


def lines_of(names: Iterable[str], kept: str) -> bytes:
    """Write the rows of files as a job would."""
    from runtime.receipt import header_line

    return b"".join(header_line([str(row), kept, name]) for row, name in enumerate(names))


@pytest.mark.parametrize("kept", ["x", "a,b", 'a"b', "a\nb", "z,b.csv\n", 'y,"a,b.csv"\n'])
@pytest.mark.parametrize("runs", [(1,) * 300, (64, 65, 63), (1, 500, 1, 7), (128, 128)], ids=str)
def test_names_are_counted_as_a_reader_of_csv_counts_them(tmp_path: Path, kept: str, runs: tuple[int, ...]) -> None:
    """Whatever a row holds, and however rows of files lie together, each is counted for its file."""
    cycle = ("b.csv", "a,b.csv", "bb.csv", 'q"b.csv')
    names = [cycle[place % len(cycle)] for place, rows in enumerate(runs) for _ in range(rows)]
    path = tmp_path / "scores"
    path.write_bytes(lines_of(names, kept))
    ranges = [(0, path.stat().st_size)]
    found = score_rows(str(path), ranges, output_format="csv", header=False, names=cycle)
    assert found == {
        "rows": [len(names)],
        "names": {name: names.count(name) for name in cycle},
        "others": 0,
        "example": "",
    }
    assert NameCounter(cycle, "csv").counts == dict.fromkeys(cycle, 0)
