import glob
import os

import joblib
import pandas as pd

FEATURES = ["age", "chol", "thalach", "oldpeak"]


def init():
    global model
    model_path = glob.glob(os.environ["AZUREML_MODEL_DIR"] + "/*/")[0]
    model = joblib.load(os.path.join(model_path, "model.joblib"))


def run(mini_batch):
    print(f"run method start: {__file__}, run({mini_batch})")
    results = []
    for path in mini_batch:
        data = pd.read_csv(path)
        data["file"] = os.path.basename(path)
        data["probability"] = model.predict_proba(data[FEATURES])[:, 1].round(3)
        data["finding"] = (data["probability"] > 0.5).map({True: "heart disease", False: "none"})
        data.loc[data["probability"].between(0.4, 0.6), "finding"] = None
        results.append(data)
    return pd.concat(results)[["file", "age", "oldpeak", "probability", "finding"]]
