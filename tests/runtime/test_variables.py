"""Options by environment variables: what wins over what, and what a person is told of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from runtime.cli import scoreline as command
from runtime.variables import names_of
from tests.runtime.commands import scoreline

RUN = command.commands["run"]
VARIABLES = sorted({name for each in RUN.params for name in names_of(each)})
SECRET = "c2VjcmV0LW9mLW91cnM"
DEPLOYMENT = """\
name: heart
endpoint_name: hearts
model:
  path: heart-model
  type: mlflow_model
settings:
  output_file_name: theirs.csv
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, heart_model: Path, heart_rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a working folder with a model, a deployment of it and two files."""
    shutil.copytree(heart_model, tmp_path / "heart-model")
    (tmp_path / "heart data").mkdir()
    shutil.copy(heart_rows(30), tmp_path / "heart data/a.csv")
    shutil.copy(heart_rows(20, 1), tmp_path / "heart data/b.csv")
    (tmp_path / "deployment.yml").write_text(DEPLOYMENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(monkeypatch: pytest.MonkeyPatch, *arguments: str, **variables: str) -> dict[str, object]:
    """Return the options that `scoreline run` takes from arguments and variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return RUN.make_context("run", list(arguments)).params


def test_every_option_has_its_variable() -> None:
    """The name of the variable is that of the option; switches have one for both of their words."""
    options = {name for each in RUN.params for name in each.opts if name.startswith("--") and name != "--help"}
    expected = {"SCORELINE_" + name[2:].replace("-", "_").upper() for name in options}
    assert expected <= set(VARIABLES)
    assert {"SCORELINE_OUTPUT", "SCORELINE_OUTPUT_PATH", "SCORELINE_TIMEOUT", "SCORELINE_ISOLATE"} <= expected


def test_variables_alone_run_a_job(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that only sets variables gets the scores that arguments give, and a line says which ones counted."""
    words = ("--input", "heart data", "--include", "*.csv", "--include", "b *", "--keep", "age", "--no-output-header")
    by_arguments = scoreline("run", "--model", "heart-model", *words, "--output", "one", "--quiet")
    variables = {
        "MODEL": "heart-model", "INPUT": "heart data", "INCLUDE": "*.csv 'b *'", "KEEP": "age",
        "OUTPUT_HEADER": "false", "OUTPUT_PATH": "two", "JSON": "yes",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(f"SCORELINE_{name}", value)
    by_variables = scoreline("run")
    assert (by_arguments.code, by_variables.code) == (0, 0)
    assert (place / "one/predictions.csv").read_bytes() == (place / "two/predictions.csv").read_bytes()
    assert json.loads(by_variables.stdout)["rows"]["read"] == 50
    named = by_variables.stderr.splitlines()[0].partition("options from the environment: ")[2]
    assert sorted(named.split(", ")) == sorted(f"SCORELINE_{name}" for name in variables)


def test_argument_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option by itself: what no argument says is taken from the variables."""
    variables = {"SCORELINE_WORKERS": "9", "SCORELINE_IF_EXISTS": "append", "SCORELINE_INPUT": "there"}
    options = given(monkeypatch, "--workers", "2", "--input", "here", **variables)
    assert (options["workers"], options["input"], options["if_exists"]) == (2, "here", "append")


def test_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedulers set what was left empty."""
    options = given(monkeypatch, SCORELINE_WORKERS="", SCORELINE_MODEL="", SCORELINE_INCLUDE="", SCORELINE_STRICT="")
    assert options == given(monkeypatch)


def test_variables_win_over_the_deployment_and_that_over_azure(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deployment is named by a variable too; its model counts, and its name of the score file does not."""
    monkeypatch.setenv("SCORELINE_DEPLOYMENT", "deployment.yml")
    monkeypatch.setenv("SCORELINE_OUTPUT_FILE_NAME", "ours.csv")
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(place / "nowhere"))
    monkeypatch.setenv("AZUREML_BI_OUTPUT_PATH", str(place / "scores"))
    outcome = scoreline("run", "--input", "heart data")
    assert outcome.code == 0, outcome.stderr
    assert (place / "scores/ours.csv").read_bytes().count(b"\n") == 50
    counted = "SCORELINE_DEPLOYMENT, SCORELINE_OUTPUT_FILE_NAME, AZUREML_BI_OUTPUT_PATH"
    assert outcome.stderr.splitlines()[0] == f"options from the environment: {counted}"


