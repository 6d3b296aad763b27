"""What the contract says that can be seen from outside, a row each, and is not shown by a module's own tests.

The name of a test begins with the section of the contract that it shows. A `Job` is a deployment in a few lines; jobs
that are alike run once.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from runtime.limits import usable_cpus
from tests.old_releases import save_code
from tests.runtime.commands import Outcome, scoreline

YAML = """\
name: told
endpoint_name: contract
type: model
model: {{path: {model}, type: {kind}}}
{code}compute: azureml:cpu
settings:
  retry_settings: {{max_retries: 0, timeout: 60}}
{settings}"""

TELL = """
    import glob, json, os, sys

    print("imported")

    def init():
        print("init")
        os.write(2, b"a word on standard error\\n")

    def run(mini_batch):
        print("run")
        model = os.environ["AZUREML_MODEL_DIR"]
        return [json.dumps({
            "batch": mini_batch, "type": type(mini_batch).__name__, "argv": sys.argv, "cwd": os.getcwd(),
            "file": __file__, "environment": dict(os.environ), "model": model,
            "inside": sorted(os.path.relpath(path, model) for path in glob.glob(model + "/**", recursive=True)),
            "folders": glob.glob(model + "/*/"), "output": os.listdir(os.environ["AZUREML_BI_OUTPUT_PATH"]),
        })] * len(mini_batch)

    def shutdown():
        print("shutdown")
"""
"""A script that returns, for each file, what it was given and what it sees."""

NAMES = """
    import os
    def run(mini_batch):
        return [f"{len(mini_batch)} {os.path.basename(os.path.dirname(path))}/{os.path.basename(path)}"
            for path in mini_batch]
