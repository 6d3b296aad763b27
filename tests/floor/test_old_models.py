"""Models that MLflow 2.9 and scikit-learn 1.2 saved (by `saving.py`, with constraints-floor.txt) score here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runtime import run
from scoring.errors import ModelLoadError
from tests.old_releases import MLFLOW, Version

MODELS = Path(__file__).parent / "models"
DATA = "a,b\n0.25,0.25\n0.75,0.5\n0.5,1.5\n1.0,0.25\n"
PREDICTIONS = {"weighted": ["3.0", "6.5", "16.0", "4.5"], "linear": ["0", "1", "0", "1"]}

pytestmark = pytest.mark.filterwarnings("ignore:Trying to unpickle estimator")


def score_file(predictions: list[str]) -> str:
    """Return what is written for them."""
    lines = [f"{row},{prediction},in.csv" for row, prediction in enumerate(predictions)]
    return "\n".join(["row,prediction,file", *lines]) + "\n"


@pytest.mark.parametrize(("name", "predictions"), PREDICTIONS.items(), ids=PREDICTIONS.keys())
def test_old_model_scores(tmp_path: Path, name: str, predictions: list[str]) -> None:
    """Its MLmodel file and its signature are read as those of today."""
    # loading a model with code puts its folder on the path of modules, and writes there
    model = shutil.copytree(MODELS / name, tmp_path / name)
    (tmp_path / "in.csv").write_text(DATA)
    receipt = run(model=model, input=tmp_path / "in.csv", output=tmp_path / "out", engine="inline")
    assert Path(receipt.url).read_text() == score_file(predictions)


def test_old_model_that_mlflow_refuses_is_told_with_its_version(tmp_path: Path) -> None:
    """What MLflow 3 cannot read, an optional column as 2.9 wrote it, is one sentence with what to install."""
    model = shutil.copytree(MODELS / "weighted", tmp_path / "model")
    file = model / "MLmodel"
    file.write_text(file.read_text().replace('"name": "b"}', '"name": "b", "optional": true}'))
    assert "optional" in file.read_text()
    (tmp_path / "in.csv").write_text(DATA)
    job = {"model": model, "input": tmp_path / "in.csv", "output": tmp_path / "out", "engine": "inline"}
    if Version("3") > MLFLOW:
        assert run(**job).rows["scored"] == 4
        return
    with pytest.raises(ModelLoadError) as raised:
        run(**job)
    told = str(raised.value)
    assert told.endswith(f"saved with mlflow 2.9.0 (here is {MLFLOW}): install what it was saved with")
    assert "\n" not in told
