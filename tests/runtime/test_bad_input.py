"""Bad input, bad options, bad places: one clear sentence, an exit code that means something, and nothing written."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.cli import scoreline as command
from tests.runtime.commands import Outcome, scoreline

HEADER = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal"


def digest_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Note what lies below a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, 0 if path.is_dir() else path.lstat().st_size)
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heart_rows: Callable[..., Path], heart_model: Path) -> Path:
    """Give every command a folder with good and bad input, and return it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copy(heart_rows(30), "good.csv")
    Path("model").symlink_to(heart_model)
    return folder


def prepare(name: str, heart_model: Path) -> None:
    """Make what a row of the table below needs."""
    match name:
        case "no MLmodel":
            Path("empty-model").mkdir()
        case "one level up":
            Path("models").mkdir()
            Path("models/heart").symlink_to(heart_model)
        case "bare pickle":
            Path("model.pkl").write_bytes(b"\x80\x04.")
        case "damaged MLmodel" | "no python_function":
            shutil.copytree(heart_model, "other-model")
            Path("other-model/MLmodel").write_text("a: [" if name.startswith("damaged") else "flavors: {sklearn: {}}")
        case "torn weights":
            shutil.copytree(heart_model, "torn-model")
            (weights,) = Path("torn-model").glob("model.*")
            weights.write_bytes(weights.read_bytes()[:100])
        case "empty folder" | "only hidden" | "only nested" | "unknown extension" | "dangling" | "fifo" | "loop":
            _folder(name)
        case "binary":
            Path("binary.csv").write_bytes(b"PK\x03\x04" + bytes(range(256)))
        case "no gzip":
            shutil.copy("good.csv", "good.csv.gz")
        case "no rows":
            Path("header.csv").write_text(HEADER + "\n")
            Path("nothing.csv").touch()
        case "no column":
            Path("narrow.csv").write_text("age,sex\n1,2\n3,4\n")


def _folder(name: str) -> None:
    folder = Path("folder")
    folder.mkdir()
    match name:
        case "only hidden":
            (folder / "_SUCCESS").touch()
        case "only nested":
            (folder / "more").mkdir()
            (folder / "more" / "a.csv").touch()
        case "unknown extension":
            for extension in ("orc", "xlsx", "csv"):
                (folder / f"a.{extension}").touch()
        case "dangling":
            (folder / "a.csv").symlink_to("nothing")
        case "loop":
            (folder / "a.csv").symlink_to("a.csv")
        case "fifo":
            os.mkfifo(folder / "a.csv")