"""
"""A script that returns the name of each file, and how many came with it."""

SHAPES = '''
import mlflow
import numpy as np
import pandas as pd

class Shapes(mlflow.pyfunc.PythonModel):
    """Returns what the first row asks for."""

    def predict(self, context, model_input: pd.DataFrame):
        """Answer."""
        value = model_input["value"]
        shape = model_input["shape"].iloc[0]
        if shape == "frame":
            return pd.DataFrame({"half": value / 2, "text": "a, b"})
        if shape == "cells":
            return pd.DataFrame({"boxes": [[{"top": 1.5}]] * len(value)})
        if shape == "matrix":
            return np.column_stack([value, value * 2])
        if shape == "types":
            return [f"{value.dtype} {len(value)}"] * len(value)
        return {"array": value.to_numpy(), "series": value, "list": value.tolist()}[shape]

mlflow.models.set_model(Shapes())
'''
"""An MLflow model whose rows say in which shape it shall answer."""

TEXTS = tuple((f"in/{name}.txt", name) for name in "abcde")
CODE = "code_configuration: {code: src, scoring_script: score.py}\nenvironment: azureml:any:1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A deployment, what it is run on, and how it is invoked.

    Attributes:
        script: the scoring script; empty for the model `SHAPES`, which scores by itself.
        settings: lines under ``settings``.
        root: lines beside it.
        files: what is there beside the deployment.
        model: ``model.path``.
        arguments: of the command line, behind the file; the logs go to ``logs``.
        workers: processes; 0 leaves that to the deployment.
    """

    script: str = NAMES
    settings: str = ""
    root: str = ""
    files: tuple[tuple[str, str], ...] = TEXTS
    model: str = "model"
    arguments: tuple[str, ...] = ("--input", "in", "--output", "out")
    workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A job that was run, and the folder in which it was."""

    outcome: Outcome
    folder: Path

    @property
    def lines(self) -> list[str]:
        """The lines of the score file."""
        assert self.outcome.code == 0, self.outcome.stderr
        (path,) = self.folder.glob("out/*.csv")
        return path.read_text().splitlines()

    @property
    def told(self) -> list[dict[str, Any]]:
        """What `TELL` told, for each file."""
        return [json.loads(line) for line in self.lines]

    @property
    def first(self) -> dict[str, Any]:
        """What it told first."""
        return self.told[0]

    @property
    def said(self) -> str:
        """What a person sees."""
        return self.outcome.stderr

    @property
    def mini_batches(self) -> list[dict[str, str]]:
        """The table of mini-batches, in plan order."""
        with open(self.folder / "logs/sys/job_report/processed_mini-batches.csv", newline="") as table:
            return sorted(csv.DictReader(table), key=lambda row: int(row["mini_batch"]))

    @property
    def attempts(self) -> list[int]:
        """How often each mini-batch was tried."""
        return [int(row["attempts"]) for row in self.mini_batches]

    def log(self, path: str) -> str:
        """Read a log; of a pattern, all that match."""
        return "".join(each.read_text() for each in sorted((self.folder / "logs").glob(path)))

    def there(self, folder: str = ".") -> list[str]:
        """List a folder."""
        return sorted(os.listdir(self.folder / folder))


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the model `SHAPES`; not to be changed."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    folder = tmp_path_factory.mktemp("shapes")
    (folder / "shapes.py").write_text(SHAPES)
    with warnings.catch_warnings():
        # advice on type hints
        warnings.simplefilter("ignore", UserWarning)
        return save_code(
            folder / "model",
            folder / "shapes.py",
            signature=ModelSignature(inputs=Schema([ColSpec("double", "value"), ColSpec("string", "shape")])),
        )


def write(job: Job, folder: Path) -> None:
    """Write a deployment and what it needs."""
    code = dedent(CODE) if job.script else ""
    kind = "custom_model" if job.script else "mlflow_model"
    text = YAML.format(model=job.model, kind=kind, code=code, settings=job.settings) + job.root
    files = {"deployment.yml": text, **({"src/score.py": dedent(job.script)} if job.script else {}), **dict(job.files)}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    if job.script and not (folder / "model").exists():
        (folder / "model").mkdir()


def run(job: Job, folder: Path, *arguments: str) -> Ran:
    """Run what was written into a folder, from there."""
    engine = "local" if job.script else "inline"
    workers = ("--workers", job.workers) if job.workers else ()
    with contextlib.chdir(folder):
        outcome = scoreline(
            "run", "deployment.yml", *(arguments or job.arguments), "--logs", "logs", "--engine", engine, *workers
        )
    return Ran(outcome=outcome, folder=folder)


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[Job], Ran]:
    """Return a function that writes and runs a job, once for all tests."""

    @functools.cache
    def run_job(job: Job) -> Ran:
        folder = tmp_path_factory.mktemp("job")
        if not job.script:
            (folder / "model").symlink_to(request.getfixturevalue("shapes"))
        write(job, folder)
        return run(job, folder)

    return run_job


def row(section: str, job: Job, *expected: Any) -> Any:
    """Make a row of a table: a job, and what is expected of it."""
    return pytest.param(job, *expected, id=section)


# What a script is given and sees

MODEL_FILES = (("model/weights.bin", "w"), ("model/deep/more.bin", "m"))
TOLD = Job(script=TELL, settings="  mini_batch_size: 2\n  logging_level: Warning\n  error_threshold: 7\n")


@pytest.mark.parametrize(
    ("job", "see", "expected"),
    [
        row("2.2-a-list", TOLD, lambda told: told["type"], "list"),
        row("2.2-paths-are-absolute", TOLD, lambda told: all(map(os.path.isabs, told["batch"])), True),
        row("2.2-basenames", TOLD, lambda told: [os.path.basename(path) for path in told["batch"]], ["a.txt", "b.txt"]),
        row(
            "2.2-files-are-readable", TOLD, lambda told: [Path(path).read_text() for path in told["batch"]], ["a", "b"]
        ),
        row("2.4-file-is-the-real-path", TOLD, lambda told: told["file"].endswith("/src/score.py"), True),
        row("2.4-argv-begins-with-the-script", TOLD, lambda told: told["argv"][0] == told["file"], True),
        row("2.4-cwd-is-private", TOLD, lambda told: os.path.basename(told["cwd"]), "process000"),
        row("2.4-cwd-is-no-input", TOLD, lambda told: told["cwd"] in told["batch"][0], False),
        row("2.5-output-path-exists", TOLD, lambda told: isinstance(told["output"], list), True),
    ],
)
def test_what_a_script_is_given(
    ran: Callable[[Job], Ran], job: Job, see: Callable[[dict[str, Any]], Any], expected: Any
) -> None:
    """The first call of run in a worker sees what contract 2 says."""
    assert see(ran(job).first) == expected


def test_2_4_argv(ran: Callable[[Job], Ran]) -> None:
    """2.4-argv: the flags of Azure ML's driver, with the deployment's values."""
    folder = ran(TOLD).folder
    argv = ran(TOLD).first["argv"][1:]
    assert dict(zip(argv[::2], argv[1::2], strict=True)) == {
        "--mini_batch_size": "2",
        "--error_threshold": "7",
        "--output_action": "append_row",
        "--logging_level": "warning",
        "--run_invocation_timeout": "60",
        "--run_max_try": "1",
        "--append_row_file_name": "predictions.csv",
        "--process_count_per_node": "1",
        "--scoring_module_name": "score.py",
        "--output": str(folder / "out"),
    }


VARIABLES = """\
  environment_variables:
    TEXT: $HOME is not expanded
    NUMBER: 16
    FLAG: true
    AZUREML_MODEL_DIR: /not/this
