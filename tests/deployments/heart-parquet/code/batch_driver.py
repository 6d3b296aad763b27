import glob
import os
from pathlib import Path

import joblib
import pandas as pd

FEATURES = ["age", "chol", "thalach", "oldpeak"]


def init():
    global model
    global output_path
    output_path = os.environ["AZUREML_BI_OUTPUT_PATH"]
    model_path = glob.glob(os.environ["AZUREML_MODEL_DIR"] + "/*/")[0]
    model = joblib.load(os.path.join(model_path, "model.joblib"))


def run(mini_batch):
    for file_path in mini_batch:
        data = pd.read_csv(file_path)
        data["prediction"] = model.predict(data[FEATURES])
        data.to_parquet(os.path.join(output_path, Path(file_path).stem + ".parquet"), index=False)
    return mini_batch
