"""Make the benchmark data and models once, under names that say what is in them.

Usage: python -m benchmarks.workloads DIR NAME...
"""

import gzip
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

from benchmarks.models import ModelKind, save_model, write_notes_csv, write_wide_csv
from scoring.demo import write_heart_csv

Shape = Literal["heart", "notes", "wide"]
_WRITERS: dict[Shape, Callable[..., None]] = {
    "heart": write_heart_csv,
    "notes": write_notes_csv,
    "wide": write_wide_csv,
}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Input files of one shape.

    Attributes:
        files: how many.
        rows: of each file.
        first_rows: of the first file, where it has more than the others.
        shape: the columns: those of the heart data, those and a quoted text with newlines, or 600 numbers.
        zipped: whether the files are gz.
    """

    files: int
    rows: int
    first_rows: int = 0
    shape: Shape = "heart"
    zipped: bool = False

    @property
    def all_rows(self) -> int:
        """Say how many rows there are in all files."""
        return (self.first_rows or self.rows) + (self.files - 1) * self.rows

    @property
    def described(self) -> str:
        """Say how many rows in how many files."""
        if self.first_rows:
            return f"{self.first_rows:,} rows and {self.files - 1} x {self.rows:,} rows"
        return f"{self.files:,} x {self.rows:,} rows" if self.files > 1 else f"{self.rows:,} rows"

    def path(self, data: Path) -> Path:
        """Return the folder of the files, or the file where there is one."""
        first = f"-first-{self.first_rows}" if self.first_rows else ""
        folder = data / f"{self.shape}-{self.files}x{self.rows}{first}{'-gz' if self.zipped else ''}"
        return folder if self.files > 1 else folder / self.file_name(0)

    def size_bytes(self, data: Path) -> int:
        """Return the bytes of all files."""
        path = self.path(data)
        files = path.glob(f"{self.shape}-*.csv*") if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files)

    def file_name(self, number: int) -> str:
        """Return the name of a file."""
        return f"{self.shape}-{number:04}.csv{'.gz' if self.zipped else ''}"


WORKLOADS = {
    "many_small": Workload(files=2_000, rows=100),
    "many_big": Workload(files=100, rows=100_000),
    "one_big": Workload(files=1, rows=4_000_000),
    "huge": Workload(files=1, rows=16_000_000),
    "million": Workload(files=1, rows=1_000_000),
    "quoted": Workload(files=20, rows=50_000, shape="notes"),
    "wide": Workload(files=4, rows=10_000, shape="wide"),
    "gz": Workload(files=20, rows=100_000, zipped=True),
    "heavy": Workload(files=20, rows=50_000),
    "tiny": Workload(files=1, rows=10),
    "skewed": Workload(files=21, rows=10_000, first_rows=1_800_000),
    "two_million": Workload(files=1, rows=2_000_000),
}
QUICK_WORKLOADS = {
    "many_small": Workload(files=200, rows=100),
    "many_big": Workload(files=10, rows=100_000),
    "one_big": Workload(files=1, rows=500_000),
    "huge": Workload(files=1, rows=1_000_000),
    "million": Workload(files=1, rows=500_000),
    "quoted": Workload(files=4, rows=10_000, shape="notes"),
    "wide": Workload(files=4, rows=1_000, shape="wide"),
    "gz": Workload(files=4, rows=50_000, zipped=True),
    "heavy": Workload(files=4, rows=10_000),
    "tiny": Workload(files=1, rows=10),
    "skewed": Workload(files=5, rows=1_000, first_rows=90_000),
    "two_million": Workload(files=1, rows=500_000),
}


def model_path(data: Path, kind: ModelKind) -> Path:
    """Return the folder of a model; its name holds the versions it was saved with, as it may not load with others."""
    return data / f"{kind}-sklearn-{version('scikit-learn')}-mlflow-{version('mlflow')}"


def make_model(data: Path, kind: ModelKind) -> Path:
    """Train and save a model, unless it is there."""
    return make_once(model_path(data, kind), lambda path: save_model(path, kind))


def make_workload(data: Path, workload: Workload) -> Path:
    """Write the files of a workload, unless they are there."""

    def write(folder: Path) -> None:
        folder.mkdir()
        for number in range(workload.files):
            path = folder / workload.file_name(number).removesuffix(".gz")
            rows = workload.rows if number else workload.first_rows or workload.rows
            _WRITERS[workload.shape](path, rows, seed=number + 1)
            if workload.zipped:
                _zip(path)

    path = workload.path(data)
    make_once(path if workload.files > 1 else path.parent, write)
    return path


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


def _zip(path: Path) -> None:
    with path.open("rb") as plain, gzip.open(f"{path}.gz", "wb", compresslevel=6) as zipped:
        shutil.copyfileobj(plain, zipped, 2**20)
    path.unlink()


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in sys.argv[2:]:
        if name in get_args(ModelKind):
            print(make_model(Path(sys.argv[1]), name))  # type: ignore[arg-type]
        if name in WORKLOADS:
            print(make_workload(Path(sys.argv[1]), WORKLOADS[name]))