"""


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("TEXT", "$HOME is not expanded", id="1.3-no-shell-expansion"),
        pytest.param("NUMBER", "16", id="1.3-a-number-becomes-text"),
        pytest.param("FLAG", "true", id="1.3-a-truth-value-stays-as-written"),
        pytest.param("AZUREML_MODEL_DIR", "{work}/model", id="2.5-model-dir-cannot-be-overridden"),
        pytest.param("AZUREML_BI_OUTPUT_PATH", "{folder}/out", id="2.5-output-path-is-the-output-folder"),
        pytest.param("MLFLOW_TRACKING_URI", "file://{folder}/logs/mlruns", id="2.5-a-local-tracking-uri"),
    ],
)
def test_environment_of_a_script(
    ran: Callable[[Job], Ran], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The variables of contract 1.3 and 2.5 are set before init."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    job = ran(Job(script=TELL, settings=VARIABLES))
    work = job.folder / "out/.predictions.csv.staging/work"
    assert job.first["environment"][variable] == value.format(folder=job.folder, work=work)


@pytest.mark.parametrize(
    ("job", "inside", "folders"),
    [
        row(
            "2.5-model-dir-of-a-folder",
            Job(script=TELL, files=(*TEXTS, *MODEL_FILES)),
            ["model", "model/deep", "model/deep/more.bin", "model/weights.bin"],
            ["model"],
        ),
        row(
            "2.5-model-dir-of-a-folder-with-slash",
            Job(script=TELL, files=(*TEXTS, *MODEL_FILES), model="./model/"),
            ["model", "model/deep", "model/deep/more.bin", "model/weights.bin"],
            ["model"],
        ),
        row(
            "2.5-model-dir-of-a-job-output",
            Job(script=TELL, files=(*TEXTS, ("run/outputs/best/m.pkl", "m")), model="run/outputs/best"),
            ["best", "best/m.pkl"],
            ["best"],
        ),
        row(
            "2.5-single-file",
            Job(script=TELL, files=(*TEXTS, ("models/m.pkl", "m"), ("models/other.pkl", "o")), model="models/m.pkl"),
            ["m.pkl"],
            [],
        ),
        row(
            "2.5-mlflow-model-with-a-script",
            Job(script=TELL, files=(*TEXTS, ("model/MLmodel", "flavors: {python_function: {}}\n"))),
            ["model", "model/MLmodel"],
            ["model"],
        ),
        row(
            "7.3-model-option-instead-of-the-reference",
            Job(
                script=TELL,
                files=(*TEXTS, ("elsewhere/third/m.pkl", "m")),
                arguments=("--input", "in", "--output", "out", "--model", "elsewhere/third"),
            ),
            ["third", "third/m.pkl"],
            ["third"],
        ),
    ],
)
def test_model_dir(ran: Callable[[Job], Ran], job: Job, inside: list[str], folders: list[str]) -> None:
    """AZUREML_MODEL_DIR holds the registered folder or file, and nothing else (contract 2.5)."""
    told = ran(job).first
    assert told["inside"] == [".", *inside]
    assert told["folders"] == [f"{told['model']}/{name}/" for name in folders]


def test_2_1_lifecycle_of_each_worker(ran: Callable[[Job], Ran]) -> None:
    """2.1-once-per-worker: import and init come before the first call, shutdown behind the last."""
    job = ran(TOLD)
    assert job.log("user/stdout/0/*").split() == ["imported", "init", "run", "run", "run", "shutdown"]


def test_2_6_streams(ran: Callable[[Job], Ran]) -> None:
    """2.6-standard-error: it is kept by worker, also what is written below Python."""
    assert ran(TOLD).log("user/stderr/0/process000.stderr.txt") == "a word on standard error\n"


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        pytest.param("", 1, id="2.1-one-worker-by-default"),
        pytest.param("  max_concurrency_per_instance: 3\n  instance_count: 2\n", 6, id="2.1-instances-x-concurrency"),
    ],
)
def test_workers(ran: Callable[[Job], Ran], settings: str, asked: int) -> None:
    """A script has instance_count x max_concurrency_per_instance workers, as far as there are CPUs (contract 2.1)."""
    many = min(asked, usable_cpus())
    said = ran(Job(settings=settings, workers=0)).said
    assert said.startswith(f"{many} worker{'s' * (many > 1)}")
    assert (f"asked for {asked}" in said) == (asked > many)


# Mini-batches

NESTED = (*TEXTS, ("in/sub/f.txt", "f"), ("in/sub/g.txt", "g"), ("in/sub/deep/h.txt", "h"))
RECURSIVE = ("--input", "in", "--output", "out", "--recursive")


@pytest.mark.parametrize(
    ("job", "lines"),
    [
        row("5.1-ten-files-per-call-by-default", Job(), [f"5 in/{name}.txt" for name in "abcde"]),
        row(
            "5.1-files-per-call",
            Job(settings="  mini_batch_size: 2\n"),
            ["2 in/a.txt", "2 in/b.txt", "2 in/c.txt", "2 in/d.txt", "1 in/e.txt"],
        ),
        row(
            "5.1-sorted-by-bytes",
            Job(files=tuple((f"in/{name}", "x") for name in ("b", "B", "a10", "a2", "ä", "_c", "z.csv"))),
            [f"7 in/{name}" for name in ("B", "_c", "a10", "a2", "b", "z.csv", "ä")],
        ),
        row(
            "5.1-no-filter-by-name-or-size",
            Job(files=(("in/.hidden", "x"), ("in/_SUCCESS", ""), ("in/data", "x"), ("in/log.gz", "x"))),
            ["4 in/.hidden", "4 in/_SUCCESS", "4 in/data", "4 in/log.gz"],
        ),
        row("5.1-nested-folders-skipped", Job(files=NESTED), [f"5 in/{name}.txt" for name in "abcde"]),
        row(
            "5.1-two-directories-never-in-one-mini-batch",
            Job(files=NESTED, arguments=RECURSIVE, settings="  mini_batch_size: 3\n"),
            [
                *("3 in/a.txt", "3 in/b.txt", "3 in/c.txt", "2 in/d.txt", "2 in/e.txt"),
                *("2 sub/f.txt", "2 sub/g.txt", "1 deep/h.txt"),
            ],
        ),
        row(
            "5.1-uri-file-is-a-mini-batch-of-one",
            Job(arguments=("--input", "in/c.txt", "--input-type", "uri_file", "--output", "out")),
            ["1 in/c.txt"],
        ),
        row("7.2-input-type-is-inferred", Job(arguments=("--input", "in/c.txt", "--output", "out")), ["1 in/c.txt"]),
        row("7.1-22-file-prefix", Job(arguments=("--input", "file:in/c.txt", "--output", "out")), ["1 in/c.txt"]),
        row(
            "7.1-22-folder-prefix",
            Job(arguments=("--input", "folder:in", "--output", "out")),
            [f"5 in/{name}.txt" for name in "abcde"],
        ),
        row(
            "6.1-input-by-request",
            Job(
                files=(
                    *TEXTS,
                    (
                        "body.json",
                        '{"properties": {"inputData": {"x": {"JOBINPUTTYPE": "urifile", "uri": "in/b.txt"}}}}',
                    ),
                ),
                arguments=("--request", "body.json", "--output", "out"),
            ),
            ["1 in/b.txt"],
        ),
    ],
)
def test_mini_batches(ran: Callable[[Job], Ran], job: Job, lines: list[str]) -> None:
    """Which files come in which call, and in which order their rows are written."""
    assert ran(job).lines == lines


def test_5_1_nested_folders_are_told(ran: Callable[[Job], Ran]) -> None:
    """5.1-nested-told: how many files were skipped, and which option takes them."""
    assert "skipped 3 nested files (--recursive takes them)" in ran(Job(files=NESTED)).said


@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param((("other/a.txt", "a"),), "in: no such file or folder", id="5.1-missing"),
        pytest.param(
            (("in/sub/a.txt", "a"),), "in: no input files (1 nested left out; --recursive ", id="5.1-empty-but-nested"
        ),
    ],
)
def test_empty_input(ran: Callable[[Job], Ran], files: tuple[tuple[str, str], ...], words: str) -> None:
    """An input without files is refused before anything is loaded (contract 5.1)."""
    job = ran(Job(files=files))
    assert job.outcome.code == 2
    assert words in job.said
    assert "out" not in job.there()


def test_5_1_empty_folder(tmp_path: Path) -> None:
    """5.1-empty: there is nothing to score, and the job says so."""
    write(Job(files=()), tmp_path)
    (tmp_path / "in").mkdir()
    outcome = run(Job(), tmp_path).outcome
    assert outcome.code == 2
    assert outcome.last_line.endswith("in: no input files")


def test_7_1_paths_of_the_file_and_of_the_caller(tmp_path: Path) -> None:
    """7.1-22-relative: what the YAML file names is beside it, what the caller names is where the caller is."""
    write(Job(script=TELL, files=MODEL_FILES), tmp_path / "deployments/d")
    write(Job(files=TEXTS), tmp_path)
    with contextlib.chdir(tmp_path):
        outcome = scoreline(
            "run", "deployments/d/deployment.yml", "--input", "in", "--output", "out", "--engine", "local"
        )
    told = Ran(outcome=outcome, folder=tmp_path).first
    assert told["file"] == str(tmp_path / "deployments/d/src/score.py")
    assert told["batch"][0] == str(tmp_path / "in/a.txt")
    assert "model/weights.bin" in told["inside"]
    assert told["environment"]["AZUREML_BI_OUTPUT_PATH"] == str(tmp_path / "out")


# Failures

FAILING = """
    import os, time
    def run(mini_batch):
        name = os.path.basename(mini_batch[0])
        if name in ("b.txt", "d.txt"):
            {body}
        return mini_batch
