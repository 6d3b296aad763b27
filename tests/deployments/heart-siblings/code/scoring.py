import pandas as pd
import runtime
import utils
from features import NAMES
from features.risk import age_group

assert __name__ != "__main__"


def init():
    runtime.load()


def run(mini_batch):
    frames = []
    for path in mini_batch:
        data = pd.read_csv(path)
        data["group"] = data["age"].map(age_group)
        data["prediction"] = runtime.model().predict(data[NAMES])
        frames.append(data.assign(file=utils.name_of(path)))
    return pd.concat(frames)[["file", "group", "prediction"]]
