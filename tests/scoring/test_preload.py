"""What the fork server imports before it forks, for models of models."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from scoring.preload import preload


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what is imported, instead of importing it."""
    names: list[str] = []
    monkeypatch.setattr(importlib, "import_module", names.append)
    # what it would import stays out, too
    monkeypatch.delitem(sys.modules, "narwhals.stable.v2", raising=False)
    return names


def model(folder: Path, loader: str, **files: str) -> Path:
    """Write what is looked at of a model of that flavor."""
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text(f"flavors:\n  python_function:\n    loader_module: {loader}\n")
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def test_a_model_inside_of_a_python_model(tmp_path: Path, imported: list[str]) -> None:
    """Workers find the library of a scikit-learn model that a Python model holds imported, skops before all else."""
    outer = model(tmp_path / "m", "mlflow.pyfunc.model")
    model(
        outer / "artifacts" / "inner", "mlflow.sklearn", model_skops='{"__module__": "sklearn.linear_model._logistic"}'
    )
    preload(str(outer))
    assert imported[0] == "skops.io"
    assert {"mlflow.pyfunc.model", "mlflow.sklearn", "sklearn.linear_model._logistic"} <= {*imported}


def test_only_what_may_be_forked_is_imported_for_inner_models(tmp_path: Path, imported: list[str]) -> None:
    """A library that may start threads is left to the workers, unless the model itself is of its flavor."""
    outer = model(tmp_path / "m", "mlflow.pyfunc.model")
    model(outer / "artifacts" / "inner", "mlflow.pytorch", model_json='"pytorch.nn"')
    preload(str(outer))
    assert [name for name in imported if "torch" in name] == []
    preload(str(model(tmp_path / "n", "mlflow.xgboost", model_json='"xgboost.sklearn"')))
    assert {"mlflow.xgboost", "xgboost.sklearn"} <= {*imported}


def test_no_model_is_no_error(tmp_path: Path, imported: list[str]) -> None:
    """What is no model is told by who loads it."""
    preload(str(tmp_path / "none"))
    assert "mlflow.pyfunc" in imported


def test_a_first_frame_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What scikit-learn imports when it meets one is shared: it costs a worker 16 ms, and 3 MB of pages of its own."""
    narwhals, pandas = pytest.importorskip("narwhals.stable.v2"), pytest.importorskip("pandas")
    seen: list[object] = []
    monkeypatch.setattr(narwhals, "from_native", seen.append)
    preload(str(tmp_path / "none.py"))
    assert [type(frame) for frame in seen] == [pandas.DataFrame]
