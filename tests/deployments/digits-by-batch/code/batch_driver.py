import os
from os.path import basename

import joblib
import numpy as np
from PIL import Image


def init():
    global model
    model = joblib.load(os.path.join(os.environ["AZUREML_MODEL_DIR"], "digits-classifier", "knn.joblib"))


def run(mini_batch):
    images = np.stack([np.array(Image.open(image).convert("L"), dtype=float).ravel() for image in mini_batch])
    probabilities = model.predict_proba(images)
    classes = probabilities.argmax(axis=1).tolist()
    return list(zip(map(basename, mini_batch), classes, probabilities.max(axis=1).tolist(), strict=True))
