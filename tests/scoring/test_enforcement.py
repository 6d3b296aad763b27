"""MLflow's enforcement is left out only where it was seen to change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from scoring.demo import heart_frame
from scoring.enforcement import Conforming


@pytest.fixture(scope="module")
def heart(heart_model: Path) -> Any:
    """Return the sample model, loaded."""
    return mlflow.pyfunc.load_model(str(heart_model))


def calls_of(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the calls of MLflow's own predict."""
    calls: list[int] = []
    predict = model.predict

    def counted(frame: pd.DataFrame) -> Any:
        calls.append(len(frame))
        return predict(frame)

    monkeypatch.setattr(model, "predict", counted)
    return calls


def test_frames_like_the_first_go_straight_to_the_model(heart: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first call pays for the enforcement, and the predictions are the same."""
    calls = calls_of(heart, monkeypatch)
    model = Conforming(heart, None)
    frames = [heart_frame(rows, seed=rows) for rows in (5, 40, 300)]
    found = [model(frame) for frame in frames]
    assert calls == [5]
    for frame, predictions in zip(frames, found, strict=True):
        np.testing.assert_array_equal(heart.predict(frame), predictions)


def test_a_few_rows_show_what_mlflow_does(heart: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's copies are of a hundred rows only, and these do not reach the model twice."""
    calls, seen = calls_of(heart, monkeypatch), []
    inner = heart._predict_fn  # noqa: SLF001 (what reaches the model)

    def seeing(data: pd.DataFrame) -> Any:
        seen.append(len(data))
        return inner(data)

    monkeypatch.setattr(heart, "_predict_fn", seeing)
    model, frame = Conforming(heart, None), heart_frame(300)
    np.testing.assert_array_equal(inner(frame), model(frame))
    assert (calls, seen) == ([100], [300])


def test_release_that_looks_at_predictions_enforces_each_time(heart: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MLflow cannot do without predictions, nothing is learned from the first rows, and nothing lost."""
    predict = heart.predict

    def looking(frame: pd.DataFrame) -> Any:
        predictions = predict(frame)
        if predictions is None:
            raise TypeError("no predictions")
        return predictions

    monkeypatch.setattr(heart, "predict", looking)
    calls = calls_of(heart, monkeypatch)
    model, frame = Conforming(heart, None), heart_frame(300)
    for _ in range(2):
        np.testing.assert_array_equal(predict(frame), model(frame))
    assert calls == [100, 300, 300]


def test_frames_of_other_types_are_enforced(heart: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that is not as the first was goes through MLflow, which converts or refuses it."""
    calls = calls_of(heart, monkeypatch)
    model = Conforming(heart, None)
    model(heart_frame(5))
    model(heart_frame(7).astype({"age": "int32"}))
    assert calls == [5, 7]
    with pytest.raises(Exception, match="oldpeak"):
        model(heart_frame(9).drop(columns="oldpeak"))


def test_model_whose_frames_mlflow_changes_is_enforced_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the enforcement does to the first frame it must do to all."""
    import mlflow.sklearn
    from sklearn.linear_model import LinearRegression

    fitted = LinearRegression().fit(pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0]}), [0.0, 1.0])
    signature = ModelSignature(Schema([ColSpec(DataType.double, "a"), ColSpec(DataType.double, "b")]))
    mlflow.sklearn.save_model(fitted, tmp_path / "model", signature=signature, pip_requirements=[])
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    calls = calls_of(loaded, monkeypatch)
    model = Conforming(loaded, None)
    # the columns come in another order than the signature's
    frame = pd.DataFrame({"b": [3.0, 4.0], "a": [1.0, 1.0]})
    assert model(frame).tolist() == model(frame).tolist() == fitted.predict(frame[["a", "b"]]).tolist()
    assert calls == [2, 2, 2]
