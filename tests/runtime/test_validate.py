"""Looking at a job before it runs: what is found, where it is told, and that nothing is left."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime import run, validate
from runtime.findings import Findings
from runtime.options import Options
from runtime.traps import Measured, traps
from scoring.cells import Cell, InputFile, MiniBatch, Slice
from scoring.scan import Grid
from tests.faults.saving import write_actions
from tests.runtime.commands import Outcome, scoreline

BOTH = ("a.csv", "b.csv")
LOADED = "ok: the model loads, in N s"
NO_READER = (
    "no reader for c.txt (known: .csv .csv.gz .csv.zst .parquet .pqt .png .jpg .jpeg .tiff .bmp .gif); "
    "choose files with --include '*.csv', or read all as CSV with --input-format csv"
)
NO_TEXT = (
    "not a text file (it has a zero byte at 0); leave it out with --include, "
    "or name its --encoding if it is UTF-16 or UTF-32"
)
SECONDS = re.compile(r"in [\d.]+ s\b")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every look a working folder of its own, which it must leave as it is."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def patients(tmp_path: Path, heart_rows: Callable[..., Path]) -> Path:
    """Return a folder with two files of 30 and 20 patients."""
    folder = tmp_path / "patients"
    folder.mkdir()
    shutil.copy(heart_rows(30), folder / "a.csv")
    shutil.copy(heart_rows(20, 1), folder / "b.csv")
    return folder


def look(**options: Any) -> list[str]:
    """Look at a job with a model in this process, and return the findings as they are told, but for the estimate."""
    lines: list[str] = []

    def tell(kind: str, text: str) -> None:
        if not text.startswith("a run will take about "):
            lines.append(f"{kind}: {SECONDS.sub('in N s', text)}")

    found = validate(tell=tell, **{"engine": "inline", **{name: str(value) for name, value in options.items()}})
    assert [line.partition(": ")[2] for line in lines if line.startswith("error")] == [
        SECONDS.sub("in N s", text) for text in found.errors
    ]
    return lines


def errors(lines: list[str]) -> list[str]:
    """Return the errors among findings."""
    return [line.removeprefix("error: ") for line in lines if line.startswith("error")]


def written(folder: Path) -> dict[str, bytes]:
    """Read all there is in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# A model and rows


def test_job_that_can_run(heart_model: Path, patients: Path, in_a_folder_of_its_own: Path) -> None:
    """All is well, step by step, and nothing was written."""
    before = written(patients)
    assert look(model=heart_model, input=patients) == [
        LOADED,
        "ok: looked into 2 of 2 files, at 50 rows",
        "ok: rows score alike together and apart (16 rows tried)",
        "ok: scored 50 rows (a.csv to b.csv (50 rows)), in N s",
    ]
    assert written(patients) == before
    assert list(in_a_folder_of_its_own.iterdir()) == []


def swapped(text: str, line: int, old: str, new: str) -> str:
    """Change one line of a file."""
    lines = text.splitlines()
    lines[line] = re.sub(old, new, lines[line])
    return "\n".join(lines) + "\n"


def without_thal(text: str) -> str:
    """Take the last column away."""
    return "\n".join(line.rpartition(",")[0] for line in text.splitlines()) + "\n"


def with_id(text: str) -> str:
    """Add a column in front."""
    return "\n".join(f"{number or 'id'},{line}" for number, line in enumerate(text.splitlines())) + "\n"


def change(folder: Path, name: str, how: Callable[[str], str]) -> None:
    """Rewrite a file."""
    (folder / name).write_text(how((folder / name).read_text()))