GOOD = {"--model": "model", "--input": "good.csv", "--output": "out"}
TABLE: list[tuple[str, dict[str, str | None], int, str]] = [
    # the model
    ("no model", {"--model": "nothing"}, 2, r"nothing: no such model; give a folder with an MLmodel file, or models:/"),
    (
        "no MLmodel",
        {"--model": "empty-model"},
        2,
        r"empty-model: the folder has no MLmodel file, so it is no MLflow mod",
    ),
    ("one level up", {"--model": "models"}, 2, r"models: the folder has no MLmodel file.*did you mean models/heart\?"),
    ("model is a file", {"--model": "good.csv"}, 2, r"good\.csv: a file, but a model is a folder with an MLmodel file"),
    (
        "bare pickle",
        {"--model": "model.pkl"},
        2,
        r"model\.pkl: a bare pickle says nothing of its columns; wrap it once",
    ),
    ("damaged MLmodel", {"--model": "other-model"}, 2, r"other-model/MLmodel: cannot be read: while parsing"),
    ("no python_function", {"--model": "other-model"}, 2, r"other-model/MLmodel: the model has no python_function fla"),
    ("torn weights", {"--model": "torn-model"}, 1, r"torn-model: the model cannot be loaded: \w+"),
    # the input
    ("no input", {"--input": "nothing"}, 2, r"nothing: no such file or folder"),
    ("no match", {"--input": "*.gz"}, 2, r"\*\.gz: no input files"),
    ("empty folder", {"--input": "folder"}, 2, r"folder: no input files$"),
    ("only hidden", {"--input": "folder"}, 2, r"folder: no input files \(1 hidden left out\)"),
    ("only nested", {"--input": "folder"}, 2, r"folder: no input files \(1 nested left out; --recursive looks into"),
    (
        "unknown extension",
        {"--input": "folder"},
        2,
        r"folder: no reader for a\.orc, a\.xlsx \(known: \.csv \.csv\.gz",
    ),
    ("binary", {"--input": "binary.csv"}, 2, r"binary\.csv: not a text file \(it has a zero byte at 4\); leave it out"),
    ("no gzip", {"--input": "good.csv.gz"}, 2, r"good\.csv\.gz: not a gz file, whatever its name says"),
    ("dangling", {"--input": "folder"}, 2, r"folder/a\.csv: it is a link to nothing"),
    ("loop", {"--input": "folder"}, 2, r"folder/a\.csv: cannot be read: Too many levels of symbolic links"),
    ("fifo", {"--input": "folder"}, 2, r"folder/a\.csv: it is no regular file; copy it to one first"),
    ("no rows", {"--input": "nothing.csv"}, 2, r"the input has no rows to score"),
    ("no rows", {"--input": "header.csv"}, 2, r"the input has no rows to score"),
    ("other storage", {"--input": "s3://bucket/a.csv"}, 2, r"s3://bucket/a\.csv: s3:// is not read yet; use a local"),
    ("other machine", {"--input": "file://other/a.csv"}, 2, r"a file: URL names this machine only, not 'other'"),
    # the output
    ("below a file", {"--output": "good.csv/out"}, 2, r"good\.csv/out: cannot be written: Not a directory"),
    ("no file system", {"--output": "/proc/out"}, 2, r"/proc/out: cannot be written: No such file or directory"),
    (
        "in the input",
        {"--input": ".", "--output": "."},
        2,
        r"predictions\.csv lies inside the input \., so that it would",
    ),
    ("other storage", {"--output": "s3://bucket/out"}, 2, r"s3://bucket/out: s3:// is not \w+ yet; use a local path"),
    ("path for a name", {"--output-file-name": "a/b.csv"}, 2, r"--output-file-name 'a/b\.csv': a file name without /"),
    ("path for a job", {"--job-name": "a/b"}, 2, r"--job-name a/b: a name, not a path"),
    # the options
    ("no workers", {"--workers": "0"}, 2, r"Invalid value for '--workers': 0 is not in the range x>=1"),
    ("unknown option", {"--wokers": "1"}, 2, r"No such option:? '?--wokers.*--workers"),
    ("no value", {"--input": None}, 2, r"Missing option '--input'"),
    (
        "no quotes",
        {"--input": "good.csv", "more.csv": "x.csv"},
        2,
        r"unexpected extra argument \(more\.csv\); quote a",
    ),
    ("both", {"--limit": "1", "--json": ""}, 2, r"--limit prints rows and --json prints the receipt: give one of them"),
    ("negative", {"--chunk-rows": "-1"}, 2, r"Invalid value for '--chunk-rows': -1 is not in the range x>=0"),
    ("limit", {"--max-quarantined": "few"}, 2, r"--max-quarantined few: give a number of rows \(100\) or a percentage"),
    ("encoding", {"--encoding": "klingon"}, 2, r"--encoding klingon: no such encoding"),
    ("delimiter", {"--delimiter": ";;"}, 2, r"--delimiter ';;': give one ASCII character"),
    ("delimiter", {"--delimiter": '"'}, 2, r"--delimiter '\"': give one ASCII character"),
    (
        "columns",
        {"--input-columns": "a,b"},
        2,
        r"--input-columns names the columns of files without a header: add --no-",
    ),
    ("type", {"--types": "age=number"}, 2, r"--types age must be one of long, integer, double, .*, not 'number'"),
    ("pair", {"--types": "age"}, 2, r"Invalid value for --types: 'age' is not name=value"),
    ("timeout", {"--timeout": "0"}, 2, r"--timeout must be more than 0 seconds, not 0"),
    ("twice", {"--keep": "age,age"}, 2, r"--keep names a column twice"),
    # what only the model knows
    ("method", {"--method": "guess"}, 2, r"--method guess: Pipeline has no such method; it has predict, predict_proba"),
    ("parameter", {"--param": "a=1"}, 2, r"--param a: the model takes no such parameter; its signature has none"),
    (
        "type",
        {"--types": "weight=long"},
        2,
        r"--types names weight, which the model does not read; it reads age, sex, ",
    ),
]


