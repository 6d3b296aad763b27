"""Score CSV files in one process, some rows at a time: the least memory that a plain loop needs.

Usage: python streaming.py MODEL INPUT_DIR_OR_FILE OUT_FOLDER
"""

import sys
from pathlib import Path

import mlflow.pyfunc
import pandas as pd

CHUNK_ROWS = 100_000


def main() -> None:
    """Read, score and write chunk after chunk."""
    url, source, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    model = mlflow.pyfunc.load_model(url)
    paths = sorted(source.glob("*.csv*")) if source.is_dir() else [source]
    out.mkdir()
    with open(out / "scores.csv", "w") as file:
        file.write("row,prediction,file\n")
        for path in paths:
            for frame in pd.read_csv(path, chunksize=CHUNK_ROWS):
                scored = pd.DataFrame({"row": frame.index, "prediction": model.predict(frame), "file": path.name})
                scored.to_csv(file, index=False, header=False)


if __name__ == "__main__":
    main()
