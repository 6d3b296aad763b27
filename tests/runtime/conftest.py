"""What the tests of the driver share: models that misbehave."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.saving import save_fault


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the models of `tests/faults`, made once; not to be changed."""
    folder = tmp_path_factory.mktemp("models")
    save_fault(folder / "by_row", "by_row", [("value", "long"), ("action", "string"), ("mark", "string?")])
    save_fault(folder / "on_load", "on_load", [("value", "long")])
    save_fault(
        folder / "with_params", "with_params", [("value", "double"), ("when", "datetime?")],
        {"factor": 1.0, "name": "x", "times": 1},
    )  # fmt: skip
    return folder