@pytest.mark.parametrize(
    ("name", "options", "code", "sentence"), TABLE, ids=[f"{name} {' '.join(options)}" for name, options, *_ in TABLE]
)
def test_bad_input_is_told_in_a_sentence(
    heart_model: Path, name: str, options: dict[str, str | None], code: int, sentence: str
) -> None:
    """The exit code and the sentence are those of the table, there is no traceback, and the disk is as before."""
    prepare(name, heart_model)
    before = digest_of(Path.cwd())
    named = {option: value for option, value in {**GOOD, **options}.items() if value is not None}
    words = [word for option in named.items() for word in option if word]
    outcome = scoreline("run", *words)
    assert re.search(sentence, outcome.stderr), outcome.stderr
    assert outcome.code == code
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    assert "a fault of Scoreline's" not in outcome.stderr
    assert digest_of(Path.cwd()) == before


def test_input_given_twice_is_refused(here: Path) -> None:
    """Nobody shall believe that both were scored."""
    before = digest_of(here)
    outcome = scoreline("run", "--model", "model", "--input", "good.csv", "--input", "more.csv", "--output", "out")
    assert outcome.code == 2
    assert "--input: given twice; a glob takes many files: --input 'data/*.csv'" in outcome.stderr
    assert digest_of(here) == before


def test_wrong_delimiter_is_mended_without_more_ado(here: Path) -> None:
    """A job in which no row was scored keeps nothing that would stand in the way of the right options."""
    Path("semicolons.csv").write_text(Path("good.csv").read_text().replace(",", ";"))
    before = digest_of(here)
    job = ("run", "--model", "model", "--input", "semicolons.csv", "--output", "out")
    wrong = scoreline(*job)
    assert wrong.code == 1
    assert re.search(r"30 of 30 rows cannot be scored", wrong.stderr), wrong.stderr
    assert digest_of(here) == before
    assert scoreline(*job, "--delimiter", ";").code == 0


def test_file_without_a_required_column_fails(here: Path) -> None:
    """Its rows are counted, and the sentence names the column."""
    prepare("no column", here)
    outcome = scoreline("run", "--model", "model", "--input", "narrow.csv", "--output", "out")
    assert outcome.code == 1
    assert re.search(r"no row could be scored: .*'cp'", outcome.last_line), outcome.last_line
    assert not Path("out/predictions.csv").exists()


def test_default_output_of_a_refused_run_is_not_made(here: Path) -> None:
    """A made-up job name leaves no folder, and is not even told."""
    before = digest_of(here)
    assert scoreline("run", "--model", "model", "--input", "nothing").code == 2
    assert digest_of(here) == before


