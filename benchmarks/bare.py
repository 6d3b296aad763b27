"""Print the seconds per row of bare `predict` on frames in memory: what no scoring run on one core can beat.

Usage: python -m benchmarks.bare MODEL INPUT.csv
"""

import statistics
import sys
import time

import mlflow.pyfunc
import pandas as pd

FRAME_ROWS = 100_000
_FRAMES = 5
_AT_LEAST_S = 3.0


def main(url: str, path: str) -> None:
    """Predict frame after frame for some seconds and print the median."""
    model = mlflow.pyfunc.load_model(url)
    frames = list(pd.read_csv(path, chunksize=FRAME_ROWS, nrows=_FRAMES * FRAME_ROWS))
    model.predict(frames[0])
    took_s: list[float] = []
    while sum(took_s) < _AT_LEAST_S or len(took_s) < len(frames):
        frame = frames[len(took_s) % len(frames)]
        start = time.perf_counter()
        model.predict(frame)
        took_s.append(time.perf_counter() - start)
    print(statistics.median(took_s) / FRAME_ROWS)


if __name__ == "__main__":
    main(*sys.argv[1:])