def test_invocation_wins_over_azure(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs and outputs in a file are said for this job; what Azure ML sets is not."""
    monkeypatch.setenv("AZUREML_BI_OUTPUT_PATH", str(place / "azure"))
    outputs = f"outputs:\n  score:\n    type: uri_file\n    path: file://{place}/mine/scores.csv\n"
    (place / "job.yml").write_text(outputs)
    outcome = scoreline("run", "deployment.yml", "--input", "heart data", "--file", "job.yml")
    assert outcome.code == 0, outcome.stderr
    assert (place / "mine/scores.csv").exists()
    assert not (place / "azure").exists()


@pytest.mark.parametrize("folder", ["heart-model", "."])
def test_azure_names_model_and_output(place: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """The variable names the folder of the model, or the one that holds it."""
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(place / folder))
    monkeypatch.setenv("AZUREML_BI_OUTPUT_PATH", str(place / "scores"))
    outcome = scoreline("run", "--input", "heart data")
    assert outcome.code == 0, outcome.stderr
    assert (place / "scores/predictions.csv").exists()
    assert "options from the environment: AZUREML_MODEL_DIR, AZUREML_BI_OUTPUT_PATH" in outcome.stderr


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("heart data", "no folder in it has an MLmodel file; give --model"),
        ("nowhere", "No such file or directory; give --model"),
        ("two", "2 folders in it have an MLmodel file; give --model"),
    ],
)
def test_azure_names_no_model(place: Path, monkeypatch: pytest.MonkeyPatch, folder: str, sentence: str) -> None:
    """What lies there instead is told."""
    for name in ("two/a", "two/b"):
        shutil.copytree(place / "heart-model", place / name)
    monkeypatch.setenv("AZUREML_MODEL_DIR", folder)
    outcome = scoreline("run", "--input", "heart data")
    assert (outcome.code, outcome.last_line) == (2, f"Error: AZUREML_MODEL_DIR {folder}: {sentence}")


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("SCORELINE_WORKERS", "many", "Invalid value for 'SCORELINE_WORKERS': 'many' is not a valid integer range."),
        ("SCORELINE_STRICT", "perhaps", "Invalid value for 'SCORELINE_STRICT': 'perhaps' is not a valid boolean"),
        ("SCORELINE_IF_EXISTS", "x", "Invalid value for 'SCORELINE_IF_EXISTS': 'x' is not one of"),
        ("SCORELINE_TYPES", "age", "Invalid value for SCORELINE_TYPES: 'age' is not name=value"),
        ("SCORELINE_INCLUDE", "'a", "SCORELINE_INCLUDE: no closing quotation; quote words as in a shell"),
        ("SCORELINE_OUPUT", "x", "SCORELINE_OUPUT: there is no such option; did you mean SCORELINE_OUTPUT?"),
        ("SCORELINE_MAX_QUARANTINE", "1", "did you mean SCORELINE_MAX_QUARANTINED?"),
    ],
)
def test_wrong_variable_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str) -> None:
    """The sentence begins with the variable, for nobody gave the option."""
    monkeypatch.setenv(variable, value)
    outcome = scoreline("run", "--model", "heart-model", "--input", "heart data")
    assert outcome.code == 2
    assert sentence in outcome.last_line


def test_wrong_argument_is_called_by_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that lost is not blamed."""
    monkeypatch.setenv("SCORELINE_WORKERS", "2")
    with pytest.raises(click.BadParameter) as raised:
        given(monkeypatch, "--workers", "many")
    assert raised.value.format_message().startswith("Invalid value for '--workers'")


def test_unknown_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is like no option is told and not refused; what Kubernetes sets beside a service is not told."""
    for name in ("SCORELINE_FOO", "SCORELINE_SERVICE_HOST", "SCORELINE_PORT", "SCORELINE_PORT_80_TCP_ADDR"):
        monkeypatch.setenv(name, "10.0.0.1")
    outcome = scoreline("run", "--model", "nowhere", "--input", "heart data")
    assert outcome.stderr.splitlines()[:-1] == [
        "SCORELINE_FOO: there is no such option, so it is not looked at; `scoreline run --help` lists them"
    ]


def test_secret_of_a_variable_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature that has ended is refused without its text, and so is one in a variable with a slip of the pen."""
    signed = f"https://acct.blob.core.windows.net/data/in?sv=2024-11-04&se=2024-12-01&sig={SECRET}"
    monkeypatch.setenv("SCORELINE_INPUT", signed)
    refused = scoreline("run", "--model", "heart-model")
    monkeypatch.setenv("SCORELINE_INPUTS", signed)
    misspelt = scoreline("run", "--model", "heart-model")
    assert (refused.code, misspelt.code) == (2, 2)
    assert "SCORELINE_INPUT" in refused.stderr
    assert "SCORELINE_INPUTS" in misspelt.stderr
    assert SECRET not in refused.stderr + refused.stdout + misspelt.stderr + misspelt.stdout