"""
RAISING = FAILING.format(body='raise ValueError(f"{name} at {time.monotonic_ns()}")')
REPEATING = FAILING.format(body="raise ValueError(name)")


@pytest.mark.parametrize(
    ("retries", "attempts"),
    [
        pytest.param("0", [1, 1, 1, 1, 1], id="5.3-no-retries"),
        pytest.param("2", [1, 3, 1, 3, 1], id="5.3-attempts-are-retries-and-one"),
    ],
)
def test_retries(tmp_path: Path, retries: str, attempts: list[int]) -> None:
    """max_retries of the deployment says how often a failed mini-batch is tried again (contract 5.3)."""
    job = Job(script=RAISING, settings="  mini_batch_size: 1\n")
    write(job, tmp_path)
    done = run(job, tmp_path, *job.arguments, "--set", f"retry_settings.max_retries={retries}")
    assert done.outcome.code == 0, done.said
    assert done.attempts == attempts


def test_5_3_same_exception_twice(tmp_path: Path) -> None:
    """5.3-same-exception: what fails word for word alike is tried as often as the deployment says."""
    job = Job(script=REPEATING, settings="  mini_batch_size: 1\n")
    write(job, tmp_path)
    done = run(job, tmp_path, *job.arguments, "--set", "retry_settings.max_retries=2")
    assert done.attempts == [1, 3, 1, 3, 1]


def test_5_3_default_retries(tmp_path: Path) -> None:
    """5.3-default: without retry_settings there are 3 retries."""
    job = Job(script=RAISING, settings="  mini_batch_size: 1\n")
    write(job, tmp_path)
    text = (tmp_path / "deployment.yml").read_text()
    (tmp_path / "deployment.yml").write_text(text.replace("  retry_settings: {max_retries: 0, timeout: 60}\n", ""))
    assert run(job, tmp_path).attempts == [1, 4, 1, 4, 1]


def test_5_3_timeout_of_the_deployment(tmp_path: Path) -> None:
    """5.3-timeout: a call that takes longer is ended, its files count as failed, the others are scored."""
    job = Job(script=FAILING.format(body="time.sleep(600)"), settings="  mini_batch_size: 1\n")
    write(job, tmp_path)
    flags = ("--set", "retry_settings.timeout=3", "--task-overhead-timeout", "0")
    done = run(job, tmp_path, *job.arguments, *flags, "--include", "[abc].txt")
    assert [os.path.basename(line) for line in done.lines] == ["a.txt", "c.txt"]
    assert "failed files: 1\n  b.txt\n" in done.log("job_result.txt")


@pytest.mark.parametrize(
    ("threshold", "code"),
    [
        pytest.param(-1, 0, id="5.4-minus-one-ignores-all"),
        pytest.param(0, 1, id="5.4-zero-fails-at-the-first"),
        pytest.param(1, 1, id="5.4-more-than-the-threshold"),
        pytest.param(2, 0, id="5.4-as-many-as-the-threshold"),
    ],
)
def test_error_threshold(ran: Callable[[Job], Ran], threshold: int, code: int) -> None:
    """Failed files are counted over the whole job; more than the threshold fail it (contract 5.4)."""
    done = ran(Job(script=RAISING, settings=f"  mini_batch_size: 1\n  error_threshold: {threshold}\n"))
    assert done.outcome.code == code, done.said
    assert (done.folder / "out/predictions.csv").exists() == (code == 0)
    assert done.log("job_result.txt").startswith("Completed\n" if code == 0 else "Failed\n")
    if code:
        assert f"error_threshold {threshold}" in done.log("job_result.txt").splitlines()[1]


SHORT = """
    import os
    from pathlib import Path
    def run(mini_batch):
        for path in mini_batch:
            Path(os.environ["AZUREML_BI_OUTPUT_PATH"], Path(path).name).write_text("mine")
        return {returned}
