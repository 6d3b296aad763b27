"""The options of a job, checked against each other before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime.cli import scoreline
from runtime.deployed import INVOCATION
from runtime.errors import InputError, UsageError, exit_code
from runtime.options import Options
from scoring.rows import Dialect


def options(**changes: Any) -> Options:
    """Return options with all that must be given."""
    return Options.of(**{"model": "m", "input": "i", "output": "o", **changes})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"speed": 3}, r"run\(\) has no option speed"),
        ({"model": ""}, "--model is missing"),
        ({"input": ""}, "--input is missing"),
        ({"workers": -1}, "--workers must be a whole number of at least 0, not -1"),
        ({"workers": 1.5}, "--workers must be a whole number of at least 0, not 1.5"),
        ({"chunk_rows": "8"}, "--chunk-rows must be a whole number of at least 0, not '8'"),
        ({"if_exists": "replace"}, "--if-exists must be one of fail, overwrite, append, not 'replace'"),
        ({"engine": "ray"}, "--engine must be one of local, forkserver, spawn, inline, not 'ray'"),
        ({"input_type": "mltable"}, "--input-type must be one of uri_folder, uri_file, not 'mltable'"),
        ({"input_format": "xml"}, "--input-format must be one of csv, not 'xml'"),
        ({"quarantine_values": "some"}, "--quarantine-values must be one of keep, none, not 'some'"),
        ({"encoding": "klingon"}, "--encoding klingon: no such encoding"),
        ({"encoding": "base64"}, "--encoding base64: no such encoding"),
        ({"input_columns": "a"}, "--input-columns names the columns of files without a header: add --no-input-header"),
        ({"types": {"a": "text"}}, "--types a must be one of long, .* not 'text'"),
        ({"max_quarantined": "1 of 5"}, r"--max-quarantined 1 of 5: give a number of rows \(100\) or a percentage"),
        ({"output_file_name": "a/b"}, "--output-file-name 'a/b': a file name without /"),
        ({"output_file_name": ".."}, "--output-file-name '..': a file name without"),
        ({"keep": "a,b,a"}, "--keep names a column twice"),
        ({"input_columns": "a,b,a", "input_header": False}, "--input-columns names a column twice"),
        ({"job_name": "a/b"}, "--job-name a/b: a name, not a path"),
        ({"job_name": ".."}, "--job-name ..: a name, not a path"),
        ({"delimiter": ""}, "--delimiter '': give one ASCII character"),
        ({"delimiter": "§"}, "--delimiter '§': give one ASCII character"),
        ({"delimiter": "\n"}, "--delimiter .*: give one ASCII character"),
        ({"timeout_s": 0}, "--timeout must be more than 0 seconds, not 0"),
        ({"restart": True, "if_exists": "append"}, "--restart with --if-exists append would add the same rows twice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_option_that_cannot_be_is_refused(changes: dict[str, Any], sentence: str) -> None:
    """The sentence names the option as the command has it, the value, and what it may be."""
    with pytest.raises(UsageError, match=sentence) as refused:
        options(**changes)
    assert exit_code(refused.value) == 2


def test_command_has_the_options_of_python() -> None:
    """Whatever the command takes, `runtime.run` takes by the same name."""
    names = {parameter.name for parameter in scoreline.commands["run"].params} - {"as_json", "quiet", "help"}
    assert names <= {*Options.__dataclass_fields__, *INVOCATION}


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"keep": "a,b"}, "keep", ("a", "b")),
        ({"keep": ["a,b"]}, "keep", ("a,b",)),
        ({"include": "*.{a,b}"}, "include", ("*.{a,b}",)),
        ({"types": {"a": "long"}}, "types", (("a", "long"),)),
        ({"params": [("a", 1)]}, "params", (("a", "1"),)),
        ({"delimiter": "\\t"}, "delimiter", "\t"),
        ({"delimiter": "tab"}, "delimiter", "\t"),
        ({"model": Path("a/b")}, "model", "a/b"),
        ({"max_quarantined": 5}, "max_quarantined", "5"),
        ({"quarantine_values": False}, "quarantine_values", "none"),
    ],
)
def test_python_may_give_values_as_they_come(given: dict[str, Any], name: str, value: object) -> None:
    """Lists, dicts and paths mean what the text of the command means."""
    assert getattr(options(**given), name) == value


@pytest.mark.parametrize(
    ("given", "folder", "name"),
    [
        ({"output": "/a/b"}, "/a/b", "predictions.csv"),
        ({"output": "/a/b/"}, "/a/b", "predictions.csv"),
        ({"output": "file:///a/b%20c"}, "/a/b c", "predictions.csv"),
        ({"output": "/a/b.csv"}, "/a", "b.csv"),
        ({"output": "/a/b", "output_file_name": "c.txt"}, "/a/b", "c.txt"),
        ({"output": "", "job_name": "nightly"}, "{here}/scoreline/nightly/score", "predictions.csv"),
        ({"output": "b"}, "{here}/b", "predictions.csv"),
    ],
)
def test_output_has_a_folder_and_a_name(given: dict[str, Any], folder: str, name: str) -> None:
    """A path that ends in .csv is the file, any other the folder; without one the job's name leads to it."""
    chosen = options(**given)
    assert (chosen.output_folder, chosen.output_name) == (folder.format(here=Path.cwd()), name)


def test_folder_that_ends_in_csv_is_a_folder(tmp_path: Path) -> None:
    """What is there decides."""
    (tmp_path / "a.csv").mkdir()
    chosen = options(output=tmp_path / "a.csv")
    assert (chosen.output_folder, chosen.output_name) == (str(tmp_path / "a.csv"), "predictions.csv")


def test_made_up_job_names_differ() -> None:
    """Two jobs of the same second have two outputs; a name that was given is known to be."""
    one, other = options(output=""), options(output="")
    assert one.job_name != other.job_name
    assert not one.job_name_given
    assert options(output="", job_name="mine").job_name_given


def test_files_without_a_header_need_names() -> None:
    """They come from the option, or else from the signature."""
    assert options(input_header=False).input_spec(("a", "b")).dialect == Dialect(header=False, columns=("a", "b"))
    named = options(input_header=False, input_columns="x,y").input_spec(("a", "b"))
    assert named.dialect.columns == ("x", "y")
    with pytest.raises(UsageError, match="--no-input-header: the model's signature names no columns; name them with"):
        options(input_header=False).input_spec(())
    assert options().input_spec(("a", "b")).dialect.columns == ()


def test_settings_are_what_alters_bytes() -> None:
    """How a job is done changes no setting; what it writes does."""
    base = options().settings()
    same = options(
        workers=3, cells_per_mini_batch=2, output="elsewhere", if_exists="overwrite", max_quarantined="50%",
        timeout_s=5.0, grace_s=1.0, engine="spawn", restart=True, debug=True, job_name="x", quarantine_values=True,
    )  # fmt: skip
    assert same.settings() == base
    for change in (
        {"keep": "a"}, {"types": {"a": "long"}}, {"method": "predict_proba"}, {"params": {"a": 1}}, {"chunk_rows": 5},
        {"output_header": False}, {"delimiter": ";"}, {"encoding": "cp1252"}, {"date_format": "%d"},
        {"quarantine_values": "none"}, {"limit": 3},
    ):  # fmt: skip
        assert options(**change).settings() != base, change


def test_output_elsewhere_is_refused() -> None:
    """Only local disk is written to so far."""
    with pytest.raises(InputError, match="s3://a/b: s3:// is not read yet"):
        _ = options(output="s3://a/b").output_folder
