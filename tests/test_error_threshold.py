"""How many failed files a job tolerates, and how it goes on where they were too many (contract 5.3, 5.4, 5.7)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.faults.script_jobs import ScriptJob
from tests.faults.scripts import scoring_script
from tests.thorough import usual

FILES = tuple(f"{letter}.txt" for letter in "abcdef")
TOP = "import time"
BY = {
    "exception": "if bad:\n    raise ValueError(f'no prediction for {bad}')",
    "fewer items": "if bad:\n    return rows[len(bad):]",
    "death": "if bad:\n    os._exit(3)",
    "timeout": "if bad:\n    time.sleep(600)",
}
"""How a mini-batch fails of which some files are bad."""


def failing_script(by: str, bad: str) -> str:
    """Write a script that fails by one of `BY` for files whose names begin with some letters."""
    return scoring_script(f"bad = [name for name in names if name[0] in {bad!r}]\n{BY[by]}", top=TOP)


THRESHOLDS: list[tuple[int, tuple[str, str], list[str] | int, bool]] = [
    (-1, ("exception", ""), [], True),
    (-1, ("exception", "abce"), ["a", "b", "c", "d", "e", "f"], False),
    (-1, ("exception", "ac"), ["a", "b", "c", "d"], True),
    (-1, ("fewer items", "bd"), 2, True),
    (0, ("exception", "c"), ["c", "d"], False),
    (0, ("fewer items", "c"), 1, False),
    (0, ("death", "c"), ["c", "d"], False),
    (0, ("timeout", "c"), ["c", "d"], False),
    (1, ("exception", "c"), ["c", "d"], False),
    (1, ("fewer items", "c"), 1, True),
    (1, ("fewer items", "cd"), ["c", "d"], False),
    (1, ("fewer items", "ce"), 2, False),
    (2, ("exception", "cd"), ["c", "d"], True),
    (2, ("death", "d"), ["c", "d"], True),
    (2, ("timeout", "d"), ["c", "d"], True),
    (2, ("fewer items", "ace"), 3, False),
    (3, ("fewer items", "ace"), 3, True),
    (6, ("fewer items", "abcd"), ["a", "b", "c", "d"], True),
]
SELDOM = [
    each
    for each in THRESHOLDS
    if each[:2]
    in (
        (-1, ("exception", "")), (-1, ("exception", "ac")), (0, ("fewer items", "c")), (1, ("exception", "c")),
        (1, ("fewer items", "cd")), (2, ("death", "d")), (3, ("fewer items", "ace")),
    )
]  # fmt: skip


# mini-batches of two files: a b, c d, e f
@pytest.mark.parametrize(("threshold", "fails", "failed", "tolerated"), usual(THRESHOLDS, seldom=SELDOM))
def test_threshold(
    tmp_path: Path, threshold: int, fails: tuple[str, str], failed: int | list[str], tolerated: bool
) -> None:
    """A job fails once more files failed than that; -1 tolerates all, as long as one file succeeds.

    Args:
        tmp_path: where it runs.
        threshold: the ``error_threshold``.
        fails: how mini-batches fail, and the bad files.
        failed: the files that failed, or how many where the script does not say which.
        tolerated: whether the job completes.
    """
    by, bad = fails
    timeout_s = 3.0 if by == "timeout" else 60.0
    job = ScriptJob(
        tmp_path, failing_script(by, bad), files=FILES, error_threshold=threshold, max_retries=0, timeout_s=timeout_s
    )
    outcome = job.run()
    count = failed if isinstance(failed, int) else len(failed)
    names = [] if isinstance(failed, int) else [f"{letter}.txt" for letter in failed]
    if tolerated:
        assert outcome.error is None
        assert outcome.result[0] == "Completed"
        assert outcome.receipt["rows"] == {"read": 6, "scored": 6 - count, "quarantined": 0, "given_up": count}
        assert len(outcome.lines) == 6 - count
        assert outcome.lines == sorted(outcome.lines)
        assert outcome.failed_files == names
        assert sum(entry["rows"] for entry in outcome.quarantine) == count
        return
    assert outcome.code == 1
    assert (outcome.output / "predictions.csv").exists() is False
    assert not list(outcome.output.glob("_*"))
    assert outcome.result[:2] == ["Failed", f"reason: {outcome.message}"]
    if threshold < 0 or count <= threshold:
        assert outcome.message.startswith("No succeeded mini batch item returned from run(): ")
        assert outcome.names == []
    else:
        # whoever is asked first after the threshold is exceeded says so
        found = re.match(rf"(\d+) files? failed, more than error_threshold {threshold} allows: ", outcome.message)
        assert found, outcome.message
        assert threshold < int(found[1]) <= count
    assert set(outcome.failed_files) <= set(names)
    # a message names three of them
    assert sum(name in outcome.message for name in outcome.failed_files) >= min(3, len(outcome.failed_files))


def test_job_stops_once_too_many_failed(tmp_path: Path) -> None:
    """Checked while the job runs: what comes later is not even begun (contract 5.4)."""
    files = [f"{number:02}.txt" for number in range(40)]
    job = ScriptJob(
        tmp_path, scoring_script("raise ValueError('never')"), files=files, workers=1, mini_batch_size=1, max_retries=0
    )
    outcome = job.run(error_threshold=2)
    assert outcome.message.startswith("3 files failed, more than error_threshold 2 allows: 00.txt")
    assert "ValueError: never" in outcome.message
    assert outcome.failed_files == files[:3]
    # the one behind may be at the worker already
    assert 3 <= len(outcome.calls) <= 5


def test_failure_in_the_last_file_counts(tmp_path: Path) -> None:
    """Checked in the end as well."""
    # one worker: another might not have begun yet
    job = ScriptJob(
        tmp_path, failing_script("exception", "f"), files=FILES, workers=1, error_threshold=0, mini_batch_size=1
    )
    outcome = job.run()
    assert outcome.message.startswith("1 file failed, more than error_threshold 0 allows: f.txt (ValueError: ")
    assert outcome.calls == {**dict.fromkeys(FILES, 1), "f.txt": 2}


@pytest.mark.parametrize("returned", ["rows[:0]", "None"], ids=["no rows", "no list"])
def test_nothing_succeeded(tmp_path: Path, returned: str) -> None:
    """A job without any item fails whatever the threshold, in Azure ML's words (contract 5.4)."""
    outcome = ScriptJob(tmp_path, scoring_script(f"return {returned}")).run()
    assert outcome.code == 1
    assert re.match(r"No succeeded mini batch item returned from run\(\): \w\.txt", outcome.message)
    assert outcome.names == []
    assert outcome.result[0] == "Failed"