@pytest.mark.parametrize(
    ("spoil", "found", "scored"),
    [
        pytest.param(
            lambda folder: change(folder, "b.csv", without_thal),
            ["error: column 'thal' is missing in b.csv"],
            "scored 30 rows (a.csv rows 0 to 29)",
            id="column missing",
        ),
        pytest.param(
            lambda folder: [change(folder, each, with_id) for each in BOTH],
            ["warning: column 'id' of a.csv and b.csv is not in the signature, and ignored"],
            "scored 50 rows (a.csv to b.csv (50 rows))",
            id="column too many",
        ),
        pytest.param(
            lambda folder: change(folder, "b.csv", lambda text: swapped(text, 3, r"^\d+", "old")),
            ["error: column 'age': not a long in 1 row: b.csv row 2"],
            "scored 49 of 50 rows (a.csv to b.csv (50 rows))",
            id="value that does not fit",
        ),
        pytest.param(
            lambda folder: [change(folder, each, lambda text: swapped(text, 1, r"^\d+", "")) for each in BOTH],
            ["error: column 'age': blank where the signature says long in 2 rows: a.csv row 0, b.csv row 0"],
            "scored 48 of 50 rows (a.csv to b.csv (50 rows))",
            id="values that lack",
        ),
        pytest.param(
            lambda folder: change(folder, "a.csv", lambda text: text + "total,30\n"),
            ["error: 2 fields where the header has 13 in 1 row: a.csv row 30"],
            "scored 50 of 51 rows (a.csv to b.csv (51 rows))",
            id="record too short",
        ),
        pytest.param(
            lambda folder: (folder / "c.csv.gz").write_bytes(gzip.compress((folder / "a.csv").read_bytes())[:-9]),
            [
                "error: c.csv.gz: cannot be decompressed: the file ends in the middle of its compressed data",
            ],
            "scored 50 rows (a.csv to b.csv (50 rows))",
            id="damaged file",
        ),
        pytest.param(
            lambda folder: [(folder / "c.txt").write_text("notes"), (folder / "_x.csv").write_text("hidden")],
            [
                f"error: {{input}}: {NO_READER}",
                "warning: skipped 1 hidden file (names that begin with _ or .)",
            ],
            "scored 50 rows (a.csv to b.csv (50 rows))",
            id="unknown extension",
        ),
        pytest.param(
            lambda folder: [(folder / name).write_bytes(b"\0binary") for name in ("c.csv", "d.csv")],
            [
                f"error: {{input}}/c.csv: {NO_TEXT}",
                f"error: {{input}}/d.csv: {NO_TEXT}",
            ],
            "scored 50 rows (a.csv to b.csv (50 rows))",
            id="no text",
        ),
        pytest.param(
            lambda folder: (folder / "0.csv").touch(),
            ["warning: 0.csv is empty"],
            "scored 50 rows (0.csv to b.csv (50 rows))",
            id="empty file",
        ),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit(
    heart_model: Path, patients: Path, spoil: Callable[[Path], object], found: list[str], scored: str
) -> None:
    """Each cause is told once, with the files and the rows, and all else is looked at in spite of it."""
    spoil(patients)
    lines = look(model=heart_model, input=patients)
    assert [line for line in lines if not line.startswith("ok")] == [text.format(input=patients) for text in found]
    assert [line for line in lines if line.startswith("ok: scored")] == [f"ok: {scored}, in N s"]


def test_values_are_shown_where_asked_for(heart_model: Path, patients: Path) -> None:
    """The Python interface shows none unless told to; elsewhere they are not shown."""
    change(patients, "b.csv", lambda text: swapped(text, 3, r"^\d+", "secret"))
    options = {"model": str(heart_model), "input": str(patients), "engine": "inline"}
    assert validate(values=True, **options).errors == ("column 'age': not a long in 1 row: b.csv row 2 ('secret')",)


def test_columns_to_keep_are_looked_for(heart_model: Path, patients: Path) -> None:
    """A file without one would not be scored."""
    change(patients, "b.csv", with_id)
    found = validate(model=heart_model, input=patients, keep="id", engine="inline")
    assert found.errors == ("column 'id' (of --keep) is missing in a.csv",)
    assert found.warnings == ()


def test_strict_scores_file_by_file(heart_model: Path, patients: Path) -> None:
    """A row that does not fit costs its whole file, which is told in Azure ML's words but without the value."""
    change(patients, "a.csv", lambda text: swapped(text, 3, r"^\d+", "secret"))
    options = {"model": heart_model, "input": patients, "engine": "inline", "strict": True, "mini_batch_size": 2}
    found = validate(**options)
    misfit, failed = found.errors
    assert misfit == "column 'age': not a long in 1 row: a.csv row 2"
    assert failed.startswith("a.csv to b.csv (50 rows): Error processing input file: 'a.csv'. Exception: ")
    assert "secret" not in failed
    assert found.checked["rows_scored"] == 20


def test_first_mini_batch_may_be_larger_than_the_spool(heart_model: Path, patients: Path, tmp_path: Path) -> None:
    """Nothing that lies there is removed before it is scored, so that nobody waits for room."""
    (packed := tmp_path / "packed").mkdir()
    for name in BOTH:
        (packed / f"{name}.gz").write_bytes(gzip.compress((patients / name).read_bytes()))
    found = validate(model=heart_model, input=packed, strict=True, mini_batch_size=2, spool_bytes=1)
    assert found.errors == ()
    assert found.checked["rows_scored"] == 50


def test_no_input(heart_model: Path, tmp_path: Path) -> None:
    """The model is looked at all the same."""
    (tmp_path / "empty").mkdir()
    assert look(model=heart_model, input=tmp_path / "empty") == [
        f"error: {tmp_path}/empty: no input files", LOADED,
    ]  # fmt: skip
    (tmp_path / "empty/a.csv").write_text("age,sex\n")
    assert errors(look(model=heart_model, input=tmp_path / "empty")) == [
        "the input has no rows to score",
        *(f"column {name!r} is missing in a.csv" for name in HEART[2:]),
    ]


HEART = (
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal",
)  # fmt: skip


def test_no_model(patients: Path, tmp_path: Path) -> None:
    """The input is looked at all the same; without the columns only for what cannot be read."""
    (patients / "c.csv.gz").write_bytes(b"no gzip")
    lines = look(model=tmp_path / "none", input=patients)
    assert lines == [
        f"error: {tmp_path}/none: no such model; give a folder with an MLmodel file, or models:/name/version",
        f"error: {patients}/c.csv.gz: not a gz file, whatever its name says",
        "ok: looked into 2 of 3 files, at 50 rows",
    ]


def test_model_that_does_not_load(models: Path, tmp_path: Path) -> None:
    """The signature, which is there, is enough to look at the rows."""
    (tmp_path / "in.csv").write_text("value\n1\nx\n")
    found = errors(look(model=models / "on_load", input=tmp_path / "in.csv"))
    assert found[0].startswith(f"{models}/on_load: the model cannot be loaded: ValueError: the weights are torn (")
    assert found[1:] == ["column 'value': not a long in 1 row: in.csv row 1"]


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        (["mean"] * 40, ["predictions depend on which rows are scored together (or are random): use --chunk-rows 0"]),
        (["fine", "raise"], ["a.csv to b.csv (4 rows): ValueError: no prediction for this row"]),
        (["short"], ["a.csv to b.csv (2 rows): the model returned 1 prediction for 2 rows"]),
        (["fine"], []),
    ],
)
def test_model_that_scores_oddly(models: Path, tmp_path: Path, actions: list[str], expected: list[str]) -> None:
    """What a run would meet with the first rows is met here."""
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "b.csv"):
        write_actions(tmp_path / "in" / name, *actions)
    lines = look(model=models / "by_row", input=tmp_path / "in")
    assert errors(lines) == expected
    alike = "ok: rows score alike together and apart (2 rows tried)"
    assert (alike in lines) == (not expected)


