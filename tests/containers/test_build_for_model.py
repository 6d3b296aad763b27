"""What docker/build-for-model would install for a model, and what it refuses; `make image-test` builds one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / "docker/build-for-model"


@pytest.fixture
def model(heart_model: Path, tmp_path: Path) -> Path:
    """Return a model whose files may be changed."""
    return Path(shutil.copytree(heart_model, tmp_path / "heart"))


def shown(*words: object) -> subprocess.CompletedProcess[str]:
    """Ask what would be installed."""
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(
        [COMMAND, *map(str, words), "--show"], env=environment, capture_output=True, text=True, check=False
    )


def test_pins_of_the_model_beat_ours(model: Path) -> None:
    """What the model names is taken as it says, whatever its spelling, and the rest as in constraints.txt."""
    (model / "requirements.txt").write_text("scikit_learn==1.5.2\nnumpy>=1.26,<2  # why\nlightgbm==4.5.0\n-e .\n")
    done = shown(model, "--python", "3.12")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:4] == ["python 3.12", "scikit_learn==1.5.2", "numpy<2,>=1.26", "lightgbm==4.5.0"]
    ours = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line[0] != "#"]
    beaten = [line for line in ours if line.startswith(("numpy==", "scikit-learn=="))]
    assert sorted(set(ours) - set(lines[4:])) == sorted(beaten)


def test_conda_file_says_it_too(model: Path) -> None:
    """Its part for pip is read where there is no requirements.txt, and the Python of the MLmodel file is the base's."""
    (model / "requirements.txt").unlink()
    (model / "conda.yaml").write_text("dependencies:\n- python=3.10.4\n- pip:\n  - pandas==2.2.3\n")
    mlmodel = model / "MLmodel"
    mlmodel.write_text(re.sub(r"python_version: \S+", "python_version: 3.13.1", mlmodel.read_text()))
    done = shown(model)
    assert done.stdout.splitlines()[:2] == ["python 3.13", "pandas==2.2.3"], done.stderr


@pytest.mark.parametrize(
    ("requirement", "told"),
    [
        ("pandas==0.25.3", "asks for pandas==0.25.3 (Scoreline needs pandas>="),
        ("mlflow<1.30", "asks for mlflow<1.30 (Scoreline needs mlflow>="),
        ("numpy~=1.10.0", "asks for numpy~=1.10.0 (Scoreline needs numpy>="),
        ("pandas==0.25.*", "asks for pandas==0.25.* (Scoreline needs pandas>="),
    ],
)
def test_older_than_the_floor_is_refused(model: Path, requirement: str, told: str) -> None:
    """One sentence says which file asks for what, and nothing is built."""
    (model / "requirements.txt").write_text(f"{requirement}\nscipy==1.11.0\n")
    done = shown(model)
    assert (done.returncode, done.stdout) == (2, "")
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("build-for-model: ")
    assert f"heart/requirements.txt {told}" in sentence
    assert "scipy" not in sentence


def test_older_python_is_refused_unless_told(model: Path) -> None:
    """A model may work under another Python; that is for a person to say."""
    mlmodel = model / "MLmodel"
    mlmodel.write_text(re.sub(r"python_version: \S+", "python_version: 3.9.7", mlmodel.read_text()))
    done = shown(model)
    assert done.returncode == 2
    assert "Scoreline needs Python>=3.11" in done.stderr
    assert shown(model, "--python", "3.11").stdout.startswith("python 3.11\n")


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """It says which file is missing."""
    done = shown(tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path}/MLmodel: cannot be read" in done.stderr
