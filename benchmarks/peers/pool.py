"""Score a folder of CSV files the way people do today: a pool of processes over files.

Usage: python pool.py MODEL INPUT_DIR_OR_FILE OUT_FOLDER WORKERS
"""

import sys
from multiprocessing import Pool
from pathlib import Path

import mlflow.pyfunc
import pandas as pd

model: mlflow.pyfunc.PyFuncModel


def load(url: str) -> None:
    """Load the model, once in each process."""
    global model  # noqa: PLW0603 - as people write it
    model = mlflow.pyfunc.load_model(url)


def score(path: Path) -> str:
    """Score one file and return the lines to write."""
    frame = pd.read_csv(path)
    scored = pd.DataFrame({"row": range(len(frame)), "prediction": model.predict(frame), "file": path.name})
    return scored.to_csv(index=False, header=False)


def main() -> None:
    """Spread the files over the processes and write what they return, in order."""
    url, source, out, workers = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    paths = sorted(source.glob("*.csv*")) if source.is_dir() else [source]
    out.mkdir()
    with Pool(workers, initializer=load, initargs=(url,)) as pool, open(out / "scores.csv", "w") as file:
        file.write("row,prediction,file\n")
        file.writelines(pool.imap(score, paths))


if __name__ == "__main__":
    main()