# Going on


def job_that_failed(tmp_path: Path) -> ScriptJob:
    """Run a job in which four files succeed, and two too many fail."""
    job = ScriptJob(tmp_path, failing_script("exception", "c"), files=FILES, workers=1, error_threshold=1)
    outcome = job.run()
    assert outcome.code == 1
    assert "2 files failed, more than error_threshold 1 allows" in outcome.message
    assert outcome.message.endswith("nothing was published, what is staged is kept")
    assert outcome.names == [".predictions.csv.staging"]
    return job


def test_higher_threshold_goes_on(tmp_path: Path) -> None:
    """With a higher threshold the same job takes what is staged, and scores only the rest and what failed."""
    job = job_that_failed(tmp_path)
    staged = len(list(job.staged()))
    outcome = job.run(error_threshold=2)
    assert outcome.error is None
    assert outcome.lines == ["a scored", "b scored", "e scored", "f scored"]
    assert outcome.receipt["invocation"]["resumed"] == staged >= 1
    assert outcome.failed_files == ["c.txt", "d.txt"]
    assert outcome.calls["a.txt"] == 1
    assert outcome.calls["c.txt"] == 4
    assert outcome.names == ["_predictions.quarantine.jsonl", "_predictions.receipt.json", "predictions.csv"]


def test_lower_threshold_fails_again(tmp_path: Path) -> None:
    """What failed is tried anew, and fails anew; what succeeded is not."""
    job = job_that_failed(tmp_path)
    outcome = job.run(error_threshold=0)
    assert "2 files failed, more than error_threshold 0 allows" in outcome.message
    assert outcome.calls["a.txt"] == 1
    assert outcome.calls["c.txt"] == 4


def test_mended_script_is_another_job(tmp_path: Path) -> None:
    """Rows of two scripts are never mixed: the mended one is refused, with what to do, and scores after --restart."""
    job = job_that_failed(tmp_path)
    job.write_script(scoring_script())
    outcome = job.run()
    assert outcome.code == 2
    assert re.search("parts of another job are staged here.*--restart", outcome.message), outcome.message
    assert outcome.names == [".predictions.csv.staging"]
    outcome = job.run(restart=True)
    assert outcome.lines == [f"{name[0]} scored" for name in FILES]
    assert outcome.failed_files == []


def test_completed_job_with_failed_files_is_complete(tmp_path: Path) -> None:
    """What was tolerated is not tried again."""
    job = ScriptJob(tmp_path, failing_script("exception", "c"), files=FILES)
    assert job.run().error is None
    outcome = job.run()
    assert outcome.error is None
    assert any(text.startswith("already complete, nothing to do: ") for text in outcome.said)
    assert outcome.calls["c.txt"] == 2


def test_receipt_names_what_failed(tmp_path: Path) -> None:
    """Causes and files are in the receipt as they are in the quarantine."""
    outcome = ScriptJob(tmp_path, failing_script("exception", "c"), files=FILES).run()
    receipt = json.loads((tmp_path / "score/_predictions.receipt.json").read_text())
    assert receipt["causes"] == {"ValueError: no prediction for ['c.txt']": 2}
    files = {each["file"]: each for each in receipt["files"]}
    assert [name for name in FILES if files[name]["given_up"]] == ["c.txt", "d.txt"] == outcome.failed_files
