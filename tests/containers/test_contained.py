"""What docker/Dockerfile makes works where it will run, shown without a container engine.

A job is alone in namespaces: its user is 10001, it is below process 1, nothing but its data and the temporary folder
can be written, there is no network, and /dev/shm holds next to nothing. `make image-test` runs the image itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.containers.images import ORPHAN

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / ".venv-recipes/bin"
HOOK = Path(__file__).with_name("no_calls")
PATIENCE_S = 60.0
USER = 10_001
SHM = "1m"
"""Containers have 64 MB; what holds in so little holds there."""
UNSHARE = [
    "unshare", "--user", f"--map-user={USER}", f"--map-group={USER}", "--keep-caps", "--mount", "--pid", "--fork",
    "--kill-child", "--mount-proc", "--net", "--ipc",
]  # fmt: skip
ALONE = f"""\
mount -t tmpfs -o size={SHM} tmpfs /dev/shm
mount --bind "$0" "$0"
for each in / /tmp /var/tmp; do
    test "$each" = / || mount --rbind "$each" "$each"
    mount -o remount,bind,ro "$each"
done
test -z "$TMPDIR" || mount -t tmpfs tmpfs "$TMPDIR"
exec setpriv --ambient-caps=-all --inh-caps=-all --no-new-privs "$@"
"""
QUIET_IN_CI = (
    "CI", "GITHUB_", "GITLAB_", "JENKINS_", "CIRCLECI", "TRAVIS", "TF_BUILD", "BITBUCKET_", "BUILDKITE", "CODEBUILD_",
    "TEAMCITY_", "PYTEST_", "MLFLOW_", "DO_NOT_TRACK", "AGENT", "NO_PROXY",
)  # fmt: skip
"""Prefixes of the variables by which libraries that call home know a test, and let it be."""
SCRIPT = """\
import os, time
from pathlib import Path

def init():
    pass

def run(files):
    here = Path(os.environ["HERE"])
    if Path(files[0]).name == "b.txt":
        (here / "reached").touch()
        while not (here / "gate").exists():
            time.sleep(0.01)
    return [Path(file).read_text() for file in files]
