"""Deployments in the manner of Microsoft's samples, run from their YAML file to their output (issue 3)."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.cli import scoreline as command
from runtime.deployment import read_deployment
from runtime.uris import parse_uri
from runtime.workspace import read_workspace, resolve
from tests.deployments import making
from tests.runtime.commands import Outcome, scoreline
from tests.thorough import usual

DEPLOYMENTS = Path(__file__).with_name("deployments")


def score_file(folder: Path, name: str = "predictions.csv") -> str:
    """Return the score file as it is."""
    return (folder / name).read_bytes().decode()


def parquet_files(folder: Path) -> str:
    """Return what stands in the Parquet files of a folder, file by file."""
    import pandas as pd

    texts = []
    for path in sorted(folder.glob("*.parquet")):
        text = io.StringIO()
        pd.read_parquet(path).to_csv(text, index=False, lineterminator="\n")
        texts.append(f"{path.name}\n{text.getvalue()}")
    return "".join(texts)


def lines_in_any_order(folder: Path, name: str = "lines.jsonl") -> str:
    """Return the lines that workers appended at the same time, sorted."""
    return "".join(sorted((folder / name).read_text("utf-8").splitlines(keepends=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A deployment, and what it is run on.

    Attributes:
        folder: of the deployment.
        model: what is put beside its YAML file.
        data: what is scored.
        file: the YAML file.
        written: reads the output.
        expected: the file that holds what is expected of it.
        engine: of one worker; two are processes always.
    """

    folder: str
    model: str
    data: str = "clinics"
    file: str = "deployment.yml"
    written: Callable[[Path], str] = score_file
    expected: str = "expected.csv"
    engine: str = "local"

    @property
    def golden(self) -> str:
        """What is expected of the output."""
        return (DEPLOYMENTS / self.folder / self.expected).read_bytes().decode()