def test_model_that_kills_its_worker(models: Path, tmp_path: Path) -> None:
    """The worker is a process of its own."""
    write_actions(tmp_path / "in.csv", "kill")
    found = validate(model=models / "by_row", input=tmp_path / "in.csv")
    assert found.errors == ("in.csv rows 0 to 0: the worker process died (SIGKILL, likely out of memory)",)


def test_rows_are_not_probed_where_none_are_cut_or_grouped(models: Path, tmp_path: Path) -> None:
    """With one predict for each file a model may look across rows."""
    write_actions(tmp_path / "in.csv", *["mean"] * 40)
    assert errors(look(model=models / "by_row", input=tmp_path / "in.csv")) == []
    assert (
        validate(model=models / "by_row", input=tmp_path, include="*.csv", chunk_rows=0, engine="inline").errors == ()
    )


def test_requirements_that_differ(heart_model: Path, patients: Path, tmp_path: Path) -> None:
    """What the model was saved with is told, and refused where that is asked for."""
    model = tmp_path / "model"
    shutil.copytree(heart_model, model)
    (model / "requirements.txt").write_text("scikit-learn==0.1\n")
    found = validate(model=model, input=patients, engine="inline")
    assert found.errors == ()
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("the model was saved with scikit-learn 0.1; here is scikit-learn ")
    assert (
        found.checked["mismatches"][0] | {"package": "scikit-learn", "wanted": "0.1"} == found.checked["mismatches"][0]
    )
    refused = validate(model=model, input=patients, engine="inline", on_mismatch="fail")
    assert (len(refused.errors), refused.warnings) == (1, ())
    assert refused.errors[0].endswith("; --on-mismatch warn scores all the same")