def test_model_whose_module_is_missing(models: Path, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    """The sentence names the module and what installs it."""
    monkeypatch.setenv("FAULT", "import")
    Path("in.csv").write_text("value\n1\n")
    before = digest_of(here)
    outcome = scoreline(
        "run", "--model", models / "on_load", "--input", "in.csv", "--output", "out", "--engine", "local"
    )
    assert outcome.code == 1
    assert re.search(
        r"needs the module 'a_module_that_nobody_has', which is not installed here; pip install -r .*requirements\.txt",
        outcome.stderr,
    )
    assert digest_of(here) == before


def test_model_that_depends_on_its_company(models: Path, here: Path) -> None:
    """Predictions that change with the rows around them, or are random, are refused with the option that helps."""
    Path("in.csv").write_text("value,action,mark\n" + "".join(f"{row},mean,\n" for row in range(5_000)))
    given = ("run", "--model", models / "by_row", "--input", "in.csv", "--output", "out")
    before = digest_of(here)
    refused = scoreline(*given)
    assert refused.code == 2
    assert "predictions depend on which rows are scored together (or are random): use --chunk-rows 0" in refused.stderr
    assert digest_of(here) == before
    assert scoreline(*given, "--chunk-rows", 0).code == 0


@pytest.mark.parametrize("chunk_rows", [[], ["--chunk-rows", "0"], ["--chunk-rows", "7"]])
@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        ("short", r"29\b.*30|6\b.*7"),
        ("deep", "3|three"),
        ("raise", "ValueError: no prediction for this row"),
        ("sys.exit", "SystemExit: 4"),
    ],
)
def test_model_whose_answer_cannot_be_used(models: Path, action: str, sentence: str, chunk_rows: list[str]) -> None:
    """The sentence says which rows, and what the model did; nothing is published."""
    chunk_rows = [*chunk_rows, "--no-isolate"]
    Path("in.csv").write_text("value,action,mark\n" + "".join(f"{row},{action},\n" for row in range(30)))
    outcome = scoreline("run", "--model", models / "by_row", "--input", "in.csv", "--output", "out", *chunk_rows)
    assert outcome.code == 1
    assert re.search(sentence, outcome.last_line), outcome.last_line
    assert re.search(r"in\.csv rows 0 to (29|6) could not be scored in 2 attempts", outcome.last_line)
    assert not Path("out").exists()


@pytest.mark.parametrize("chunk_rows", [[], ["--chunk-rows", "0"], ["--chunk-rows", "7"]])
@pytest.mark.parametrize("action", ["short", "deep", "raise", "sys.exit"])
def test_model_that_takes_no_row_at_all(models: Path, action: str, chunk_rows: list[str]) -> None:
    """Whatever its rows are, none can be scored: the sentence says why, and nothing is published."""
    Path("in.csv").write_text("value,action,mark\n" + "".join(f"{row},{action},\n" for row in range(30)))
    outcome = scoreline("run", "--model", models / "by_row", "--input", "in.csv", "--output", "out", *chunk_rows)
    assert outcome.code == 1
    assert re.search(r"no row could be scored|everything fails alike|cannot be scored, more than", outcome.last_line)
    assert not Path("out/predictions.csv").exists()


def test_model_that_changes_its_columns(models: Path) -> None:
    """One output cannot hold two sets of columns."""
    rows = [f"{row},{'columns' if row >= 20 else 'ok'},\n" for row in range(40)]
    Path("in.csv").write_text("value,action,mark\n" + "".join(rows))
    given = ("run", "--model", models / "by_row", "--input", "in.csv", "--output", "out", "--chunk-rows", 10)
    outcome = scoreline(*given)
    assert outcome.code == 1
    assert "other columns than before: label, score instead of prediction" in outcome.last_line
    assert not Path("out/predictions.csv").exists()


def test_failure_that_passes_is_forgiven_once(models: Path) -> None:
    """A mini-batch that fails is tried again; the receipt says so, and the scores are whole."""
    Path("in.csv").write_text(f"value,action,mark\n1,raise,{Path('mark').absolute()}\n2,ok,\n")
    outcome = scoreline("run", "--model", models / "by_row", "--input", "in.csv", "--output", "out")
    assert outcome.code == 0, outcome.stderr
    invocation = json.loads(Path("out/_predictions.receipt.json").read_text())["invocation"]
    assert (invocation["attempts"], invocation["retries"]) == (2, 1)
    assert Path("out/predictions.csv").read_text() == "row,prediction,file\n0,2,in.csv\n1,4,in.csv\n"


# Outputs that are there already