"""


@pytest.mark.parametrize(
    ("returned", "threshold", "code", "reason"),
    [
        pytest.param("mini_batch", 0, 0, "", id="3.3-counted"),
        pytest.param("mini_batch[1:]", -1, 0, "", id="3.3-fewer-are-failed-files"),
        pytest.param("mini_batch[1:]", 0, 1, "error_threshold 0", id="3.3-fewer-count-for-the-threshold"),
        pytest.param("None", 0, 1, "run() should return a list or a DataFrame", id="3.3-a-list-is-needed"),
        pytest.param("[]", -1, 0, "", id="5.4-nothing-succeeded-fails-append-row-only"),
    ],
)
def test_summary_only(ran: Callable[[Job], Ran], returned: str, threshold: int, code: int, reason: str) -> None:
    """The script writes its output itself; what it returns is counted, and there is no predictions.csv (3.3)."""
    settings = f"  output_action: summary_only\n  error_threshold: {threshold}\n"
    done = ran(Job(script=SHORT.format(returned=returned), settings=settings))
    assert done.outcome.code == code, done.said
    assert reason in done.log("job_result.txt")
    texts = [name for name in done.there("out") if not name.startswith(("_", "."))]
    assert texts == ["a.txt", "b.txt", "c.txt", "d.txt", "e.txt"]


def test_3_5_logs(ran: Callable[[Job], Ran]) -> None:
    """3.5-paths: the files of the logs lie where Azure ML lays them."""
    job = Job(script=REPEATING, settings="  mini_batch_size: 1\n  error_threshold: -1\n")
    folder = ran(job).folder / "logs"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "job_progress_overview.txt",
        "job_result.txt",
        "job_error.txt",
        "readme.txt",
        "user/error.txt",
        "user/error/0/process000.txt",
        "user/stdout/0/process000.stdout.txt",
        "user/stderr/0/process000.stderr.txt",
        "sys/job_report/processed_mini-batches.csv",
        "sys/node/0/process000.txt",
    }
    assert 'src/score.py", line' in ran(job).log("user/error/0/process000.txt")
    # the first traceback reaches who watches, with its file
    assert "ValueError: b.txt\n(the first error, while it scored b.txt" in ran(job).said


# Where the output lands


@pytest.mark.parametrize(
    ("output", "settings", "expected"),
    [
        pytest.param("o", "", "o/predictions.csv", id="6.4-folder"),
        pytest.param("o/p/", "", "o/p/predictions.csv", id="6.4-folder-by-a-slash"),
        pytest.param("o/may.csv", "", "o/may.csv", id="6.4-file-by-its-extension"),
        pytest.param("o/may.txt", "", "o/may.txt", id="6.4-file-of-another-extension"),
        pytest.param("o/may.csv/", "", "o/may.csv/predictions.csv", id="6.4-folder-with-an-extension-by-a-slash"),
        pytest.param("there.v1", "", "there.v1/predictions.csv", id="6.4-folder-that-is-there"),
        pytest.param("o/scores", "  output_file_name: scores\n", "o/scores", id="6.4-file-by-the-name-of-the-output"),
        pytest.param("scores/scores", "  output_file_name: scores\n", "scores/scores", id="6.4-file-in-its-namesake"),
        pytest.param("o", "  output_file_name: my scores.tsv\n", "o/my scores.tsv", id="6.4-output-file-name"),
        pytest.param("file:o/x.csv", "", "o/x.csv", id="6.4-file-prefix"),
    ],
)
def test_output(tmp_path: Path, output: str, settings: str, expected: str) -> None:
    """The last segment of an output is the file where it looks like one, else the folder (contract 6.4)."""
    job = Job(script=TELL, settings=settings)
    write(job, tmp_path)
    (tmp_path / "there.v1").mkdir()
    done = run(job, tmp_path, "--input", "in", "--output-path", output)
    assert done.outcome.code == 0, done.said
    files = [path for path in tmp_path.rglob("*") if path.is_file() and b'"batch"' in path.read_bytes()]
    told = [path for path in files if path.parent != tmp_path / "src" and path.suffix != ".pyc"]
    assert [str(path.relative_to(tmp_path)) for path in told] == [expected]
    first = json.loads(told[0].read_text().splitlines()[0])
    # the folder in both cases
    assert first["environment"]["AZUREML_BI_OUTPUT_PATH"] == str(told[0].parent)


def test_3_2_default_location(tmp_path: Path) -> None:
    """3.2-default: the output `score` of the job, below its name; the logs are beside it."""
    write(Job(), tmp_path)
    with contextlib.chdir(tmp_path):
        outcome = scoreline("run", "deployment.yml", "--input", "in", "--job-name", "may", "--engine", "local")
    assert outcome.code == 0, outcome.stderr
    assert sorted(os.listdir(tmp_path / "scoreline/may")) == ["logs", "score"]
    names = ["_predictions.receipt.json", "predictions.csv"]
    assert sorted(os.listdir(tmp_path / "scoreline/may/score")) == names


FRAME = """
    import pandas as pd
    def run(mini_batch):
        return pd.DataFrame({"a b": [1, None], "text": ["x y", 'q"']}).head(len(mini_batch))