def test_only_some_of_very_many_files_are_looked_into(
    heart_model: Path, patients: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first and the last, and others between, are."""
    monkeypatch.setattr("runtime.validation.SAMPLED_FILES", 3)
    for name in "cdefg":
        shutil.copy(patients / "b.csv", patients / f"{name}.csv")
    for name in "adg":
        change(patients, f"{name}.csv", with_id)
    lines = look(model=heart_model, input=patients)
    assert "ok: looked into 3 of 7 files, at 70 rows" in lines
    assert "warning: column 'id' of a.csv, d.csv and g.csv is not in the signature, and ignored" in lines


# Output


def test_output_that_is_there(heart_model: Path, patients: Path, tmp_path: Path) -> None:
    """What another job wrote is refused; this very job is complete already."""
    output = tmp_path / "score"
    options = {"model": str(heart_model), "input": str(patients), "output": str(output), "engine": "inline"}
    run(**options)
    before = written(output)
    assert f"ok: {output}/predictions.csv: complete already; a run would do nothing" in look(**options)
    assert errors(look(**options, method="predict_proba")) == [
        (
            f"{output}/predictions.csv exists already: another job wrote it; choose another --output or --job-name, "
            "or say --if-exists overwrite or append"
        )
    ]
    change(patients, "a.csv", lambda text: text + text.splitlines()[-1] + "\n")
    assert [line for line in look(**options) if line.startswith("warning")] == [
        (
            f"warning: {output}/predictions.csv exists already, of this very job but of other files, or of other "
            "times of them: a run refuses it unless every byte of them is the same"
        )
    ]
    assert written(output) == before


def test_output_that_cannot_be(heart_model: Path, patients: Path, tmp_path: Path) -> None:
    """The input, and below a file."""
    assert errors(look(model=heart_model, input=patients, output=patients)) == [
        (
            f"{patients}/predictions.csv lies inside the input {patients}, so that it would be scored too; "
            "choose another --output"
        )
    ]
    (tmp_path / "file").touch()
    assert errors(look(model=heart_model, input=patients, output=tmp_path / "file" / "score")) == [
        f"{tmp_path}/file/score: cannot be made, for {tmp_path}/file is no folder; choose another --output"
    ]


# A deployment


DEPLOYMENT = """
name: words
endpoint_name: words-batch
type: model
model:
  path: model.txt
code_configuration:
  code: code
  scoring_script: score.py
environment: azureml:env:1
compute: azureml:cpu
settings:
  mini_batch_size: 2
  output_action: {action}
  retry_settings: {{max_retries: 1, timeout: 20}}
"""
SCRIPT = """
import os

def init():
    model = os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.txt")
    assert open(model).read() == "the model"
    open(os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], "from-init"), "w")
    {init}

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    {run}
    return names
