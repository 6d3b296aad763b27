"""The model of a job: found, fetched where it is remote, and named by its content."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import ModelLoadError, UsageError
from runtime.model import code_digest, fetch_model, find_model, is_remote, model_digest, read_mlmodel
from tests.runtime.commands import scoreline

REGISTER = """
import sys
from mlflow import MlflowClient
store, model, artifacts = sys.argv[1:]
client = MlflowClient(tracking_uri=store, registry_uri=store)
client.create_registered_model("heart")
version = client.create_model_version("heart", source=model)
client.set_registered_model_alias("heart", "champion", version.version)
run = client.create_run(client.create_experiment("hearts", artifact_location=artifacts))
client.log_artifacts(run.info.run_id, model, "model")
print(run.info.run_id)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a folder that looks like a model."""
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors:\n  python_function: {loader_module: mlflow.sklearn}\n")
    (folder / "data" / "weights").write_bytes(bytes(1_000))
    return folder


@pytest.mark.parametrize(
    "how", ["{path}", "file://{path}", "file:{path}", "{path}/", "{path}/MLmodel", "{path}/../model"]
)
def test_model_is_found(model: Path, how: str) -> None:
    """By its folder or by the file in it, as a path or as a URL."""
    found = find_model(how.format(path=model))
    assert found.path == str(model)
    assert found.uri == how.format(path=model)


def test_model_is_found_by_a_quoted_url(model: Path) -> None:
    """A `file:` URL quotes what a URL cannot hold."""
    spaced = model.rename(model.with_name("my model"))
    assert find_model(spaced.as_uri()).path == str(spaced)


def test_model_is_found_in_the_home_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde is what it is in a shell."""
    monkeypatch.setenv("HOME", str(model.parent))
    assert find_model("~/model").path == str(model)


def test_model_is_found_behind_a_link(model: Path) -> None:
    """A link that names the newest of several models is followed: MLflow itself refuses one."""
    link = model.with_name("newest")
    link.symlink_to(model)
    assert find_model(str(link)).path == str(model)


@pytest.mark.parametrize("uri", ["models:/heart/1", "models:/heart@champion", "runs:/0123/model"])
def test_remote_model_is_told_by_its_uri(uri: str) -> None:
    """What MLflow must fetch is not looked for on disk."""
    assert is_remote(uri)
    assert not is_remote("./models")


def test_digest_is_of_names_and_bytes(model: Path) -> None:
    """Where the folder lies, when it was written, and what a look at it leaves, say nothing of the model."""
    digest = model_digest(str(model))
    copy = model.with_name("copy")
    shutil.copytree(model, copy)
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "x.pyc").write_bytes(b"x")
    (copy / "registered_model_meta").write_text("model_name: heart")
    os.utime(copy / "MLmodel", (0, 0))
    assert model_digest(str(copy)) == digest
    (copy / "data" / "weights").write_bytes(bytes(999) + b"\1")
    assert model_digest(str(copy)) != digest
    (copy / "data" / "weights").write_bytes(bytes(1_000))
    (copy / "data" / "weights").rename(copy / "data" / "height")
    assert model_digest(str(copy)) != digest


def test_file_that_cannot_be_read_is_named(model: Path) -> None:
    """A link to nothing inside a model is an error of who gave it."""
    (model / "data" / "more").symlink_to("nothing")
    with pytest.raises(UsageError, match=r"model/data/more: cannot be read: No such file or directory"):
        model_digest(str(model))


def test_pipe_in_a_model_is_refused(model: Path) -> None:
    """To read one would wait for ever."""
    os.mkfifo(model / "data" / "pipe")
    with pytest.raises(UsageError, match=r"model/data/pipe: it is no regular file"):
        model_digest(str(model))


def test_what_is_no_regular_file_is_no_code(model: Path) -> None:
    """Locks of editors, which are links to nothing, and pipes that programs leave say nothing of a script."""
    digest = code_digest(str(model), ())
    (model / ".#score.py").symlink_to("someone@somewhere.1234")
    os.mkfifo(model / "data" / "pipe")
    assert code_digest(str(model), ()) == digest
    (model / "score.py").write_text("def run(names): return names")
    assert code_digest(str(model), ()) != digest


def test_what_jobs_write_is_no_code(model: Path) -> None:
    """A script may stand in the folder that jobs are run in: their output and logs are told by what is in them."""
    digest = code_digest(str(model), ())
    for name in (
        "out/predictions.csv", "out/_predictions.receipt.json", "out/of-the-script.txt", "scoreline/may/score/x.csv",
        "scoreline/may/score/.x.csv.staging/lock", "scoreline/may/logs/job_progress_overview.txt",
        "scoreline/may/logs/user/error.txt", "_x.quarantine.jsonl",
    ):  # fmt: skip
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text("x")
    assert code_digest(str(model), ()) == digest == model_digest(str(model))
    # a folder of code is code, whatever is written into it
    (model / "src").mkdir()
    (model / "src/score.py").write_text("def run(names): return names")
    with_code = code_digest(str(model), ())
    assert with_code != digest
    (model / "src/_predictions.receipt.json").write_text("x")
    assert code_digest(str(model), ()) == with_code
    # and this job knows which files it writes
    (model / "predictions.csv").write_text("x")
    assert code_digest(str(model), ()) != with_code
    assert code_digest(str(model), (str(model / "predictions.csv"),)) == with_code


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"flavors: [", "cannot be read: while parsing"),
        (b"\xff\xfe\x00", "cannot be read: 'utf-8' codec"),
        (b"", "the model has no python_function flavor, so nothing here can call it"),
        (b"flavors: {sklearn: {}}", "the model has no python_function flavor, so nothing here can call it"),
        (b"- a list", "the model has no python_function flavor, so nothing here can call it"),
        (b"!!python/object/apply:os.system [false]", "cannot be read: could not determine a constructor"),
    ],
)
def test_damaged_mlmodel_is_refused(model: Path, text: bytes, sentence: str) -> None:
    """The sentence names the file; nothing in it is ever run."""
    (model / "MLmodel").write_bytes(text)
    with pytest.raises(UsageError, match=sentence):
        read_mlmodel(str(model))


def test_model_is_fetched_from_a_registry(
    tmp_path: Path, heart_model: Path, monkeypatch: pytest.MonkeyPatch, heart_rows: Callable[[int], Path]
) -> None:
    """By version, by alias and by run, in a child process: the same content, hence the same job, and no copy stays."""
    store = f"sqlite:///{tmp_path}/mlflow.db"
    registered = subprocess.run(
        [sys.executable, "-c", REGISTER, store, heart_model, (tmp_path / "artifacts").as_uri()],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)
    job = ("run", "--input", heart_rows(10), "--output", "score")
    first = scoreline(*job, "--model", "models:/heart@champion")
    assert (first.code, first.stdout) == (0, ""), first.stderr
    assert first.stderr.startswith("fetching models:/heart@champion\n")
    second = scoreline(*job, "--model", f"runs:/{registered.stdout.strip()}/model")
    assert "already complete" in second.stderr
    third = scoreline(*job, "--model", "models:/heart/1")
    assert "already complete" in third.stderr
    with pytest.raises(ModelLoadError, match=r"models:/heart/7: the model cannot be fetched: .*version"):
        fetch_model("models:/heart/7", str(tmp_path / "fetched"))
