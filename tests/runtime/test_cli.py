"""The command line, as people and programs use it."""

from __future__ import annotations

import csv
import gzip
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard

from runtime.cli import scoreline as command
from tests.old_releases import SERIALIZATIONS
from tests.runtime.commands import Outcome, scoreline

README = Path(__file__).parents[2] / "README.md"
OPTIONS = {
    name
    for parameter in command.commands["run"].params
    for name in (*parameter.opts, *parameter.secondary_opts)
    if name[0] == "-"
}
BASE = ["predictions.csv", "_predictions.receipt.json"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every command a working folder of its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def patients(tmp_path: Path, heart_rows: Callable[..., Path]) -> Path:
    """Return a folder with two files of 30 and 20 patients."""
    folder = tmp_path / "patients"
    folder.mkdir()
    shutil.copy(heart_rows(30), folder / "a.csv")
    shutil.copy(heart_rows(20, 1), folder / "b.csv")
    return folder


def rows(path: Path) -> list[list[str]]:
    """Read a score file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def receipt(folder: Path) -> dict[str, Any]:
    """Read a receipt."""
    content = json.loads((folder / "_predictions.receipt.json").read_text())
    assert isinstance(content, dict)
    return content


def bytes_without_file(path: Path) -> list[list[str]]:
    """Read a score file without the column that names the input file."""
    return [row[:-1] for row in rows(path)]


# What it says of itself


@pytest.mark.parametrize("arguments", [[], ["run"], ["demo"]])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help(arguments: list[str], option: str) -> None:
    """Help is on standard output, with every option."""
    outcome = scoreline(*arguments, option, *(["--engine", "inline"] if arguments == ["run"] else []))
    assert outcome.code == 0
    assert outcome.stdout.startswith("Usage: ")
    if arguments == ["run"]:
        assert [name for name in OPTIONS if name not in outcome.stdout] == []
        assert "75 try later" in outcome.stdout


def test_every_option_is_in_the_readme() -> None:
    """The table of the README has the options that there are, and no others."""
    table = {
        name
        for line in README.read_text("utf-8").splitlines()
        if line.startswith("| `--")
        for name in re.findall(r"--[a-z-]+", line.split("|")[1])
    }
    assert table == OPTIONS - {"-h", "--help"}


def test_version_is_told() -> None:
    """It is that of the package."""
    import runtime

    assert scoreline("--version").stdout == f"scoreline, version {runtime.__version__}\n"


# Where it writes


def test_run_writes_scores_and_a_receipt(heart_model: Path, patients: Path, tmp_path: Path) -> None:
    """Rows are in the order of the input, files by name, and the last line says where they are and how many."""
    output = tmp_path / "score"
    outcome = scoreline("run", "--model", heart_model, "--input", patients, "--output", output)
    assert (outcome.code, outcome.stdout) == (0, "")
    assert sorted(os.listdir(output)) == sorted(BASE)
    header, *body = rows(output / "predictions.csv")
    assert header == ["row", "prediction", "file"]
    assert [(row[0], row[2]) for row in body] == [(str(row), "a.csv") for row in range(30)] + [
        (str(row), "b.csv") for row in range(20)
    ]
    assert {row[1] for row in body} == {"0", "1"}
    assert re.fullmatch(
        rf"{re.escape(str(output))}/predictions\.csv: 50 rows, 0 quarantined, [\d.]+ s, [\d,]+ rows/s",
        outcome.last_line,
    )


def test_default_output_is_named_after_the_job(heart_model: Path, patients: Path) -> None:
    """A name is made up and printed with the option that resumes; given again, the job is complete already."""
    outcome = scoreline("run", "--model", heart_model, "--input", patients)
    assert outcome.code == 0
    match = re.search(r"--job-name (\S+)", outcome.stderr)
    assert match is not None
    assert Path("scoreline", match[1], "score", "predictions.csv").is_file()
    again = scoreline("run", "--model", heart_model, "--input", patients, "--job-name", match[1])
    assert (again.code, len(os.listdir("scoreline"))) == (0, 1)
    assert "already complete, nothing to do" in again.stderr


def test_job_name_is_stable(heart_model: Path, patients: Path) -> None:
    """A name that was given is not told again."""
    outcome = scoreline("run", "--model", heart_model, "--input", patients, "--job-name", "nightly")
    assert outcome.code == 0
    assert "--job-name" not in outcome.stderr
    assert Path("scoreline/nightly/score/predictions.csv").is_file()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--output", "out", "--output-file-name", "scores.txt"], ["scores.txt", "_scores.receipt.json"]),
        (["--output", "out/scores.csv"], ["scores.csv", "_scores.receipt.json"]),
        (["--output", "out/"], BASE),
        (["--output", "file://{here}/out"], BASE),
    ],
)
def test_output_may_be_named(heart_model: Path, patients: Path, options: list[str], expected: list[str]) -> None:
    """What belongs to the score file is named after it."""
    options = [option.replace("{here}", str(Path.cwd())) for option in options]
    outcome = scoreline("run", "--model", heart_model, "--input", patients, *options)
    assert outcome.code == 0, outcome.stderr
    assert sorted(os.listdir("out")) == sorted(expected)


def test_json_is_all_there_is_on_standard_output(heart_model: Path, patients: Path) -> None:
    """With `--json` standard output is the receipt, as in its file; all words go to standard error."""
    outcome = scoreline("run", "--model", heart_model, "--input", patients, "--output", "out", "--json")
    assert json.loads(outcome.stdout) == receipt(Path("out"))
    again = scoreline("run", "--model", heart_model, "--input", patients, "--output", "out", "--json")
    assert json.loads(again.stdout) == receipt(Path("out"))
    assert "already complete" in again.stderr


def test_quiet_says_nothing_but_errors(heart_model: Path, patients: Path) -> None:
    """A run that succeeds is silent; one that is refused says why."""
    (patients / "_hidden.csv").touch()
    given = ("run", "--model", heart_model, "--quiet", "--output", "out")
    assert scoreline(*given, "--input", patients) == Outcome(0, "", "")
    assert scoreline(*given, "--input", patients) == Outcome(0, "", "")
    refused = scoreline(*given, "--input", "nothing")
    assert (refused.code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("scoreline: nothing: no such file or folder")


def test_limit_prints_the_first_rows_and_keeps_nothing(heart_model: Path, patients: Path) -> None:
    """The first rows of all, over file borders, are on standard output as they would be in the file."""
    outcome = scoreline("run", "--model", heart_model, "--input", patients, "--limit", 35)
    assert outcome.code == 0
    assert list(Path.cwd().iterdir()) == []
    whole = scoreline("run", "--model", heart_model, "--input", patients, "--output", "out")
    assert whole.code == 0
    assert outcome.stdout.splitlines() == Path("out/predictions.csv").read_text().splitlines()[:36]
    assert "35 rows" in outcome.last_line
    assert "/" not in outcome.last_line.partition(":")[0]


@pytest.mark.parametrize("limit", [1, 50, 1_000])
def test_limit_may_be_more_than_there_is(heart_model: Path, patients: Path, limit: int) -> None:
    """One row is enough, and all rows are all there is."""
    outcome = scoreline("run", "--model", heart_model, "--input", patients, "--limit", limit, "--quiet")
    assert (outcome.code, len(outcome.stdout.splitlines())) == (0, 1 + min(limit, 50))


# What it reads


def test_glob_takes_what_it_names(heart_model: Path, patients: Path) -> None:
    """Nested files too, where the glob says so; names are those below what has no glob in it."""
    (patients / "more").mkdir()
    shutil.copy(patients / "a.csv", patients / "more" / "c.csv")
    flat = scoreline("run", "--model", heart_model, "--input", patients / "*.csv", "--output", "flat")
    deep = scoreline("run", "--model", heart_model, "--input", patients / "**" / "*.csv", "--output", "deep")
    one = scoreline("run", "--model", heart_model, "--input", patients / "[b-z].csv", "--output", "one")
    assert (flat.code, deep.code, one.code) == (0, 0, 0)
    names = {folder: [each["file"] for each in receipt(Path(folder))["files"]] for folder in ("flat", "deep", "one")}
    assert names == {"flat": ["a.csv", "b.csv"], "deep": ["a.csv", "b.csv", "more/c.csv"], "one": ["b.csv"]}


def test_include_and_recursive_choose_files(heart_model: Path, patients: Path) -> None:
    """What is left out is counted by reason, in the notice and in the receipt."""
    (patients / "more").mkdir()
    shutil.copy(patients / "a.csv", patients / "more" / "c.csv")
    for name in ("_hidden.csv", ".hidden.csv", "notes.txt"):
        (patients / name).touch()
    given = ("run", "--model", heart_model, "--input", patients, "--include", "*.csv")
    flat = scoreline(*given, "--output", "flat")
    assert flat.code == 0
    assert "skipped 2 hidden files" in flat.stderr
    assert "skipped 1 nested file (--recursive takes them)" in flat.stderr
    assert "skipped 1 not included file" in flat.stderr
    assert receipt(Path("flat"))["skipped"] == {"hidden": 2, "nested": 1, "not included": 1}
    deep = scoreline(*given, "--include", "*.nothing", "--recursive", "--output", "deep")
    assert deep.code == 0
    assert "nested" not in deep.stderr
    assert {row[2] for row in rows(Path("deep/predictions.csv"))[1:]} == {"a.csv", "b.csv", "more/c.csv"}


@pytest.mark.parametrize("kind", ["uri_file", "uri_folder"])
def test_input_type_may_be_said(heart_model: Path, patients: Path, kind: str) -> None:
    """What is there is checked against what was said."""
    what, other = (patients / "a.csv", patients) if kind == "uri_file" else (patients, patients / "a.csv")
    given = ("run", "--model", heart_model, "--input-type", kind, "--output", "out")
    refused = scoreline(*given, "--input", other)
    assert refused.code == 2
    assert f"but --input-type says {kind}" in refused.stderr
    assert scoreline(*given, "--input", what).code == 0


@pytest.mark.parametrize("url", ["{path}", "file://{path}", "file:{path}", "file://localhost{path}"])
def test_input_may_be_a_url(heart_model: Path, patients: Path, url: str) -> None:
    """A `file:` URL is a path."""
    outcome = scoreline("run", "--model", heart_model, "--input", url.format(path=patients / "a.csv"), "--limit", 1)
    assert outcome.code == 0, outcome.stderr


@pytest.mark.parametrize(("extension", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_compressed_file_scores_as_the_plain_one(
    heart_model: Path, patients: Path, extension: str, pack: Callable[[bytes], bytes]
) -> None:
    """It is decompressed on the way, and nothing of that stays."""
    packed = Path("packed")
    packed.mkdir()
    (packed / f"a.csv{extension}").write_bytes(pack((patients / "a.csv").read_bytes()))
    assert scoreline("run", "--model", heart_model, "--input", packed, "--output", "out").code == 0
    assert scoreline("run", "--model", heart_model, "--input", patients / "a.csv", "--output", "plain").code == 0
    assert bytes_without_file(Path("out/predictions.csv")) == bytes_without_file(Path("plain/predictions.csv"))
    assert sorted(os.listdir("out")) == sorted(BASE)


def test_unknown_extension_is_read_where_that_is_said(heart_model: Path, patients: Path) -> None:
    """`--input-format csv` reads every file as CSV."""
    (patients / "a.csv").rename(patients / "a.data")
    given = ("run", "--model", heart_model, "--output", "out")
    for what in (patients, patients / "*", patients / "a.data"):
        refused = scoreline(*given, "--input", what)
        assert refused.code == 2
        assert "no reader for a.data (known: .csv .csv.gz .csv.zst .parquet" in refused.stderr
        assert "--input-format csv" in refused.stderr
    assert scoreline(*given, "--input", patients, "--input-format", "csv").code == 0


def test_files_without_a_header(heart_model: Path, patients: Path) -> None:
    """Their columns are those of the signature in order, or those that are named."""
    lines = (patients / "a.csv").read_text().splitlines()
    names = lines[0].split(",")
    Path("bare.csv").write_text("\n".join(lines[1:]))
    turned = [",".join(reversed(line.split(","))) for line in lines[1:]]
    Path("turned.csv").write_text("\n".join(turned) + "\n")
    given = ("run", "--model", heart_model)
    assert scoreline(*given, "--input", patients / "a.csv", "--output", "whole").code == 0
    bare = scoreline(*given, "--input", "bare.csv", "--no-input-header", "--output", "bare")
    named = scoreline(
        *given, "--input", "turned.csv", "--no-input-header", "--input-columns", ",".join(reversed(names)),
        "--output", "turned",
    )  # fmt: skip
    assert (bare.code, named.code) == (0, 0)
    expected = bytes_without_file(Path("whole/predictions.csv"))
    assert bytes_without_file(Path("bare/predictions.csv")) == expected
    assert bytes_without_file(Path("turned/predictions.csv")) == expected


@pytest.mark.parametrize(("option", "delimiter"), [(";", ";"), ("\\t", "\t"), ("\t", "\t"), ("|", "|"), ("tab", "\t")])
def test_delimiter_may_be_another(heart_model: Path, patients: Path, option: str, delimiter: str) -> None:
    """Semicolons, tabs and others; the score file keeps its commas."""
    Path("in.csv").write_text((patients / "a.csv").read_text().replace(",", delimiter))
    outcome = scoreline("run", "--model", heart_model, "--input", "in.csv", "--delimiter", option, "--limit", 2)
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.startswith("row,prediction,file\n0,")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig", "utf-16", "cp1252", "cp037"])
def test_encoding_may_be_another(heart_model: Path, patients: Path, encoding: str) -> None:
    """Text that is kept comes out as UTF-8."""
    text = (patients / "a.csv").read_text().splitlines()
    lines = [text[0] + ",ort", *(line + ",Köln" for line in text[1:])]
    Path("in.csv").write_bytes("\n".join(lines).encode(encoding))
    given = ("run", "--model", heart_model, "--input", "in.csv", "--encoding", encoding, "--keep", "ort")
    outcome = scoreline(*given, "--output", "out")
    assert outcome.code == 0, outcome.stderr
    assert {row[1] for row in rows(Path("out/predictions.csv"))[1:]} == {"Köln"}


# What it writes


def test_keep_copies_columns_as_text(heart_model: Path, tmp_path: Path, patients: Path) -> None:
    """Columns of the input, whether the model reads them or not, stand before the predictions as they were."""
    text = (patients / "a.csv").read_text().splitlines()
    lines = [text[0] + ",id", *(f'{line},"0{number} ""x"", y"' for number, line in enumerate(text[1:]))]
    path = tmp_path / "ids.csv"
    path.write_text("\n".join(lines))
    outcome = scoreline("run", "--model", heart_model, "--input", path, "--keep", "id,age", "--output", "out")
    assert outcome.code == 0
    header, *body = rows(Path("out/predictions.csv"))
    assert header == ["row", "id", "age", "prediction", "file"]
    assert [row[1] for row in body] == [f'0{number} "x", y' for number in range(30)]
    assert [row[2] for row in body] == [line.split(",")[0] for line in text[1:]]


def test_header_may_be_left_out(heart_model: Path, patients: Path) -> None:
    """The score file then begins with its first row."""
    given = ("run", "--model", heart_model, "--input", patients, "--no-output-header")
    assert scoreline(*given, "--output", "out").code == 0
    assert len(rows(Path("out/predictions.csv"))) == 50
    assert rows(Path("out/predictions.csv"))[0][0] == "0"


def test_method_may_be_another(heart_model: Path, patients: Path) -> None:
    """Columns of probabilities are named after the classes."""
    outcome = scoreline(
        "run", "--model", heart_model, "--input", patients, "--method", "predict_proba", "--output", "out"
    )
    assert outcome.code == 0
    header, *body = rows(Path("out/predictions.csv"))
    assert header == ["row", "prediction_0", "prediction_1", "file"]
    assert all(abs(float(row[1]) + float(row[2]) - 1) < 1e-9 for row in body)


def test_parameters_reach_the_model(models: Path) -> None:
    """They have the types that the model's signature says."""
    Path("in.csv").write_text("value,when\n1.5,2024-01-02\n")
    given = ("run", "--model", models / "with_params", "--input", "in.csv")
    outcome = scoreline(*given, "--param", "factor=2", "--param", "name=7 days", "--output", "out")
    assert outcome.code == 0, outcome.stderr
    assert rows(Path("out/predictions.csv"))[1][1:3] == ["3.0", "7 days"]
    unknown = scoreline(*given, "--param", "speed=2", "--output", "unknown")
    assert unknown.code == 2
    assert "--param speed: the model takes no such parameter; it takes factor, name, times" in unknown.stderr
    wrong = scoreline(*given, "--param", "factor=fast", "--output", "unknown")
    assert wrong.code == 2
    assert "--param factor=fast: not a double" in wrong.stderr


def test_dates_may_be_written_otherwise(models: Path) -> None:
    """`--date-format` says how; whatever is written otherwise does not fit."""
    Path("in.csv").write_text("value,when\n1,24.12.2023 18:30\n2,2023-12-24\n")
    given = ("run", "--model", models / "with_params", "--input", "in.csv", "--max-quarantined", 1, "--output", "out")
    outcome = scoreline(*given, "--date-format", "%d.%m.%Y %H:%M")
    assert outcome.code == 0, outcome.stderr
    assert [row[3] for row in rows(Path("out/predictions.csv"))] == ["when", "2023-12-24 18:30:00"]
    assert "not scored: when: 1 value not a datetime" in outcome.stderr


def test_types_may_be_given(heart_model: Path, patients: Path) -> None:
    """They win over the signature."""
    path = patients / "a.csv"
    text = path.read_text().splitlines()
    first = text[1].split(",")
    path.write_text("\n".join([text[0], ",".join([first[0] + ".5", *first[1:]]), *text[2:]]))
    given = ("run", "--model", heart_model, "--input", path)
    strict = scoreline(*given, "--max-quarantined", 0, "--output", "strict")
    assert strict.code == 1
    loose = scoreline(*given, "--types", "age=double", "--method", "predict_proba", "--output", "loose")
    assert (loose.code, len(rows(Path("loose/predictions.csv")))) == (0, 31)
    unknown = scoreline(*given, "--types", "weight=double", "--output", "unknown")
    assert unknown.code == 2
    assert "--types names weight, which the model does not read; it reads age, sex, " in unknown.stderr


def test_model_without_a_signature(heart_model: Path, heart_rows: Callable[[int], Path]) -> None:
    """Types are those of the first rows; where a later row does not fit, the option that helps is named."""
    shutil.copytree(heart_model, "unsigned")
    mlmodel = yaml.safe_load(Path("unsigned/MLmodel").read_text())
    del mlmodel["signature"]
    Path("unsigned/MLmodel").write_text(yaml.safe_dump(mlmodel))
    text = heart_rows(12_000).read_text()
    Path("in.csv").write_text(text + "50.5,1,2,130,250,0,0,150,0,1.2,2,0,normal\n")
    given = ("run", "--model", "unsigned", "--input", "in.csv")
    hint = (
        "the model has no signature: columns have the types of their first rows; add one, or give --types column=type"
    )
    outcome = scoreline(*given, "--output", "out")
    assert (outcome.code, "not scored: age: 1 value not a long" in outcome.stderr) == (0, True)
    assert hint in outcome.stderr
    stopped = scoreline(*given, "--max-quarantined", 0, "--output", "stopped")
    assert (stopped.code, hint in stopped.stderr) == (1, True)
    typed = scoreline(*given, "--types", "age=double", "--output", "typed")
    assert (typed.code, hint in typed.stderr) == (0, False)
    signed = scoreline("run", "--model", heart_model, "--input", "in.csv", "--output", "signed")
    assert (signed.code, hint in signed.stderr) == (0, False)
    lines = [Path(folder, "predictions.csv").read_text() for folder in ("out", "signed", "typed")]
    assert lines[0] == lines[1]
    assert lines[2].startswith(lines[0])


@pytest.mark.parametrize("form", SERIALIZATIONS)
def test_model_may_be_saved_in_any_form(tmp_path: Path, heart_model: Path, patients: Path, form: Any) -> None:
    """Scores are the same."""
    from scoring.demo import save_heart_model

    model = save_heart_model(tmp_path / "model", serialization=form)
    for each, folder in ((model, "out"), (heart_model, "plain")):
        assert scoreline("run", "--model", each, "--input", patients, "--output", folder).code == 0
    assert Path("out/predictions.csv").read_bytes() == Path("plain/predictions.csv").read_bytes()


# What cannot be scored


@pytest.fixture
def spoiled(patients: Path) -> Path:
    """Return a file of 30 rows of which 12 have words where numbers belong, and one a field too many."""
    path = patients / "a.csv"
    header, *lines = path.read_text().splitlines()
    broken = [",".join(["a secret", *line.split(",")[1:]]) for line in lines[:12]]
    path.write_text("\n".join([header, *broken, lines[12] + ",another secret", *lines[13:]]) + "\n")
    return path


def test_quarantine_has_rows_values_and_reasons(heart_model: Path, spoiled: Path) -> None:
    """Each row is found in its file; on the console are causes and counts, and never a value."""
    given = ("run", "--model", heart_model, "--input", spoiled, "--max-quarantined", "50%", "--output", "out")
    outcome = scoreline(*given, "--debug")
    assert outcome.code == 0, outcome.stderr
    entries = [json.loads(line) for line in Path("out/_predictions.quarantine.jsonl").read_text().splitlines()]
    assert [entry["row"] for entry in entries] == list(range(13))
    assert entries[0] == {
        "file": "a.csv", "row": 0, "line": 2, "column": "age", "value": "a secret", "reason": "not a long",
    }  # fmt: skip
    assert entries[12]["reason"] == "14 fields where the header has 13"
    assert "secret" not in outcome.stderr + outcome.stdout
    assert "12" in outcome.stderr
    assert "age" in outcome.stderr
    assert "13 quarantined (" in outcome.last_line
    content = receipt(Path("out"))
    assert content["rows"] == {"read": 30, "scored": 17, "quarantined": 13, "given_up": 0}
    assert "secret" not in json.dumps(content)
    assert [row[0] for row in rows(Path("out/predictions.csv"))[1:]] == [str(row) for row in range(13, 30)]


def test_values_may_be_kept_out_of_the_quarantine(heart_model: Path, spoiled: Path) -> None:
    """`--quarantine-values none` leaves place and reason."""
    given = ("run", "--model", heart_model, "--input", spoiled, "--max-quarantined", "50%", "--output", "out")
    assert scoreline(*given, "--quarantine-values", "none").code == 0
    text = Path("out/_predictions.quarantine.jsonl").read_text()
    assert len(text.splitlines()) == 13
    assert "secret" not in text
    assert "not a long" in text


@pytest.mark.parametrize(("limit", "code"), [(None, 1), ("12", 1), ("13", 0), ("43%", 1), ("44%", 0), ("0", 1)])
def test_quarantine_has_a_limit(heart_model: Path, spoiled: Path, limit: str | None, code: int) -> None:
    """Above it the job fails and says what met most rows; nothing is published."""
    given = ("run", "--model", heart_model, "--input", spoiled, "--output", "out")
    outcome = scoreline(*given, *(["--max-quarantined", limit] if limit else []))
    assert outcome.code == code, outcome.stderr
    assert Path("out/predictions.csv").exists() == (code == 0)
    if code:
        assert "13 of 30 rows cannot be scored, more than --max-quarantined" in outcome.stderr
        assert "secret" not in outcome.stderr


def test_run_with_a_higher_limit_scores_nothing_twice(heart_model: Path, spoiled: Path) -> None:
    """What is staged is used; the receipt says so."""
    given = ("run", "--model", heart_model, "--input", spoiled, "--output", "out")
    assert scoreline(*given).code == 1
    outcome = scoreline(*given, "--max-quarantined", "13")
    assert outcome.code == 0
    invocation = receipt(Path("out"))["invocation"]
    assert invocation["attempts"] == 0
    assert invocation["resumed"] > 0
    assert os.listdir("out") == [name for name in os.listdir("out") if not name.startswith(".")]


def test_file_whose_name_is_no_text(heart_model: Path, patients: Path) -> None:
    """It is scored as any other; its name stands in every output as the file system can have it."""
    folder = Path("odd")
    folder.mkdir()
    shutil.copy(patients / "a.csv", os.path.join(os.fsencode(folder), b"caf\xe9.csv"))
    outcome = run_process("run", "--model", heart_model, "--input", folder, "--output", "out", "--json")
    assert outcome.returncode == 0, outcome.stderr
    assert [os.fsencode(file["file"]) for file in json.loads(outcome.stdout)["files"]] == [b"caf\xe9.csv"]
    assert json.loads(outcome.stdout) == receipt(Path("out"))
    assert len(Path("out/predictions.csv").read_bytes().splitlines()) == 31
    limited = run_process("run", "--model", heart_model, "--input", folder, "--limit", 2)
    assert limited.returncode == 0, limited.stderr
    assert limited.stdout.splitlines() == Path("out/predictions.csv").read_text("utf-8").splitlines()[:3]


# A whole process


def run_process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Give a command in a process of its own."""
    texts = [sys.executable, "-m", "runtime.cli", *(str(each) for each in arguments)]
    return subprocess.run(texts, capture_output=True, text=True, check=False, **options)


def test_process_prints_nothing_of_the_model(models: Path) -> None:
    """What a model prints is neither on standard output nor on standard error, unless `--debug` asks for it."""
    Path("in.csv").write_text("value,action,mark\n1,print,\n2,ok,\n")
    given = ("run", "--model", models / "by_row", "--input", "in.csv", "--workers", 1, "--json")
    calm = run_process(*given, "--output", "calm")
    assert calm.returncode == 0, calm.stderr
    assert json.loads(calm.stdout)["rows"]["scored"] == 2
    assert "words of a model" not in calm.stderr
    loud = run_process(*given, "--output", "loud", "--debug")
    assert json.loads(loud.stdout)["rows"]["scored"] == 2
    assert "words of a model" in loud.stderr


def test_model_that_fails_is_told_in_one_line(models: Path) -> None:
    """Its error and the place in its code are there without a traceback of ours; what was made for the job is gone."""
    Path("in.csv").write_text("value,action,mark\n1,raise,\n2,ok,\n")
    given = ("run", "--model", models / "by_row", "--input", "in.csv", "--output", "out")
    outcome = scoreline(*given, "--no-isolate")
    assert outcome.code == 1
    assert "in.csv rows 0 to 1" in outcome.last_line
    assert "ValueError: no prediction for this row" in outcome.last_line
    assert "Traceback" not in outcome.stderr
    assert not Path("out").exists()
    assert scoreline(*given).code == 0
    assert Path("out/predictions.csv").read_text("utf-8") == "row,prediction,file\n1,4,in.csv\n"


def test_reader_that_has_enough_stops_nothing(heart_model: Path, patients: Path) -> None:
    """`| head -1` makes no noise."""
    texts = [sys.executable, "-m", "runtime.cli", "run", "--model", heart_model, "--input", patients, "--limit", "50"]
    with subprocess.Popen(texts, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        words = process.stderr.read().decode()
    assert "Traceback" not in words
    assert "Error" not in words


def test_terminal_shows_a_bar_and_a_last_line(heart_model: Path, heart_rows: Callable[[int], Path]) -> None:
    """Under a terminal the run ends as elsewhere, with where the scores are."""
    ours, theirs = pty.openpty()
    texts = [
        sys.executable, "-m", "runtime.cli", "run", "--model", heart_model, "--input", heart_rows(20_000),
        "--output", "out", "--chunk-rows", "1024", "--workers", "1",
    ]  # fmt: skip
    with subprocess.Popen(texts, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:
                # how Linux says that the other end is closed
                break
            if not data:
                break
            shown += data
    os.close(ours)
    assert process.returncode == 0, shown
    assert b"loading" in shown
    last = shown.decode().splitlines()[-1]
    assert "out/predictions.csv: 20,000 rows, 0 quarantined" in re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", last)


def test_demo_shows_what_can_be_repeated() -> None:
    """It makes data and a model, scores them, and prints every command; each of them can be given again."""
    outcome = run_process("demo", "--folder", "play", "--files", 2, "--rows", 40)
    assert outcome.returncode == 0, outcome.stderr
    commands = [line[2:] for line in outcome.stdout.splitlines() if line.startswith("$ ")]
    assert commands[1] == "scoreline run --model play/heart-model --input play/heart-data --output play/score"
    lines = Path("play/score/predictions.csv").read_text().splitlines()
    assert len(lines) == 81
    assert "\n".join(lines[:6]) in outcome.stdout
    again = scoreline(*commands[1].split()[1:])
    assert (again.code, "already complete" in again.stderr) == (0, True)


def test_python_takes_the_same_words(heart_model: Path, patients: Path) -> None:
    """`runtime.run` has the same options, with the same result."""
    from runtime import run

    told: list[str] = []
    result = run(
        model=heart_model,
        input=patients,
        output="out",
        engine="inline",
        keep="age",
        include=["a.*"],
        notice=told.append,
    )
    assert result.rows == {"read": 30, "scored": 30, "quarantined": 0, "given_up": 0}
    assert result.content == receipt(Path("out"))
    assert result.url == str(Path.cwd() / "out" / "predictions.csv")
    assert told == ["skipped 1 not included file"]
    assert rows(Path("out/predictions.csv"))[0] == ["row", "age", "prediction", "file"]