"""
SPACES = (
    "predictions.csv is separated by spaces and has no header, as Azure ML writes it: "
    "read it with sep=' ' and header=None, or give --format csv"
)
THRESHOLD = (
    "error_threshold is -1, the default: the job completes however many files fail; give 0 to fail with the first"
)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """Return a folder with a deployment, its script and model, and three files of words below in."""
    return deployment(tmp_path / "words")


def deployment(folder: Path, *, init: str = "pass", run: str = "pass", action: str = "append_row") -> Path:
    """Write a deployment, its script, its model and its input."""
    for name in ("code", "in"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "deployment.yml").write_text(DEPLOYMENT.format(action=action))
    (folder / "model.txt").write_text("the model")
    (folder / "code/score.py").write_text(SCRIPT.format(init=init, run=run))
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / "in" / name).write_text(name)
    return folder


def look_at(folder: Path, **options: Any) -> list[str]:
    """Look at the deployment of a folder, with a worker process."""
    given = {"deployment": folder / "deployment.yml", "input": folder / "in", "engine": "local", **options}
    return look(**given)


def test_script_that_can_run(words: Path, in_a_folder_of_its_own: Path) -> None:
    """It loads, scores its first mini-batch into a temporary folder, and two things are worth knowing."""
    before = written(words)
    assert look_at(words) == [
        f"ok: {words}/deployment.yml: 1 worker; score.py gets 2 files a call",
        "ok: the scoring script loads, in N s",
        "ok: looked into 3 of 3 files",
        "ok: scored 2 files (a.txt and b.txt), in N s",
        f"warning: {THRESHOLD}",
        f"warning: {SPACES}",
    ]
    assert {name: text for name, text in written(words).items() if "__pycache__" not in name} == before
    assert list(in_a_folder_of_its_own.iterdir()) == []


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"run": "raise ValueError('no words')"}, "a.txt and b.txt: ValueError: no words (score.py:12)"),
        ({"run": "return names[:1]"}, "a.txt and b.txt: run() returned fewer results than files (1)"),
        ({"run": "os._exit(3)"}, "a.txt and b.txt: the worker process died (exit code 3)"),
        ({"init": "raise KeyError('key')"}, "score.py: init() failed: KeyError: 'key' (score.py:8)"),
        ({"init": "import a_module_that_nobody_has"}, "score.py: init() failed: ModuleNotFoundError: .*"),
    ],
)
def test_script_that_fails(tmp_path: Path, how: dict[str, str], expected: str) -> None:
    """It is told where; the files are looked into all the same."""
    lines = look_at(deployment(tmp_path / "words", **how))
    found = errors(lines)
    assert len(found) == 1
    assert found[0] == expected or re.match(re.sub(r"([()])", r"\\\1", expected), found[0]), found
    assert "ok: looked into 3 of 3 files" in lines


def test_init_that_fails_in_the_first_process_only(tmp_path: Path) -> None:
    """As in a run, it is tried once more in a fresh process, and nothing is said of it."""
    mark = tmp_path / "mark"
    init = f"import pathlib; mark = pathlib.Path({str(mark)!r}); old = mark.exists(); mark.touch(); 1 / old"
    folder = deployment(tmp_path / "job", init=init)
    assert errors(look_at(folder)) == []
    assert mark.exists()


def test_script_that_hangs(tmp_path: Path) -> None:
    """It has the time that the deployment gives it."""
    folder = deployment(tmp_path / "words", run="__import__('time').sleep(600)")
    lines: list[str] = []
    found = validate(
        deployment=folder / "deployment.yml",
        input=folder / "in",
        timeout_s=0.5,
        task_overhead_s=0.0,
        tell=lambda kind, text: lines.append(f"{kind}: {text}"),
    )
    assert found.errors == ("a.txt and b.txt: not done within 0.5 s",)


def test_script_that_writes_its_output_itself(tmp_path: Path) -> None:
    """The folder it writes to is a temporary one, which goes."""
    where = tmp_path / "where"
    init = f"open({str(where)!r}, 'w').write(os.environ['AZUREML_BI_OUTPUT_PATH'])"
    folder = deployment(tmp_path / "words", init=init, action="summary_only")
    lines = look_at(folder, output=tmp_path / "score")
    assert errors(lines) == []
    assert f"warning: {SPACES}" not in lines
    assert not Path(where.read_text()).exists()
    assert not (tmp_path / "score").exists()


def test_deployment_without_script(heart_model: Path, patients: Path, tmp_path: Path) -> None:
    """Files of one name are told apart by nothing in the output; one that nothing reads fails alone."""
    (tmp_path / "deployment.yml").write_text(
        "name: heart\nendpoint_name: heart-batch\ntype: model\ncompute: azureml:cpu\nerror_threshold: 3\n"
        f"model: {{path: {heart_model}, type: mlflow_model}}\nsettings: {{mini_batch_size: 5}}\n"
    )
    (patients / "more").mkdir()
    shutil.copy(patients / "a.csv", patients / "more" / "a.csv")
    (patients / "c.txt").write_text("notes")
    found = validate(deployment=tmp_path / "deployment.yml", input=patients, recursive=True, workers=1, engine="inline")
    assert found.errors == ("c.txt: Error processing input file: 'c.txt'. File type 'txt' is not supported",)
    assert found.warnings == (
        (
            f"{tmp_path}/deployment.yml:5: error_threshold: applied here, but Azure ML silently ignores it at the root "
            "beside type: model; move it to settings.error_threshold"
        ),
        "the scores of a.csv and more/a.csv all name their file a.csv, which is all that Azure ML's format has",
    )
    assert found.checked["rows_scored"] == 50


def test_deployment_that_is_wrong(words: Path) -> None:
    """All that is wrong in the file is told, and an input that is not there too."""
    text = (words / "deployment.yml").read_text()
    (words / "deployment.yml").write_text(
        text.replace("mini_batch_size: 2", "mini_batchsize: 2\n  error_threshold: -2")
    )
    shutil.rmtree(words / "in")
    found = errors(look_at(words))
    assert len(found) == 3
    assert "mini_batch_size" in found[0]
    assert "error_threshold" in found[1]
    assert found[2] == f"{words}/in: no such file or folder"


def test_values_of_the_environment_are_not_told(tmp_path: Path) -> None:
    """A script may raise what it was trusted with."""
    folder = deployment(tmp_path / "words", run="raise ValueError(os.environ['PASSWORD'])")
    with open(folder / "deployment.yml", "a") as file:
        file.write("  environment_variables: {PASSWORD: hunter2-and-more}\n")
    found = validate(deployment=folder / "deployment.yml", input=folder / "in")
    assert found.errors == ("a.txt and b.txt: ValueError: $PASSWORD (score.py:12)",)
    assert "hunter2" not in repr(found)


# Known traps


def files(*sizes: int, folder: str = "") -> tuple[InputFile, ...]:
    """List files of some sizes."""
    names = [f"{folder}{number}.txt" for number in range(len(sizes))]
    return tuple(
        InputFile(name=name, url=name, size_bytes=size, version="1") for name, size in zip(names, sizes, strict=True)
    )


def measured(size_bytes: int, seconds: float, *, rows: int = 1, estimated_rows: int = 0) -> Measured:
    """Say that the first mini-batch took so long."""
    part = Slice(file=0, name="0.txt", url="0.txt", offset=0, start=0, stop=size_bytes, rows=rows)
    batch = MiniBatch(number=0, cells=(Cell(slices=(part,)),))
    return Measured(batch=batch, seconds=seconds, grid=Grid(cell_rows=0, estimated_rows=estimated_rows))


TIMEOUT = "may take about {} s, judged by the first: raise retry_settings.timeout, or lower mini_batch_size"


SCRIPTED = {
    "deployment": "d.yml",
    "input": "in",
    "scoring_script": "score.py",
    "error_threshold": 0,
    "output_format": "csv",
}
NO_CODE = {**SCRIPTED, "scoring_script": "", "model": "m"}


@pytest.mark.parametrize(
    ("options", "listed", "took", "expected"),
    [
        (SCRIPTED | {"mini_batch_size": 2, "timeout_s": 30.0}, files(10, 10, 90, 10), measured(20, 2.0), []),
        (
            SCRIPTED | {"mini_batch_size": 2, "timeout_s": 30.0},
            files(10, 10, 900_000, 10),
            measured(20, 0.001),
            [
                "the timeout is 30 s, the default, and a mini-batch of 2.txt and 3.txt (878.9 KiB) "
                + TIMEOUT.format(45)
            ],
        ),
        (SCRIPTED | {"mini_batch_size": 2, "timeout_s": 60.0}, files(10, 10, 900_000, 10), measured(20, 0.001), []),
        (
            NO_CODE | {"mini_batch_size": 1, "timeout_s": 60.0, "strict": True},
            files(1_000, 9_000),
            measured(1_000, 7.0, rows=100, estimated_rows=1_000),
            [
                "the timeout is 60 s, and a mini-batch of 1.txt (8.8 KiB) " + TIMEOUT.format(63)
            ],
        ),
        (
            NO_CODE | {"mini_batch_size": 1, "timeout_s": 60.0},
            files(1_000, 9_000),
            measured(1_000, 7.0, rows=100, estimated_rows=1_000),
            [
                "the timeout is 60 s, and a mini-batch of 1.txt (8.8 KiB) "
                + TIMEOUT.format(63)
                + "; here rows are cut, but Azure ML scores whole files"
            ],
        ),
        (
            SCRIPTED | {"mini_batch_size": 1}, files(*[2_000] * 2_000), None,
            ["mini_batch_size is 1, which makes 2,000 mini-batches of 2.0 KiB on average: more files each cost less"],
        ),
        (SCRIPTED | {"mini_batch_size": 1}, files(*[2_000] * 20), None, []),
        (SCRIPTED | {"mini_batch_size": 1}, files(*[2 * 2**20] * 2_000), None, []),
        (SCRIPTED | {"error_threshold": -1}, (), None, [THRESHOLD]),
        (SCRIPTED | {"output_format": "azureml"}, (), None, [SPACES]),
        (SCRIPTED | {"output_format": "azureml", "output_file_name": "predictions.txt"}, (), None, []),
        (SCRIPTED | {"output_format": "jsonl"}, files(1) + files(1, folder="more/"), None, []),
        (
            NO_CODE | {"strict": True}, files(1, 1) + files(1, folder="more/"), None,
            ["the scores of 0.txt and more/0.txt all name their file 0.txt, which is all that Azure ML's format has"],
        ),
        (NO_CODE | {}, files(1, 1) + files(1, folder="more/"), None, []),
        ({"model": "m", "input": "in", "timeout_s": 1.0}, files(1, 1_000), measured(1, 1.0), []),
    ],
)  # fmt: skip
def test_traps(
    options: dict[str, Any], listed: tuple[InputFile, ...], took: Measured | None, expected: list[str]
) -> None:
    """What is allowed and seldom meant."""
    made = Options.of(**{name: value for name, value in options.items() if name != "deployment"})
    # as if they came from one
    made = replace(made, deployment=options.get("deployment", ""))
    assert list(traps(made, listed, took)) == expected


# The command


def test_command_prints_findings_and_counts_them(heart_model: Path, patients: Path) -> None:
    """A line each, the numbers last, and an exit code that a script can go by."""
    good = scoreline("validate", "--model", heart_model, "--input", patients, "--engine", "inline")
    assert (good.code, good.stderr) == (0, "")
    assert good.stdout.splitlines()[0].startswith("ok: the model loads, in ")
    assert good.stdout.splitlines()[-1] == "0 errors, 0 warnings"
    change(patients, "a.csv", with_id)
    change(patients, "b.csv", lambda text: swapped(text, 3, r"^\d+", "secret"))
    bad = scoreline("validate", "--model", heart_model, "--input", patients, "--engine", "inline")
    assert (bad.code, bad.stderr) == (2, "")
    lines = bad.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok: ")] == [
        "error: column 'age': not a long in 1 row: b.csv row 2",
        "warning: column 'id' of a.csv is not in the signature, and ignored",
        "1 errors, 1 warnings",
    ]


def test_json_is_all_there_is_on_standard_output(heart_model: Path, patients: Path) -> None:
    """It holds what the Python interface returns, and no values."""
    change(patients, "b.csv", lambda text: swapped(text, 3, r"^\d+", "secret"))
    outcome = scoreline("validate", "--model", heart_model, "--input", patients, "--engine", "inline", "--json")
    assert (outcome.code, outcome.stderr) == (2, "")
    content = json.loads(outcome.stdout)
    assert set(content) == {"errors", "warnings", "checked"}
    assert content["errors"] == ["column 'age': not a long in 1 row: b.csv row 2"]
    assert content["warnings"] == []
    checked = content["checked"]
    assert checked["model"] == str(heart_model)
    assert (
        checked | {"files": 2, "files_sampled": 2, "rows_sampled": 50, "rows_scored": 49, "rows_probed": 16} == checked
    )
    assert "secret" not in outcome.stdout


def test_command_takes_a_deployment(words: Path) -> None:
    """What is said of one line stays on one line, however many it has."""
    shutil.rmtree(words / "in")
    outcome = scoreline("validate", words / "deployment.yml", "--input", words / "in")
    assert outcome.code == 2
    assert outcome.stdout.splitlines()[-1] == "1 errors, 2 warnings"
    assert f"error: {words}/in: no such file or folder" in outcome.stdout.splitlines()


@pytest.mark.parametrize("arguments", [[], ["--input", "x"], ["--model", "x"], ["d.yml", "e.yml"]])
def test_command_given_wrongly(arguments: list[str]) -> None:
    """It is refused as a run is."""
    assert scoreline("validate", *arguments) == Outcome(
        2, "", scoreline("run", *arguments).stderr.replace(" run ", " validate ")
    )


def test_values_are_shown_on_a_terminal_alone(tmp_path: Path) -> None:
    """Whoever looks may see them; a file or another program does not get them."""
    (tmp_path / "in.csv").write_text("name,word\nme,secret\nme\n")
    arguments = ["validate", "--model", str(tmp_path / "none"), "--input", str(tmp_path / "in.csv")]
    piped = scoreline(*arguments)
    assert "error: 1 fields where the header has 2 in 1 row: in.csv row 1\n" in piped.stdout
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        shown = in_a_process(arguments, stdout=theirs, stderr=subprocess.DEVNULL)
        os.close(theirs)
        text = b""
        # the end of a terminal is an error
        with suppress(OSError):
            while more := terminal.read(4096):
                text += more
        assert shown.wait() == 2
    assert b"error: 1 fields where the header has 2 in 1 row: in.csv row 1 ('me')\r\n" in text


def in_a_process(arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Give a command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-m", "runtime.cli", *arguments], env=environment, **options)


@pytest.mark.parametrize(
    ("where", "number", "code"), [("init", signal.SIGTERM, 143), ("run", signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_signal_stops_it_and_leaves_nothing(tmp_path: Path, where: str, number: int, code: int) -> None:
    """No process, no folder: the fixtures look for them."""
    mark = tmp_path / "mark"
    folder = deployment(tmp_path / "words", **{where: f"open({str(mark)!r}, 'w'); __import__('time').sleep(600)"})
    command = [
        sys.executable,
        "-m",
        "runtime.cli",
        "validate",
        str(folder / "deployment.yml"),
        "--input",
        str(folder / "in"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert told.decode() == f"scoreline: stopped by {signal.Signals(number).name}; nothing was written\n"


def test_python_interface_is_there_whatever_was_imported() -> None:
    """The function is not hidden by a module of its name."""
    import runtime
    import runtime.validation

    assert runtime.validate is runtime.validation.validate
    assert isinstance(runtime.validate(model="x", input="y", chunk_rows=-1), Findings)