"""
DEPLOYMENT = """\
name: words
endpoint_name: words-batch
type: model
model: {path: model}
code_configuration: {code: code, scoring_script: score.py}
environment: azureml:words:1
compute: azureml:cluster
settings: {max_concurrency_per_instance: 1, mini_batch_size: 1}
"""


@pytest.fixture
def alone(tmp_path: Path) -> list[str]:
    """Return what a command begins with that shall be contained; it may write to the folder of the test."""
    words = [*UNSHARE, "sh", "-euc", ALONE, str(tmp_path)]
    tried = [*words, "true"]
    if shutil.which("unshare") is None or subprocess.run(tried, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make namespaces (unshare --user --mount --pid --net)")
    return words


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The entry point of docker/Dockerfile.

    Attributes:
        init: its words before the command.
        command: `scoreline`, as the wheel has it.
        packages: where the wheel is installed.
    """

    init: list[str]
    command: str
    packages: Path


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """Build the wheel, and install it apart from everything and without an index, as docker/Dockerfile does."""
    if not (RECIPES / "dumb-init").exists():
        pytest.skip("what the image takes is not installed: `make test` does that (.venv-recipes)")
    folder = tmp_path_factory.mktemp("image")
    python = f"{RECIPES}/python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheel = [*pip, "--python", python, "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*wheel, "-w", str(folder), str(ROOT)], check=True)
    (built,) = folder.glob("*.whl")
    # without the second word pip would first remove what is installed for these tests
    install = [*pip, "install", "--ignore-installed", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*install, "--prefix", str(folder / "own"), str(built)], check=True)
    (packages,) = folder.glob("own/lib/python3*/site-packages")
    found = re.search(r"^ENTRYPOINT (.+)$", (ROOT / "docker/Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    init, *options, command = json.loads(found[1])
    return Entry(init=[str(RECIPES / init), *options], command=f"{folder}/own/bin/{command}", packages=packages)


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """Return the variables of a container: what this test run sets is none of its business."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(QUIET_IN_CI)}
    return kept | {"HOME": os.environ["TMPDIR"], "HERE": str(tmp_path)} | more


def test_wheel_has_all_modules(entry: Entry) -> None:
    """What is installed in the image is what lies in the sources, and nothing else."""
    for package in ("runtime", "scoring"):
        source = {file.relative_to(ROOT) for file in (ROOT / package).rglob("*.*") if file.suffix != ".pyc"}
        there = {file.relative_to(entry.packages) for file in (entry.packages / package).rglob("*.*")}
        assert source == there


def test_signal_reaches_the_driver_below_process_1(alone: list[str], entry: Entry, tmp_path: Path) -> None:
    """SIGTERM lets what runs end, the exit code is the driver's, and the same command resumes."""
    (tmp_path / "deployment.yml").write_text(DEPLOYMENT)
    for name in ("model", "code", "in"):
        (tmp_path / name).mkdir()
    (tmp_path / "code/score.py").write_text(SCRIPT)
    for name in "abc":
        (tmp_path / f"in/{name}.txt").write_text(name)
    command = [*alone, *entry.init, entry.command, "run", "deployment.yml", "--input", "in", "--output", "out"]
    variables = environment(tmp_path, PYTHONPATH=str(entry.packages))
    deadline = time.monotonic() + PATIENCE_S
    with subprocess.Popen(command, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, text=True) as job:
        try:
            while not (tmp_path / "reached").exists():
                assert job.poll() is None, job.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.01)
            (first,) = psutil.Process(job.pid).children()
            assert first.name() == "dumb-init"
            first.terminate()
            assert job.stderr is not None
            while "stopping: " not in (said := job.stderr.readline()):
                assert said, "it ended instead"
            (tmp_path / "gate").touch()
            assert "stopped by SIGTERM" in job.communicate(timeout=PATIENCE_S)[1]
        finally:
            job.kill()
    assert job.returncode == 143
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resuming: " in done.stderr
    assert (tmp_path / "out/predictions.csv").read_text() == "a\nb\nc\n"
    refused = subprocess.run(
        [*alone, *entry.init, entry.command, "run", "--model", "nowhere", "--input", "in"], cwd=tmp_path,
        env=variables, capture_output=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2


def test_process_1_leaves_no_zombie(alone: list[str], entry: Entry, tmp_path: Path) -> None:
    """It waits for processes that lost their parents."""
    orphan = [sys.executable, "-c", ORPHAN]
    subprocess.run([*alone, *entry.init, *orphan], env=environment(tmp_path), check=True)


def test_nothing_that_can_be_written_is_told(alone: list[str], heart_model: Path, tmp_path: Path) -> None:
    """Without a folder for temporary files a job is refused in one sentence that says what to mount."""
    job = ["run", "--model", heart_model, "--input", heart_model, "--output", tmp_path / "scores"]
    done = subprocess.run(
        [*alone, sys.executable, "-m", "runtime.cli", *map(str, job)], env=environment(tmp_path) | {"TMPDIR": ""},
        cwd="/", stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("scoreline: No usable temporary directory found in ")
    assert "--tmpfs /tmp" in done.stderr


def test_job_needs_no_network(
    alone: list[str], heart_model: Path, heart_rows: Callable[..., Path], tmp_path: Path
) -> None:
    """Nothing is looked up or called by the driver or the workers, and nothing waits for an answer."""
    calls = tmp_path / "calls"
    calls.touch()
    path = os.pathsep.join(filter(None, [str(HOOK), os.environ.get("PYTHONPATH")]))
    job = ["run", "--model", heart_model, "--input", heart_rows(200), "--output", tmp_path / "scores"]
    done = subprocess.run(
        [*alone, sys.executable, "-m", "runtime.cli", *job, "--workers", "1"],
        env=environment(tmp_path, PYTHONPATH=path, SCORELINE_TEST_CALLS=str(calls)),
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scores/predictions.csv").read_bytes().count(b"\n") == 201
    assert calls.read_text() == ""


def test_calls_are_noted(tmp_path: Path) -> None:
    """A process that calls somebody is found by what the test above looks at."""
    calls = tmp_path / "calls"
    variables = {"PYTHONPATH": str(HOOK), "SCORELINE_TEST_CALLS": str(calls)}
    call = "import socket\ntry: socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", call], env=variables, check=True)
    assert "socket.connect (('127.0.0.1', 9),)" in calls.read_text()