"""


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        pytest.param("azureml", ['1.0 "x y"', ' "q"""'], id="3.1-spaces-and-no-header"),
        pytest.param("csv", ["a b,text", "1.0,x y", ',"q"""'], id="3.1-csv-with-header-if-asked"),
        pytest.param(
            "jsonl",
            ['{"a b": 1.0, "text": "x y"}', '{"a b": null, "text": "q\\""}'],
            id="3.1-json-lines-if-asked",
        ),
    ],
)
def test_format(ran: Callable[[Job], Ran], form: str, lines: list[str]) -> None:
    """A DataFrame is written as Azure ML writes it, or as is asked (contract 3.1)."""
    given = ("--input", "in", "--output", "out", "--format", form)
    assert ran(Job(script=FRAME, files=TEXTS[:2], arguments=given)).lines == lines


@pytest.mark.parametrize(
    ("arguments", "code", "content"),
    [
        pytest.param((), 2, "theirs\n", id="3.2-existing-file-fails"),
        pytest.param(("--if-exists", "overwrite"), 0, "mine", id="3.2-overwritten-if-asked"),
        pytest.param(("--if-exists", "append"), 0, "theirs\nmine", id="3.2-appended-if-asked"),
    ],
)
def test_existing_file(tmp_path: Path, arguments: tuple[str, ...], code: int, content: str) -> None:
    """A file that is there fails the job before the script is called, unless asked otherwise (contract 3.2)."""
    script = "print('called')\ndef run(mini_batch):\n    return ['mine'] * len(mini_batch)\n"
    job = Job(script=script, files=(("in/a.txt", "a"), ("out/predictions.csv", "theirs\n")))
    write(job, tmp_path)
    done = run(job, tmp_path, *job.arguments, *arguments)
    assert done.outcome.code == code, done.said
    assert (tmp_path / "out/predictions.csv").read_text().strip("\n") == content.strip("\n")
    if code:
        assert "out/predictions.csv exists already" in done.said
        assert "called" not in done.log("user/stdout/0/*")


# Models without a script


def table(shape: str, *values: object, header: str = "value,shape") -> str:
    """Write a CSV file for the model `SHAPES`."""
    return "\n".join([header, *(f"{value},{shape}" for value in values)]) + "\n"


