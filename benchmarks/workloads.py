"""Make the benchmark data and models once, under names that say what is in them.

Usage: python -m benchmarks.workloads DIR NAME...
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from scoring.demo import Kind, save_heart_model, write_heart_csv


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Files of the heart schema, all of the same number of rows."""

    files: int
    rows: int

    @property
    def all_rows(self) -> int:
        """Say how many rows there are in all files."""
        return self.files * self.rows

    def path(self, data: Path) -> Path:
        """Return the folder of the files, or the file where there is one."""
        folder = data / f"heart-{self.files}x{self.rows}"
        return folder if self.files > 1 else folder / _file_name(0)


WORKLOADS = {
    "many_small": Workload(files=2_000, rows=100),
    "one_big": Workload(files=1, rows=4_000_000),
    "huge": Workload(files=1, rows=16_000_000),
    "many_big": Workload(files=100, rows=100_000),
    "million": Workload(files=1, rows=1_000_000),
    "tiny": Workload(files=1, rows=10),
    "gradient_boosting": Workload(files=1, rows=2_000_000),
}
QUICK_WORKLOADS = WORKLOADS | {
    "many_big": Workload(files=30, rows=100_000),
    "gradient_boosting": Workload(files=1, rows=500_000),
}


def model_path(data: Path, kind: Kind) -> Path:
    """Return the folder of a model; its name holds the versions it was saved with, as it may not load with others."""
    return data / f"{kind}-sklearn-{version('scikit-learn')}-mlflow-{version('mlflow')}"


def make_model(data: Path, kind: Kind) -> Path:
    """Train and save a model, unless it is there."""
    return make_once(model_path(data, kind), lambda path: save_heart_model(path, kind=kind))


def make_workload(data: Path, workload: Workload) -> Path:
    """Write the files of a workload, unless they are there."""

    def write(folder: Path) -> None:
        folder.mkdir()
        for number in range(workload.files):
            write_heart_csv(folder / _file_name(number), workload.rows, seed=number + 1)

    path = workload.path(data)
    make_once(path if workload.files > 1 else path.parent, write)
    return path


def _file_name(number: int) -> str:
    return f"heart-{number:04}.csv"


def make_once(path: Path, write: Callable[[Path], object]) -> Path:
    """Write under another name first, so that what is there is whole."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.unfinished")
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        write(unfinished)
        unfinished.rename(path)
    return path


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in sys.argv[2:]:
        print(make_workload(Path(sys.argv[1]), WORKLOADS[name]))