def given(*options: object) -> Outcome:
    """Run the good job with more options."""
    named = [] if "--input" in options else ["--input", "good.csv"]
    return scoreline("run", "--model", "model", *named, "--output", "out", *options)


def scores() -> list[str]:
    """Return the lines of the score file."""
    return Path("out/predictions.csv").read_text().splitlines()


def test_complete_job_is_left_alone() -> None:
    """The same command exits 0 at once, in every mode, and touches nothing; `--restart` scores again."""
    assert given().code == 0
    before = Path("out/predictions.csv").stat()
    for options in ([], ["--if-exists", "overwrite"], ["--if-exists", "append"], ["--workers", "1"]):
        outcome = given(*options)
        assert outcome.code == 0, outcome.stderr
        assert "already complete, nothing to do" in outcome.stderr
    assert Path("out/predictions.csv").stat() == before
    assert sorted(os.listdir("out")) == ["_predictions.receipt.json", "predictions.csv"]
    again = given("--restart")
    assert again.code == 0
    assert "already complete" not in again.stderr
    assert Path("out/predictions.csv").stat().st_ino != before.st_ino


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ["--keep", "age"],
            r"out/predictions\.csv exists already: another job wrote it; choose another --output or --job-na",
        ),
        (["--input", "more.csv"], r"out/predictions\.csv exists already: .*other input"),
    ],
)
def test_output_of_another_job_is_refused(change: list[str], sentence: str) -> None:
    """Nobody's scores are replaced unless that is asked for."""
    shutil.copy("good.csv", "more.csv")
    assert given().code == 0
    before = digest_of(Path("out"))
    refused = given(*change)
    assert refused.code == 2
    assert re.search(sentence, refused.stderr), refused.stderr
    assert "--if-exists overwrite or append" in refused.stderr
    assert digest_of(Path("out")) == before
    assert given(*change, "--if-exists", "overwrite").code == 0


def test_file_that_no_job_wrote_is_refused() -> None:
    """A file without a receipt is somebody's."""
    Path("out").mkdir()
    Path("out/predictions.csv").write_text("mine")
    outcome = given()
    assert outcome.code == 2
    assert "exists already: another job wrote it" in outcome.stderr
    assert os.listdir("out") == ["predictions.csv"]
    assert Path("out/predictions.csv").read_text() == "mine"


def test_append_adds_the_rows_of_another_input() -> None:
    """The header is not repeated, the receipt lists what was added where, and nothing is appended twice."""
    shutil.copy("good.csv", "more.csv")
    assert given().code == 0
    more = ("--input", "more.csv", "--if-exists", "append")
    assert given(*more).code == 0
    lines = scores()
    assert len(lines) == 61
    assert sum(line.startswith("row,") for line in lines) == 1
    assert [line.rpartition(",")[2] for line in lines[1:]] == ["good.csv"] * 30 + ["more.csv"] * 30
    content = json.loads(Path("out/_predictions.receipt.json").read_text())
    first, second = content["appended"]
    assert (first["offset"], first["length"]) == (0, second["offset"])
    assert second["offset"] + second["length"] == content["output"]["size_bytes"]
    for options in (more, ("--if-exists", "append"), ()):
        again = given(*options)
        assert (again.code, "already complete" in again.stderr) == (0, True), again.stderr
    assert scores() == lines


def test_append_refuses_another_header() -> None:
    """Rows of other columns are never put below a header that is not theirs."""
    assert given().code == 0
    before = Path("out/predictions.csv").read_bytes()
    outcome = given("--if-exists", "append", "--keep", "age")
    assert outcome.code == 2
    assert re.search(r"has another header than the rows to append \(row,age,prediction,file\)", outcome.stderr)
    assert Path("out/predictions.csv").read_bytes() == before


def test_append_to_nothing_begins_a_file() -> None:
    """Where nothing is there, appending is writing."""
    assert given("--if-exists", "append").code == 0
    assert len(scores()) == 31


# Parts that are staged already


