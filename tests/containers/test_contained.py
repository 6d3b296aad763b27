"""Without a network, and with a /dev/shm that holds next to nothing, a job starts and ends as everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HOOK = Path(__file__).with_name("no_calls")
SHM = "1m"
"""Containers have 64 MB; what holds in so little holds there."""
UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
CUT_OFF = [*UNSHARE, "sh", "-euc", f'mount -t tmpfs -o size={SHM} tmpfs /dev/shm; exec "$@"', "sh"]
QUIET_IN_CI = (
    "CI", "GITHUB_", "GITLAB_", "JENKINS_", "CIRCLECI", "TRAVIS", "TF_BUILD", "BITBUCKET_", "BUILDKITE", "CODEBUILD_",
    "TEAMCITY_", "PYTEST_", "MLFLOW_", "DO_NOT_TRACK", "AGENT", "NO_PROXY",
)  # fmt: skip
"""Prefixes of the variables by which libraries that call home know a test, and let it be."""


@pytest.fixture
def cut_off() -> list[str]:
    """Return what a command begins with that shall have no network."""
    tried = [*CUT_OFF, "true"]
    if shutil.which("unshare") is None or subprocess.run(tried, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a network namespace (unshare --user --net --mount)")
    return CUT_OFF


def test_job_needs_no_network(
    cut_off: list[str], heart_model: Path, heart_rows: Callable[..., Path], tmp_path: Path
) -> None:
    """Nothing is looked up or called by the driver or the workers, and nothing waits for an answer."""
    calls = tmp_path / "calls"
    calls.touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(QUIET_IN_CI)}
    path = os.pathsep.join(filter(None, [str(HOOK), os.environ.get("PYTHONPATH")]))
    environment |= {"PYTHONPATH": path, "SCORELINE_TEST_CALLS": str(calls), "HOME": str(tmp_path)}
    job = ["run", "--model", heart_model, "--input", heart_rows(200), "--output", tmp_path / "scores"]
    done = subprocess.run(
        [*cut_off, sys.executable, "-m", "runtime.cli", *job, "--workers", "1"],
        env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scores/predictions.csv").read_bytes().count(b"\n") == 201
    assert calls.read_text() == ""


def test_calls_are_noted(tmp_path: Path) -> None:
    """A process that calls somebody is found by what the test above looks at."""
    calls = tmp_path / "calls"
    environment = {"PYTHONPATH": str(HOOK), "SCORELINE_TEST_CALLS": str(calls)}
    call = "import socket\ntry: socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", call], env=environment, check=True)
    assert "socket.connect (('127.0.0.1', 9),)" in calls.read_text()