SAMPLES = {
    "script": Sample(folder="heart-script", model="heart-classifier"),
    "mlflow": Sample(folder="heart-mlflow", model="heart-model", engine="inline"),
    "mlflow-classic": Sample(folder="heart-mlflow", model="heart-model", file="classic.yml", engine="inline"),
    "parquet": Sample(folder="heart-parquet", model="heart-classifier", written=parquet_files, expected="expected.txt"),
    "images-by-file": Sample(folder="digits-by-file", model="digits-classifier", data="grey"),
    "images-by-batch": Sample(folder="digits-by-batch", model="digits-classifier", data="grey"),
    "images-mlflow": Sample(folder="digits-mlflow", model="digits-model", data="colour", engine="inline"),
    "siblings": Sample(folder="heart-siblings", model="heart-classifier"),
    "tracking": Sample(folder="heart-tracking", model="heart-classifier"),
    "json-lines": Sample(
        folder="text-json-lines",
        model="empty-model",
        data="texts",
        written=lines_in_any_order,
        expected="expected.jsonl",
    ),
    "context": Sample(folder="text-context", model="empty-model", data="texts"),
    "logger": Sample(folder="text-logger", model="empty-model", data="texts"),
    "script-classic": Sample(
        folder="heart-classic", model="heart-classifier", written=functools.partial(score_file, name="classic.csv")
    ),
    "single-file": Sample(folder="heart-single-file", model="heart.joblib"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A deployment that was run, and the folder in which it was."""

    outcome: Outcome
    folder: Path

    @property
    def scores(self) -> Path:
        """The folder of the output."""
        return self.folder / "scores"

    @property
    def names(self) -> list[str]:
        """What lies in the output."""
        return sorted(path.name for path in self.scores.iterdir()) if self.scores.exists() else []

    @property
    def receipt(self) -> dict[str, Any]:
        """The account of the job."""
        (path,) = self.scores.glob("_*.receipt.json")
        return json.loads(path.read_text())

    def log(self, path: str) -> str:
        """Read a log; of a pattern, all logs that match, in the order of their names."""
        return "".join(each.read_text() for each in sorted((self.folder / "logs").glob(path)))

    def mini_batches(self) -> list[dict[str, str]]:
        """Return the table of mini-batches, in plan order."""
        with open(self.folder / "logs/sys/job_report/processed_mini-batches.csv", newline="") as table:
            return sorted(csv.DictReader(table), key=lambda row: int(row["mini_batch"]))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, heart_model: Path) -> Path:
    """Return a folder with all models and all data; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    making.save_heart_classifier(folder / "heart-classifier/model.joblib")
    shutil.copy(folder / "heart-classifier/model.joblib", folder / "heart.joblib")
    making.save_digits_classifier(folder / "digits-classifier/knn.joblib")
    making.save_digits_model(folder / "digits-model", folder / "digits-classifier/knn.joblib")
    (folder / "empty-model").mkdir()
    (folder / "heart-model").symlink_to(heart_model)
    making.write_clinics(folder / "clinics")
    making.write_texts(folder / "texts")
    making.write_digits(folder / "grey", "L")
    making.write_digits(folder / "colour", "RGB")
    return folder


def deployed(sample: Sample, made: Path, folder: Path) -> Path:
    """Put a deployment, its model and its data into a folder of its own."""
    folder = folder / sample.folder
    ours = shutil.ignore_patterns("expected.*", "__pycache__")
    shutil.copytree(DEPLOYMENTS / sample.folder, folder, ignore=ours)
    (folder / sample.model).symlink_to((made / sample.model).resolve())
    shutil.copytree(made / sample.data, folder / "data")
    return folder


def run(folder: Path, *arguments: object, file: str = "deployment.yml", engine: str = "local") -> Ran:
    """Run a deployment from its folder, with its logs there."""
    with contextlib.chdir(folder):
        outcome = scoreline("run", file, "--logs", "logs", "--engine", engine, *arguments)
    return Ran(outcome=outcome, folder=folder)


@pytest.fixture(scope="session")
def completed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Ran]:
    """Return a function that runs a sample with so many workers, once for all tests, as a user would."""

    @functools.cache
    def run_sample(name: str, workers: int) -> Ran:
        sample = SAMPLES[name]
        folder = deployed(sample, made, tmp_path_factory.mktemp(name))
        engine = sample.engine if workers == 1 else "local"
        count = ("--workers", workers)
        return run(folder, "--input", "data", "--output", "scores", *count, file=sample.file, engine=engine)

    return run_sample


RUNS = [(name, workers) for name in SAMPLES for workers in (1, 2)]
ALONE = ("script", "parquet", "json-lines")
"""Scripts that are run by one worker as well; what they share with the others is shown by these."""


@pytest.mark.parametrize(
    ("name", "workers"),
    usual(RUNS, seldom=[(name, 1) for name, each in SAMPLES.items() if each.engine == "local" and name not in ALONE]),
)
def test_golden_output(completed: Callable[[str, int], Ran], name: str, workers: int) -> None:
    """A deployment as it is gives the very bytes that were written down, by one worker and by two."""
    ran = completed(name, workers)
    assert ran.outcome.code == 0, ran.outcome.stderr
    assert SAMPLES[name].written(ran.scores) == SAMPLES[name].golden
    assert ran.receipt["failed_files"] == {}
    assert ran.log("job_result.txt").splitlines()[0] == "Completed"
    assert not [row for row in ran.mini_batches() if row["result"] != "succeeded"]


def test_golden_outputs_agree() -> None:
    """What was written down of the same models, called in different ways, says the same."""

    def fields(name: str, *places: int, pattern: str = r"[\w.-]+") -> list[list[str]]:
        found = [re.findall(pattern, line) for line in SAMPLES[name].golden.splitlines()]
        return [[line[place] for place in places] for line in found if len(line) > 1]

    digits = fields("images-by-file", 0, 1, 2)
    assert len(digits) == len(making.DIGITS)
    assert digits == fields("images-by-batch", 0, 1, 2) == fields("images-mlflow", 3, 1, 2)
    patients = fields("single-file", 0, -1)
    assert len(patients) == 15
    assert patients == fields("tracking", -1, -2)
    heads = r"^age,.*|[^,]+"
    assert [each[:1] for each in patients] == fields("parquet", -1, pattern=heads)


# What else a deployment leaves


def test_words_of_a_script_are_in_its_log(completed: Callable[[str, int], Ran]) -> None:
    """What run prints is kept by worker, with the absolute paths it was given (contract 2.2, 2.6)."""
    ran = completed("script", 2)
    words = ran.log("user/stdout/0/process00[01].stdout.txt")
    assert words.count("run method start: ") == 3
    assert f"batch_driver.py, run(['{ran.folder}/data/clinic five.csv', '{ran.folder}/data/clinic-1.csv'])" in words


def test_summary_only_leaves_what_the_script_writes(completed: Callable[[str, int], Ran]) -> None:
    """There is no predictions.csv beside the script's own files (contract 3.3); the receipt counts files."""
    ran = completed("parquet", 2)
    parquet = [f"{Path(name).stem}.parquet" for name in sorted(making.CLINICS)]
    assert ran.names == ["_predictions.receipt.json", *parquet]
    assert ran.receipt["rows"] == {"read": 5, "scored": 5, "quarantined": 0, "given_up": 0}
    one = completed("parquet", 1)
    assert [(one.scores / name).read_bytes() for name in parquet] == [
        (ran.scores / name).read_bytes() for name in parquet
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_mlflow_store_of_a_script(completed: Callable[[str, int], Ran], workers: int) -> None:
    """What a script logs to MLflow is in the logs of the job, a run for each worker (contract 2.5)."""
    logs = completed("tracking", workers).folder / "logs"
    runs = [path.parents[1] for path in logs.glob("mlruns/*/*/metrics/rows")]
    assert 1 <= len(runs) <= workers
    assert [(path / "params/depth").read_text() for path in runs] == ["3"] * len(runs)
    values = [line.split()[1] for path in runs for line in (path / "metrics/rows").read_text().splitlines()]
    assert sorted(map(float, values)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("workers", [1, 2])
def test_entry_script_logger(completed: Callable[[str, int], Ran], workers: int) -> None:
    """EntryScript's logger writes a file for each worker, from the level of the deployment on (contract 2.6)."""
    ran = completed("logger", workers)
    paths = sorted((ran.folder / "logs/user/entry_script_log/0").iterdir())
    # where one is quick, the other has nothing to do
    assert 1 <= len(paths) <= workers
    for path in paths:
        agent, _, rest = path.name.partition(".")
        assert (re.fullmatch(r"process00[01]", agent) is not None, rest) == (True, "log.txt")
        texts = [line.split(" azureml_user.parallel_run ")[1] for line in path.read_text().splitlines()]
        assert texts[0] == f"level warning, agent {agent}"
        assert texts[1:] == [] or texts[-1] == f"goodbye from {agent}"
    scored = re.findall(r"scored (\S+)", ran.log("user/entry_script_log/0/*"))
    assert sorted(scored) == sorted(making.TEXTS)
    assert "not a warning" not in ran.log("user/entry_script_log/0/*")


def test_level_of_logging(completed: Callable[[str, int], Ran]) -> None:
    """The root logger goes to the worker's standard output, at the level of the deployment (contract 2.6)."""
    words = completed("json-lines", 2).log("user/stdout/0/*")
    assert sorted(re.findall(r"DEBUG append appended (\S+)", words)) == sorted(making.TEXTS)


# Invoked in other ways


def test_inputs_file(made: Path, tmp_path: Path) -> None:
    """--file names input and output, where the output is a file (contract 6.2, 6.4)."""
    ran = run(deployed(SAMPLES["script"], made, tmp_path), "--file", "inputs.yml")
    assert ran.outcome.code == 0, ran.outcome.stderr
    assert ran.names == ["_from-file.receipt.json", "from-file.csv"]
    assert score_file(ran.scores, "from-file.csv") == SAMPLES["script"].golden
    assert [row["files"] for row in ran.mini_batches()] == ["2", "2", "1"]


def test_request_body(made: Path, tmp_path: Path) -> None:
    """--request gives what the REST body gives, its overrides too (contract 6.1, 6.2)."""
    ran = run(deployed(SAMPLES["script"], made, tmp_path), "--request", "body.json")
    assert ran.outcome.code == 0, ran.outcome.stderr
    assert ran.names == ["_from-rest.receipt.json", "from-rest.csv"]
    assert score_file(ran.scores, "from-rest.csv") == SAMPLES["script"].golden
    assert [row["files"] for row in ran.mini_batches()] == ["3", "2"]
    assert ran.outcome.stderr.splitlines()[0].startswith("2 workers; batch_driver.py gets 3 files a call")


def test_set(made: Path, tmp_path: Path) -> None:
    """--set overrides what the command line of Azure ML may override (contract 6.2)."""
    settings = {
        "output_file_name": "other.csv",
        "mini_batch_size": 4,
        "retry_settings.max_retries": 0,
        "retry_settings.timeout": 60,
        "error_threshold": 0,
        "compute.instance_count": 1,
        "inputs.patients.type": "uri_folder",
        "inputs.patients.path": "data",
    }
    sets = [each for name, value in settings.items() for each in ("--set", f"{name}={value}")]
    ran = run(deployed(SAMPLES["script"], made, tmp_path), *sets, "--output-path", "scores/")
    assert ran.outcome.code == 0, ran.outcome.stderr
    assert ran.names == ["_other.receipt.json", "other.csv"]
    assert score_file(ran.scores, "other.csv") == SAMPLES["script"].golden
    assert [row["files"] for row in ran.mini_batches()] == ["4", "1"]


def test_flags_of_the_command_line(made: Path, tmp_path: Path) -> None:
    """The flags of az ml batch-endpoint invoke; what is printed says what they made of the deployment."""
    folder = deployed(SAMPLES["tracking"], made, tmp_path)
    flags = ("--input", "data/clinic-3.csv", "--input-type", "uri_file", "--output-path", "scores")
    names = ("--deployment-name", "heart-tracking", "--experiment-name", "clinics", "--job-name", "third")
    ran = run(folder, *flags, *names, "--mini-batch-size", 9, "--instance-count", 1)
    assert ran.outcome.code == 0, ran.outcome.stderr
    assert score_file(ran.scores) == "clinic-3.csv 0\nclinic-3.csv 1\nclinic-3.csv 0\n"
    assert "batch_driver.py gets 9 files a call" in ran.outcome.stderr
    experiments = (folder / "logs/mlruns").glob("*/meta.yaml")
    assert [path.parent for path in experiments if "name: clinics\n" in path.read_text()]


# Strictly, as Azure ML scores a model


BAD = "clinic-old.csv"
WORDS = f"Error processing input file: '{BAD}'. Exception: invalid literal for int() with base 10: 'old'"


@pytest.fixture
def with_bad_file(made: Path, tmp_path: Path) -> Path:
    """Return the folder of a model without code, with one file more in which the age is no number."""
    folder = deployed(SAMPLES["mlflow"], made, tmp_path)
    making.write_patients(folder / "data" / BAD, 0, 3)
    text = (folder / "data" / BAD).read_text()
    (folder / "data" / BAD).write_text(text.replace("\n66,", "\nold,", 1))
    return folder


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("threshold", [1, -1])
def test_strict_with_a_failed_file_that_is_allowed(with_bad_file: Path, threshold: int, workers: int) -> None:
    """A file with a bad row gives no rows, is named, and counts as one failed file (contract 4.2, 5.4)."""
    engine = "local" if workers == 2 else "inline"
    given = ("--input", "data", "--output", "scores", "--set", f"error_threshold={threshold}", "--workers", workers)
    ran = run(with_bad_file, *given, "--strict", engine=engine)
    assert ran.outcome.code == 0, ran.outcome.stderr
    assert score_file(ran.scores) == SAMPLES["mlflow"].golden
    assert ran.names == ["_predictions.quarantine.jsonl", "_predictions.receipt.json", "predictions.csv"]
    assert list(ran.receipt["failed_files"]) == [BAD]
    (entry,) = map(json.loads, (ran.scores / "_predictions.quarantine.jsonl").read_text().splitlines())
    assert entry == {"file": BAD, "row": None, "rows": 3, "reason": f"{WORDS} (row 1, column 'age')"}
    assert "failed files: 1\n" in ran.log("job_result.txt")
    assert BAD in ran.outcome.stderr


def test_strict_with_a_failed_file_that_is_not_allowed(with_bad_file: Path) -> None:
    """Under error_threshold 0 the first failed file fails the job, and nothing appears (contract 3.4, 5.4)."""
    given = ("--input", "data", "--output", "scores", "--set", "error_threshold=0")
    ran = run(with_bad_file, *given, "--strict", engine="inline")
    assert ran.outcome.code == 1
    assert "1 file failed, more than error_threshold 0 allows: " in ran.outcome.last_line
    assert f"{BAD} (" in ran.outcome.last_line
    assert "predictions.csv" not in ran.names
    assert ran.log("job_result.txt").splitlines()[0] == "Failed"
    assert f"failed files: 1\n  {BAD}\n" in ran.log("job_result.txt")


@pytest.mark.parametrize("threshold", [0, 1])
def test_without_strictness_a_bad_row_is_lost_alone(with_bad_file: Path, threshold: int) -> None:
    """Only the row is lost; its file counts as failed all the same (design.md section 8)."""
    given = ("--input", "data", "--output", "scores", "--set", f"error_threshold={threshold}")
    ran = run(with_bad_file, *given, engine="inline")
    assert ran.outcome.code == 1 - threshold
    if threshold:
        more = f"0,0,{BAD}\n2,0,{BAD}\n"
        assert re.sub(r",\d,", ",0,", score_file(ran.scores)) == re.sub(r",\d,", ",0,", SAMPLES["mlflow"].golden + more)
        assert ran.receipt["rows"] == {"read": 18, "scored": 17, "quarantined": 1, "given_up": 0}


# By names of a workspace


@pytest.mark.parametrize(
    ("given", "golden"),
    [
        ("azureml:patients:1", ""),
        ("azureml://datastores/workspaceblobstore/paths/patients", ""),
        ("azureml:patients@latest", "0,0,clinic-3.csv\n1,1,clinic-3.csv\n2,1,clinic-3.csv\n"),
    ],
    ids=["data asset", "datastore", "latest"],
)
def test_names_of_a_workspace(made: Path, tmp_path: Path, given: str, golden: str) -> None:
    """Model, input and output are found by their names in the workspace.yml beside the deployment (contract 7)."""
    sample = Sample(folder="heart-registered", model="heart-model")
    folder = deployed(sample, made, tmp_path)
    (folder / "store").mkdir()
    (folder / "data").rename(folder / "store/patients")
    output = "azureml://datastores/workspaceblobstore/paths/scores/may.csv"
    ran = run(folder, "--input", given, "--output-path", output, engine="inline")
    assert ran.outcome.code == 0, ran.outcome.stderr
    assert score_file(folder / "store/scores", "may.csv") == (golden or SAMPLES["mlflow"].golden)


# What is written for users


DOCUMENT = DEPLOYMENTS.parents[1] / "docs/deployments.md"


def test_documented_options_exist() -> None:
    """Every option that docs/deployments.md names is one of the commands, or an argument that a script is given."""
    given = re.search(r"`sys.argv` \|.*`(--mini_batch_size [^`]*)`", DOCUMENT.read_text())
    assert given is not None
    arguments = set(given[1].split())
    known = {flag for name in ("run", "validate") for each in command.commands[name].params for flag in each.opts}
    documented = set(re.findall(r"--[a-z][a-z_-]+", DOCUMENT.read_text()))
    assert len(documented) > 20
    assert documented - known - arguments == set()


def test_documented_defaults(tmp_path: Path) -> None:
    """The defaults in docs/deployments.md are those of the program."""
    text = DOCUMENT.read_text()
    (tmp_path / "score.py").write_text("")
    lines = ("name: least", "endpoint_name: least", "model: azureml:m:1", "code_configuration: {code: .,")
    (tmp_path / "least.yml").write_text("\n".join([*lines, "  scoring_script: score.py}", ""]))
    settings = read_deployment(str(tmp_path / "least.yml")).settings
    for name in ("mini_batch_size", "max_concurrency_per_instance", "error_threshold"):
        assert f"`{name}` ({getattr(settings, name)})" in text, name
    for name in ("output_action", "output_file_name", "logging_level"):
        assert f"`{name}` (`{getattr(settings, name)}`)" in text, name
    retry = settings.retry_settings
    assert f"`retry_settings.max_retries` ({retry.max_retries}), `.timeout` ({retry.timeout_s} seconds)" in text


def test_documented_workspace(tmp_path: Path) -> None:
    """The workspace.yml in docs/deployments.md can be read, and its names lead to where it says."""
    (sample,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "workspace.yml").write_text(sample)
    workspace = read_workspace(str(tmp_path / "workspace.yml"))
    found = [
        str(resolve(parse_uri(text), workspace, purpose=purpose))
        for text, purpose in (("azureml:patients:1", "input"), ("azureml:heart-model@latest", "model"))
    ]
    assert found == [str(tmp_path / "store/patients"), str(tmp_path / "heart-model")]
