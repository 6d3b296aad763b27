"""The sample data and the sample models, as newcomers, tests and benchmarks get them."""

import subprocess
import sys
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from scoring.demo import COLUMNS, heart_frame, heart_target, main, save_heart_model, write_heart_csv
from tests.old_releases import SERIALIZATIONS, inner

REPOSITORY = Path(__file__).parents[2]


def test_frame_has_the_heart_schema():
    """Numbers are long but for oldpeak, thal is text with five values, and each is in its range."""
    frame = heart_frame(20_000)
    types = {str(frame[name].dtype) for name in COLUMNS if name not in ("oldpeak", "thal")}
    assert (list(frame.columns), len(frame)) == (COLUMNS, 20_000)
    assert ({"int64"}, "float64") == (types, str(frame["oldpeak"].dtype))
    assert {"normal", "fixed", "reversible", "1", "2"} == set(frame["thal"])
    assert frame["age"].between(29, 77).all()
    assert frame["thalach"].between(71, 202).all()
    assert frame["slope"].between(1, 3).all()
    assert frame["oldpeak"].between(0, 6.2).all()
    assert not frame.isna().any().any()


def test_no_rows_is_an_empty_frame_of_the_same_columns():
    """A frame of no rows still has the schema."""
    assert_frame_equal(heart_frame(5).iloc[:0], heart_frame(0))


def test_target_has_both_classes():
    """Neither the sick nor the healthy are rare."""
    assert 0.3 < heart_target(heart_frame(5_000)).mean() < 0.7


def test_csv_reads_back_as_the_frame(tmp_path):
    """The file holds what `heart_frame` returns, across the blocks it is written in."""
    write_heart_csv(tmp_path / "heart.csv", 250_010, seed=3)
    assert_frame_equal(heart_frame(250_010, seed=3), pd.read_csv(tmp_path / "heart.csv"))


def test_csv_follows_from_its_seed(tmp_path):
    """The same seed writes the same bytes, another seed others; without a header only the first line goes."""
    for name, options in {"a": {}, "b": {}, "c": {"seed": 1}, "d": {"header": False}}.items():
        write_heart_csv(tmp_path / name, 1_000, **options)
    a, b, c, d = ((tmp_path / name).read_bytes() for name in "abcd")
    assert a == b
    assert a != c
    assert a.split(b"\n", 1) == [",".join(COLUMNS).encode(), d]


@pytest.mark.parametrize("serialization", SERIALIZATIONS)
@pytest.mark.parametrize("kind", ["logistic", "forest"])
def test_model_predicts_what_it_learned(tmp_path, kind, serialization):
    """A saved model loads through pyfunc with its signature and beats guessing by far."""
    model = mlflow.pyfunc.load_model(str(save_heart_model(tmp_path / "model", kind=kind, serialization=serialization)))
    frame = heart_frame(2_000, seed=9)
    predicted = model.predict(frame)
    assert model.metadata.get_input_schema().input_names() == COLUMNS
    assert str(predicted.dtype) == "int64"
    assert (predicted == heart_target(frame)).mean() > 0.75


@pytest.mark.parametrize("serialization", SERIALIZATIONS)
def test_gradient_boosting_model_has_300_rounds(tmp_path, serialization):
    """The model that the benchmarks call slow loads in both forms, with every round."""
    path = save_heart_model(tmp_path / "model", kind="gradient_boosting", serialization=serialization)
    model = mlflow.pyfunc.load_model(str(path))
    assert inner(model).named_steps["estimator"].n_iter_ == 300
    assert {0, 1} == set(model.predict(heart_frame(100)))


def test_model_follows_from_its_seed(tmp_path):
    """Two models of one seed predict the same."""
    frame = heart_frame(500, seed=4)
    first, second = (mlflow.pyfunc.load_model(str(save_heart_model(tmp_path / name))) for name in "ab")
    assert (first.predict(frame) == second.predict(frame)).all()


def test_command_writes_model_and_files_quietly(tmp_path):
    """The command writes what `scoreline demo` needs and prints nothing."""
    command = [sys.executable, "-m", "scoring.demo", str(tmp_path), "--files", "2", "--rows", "50"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    files = sorted(path.name for path in (tmp_path / "heart-data").iterdir())
    assert files == ["heart-000.csv", "heart-001.csv"]
    assert len(pd.read_csv(tmp_path / "heart-data" / "heart-001.csv")) == 50
    assert (tmp_path / "heart-model" / "MLmodel").is_file()


def test_command_again_keeps_the_model(tmp_path):
    """A second run writes the same files and leaves the model alone."""
    main([str(tmp_path), "--files", "1", "--rows", "10"])
    saved = (tmp_path / "heart-model" / "MLmodel").stat().st_mtime_ns
    main([str(tmp_path), "--files", "1", "--rows", "10"])
    assert saved == (tmp_path / "heart-model" / "MLmodel").stat().st_mtime_ns
