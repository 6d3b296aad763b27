import os

import joblib
import pandas as pd

FEATURES = ["age", "chol", "thalach", "oldpeak"]


def init():
    global model
    model = joblib.load(os.path.join(os.environ["AZUREML_MODEL_DIR"], "heart.joblib"))


def run(mini_batch):
    data = pd.concat([pd.read_csv(path).assign(file=os.path.basename(path)) for path in mini_batch])
    data["prediction"] = model.predict(data[FEATURES])
    return data[["prediction", "file"]]
