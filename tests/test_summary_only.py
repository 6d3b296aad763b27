"""summary_only: a script writes its output itself, and its results are only counted (contract 3.3)."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.faults.script_jobs import FILES, Outcome, ScriptJob
from tests.faults.scripts import scoring_script

MANY = tuple(f"{number:02}.txt" for number in range(16))
TOP = """
    import time
    import pandas

    def write(path, name):
        frame = pandas.DataFrame({"file": [name], "length": [os.path.getsize(path)]})
        target = os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], os.path.splitext(name)[0])
        frame.to_{kind}(target + ".{kind}", index=False)
"""
WRITES = "for path, name in zip(mini_batch, names):\n    write(path, name)"
RECEIPT = "_predictions.receipt.json"
QUARANTINE = "_predictions.quarantine.jsonl"


def writing_script(body: str = WRITES, kind: str = "parquet") -> str:
    """Write a script that writes a file for each file."""
    return scoring_script(body, top=TOP.replace("{kind}", kind))


def summary_job(folder: Path, script: str, **options: object) -> ScriptJob:
    """Make a job whose script writes its output itself."""
    return ScriptJob(folder, script, output_action="summary_only", **options)  # type: ignore[arg-type]  # as given


@pytest.mark.parametrize(("kind", "read"), [("parquet", pd.read_parquet), ("csv", pd.read_csv)], ids=["parquet", "csv"])
def test_script_writes_its_output(tmp_path: Path, kind: str, read: object) -> None:
    """The folder holds what the script wrote and the receipt, and no predictions.csv; a rerun does nothing."""
    job = summary_job(tmp_path, writing_script(kind=kind))
    outcome = job.run()
    assert outcome.error is None
    written = [f"{name[0]}.{kind}" for name in FILES]
    assert outcome.names == sorted([RECEIPT, *written])
    assert [read(outcome.output / name)["file"].item() for name in written] == list(FILES)  # type: ignore[operator]
    assert outcome.receipt["status"] == "Completed"
    assert outcome.receipt["rows"] == {"read": 5, "scored": 5, "quarantined": 0, "given_up": 0}
    assert outcome.receipt["output"]["url"] == str(outcome.output)
    assert json.loads((outcome.output / RECEIPT).read_text()) == outcome.receipt
    assert outcome.result[0] == "Completed"
    again = job.run()
    assert again.error is None
    assert again.receipt == outcome.receipt
    assert any(text.startswith("already complete, nothing to do: ") for text in again.said)
    assert again.calls == dict.fromkeys(FILES, 1)


def test_results_are_counted(tmp_path: Path) -> None:
    """Fewer results than files are failed files here as well; what was written stays."""
    outcome = summary_job(tmp_path, writing_script(WRITES + "\nif 'c.txt' in names:\n    return [1]")).run()
    assert outcome.error is None
    assert outcome.receipt["rows"]["given_up"] == 1
    assert outcome.names == sorted([RECEIPT, QUARANTINE, *(f"{name[0]}.parquet" for name in FILES)])


def test_failed_files_are_named(tmp_path: Path) -> None:
    """What the script does not write is in the quarantine, by name."""
    body = "if 'c.txt' in names:\n    raise ValueError('no such thing')\n" + WRITES
    outcome = summary_job(tmp_path, writing_script(body)).run()
    assert outcome.error is None
    assert outcome.names == sorted([RECEIPT, QUARANTINE, "a.parquet", "b.parquet", "e.parquet"])
    assert [entry["file"] for entry in outcome.quarantine] == ["c.txt", "d.txt"] == outcome.failed_files


@pytest.mark.parametrize("returned", ["None", "'done'", "{}"])
def test_result_must_be_countable(tmp_path: Path, returned: str) -> None:
    """A list or a DataFrame is wanted here too, and the threshold decides (contract 3.3, 5.4)."""
    outcome = summary_job(tmp_path, writing_script(WRITES + f"\nreturn {returned}"), error_threshold=4).run()
    assert outcome.code == 1
    assert "run() should return a list or a DataFrame" in outcome.message
    assert RECEIPT not in outcome.names


def test_nothing_succeeded_may_be_all_right(tmp_path: Path) -> None:
    """Only append_row fails where no item succeeded (contract 5.4)."""
    outcome = summary_job(tmp_path, scoring_script("return []")).run()
    assert outcome.error is None
    assert outcome.names == sorted([RECEIPT, QUARANTINE])
    assert outcome.receipt["rows"]["scored"] == 0


@pytest.mark.parametrize("name", ["predictions.csv", "part-{number}.csv"])
def test_script_may_choose_any_name(tmp_path: Path, name: str) -> None:
    """Also that of the file which append_row would write; it is not ours, and no reason to refuse a rerun."""
    body = f"""
        with open(os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], {name!r}.format(number=names[0][0])), "a") as out:
            out.write("".join(row + "\\n" for row in rows))
    """
    job = summary_job(tmp_path, scoring_script(body), workers=1)
    outcome = job.run()
    assert outcome.error is None
    written = "".join(path.read_text() for path in sorted(outcome.output.glob("p*.csv")))
    assert sorted(written.splitlines()) == [f"{each[0]} scored" for each in FILES]
    again = job.run()
    assert again.error is None
    assert again.receipt == outcome.receipt
    assert again.calls == dict.fromkeys(FILES, 1)


@pytest.mark.parametrize("name", ["{name}.parquet", "predictions.csv"])
def test_killed_job_goes_on(tmp_path: Path, name: str) -> None:
    """After SIGKILL of the driver between mini-batches, the same command scores what is not done yet, and only that."""
    body = f"""
        while names[0] >= open(os.environ["GATE"]).read():
            time.sleep(0.01)
        for each in names:
            with open(os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], {name!r}.format(name=each)), "a") as out:
                out.write(each + "\\n")
    """
    job = summary_job(tmp_path, scoring_script(body, top=TOP.replace("{kind}", "csv")), files=MANY, timeout_s=100.0)
    job.stop_at("10.txt")
    staged = job.killed_after(3)
    job.stop_at("~")
    outcome = job.run()
    assert outcome.error is None
    assert outcome.receipt["invocation"]["resumed"] == staged >= 3
    assert outcome.receipt["rows"]["scored"] == len(MANY)
    assert outcome.receipt["status"] == "Completed"
    assert ".predictions.csv.staging" not in outcome.names
    check_calls(outcome, staged)


def check_calls(outcome: Outcome, staged: int) -> None:
    """Check that each mini-batch of two files that was done at the kill was scored once."""
    once = [name for name in MANY if outcome.calls[name] == 1]
    twice = [name for name in MANY if outcome.calls[name] == 2]
    assert sorted(once + twice) == sorted(MANY)
    assert len(once) >= 2 * staged
    # two workers, each with one at work and none behind it begun
    assert len(twice) <= 2 * 2
