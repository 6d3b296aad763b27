import joblib
import utils

loaded = {}


def load():
    loaded["model"] = joblib.load(utils.only_file("AZUREML_MODEL_DIR"))


def model():
    return loaded["model"]
