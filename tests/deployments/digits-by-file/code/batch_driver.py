import os
from os.path import basename

import joblib
import numpy as np
import pandas as pd
from PIL import Image


def init():
    global model
    model = joblib.load(os.path.join(os.environ["AZUREML_MODEL_DIR"], "digits-classifier", "knn.joblib"))


def run(mini_batch):
    results = []
    for image in mini_batch:
        pixels = np.array(Image.open(image).convert("L"), dtype=float)
        probabilities = model.predict_proba(pixels.reshape(1, -1))[0]
        results.append([basename(image), int(probabilities.argmax()), probabilities.max()])
    return pd.DataFrame(results, columns=["file", "class", "probability"])