def stopped(*options: object) -> None:
    """Leave parts of the good job, which stopped because too much of it is in quarantine."""
    lines = Path("good.csv").read_text().splitlines()
    Path("good.csv").write_text("\n".join([*lines, "x" + "," * 12]) + "\n")
    outcome = given("--max-quarantined", 0, "--chunk-rows", 10, *options)
    assert outcome.code == 1, outcome.stderr
    assert any(Path("out/.predictions.csv.staging/parts").iterdir())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--chunk-rows", "20"], r"--chunk-rows was 10 and is 20"),
        (["--keep", "age"], r"--keep was .* and is .*age"),
        (["--model", "other-model"], r"the model is another"),
    ],
)
def test_parts_of_another_job_are_refused(heart_model: Path, change: list[str], sentence: str) -> None:
    """The message names what differs; the parts stay for who repeats that job, or go with `--restart`."""
    stopped()
    shutil.copytree(heart_model, "other-model")
    Path("other-model/requirements.txt").write_text("")
    options = ("--chunk-rows", 10, "--max-quarantined", 1, *change)
    before = digest_of(Path("out/.predictions.csv.staging/parts"))
    refused = given(*options)
    assert refused.code == 2
    assert re.search(sentence, refused.stderr), refused.stderr
    assert "--restart" in refused.stderr
    assert digest_of(Path("out/.predictions.csv.staging/parts")) == before
    done = given(*options, "--restart")
    assert done.code == 0, done.stderr
    assert len(scores()) == 31
    assert not Path("out/.predictions.csv.staging").exists()


def test_parts_of_other_threads_are_refused() -> None:
    """Sums of more threads may be others, so that parts of both are never put together."""
    stopped()
    refused = given("--chunk-rows", 10, "--max-quarantined", 1, "--threads", 2)
    assert refused.code == 2
    assert "--threads was 1 and is 2" in refused.stderr


def test_same_job_goes_on_with_its_parts() -> None:
    """Nothing that is staged is scored again, whatever the number of workers or the size of mini-batches."""
    stopped()
    done = given("--max-quarantined", 1, "--chunk-rows", 10, "--workers", 1, "--cells-per-mini-batch", 2)
    assert done.code == 0
    assert "resuming: 4 of about 4 mini-batches are already scored" in done.stderr
    invocation = json.loads(Path("out/_predictions.receipt.json").read_text())["invocation"]
    assert (invocation["attempts"], invocation["resumed"]) == (0, 4)


def test_changed_input_is_scored_again_where_it_changed() -> None:
    """A part whose bytes are still those of the input is used, whatever the times of the file say."""
    stopped()
    text = Path("good.csv").read_text()
    lines = text.splitlines()
    lines[15] = lines[3]
    Path("good.csv").write_text("\n".join(lines[:-1]) + "\n")
    done = given("--max-quarantined", 1, "--chunk-rows", 10)
    assert done.code == 0, done.stderr
    resumed = scores()
    invocation = json.loads(Path("out/_predictions.receipt.json").read_text())["invocation"]
    assert invocation["attempts"] == 1
    assert given("--chunk-rows", 10, "--restart").code == 0
    assert scores() == resumed


def test_job_that_failed_before_it_staged_leaves_the_output_free() -> None:
    """Options that the model refuses are no job: others may use the output."""
    assert given("--types", "weight=long").code == 2
    assert given().code == 0


# Later