def no_code(*files: tuple[str, str], arguments: tuple[str, ...] = (), settings: str = "") -> Job:
    """Return a job of a model alone."""
    given = ("--input", "in", "--output", "out", *arguments)
    return Job(script="", files=files, arguments=given, settings=settings)


STRICT = ("--strict",)
GOOD = ("in/a.csv", table("list", 1, 2))


@pytest.mark.parametrize(
    ("job", "lines"),
    [
        row("4.3-list-is-one-field", no_code(GOOD), ["0,1.0,a.csv", "1,2.0,a.csv"]),
        row("4.3-array-is-one-field", no_code(("in/a.csv", table("array", 1))), ["0,1.0,a.csv"]),
        row("4.3-series-is-one-field", no_code(("in/a.csv", table("series", 1))), ["0,1.0,a.csv"]),
        row("4.3-columns-of-a-frame", no_code(("in/a.csv", table("frame", 3))), ['0,1.5,"a, b",a.csv']),
        row("4.3-columns-of-a-matrix", no_code(("in/a.csv", table("matrix", 3))), ["0,3.0,6.0,a.csv"]),
        row("4.3-cells-that-hold-lists", no_code(("in/a.csv", table("cells", 3))), ["0,[{'top': 1.5}],a.csv"]),
        row("4.3-rows-begin-at-0-in-each-file", no_code(GOOD, ("in/b.csv", table("list", 3))),
            ["0,1.0,a.csv", "1,2.0,a.csv", "0,3.0,b.csv"]),
        row("4.3-basename", no_code(GOOD, ("in/sub/b.csv", table("list", 3)), arguments=("--recursive",)),
            ["0,1.0,a.csv", "1,2.0,a.csv", "0,3.0,b.csv"]),
        row("4.3-a-name-with-a-comma-is-quoted", no_code(("in/a,b.csv", table("list", 1))), ['0,1.0,"a,b.csv"']),
        row("4.3-header-if-asked", no_code(GOOD, arguments=("--format", "csv")),
            ["row,prediction,file", "0,1.0,a.csv", "1,2.0,a.csv"]),
        row("4.4-rows-go-on-across-chunks", no_code(GOOD, arguments=("--chunk-rows", "1")),
            ["0,1.0,a.csv", "1,2.0,a.csv"]),
        row("4.4-one-call-per-file-if-asked",
            no_code(("in/a.csv", table("types", 1, 2)), ("in/b.csv", table("types", 1)),
                    arguments=("--chunk-rows", "0")),
            ["0,float64 2,a.csv", "1,float64 2,a.csv", "0,float64 1,b.csv"]),
        row("4.1-one-call-per-file-strictly",
            no_code(("in/a.csv", table("types", 1, 2)), ("in/b.csv", table("types", 1)), arguments=STRICT),
            ["0,float64 2,a.csv", "1,float64 2,a.csv", "0,float64 1,b.csv"]),
        row("4.1-uri-file", Job(script="", files=(GOOD,), arguments=("--input", "in/a.csv", "--output", "out")),
            ["0,1.0,a.csv", "1,2.0,a.csv"]),
        row("4.1-nested-folders-skipped", no_code(GOOD, ("in/sub/b.csv", table("list", 3))),
            ["0,1.0,a.csv", "1,2.0,a.csv"]),
        row("4.2-whole-numbers-become-doubles", no_code(("in/a.csv", table("types", 1))), ["0,float64 1,a.csv"]),
        row("4.2-extension-in-any-letter-case", no_code(("in/a.CSV", table("list", 1))), ["0,1.0,a.CSV"]),
        row("4.2-columns-in-any-order", no_code(("in/a.csv", "shape,more,value\nlist,x,7\n")), ["0,7.0,a.csv"]),
        row("4.2-unsupported-extension-costs-its-file", no_code(GOOD, ("in/b.txt", "text")),
            ["0,1.0,a.csv", "1,2.0,a.csv"]),
        row("4.2-misfit-costs-its-file-strictly",
            no_code(GOOD, ("in/b.csv", table("list", 1, "x")), arguments=STRICT), ["0,1.0,a.csv", "1,2.0,a.csv"]),
        row("4.2-misfit-costs-its-row", no_code(GOOD, ("in/b.csv", table("list", 1, "x"))),
            ["0,1.0,a.csv", "1,2.0,a.csv", "0,1.0,b.csv"]),
    ],
)  # fmt: skip
def test_model_without_a_script(ran: Callable[[Job], Ran], job: Job, lines: list[str]) -> None:
    """What a model is given, and what is written of its answers (contract 4)."""
    assert ran(job).lines == lines


@pytest.mark.parametrize("extension", ["parquet", "pqt", "PARQUET"])
def test_4_2_parquet(ran: Callable[[Job], Ran], tmp_path: Path, shapes: Path, extension: str) -> None:
    """4.2-parquet: such a file is read as a table, by any of its extensions."""
    import pandas as pd

    job = no_code(GOOD)
    (tmp_path / "model").symlink_to(shapes)
    write(job, tmp_path)
    path = tmp_path / f"in/b.{extension}"
    pd.DataFrame({"value": [3], "shape": ["list"]}).to_parquet(tmp_path / "b", index=False)
    (tmp_path / "b").rename(path)
    assert run(job, tmp_path).lines == [*ran(job).lines, f"0,3.0,{path.name}"]


