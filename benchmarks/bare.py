"""Print the seconds per row of bare `predict` on frames in memory: what no scoring run on one core can beat.

Usage: python -m benchmarks.bare MODEL INPUT_DIR_OR_FILE
"""

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow.pyfunc
import pandas as pd

FRAME_ROWS = 100_000
_FRAMES = 5
_AT_LEAST_S = 3.0


def main(url: str, path: str) -> None:
    """Predict frame after frame for some seconds and print the median."""
    model = mlflow.pyfunc.load_model(url)
    frames = list(_frames(Path(path)))
    model.predict(frames[0])
    per_row_s: list[float] = []
    took_s: list[float] = []
    while sum(took_s) < _AT_LEAST_S or len(took_s) < len(frames):
        frame = frames[len(took_s) % len(frames)]
        start = time.perf_counter()
        model.predict(frame)
        took_s.append(time.perf_counter() - start)
        per_row_s.append(took_s[-1] / len(frame))
    print(statistics.median(per_row_s))


def _frames(path: Path) -> Iterator[pd.DataFrame]:
    """Read the first rows of the input; those of many files together, as if they were one."""
    files = iter(sorted(path.glob("*.csv*")) if path.is_dir() else [path])
    rows, waiting = 0, []
    for file in files:
        for frame in pd.read_csv(file, chunksize=FRAME_ROWS):
            waiting.append(frame)
            if sum(map(len, waiting)) >= FRAME_ROWS:
                rows += sum(map(len, waiting))
                yield pd.concat(waiting, ignore_index=True)
                waiting = []
            if rows >= _FRAMES * FRAME_ROWS:
                return
    if waiting:
        yield pd.concat(waiting, ignore_index=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