def test_output_that_another_driver_holds() -> None:
    """The second driver is told at once who holds it, and by which exit code it is worth a try later."""
    folder = Path("out/.predictions.csv.staging")
    folder.mkdir(parents=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(json.dumps({"host": "far-away", "pid": 4711, "boot": ""}))
        lock.flush()
        outcome = given()
        assert outcome.code == 75
        assert "another driver holds this output (process 4711 on far-away)" in outcome.stderr
    assert given().code == 0


def test_second_driver_waits_for_nobody(heart_rows: Callable[[int], Path]) -> None:
    """While one process scores, the same command in another says so and ends; the first one completes."""
    words = [sys.executable, "-m", "runtime.cli", "run", "--model", "model", "--input", heart_rows(200_000)]
    words += ["--output", "out", "--chunk-rows", "1024", "--workers", "1"]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as first:
        # the folder is made anew as the job begins, which this pattern does not mind
        while first.poll() is None and not glob.glob("out/.predictions.csv.staging/parts/*"):
            time.sleep(0.002)
        os.kill(first.pid, signal.SIGSTOP)
        try:
            outcome = given("--input", heart_rows(200_000), "--chunk-rows", 1_024)
        finally:
            os.kill(first.pid, signal.SIGCONT)
    assert outcome.code == 75
    assert re.search(
        rf"another driver holds this output \(process {first.pid} on .+, which is stopped\)", outcome.stderr
    )
    assert first.returncode == 0
    assert len(scores()) == 200_001


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("where", ["staging", "publishing"])
def test_full_disk_is_worth_a_try_later(small_disk: Path, heart_rows: Callable[[int], Path], where: str) -> None:
    """Nothing half-written is to be seen; with more space the same command goes on with what is staged."""
    # scores of 200,000 rows are 3.6 MB, and of 70,000 rows 1.2 MB, which cannot be there twice
    rows = 200_000 if where == "staging" else 70_000
    job = (
        "run",
        "--model",
        "model",
        "--input",
        heart_rows(rows),
        "--output",
        small_disk / "out",
        "--chunk-rows",
        4_096,
    )
    full = scoreline(*job)
    assert full.code == 75, full.stderr
    assert re.search(r"No space left on device; what is staged is kept, run again to go on", full.last_line)
    assert [name for name in os.listdir(small_disk / "out") if not name.startswith(".")] == []
    assert scoreline(*job).code == 75
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    done = scoreline(*job)
    assert done.code == 0, done.stderr
    invocation = json.loads((small_disk / "out" / "_predictions.receipt.json").read_text())["invocation"]
    assert invocation["resumed"] > 0
    assert (invocation["attempts"] > 0) == (where == "staging")
    with open(small_disk / "out" / "predictions.csv") as file:
        assert sum(1 for _ in file) == rows + 1
    assert sorted(os.listdir(small_disk / "out")) == ["_predictions.receipt.json", "predictions.csv"]


def test_output_that_may_only_be_read(tmp_path: Path) -> None:
    """A folder that nobody, not even root, may write to is refused before any work."""
    folder = tmp_path / "fixed"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o555)
        undo = ["chmod", "755", str(folder)]
    elif subprocess.run(["chattr", "+i", str(folder)], capture_output=True, check=False).returncode == 0:
        undo = ["chattr", "-i", str(folder)]
    elif _bind_read_only(folder):
        undo = ["umount", str(folder)]
    else:
        pytest.skip("root may write everywhere on this machine")
    try:
        outcome = given("--output", folder / "out")
    finally:
        subprocess.run(undo, check=True)
    assert outcome.code == 2
    assert re.search(
        r"fixed/out: cannot be written: (Permission denied|Operation not permitted|Read-only)", outcome.stderr
    )
    assert list(folder.iterdir()) == []


def _bind_read_only(folder: Path) -> bool:
    def mount(*words: str) -> bool:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0

    return mount("--bind", str(folder), str(folder)) and mount("-o", "remount,ro,bind", str(folder))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_that_may_not_be_read(here: Path) -> None:
    """It is named before any work."""
    before = digest_of(here)
    mode = Path("good.csv").stat().st_mode
    Path("good.csv").chmod(0)
    outcome = given()
    Path("good.csv").chmod(mode)
    assert outcome.code == 2
    assert "good.csv: cannot be read: Permission denied" in outcome.stderr
    assert digest_of(here) == before


def test_every_option_of_the_table_is_one() -> None:
    """The table above names options as they are, but for the one that is wrong."""
    known = {name for parameter in command.commands["run"].params for name in parameter.opts}
    named: set[str] = {option for _, options, *_ in TABLE for option in options}
    assert named - known == {"--wokers", "more.csv"}
