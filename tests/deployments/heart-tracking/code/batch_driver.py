import glob
import os

import joblib
import mlflow
import pandas as pd

FEATURES = ["age", "chol", "thalach", "oldpeak"]


def init():
    global model
    global files
    files = 0
    model_path = glob.glob(os.environ["AZUREML_MODEL_DIR"] + "/*/")[0]
    model = joblib.load(os.path.join(model_path, "model.joblib"))
    mlflow.log_param("depth", model.max_depth)


def run(mini_batch):
    global files
    results = []
    for path in mini_batch:
        data = pd.read_csv(path)
        results += [[os.path.basename(path), label] for label in model.predict(data[FEATURES])]
        files += 1
        mlflow.log_metric("rows", len(data), step=files)
    return pd.DataFrame(results)
