"""Score one CSV file with a plain script: load, read, predict, write.

Usage: python plain_script.py MODEL INPUT.csv OUT_FOLDER
"""

import sys
from pathlib import Path

import mlflow.pyfunc
import pandas as pd

url, source, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
model = mlflow.pyfunc.load_model(url)
frame = pd.read_csv(source)
scored = pd.DataFrame({"row": range(len(frame)), "prediction": model.predict(frame), "file": source.name})
out.mkdir()
scored.to_csv(out / "scores.csv", index=False)
