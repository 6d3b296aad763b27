"""What one environment saved, the other scores, where MLflow itself can: run by ``make test-floor``, which has both."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.floor.test_old_models import DATA

ROOT = Path(__file__).parents[2]
OTHER = os.environ.get("SCORELINE_TEST_OTHER_PYTHON", "")
PYTHONS = {"floor": sys.executable, "current": OTHER}

pytestmark = [
    pytest.mark.skipif(not OTHER, reason="SCORELINE_TEST_OTHER_PYTHON names no second environment"),
    pytest.mark.timeout(600),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a job."""

    code: int
    words: str
    scores: str


def ran(environment: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a module in one of the environments."""
    command = [PYTHONS[environment], "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Save the models in both environments."""
    folder = tmp_path_factory.mktemp("saved")
    for environment in PYTHONS:
        made = ran(environment, "tests.floor.saving", folder / environment)
        assert made.returncode == 0, made.stderr
    return {environment: folder / environment for environment in PYTHONS}


def scored(environment: str, model: Path, folder: Path) -> Outcome:
    """Score with workers of their own, as a user does."""
    folder.mkdir()
    (folder / "in.csv").write_text(DATA)
    options = ["--model", model, "--input", folder / "in.csv", "--output", folder / "out", "--workers", 1]
    done = ran(environment, "runtime.cli", "run", *options)
    file = folder / "out" / "predictions.csv"
    return Outcome(code=done.returncode, words=done.stderr, scores=file.read_text() if file.exists() else "")


@pytest.mark.parametrize("model", ["weighted", "linear", "bare"])
def test_model_of_the_floor_scores_in_the_current_environment(
    saved: dict[str, Path], tmp_path: Path, model: str
) -> None:
    """The bytes are those that the libraries it was saved with give, and the versions are told."""
    there = scored("floor", saved["floor"] / model, tmp_path / "there")
    here = scored("current", saved["floor"] / model, tmp_path / "here")
    assert (there.code, here.code) == (0, 0), there.words + here.words
    assert there.scores == here.scores
    assert len(here.scores.splitlines()) == 5
    assert ("the model was saved with mlflow 2.9.0" in here.words) == (model != "weighted")


def test_current_model_of_own_code_scores_at_the_floor(saved: dict[str, Path], tmp_path: Path) -> None:
    """What is newer in an MLmodel file and nobody needs is passed over: a model without a signature."""
    file = saved["current"] / "weighted" / "MLmodel"
    lines = file.read_text().splitlines(keepends=True)
    begin = lines.index("signature:\n")
    end = next(place for place in range(begin + 1, len(lines)) if not lines[place].startswith(" "))
    unsigned = tmp_path / "unsigned"
    unsigned.mkdir()
    for path in (saved["current"] / "weighted").rglob("*"):
        if path.is_file() and path.name != "MLmodel" and "__pycache__" not in path.parts:
            copy = unsigned / path.relative_to(saved["current"] / "weighted")
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (unsigned / "MLmodel").write_text("".join(lines[:begin] + lines[end:]))
    there = scored("current", unsigned, tmp_path / "there")
    here = scored("floor", unsigned, tmp_path / "here")
    assert (there.code, here.code) == (0, 0), there.words + here.words
    assert there.scores == here.scores
    assert len(here.scores.splitlines()) == 5


@pytest.mark.parametrize(
    ("model", "saver", "scorer"),
    [
        # a tree of scikit-learn 1.2 has other nodes than one of 1.9
        ("tree", "floor", "current"),
        # MLflow 3 knows no optional columns, MLflow 2.9 no required ones
        ("optional", "floor", "current"),
        ("weighted", "current", "floor"),
        ("linear", "current", "floor"),
    ],
)
def test_model_that_the_libraries_cannot_load(
    saved: dict[str, Path], tmp_path: Path, model: str, saver: str, scorer: str
) -> None:
    """The job ends at once with one sentence that names both versions, and nothing is written."""
    outcome = scored(scorer, saved[saver] / model, tmp_path / "job")
    assert (outcome.code, outcome.scores) == (1, "")
    last = outcome.words.splitlines()[-1]
    assert f"{saved[saver] / model}: the model cannot be loaded: " in last
    assert "; it was saved with mlflow " in last
    assert last.endswith(": install what it was saved with")