UNSUPPORTED = "Error processing input file: 'b.txt'. File type 'txt' is not supported"
MISFIT = "Error processing input file: 'b.csv'. Exception: could not convert string to float: 'x'"


@pytest.mark.parametrize(
    ("job", "code", "words"),
    [
        row("4.2-text-of-an-unsupported-extension", no_code(GOOD, ("in/b.txt", "text")), 0, UNSUPPORTED),
        row(
            "4.2-unsupported-extension-under-threshold-0",
            no_code(GOOD, ("in/b.txt", "text"), settings="  error_threshold: 0\n"),
            1,
            UNSUPPORTED,
        ),
        row(
            "4.2-text-of-a-misfit",
            no_code(GOOD, ("in/b.csv", table("list", "x")), arguments=STRICT),
            0,
            MISFIT,
        ),
        row(
            "4.2-every-file-of-a-mini-batch-bad",
            no_code(GOOD, ("in/b.csv", table("list", "x")), arguments=STRICT, settings="  mini_batch_size: 1\n"),
            0,
            "ValueError: No objects to concatenate",
        ),
        row(
            "4.2-nothing-succeeded",
            no_code(("in/b.csv", table("list", "x")), arguments=STRICT),
            1,
            "No succeeded mini batch item returned from run()",
        ),
    ],
)
def test_failures_without_a_script(ran: Callable[[Job], Ran], job: Job, code: int, words: str) -> None:
    """What goes wrong is told in the words of Azure ML, and counts as a failed file (contract 4.2)."""
    done = ran(job)
    assert done.outcome.code == code, done.said
    quarantine = done.folder / "out/_predictions.quarantine.jsonl"
    reasons = [json.loads(line)["reason"] for line in quarantine.read_text().splitlines()] if code == 0 else []
    assert words in "\n".join([done.said, *reasons, done.log("job_result.txt")])
    assert "failed files: 1\n" in done.log("job_result.txt")


def test_4_3_summary_only_needs_a_script(ran: Callable[[Job], Ran]) -> None:
    """4.3-summary-only: a model alone writes nothing itself, so it is refused."""
    done = ran(no_code(GOOD, settings="  output_action: summary_only\n"))
    assert done.outcome.code == 2
    assert "summary_only needs a scoring script" in done.said


# Refused, or told


@pytest.mark.parametrize(
    ("job", "words"),
    [
        row(
            "7.1-16-blob-of-no-account",
            Job(arguments=("--input", "https://no-such-account.blob.core.windows.net/c/p?sv=1&sig=abc")),
            "no-such-account",
        ),
        row("7.2-folder-said-to-be-a-file", Job(arguments=("--input", "in", "--input-type", "uri_file")),
            "in is a folder"),
        row("6.2-overrides-that-az-ml-refuses", Job(arguments=("--input", "in", "--set", "logging_level=debug")),
            "--set logging_level: the command line cannot override it"),
        row("6.1-literal-input",
            Job(files=(*TEXTS, ("body.json",
                '{"properties": {"inputData": {"x": {"jobInputType": "Literal", "value": "1"}}}}')),
                arguments=("--request", "body.json")), "uri"),
        row("1.1-pipeline", Job(files=(*TEXTS, ("deployment.yml", "name: p\nendpoint_name: ppp\ntype: pipeline\n"))),
            "pipeline deployments are not run here"),
        row("2.1-no-run-function", Job(script="def init():\n    pass\n"), "has no function run(mini_batch)"),
    ],
)  # fmt: skip
def test_refused_before_any_work(ran: Callable[[Job], Ran], job: Job, words: str) -> None:
    """What cannot be is refused with exit code 2, and nothing is left behind."""
    done = ran(job)
    assert done.outcome.code == 2, done.said
    assert re.search(re.escape(words), done.said, re.IGNORECASE), done.said
    assert "sig=abc" not in done.said
    assert not list(done.folder.rglob("*.csv"))


def test_7_3_name_that_no_workspace_knows(tmp_path: Path) -> None:
    """7.3-unknown-name: the sentence has the lines to add to workspace.yml, and the option that needs none."""
    write(Job(), tmp_path)
    text = (tmp_path / "deployment.yml").read_text()
    (tmp_path / "deployment.yml").write_text(re.sub(r"model: \{.*", "model: azureml:heart:4", text))
    done = run(Job(), tmp_path)
    assert done.outcome.code == 2
    assert "azureml:heart:4" in done.said
    assert re.search(r'  models:\n    heart:\n      "4": \w+\n', done.said), done.said
    assert "--model PATH" in done.said


def test_1_1_settings_at_the_root_are_told(ran: Callable[[Job], Ran]) -> None:
    """1.1-dropped-at-the-root: what Azure ML silently drops is applied, with a warning."""
    done = ran(Job(script=RAISING, settings="  mini_batch_size: 1\n", root="error_threshold: 0\n"))
    assert done.outcome.code == 1
    assert "warning: " in done.said
    assert "Azure ML silently ignores it at the root" in done.said
