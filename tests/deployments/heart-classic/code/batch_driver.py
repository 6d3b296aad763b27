import os
from pathlib import Path

import joblib
import pandas as pd

FEATURES = ["age", "chol", "thalach", "oldpeak"]


def init():
    global model
    model = joblib.load(next(Path(os.environ["AZUREML_MODEL_DIR"]).glob("**/*.joblib")))


def run(mini_batch):
    resultList = []  # noqa: N806 (as users write)
    for path in mini_batch:
        positive = model.predict_proba(pd.read_csv(path)[FEATURES])[:, 1] > float(os.environ["CUTOFF"])
        resultList.append(f"{os.path.basename(path)}: {positive.sum()} of {len(positive)}")
    return resultList
