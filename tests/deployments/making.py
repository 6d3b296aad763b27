"""Make the models and the data of the deployments; all of it follows from arithmetic, on any machine."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tests.old_releases import save_code

NUMBERS = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca")
FEATURES = ("age", "chol", "thalach", "oldpeak")
CLINICS = ("clinic-1.csv", "clinic-2.csv", "clinic-3.csv", "clinic-4.csv", "clinic five.csv")
TEXTS = {
    "a.txt": "one",
    "b.txt": "two words",
    "c.txt": "a longer text, with a comma",
    "d.txt": "ünïcode, and\nanother line",
    "e.txt": "",
}
DIGITS = range(1_000, 1_012)
SHADES = 15
"""A digit has 16 shades of grey, an image 256."""


def patient(number: int) -> list[str]:
    """Make up one row in the columns of the heart data set."""
    age, chol = 29 + number * 37 % 49, 126 + number * 101 % 300
    thalach, oldpeak = 71 + number * 53 % 131, number * 7 % 63
    return [
        *map(str, (age, number % 2, 1 + number % 4, 94 + number * 29 % 107, chol, int(number % 7 == 0), number % 3)),
        *map(str, (thalach, int(number % 5 == 0), oldpeak / 10, 1 + number % 3, number % 4)),
        ("normal", "fixed", "reversible")[number % 3],
    ]


def write_patients(path: Path, first: int, rows: int) -> None:
    """Write a CSV file of patients."""
    lines = [",".join((*NUMBERS, "thal")), *(",".join(patient(number)) for number in range(first, first + rows))]
    path.write_text("\n".join(lines) + "\n")


def write_clinics(folder: Path) -> None:
    """Write a file for each clinic, with one to five patients."""
    folder.mkdir(parents=True)
    for place, name in enumerate(CLINICS):
        write_patients(folder / name, 100 * place, place + 1)


def write_texts(folder: Path) -> None:
    """Write a few texts."""
    folder.mkdir(parents=True)
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")


def write_digits(folder: Path, mode: str) -> None:
    """Write some of the digits that scikit-learn brings as images, grey (L) or in colours (RGB)."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder.mkdir(parents=True)
    digits = load_digits()
    for number in DIGITS:
        pixels = (digits.images[number] * SHADES).astype(np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{number}-is-{digits.target[number]}.png")


def save_heart_classifier(file: Path) -> None:
    """Train a small tree, and save it as a file of its own."""
    import joblib
    import pandas as pd
    from sklearn.tree import DecisionTreeClassifier

    frame = pd.DataFrame([patient(number) for number in range(500)], columns=[*NUMBERS, "thal"])[[*FEATURES]]
    frame = frame.astype(float)
    target = (frame["age"] + frame["chol"] / 10 + frame["oldpeak"] * 6 - frame["thalach"] / 4 > 62).astype(int)
    file.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(DecisionTreeClassifier(max_depth=3, random_state=0).fit(frame, target), file)


def save_digits_classifier(file: Path) -> None:
    """Let five neighbours tell a digit: whole numbers throughout, so that no machine says otherwise."""
    import joblib
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    digits = load_digits()
    pixels = digits.data[:400] * SHADES
    file.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(KNeighborsClassifier(5, algorithm="brute").fit(pixels, digits.target[:400]), file)


def save_digits_model(folder: Path, classifier: Path) -> None:
    """Save an MLflow model of colour images, with a tensor in its signature."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    outputs: Sequence[ColSpec] = [ColSpec(DataType.long, "digit"), ColSpec(DataType.double, "probability")]
    with warnings.catch_warnings():
        # advice on type hints
        warnings.simplefilter("ignore", UserWarning)
        save_code(
            folder,
            Path(__file__).with_name("digits_model.py"),
            artifacts={"classifier": str(classifier)},
            signature=ModelSignature(
                inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))]), outputs=Schema([*outputs])
            ),
        )
