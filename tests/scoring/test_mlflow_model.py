"""Models of every flavor and signature: what they are read, given and asked."""

import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from packaging.version import Version
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from runtime import run
from scoring.demo import heart_frame, save_heart_model
from scoring.errors import ModelLoadError, PredictionError
from scoring.fields import ARROW_TYPES
from scoring.mlflow_model import MlflowModel
from scoring.specs import COLUMN_TYPES, ColumnSpec, ScorerSpec
from tests.old_releases import MLFLOW, SERIALIZATIONS, arrays, column, inner, save_code
from tests.thorough import THOROUGH

pytestmark = pytest.mark.filterwarnings("ignore:.*input example was not provided:UserWarning")

ROOT = Path(__file__).parents[2]
ECHO = Path(__file__).parents[1] / "echo_model.py"
SEEING = '''
import mlflow
import pandas as pd


class Seeing(mlflow.pyfunc.PythonModel):
    """Tells what it was called with."""

    def predict(self, context, model_input: pd.DataFrame, params=None):
        return [repr((model_input, params))]


mlflow.models.set_model(Seeing())
'''


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """The folder of a model of two numbers without a signature."""
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1, 0, 1, 0]})
    return saved(tmp_path_factory.mktemp("models") / "numbers", LinearRegression().fit(frame, frame["a"] * 2))


def saved(path, model, **options):
    """Save a scikit-learn model."""
    options = {"serialization_format": "cloudpickle", **options}
    mlflow.sklearn.save_model(model, path, pip_requirements=[], **options)
    return path


@pytest.fixture
def seeing(tmp_path_factory):
    """A function that saves a model which tells what it was called with, and loads it by its signature."""

    def save(inputs, offered=None, **options):
        folder = tmp_path_factory.mktemp("models")
        code = folder / "seeing.py"
        code.write_text(SEEING)
        signature = ModelSignature(inputs=Schema(inputs), params=offered)
        save_code(folder / "seeing", code, signature=signature)
        return MlflowModel(ScorerSpec(model_path=str(folder / "seeing"), **options))

    return save


def specs(**types):
    """Columns wanted, all of them required."""
    return tuple(ColumnSpec(name=name, type=kind) for name, kind in types.items())


# Signatures


def test_columns_of_a_signature(seeing):
    """Every type that a CSV file can hold is read as what it is, and optional columns are known as such."""
    inputs = [column(kind, f"the {kind}", required=kind != "datetime") for kind in COLUMN_TYPES]
    wanted = seeing(inputs).columns((), None)
    assert {kind.name for kind in DataType} == set(COLUMN_TYPES)
    assert [(column.name, column.type) for column in wanted] == [(f"the {kind}", kind) for kind in COLUMN_TYPES]
    assert [column.name for column in wanted if not column.required] == ["the datetime"]


@pytest.mark.parametrize("kind", COLUMN_TYPES)
def test_predict_gives_what_the_signature_allows(seeing, kind):
    """Values of each type, and missing ones where there can be some, pass the signature's own checks."""
    values = {"boolean": [True, False], "string": ["a", None], "binary": [b"a", None], "datetime": [0, None]}
    numbers = [1, 2] if kind in ("long", "integer") else [1.5, None]
    types = {**ARROW_TYPES, "float": pa.float32(), "binary": pa.binary()}
    table = pa.table({"c": pa.array(values.get(kind, numbers), types[kind])})
    (seen,) = seeing([column(kind, "c", required=False)]).predict(table)
    frame = table.to_pandas()
    assert seen == repr((frame.fillna(np.nan) if kind == "string" else frame, None))


def test_columns_without_names(seeing):
    """Columns that the signature does not name are the first ones of the header."""
    model = seeing([ColSpec("double"), ColSpec("long")])
    assert model.columns((), None) is None
    assert model.columns(("x", "y", "z"), None) == specs(x="double", y="long")
    with pytest.raises(ModelLoadError, match="the signature wants 2 columns, in order, and the first file has 1"):
        model.columns(("x",), None)


def test_columns_that_no_file_can_hold(seeing):
    """A signature of arrays is refused, and says so."""
    with pytest.raises(ModelLoadError, match="which rows of a CSV file cannot hold"):
        seeing([TensorSpec(np.dtype("float64"), (-1, 28, 28))]).columns(("a",), None)
    if not arrays("double"):
        pytest.skip("MLflow before 2.10 has no columns of arrays")
    with pytest.raises(ModelLoadError, match=r"column 'a' of the signature is of type Array\(double\)"):
        seeing(arrays("double", "a")).columns((), None)


TENSORS = {
    "rows": ([TensorSpec(np.dtype("float64"), (-1, 2))], "array([[1., 3.],\n       [2., 4.]])"),
    "rows of any width": ([TensorSpec(np.dtype("float64"), (-1, -1))], "array([[1., 3.],\n       [2., 4.]])"),
    "named rows": ([TensorSpec(np.dtype("float64"), (-1, 2), "x")], "{'x': array([[1., 3.],\n       [2., 4.]])}"),
    "a vector a column": (
        [TensorSpec(np.dtype("float64"), (-1,), name) for name in "ab"],
        "{'a': array([1., 2.]), 'b': array([3., 4.])}",
    ),
    "a column of one value a row": (
        [TensorSpec(np.dtype("float64"), (-1, 1), name) for name in "ab"],
        "{'a': array([[1.],\n       [2.]]), 'b': array([[3.],\n       [4.]])}",
    ),
}


@pytest.mark.parametrize(("inputs", "expected"), TENSORS.values(), ids=TENSORS.keys())
def test_predict_gives_tensors(seeing, inputs, expected):
    """A signature of tensors is read from the columns, and given as it says."""
    model = seeing(inputs)
    assert model.columns(("a", "b"), None) == specs(a="double", b="double")
    assert model.predict(pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0]})) == [f"({expected}, None)"]


def test_columns_of_a_tensor_of_another_width(seeing):
    """A file must have as many columns as the rows of a tensor have values."""
    model = seeing([TensorSpec(np.dtype("float32"), (-1, 3))])
    assert model.columns(("a", "b", "c"), None) == specs(a="float", b="float", c="float")
    with pytest.raises(ModelLoadError, match="wants rows of 3 values, and the first file has 2 columns"):
        model.columns(("a", "b"), None)


def test_columns_without_a_signature(numbers):
    """Without a signature the types are those that pandas finds in rows of text."""
    model = MlflowModel(ScorerSpec(model_path=str(numbers)))
    assert model.columns(("a", "b"), None) is None
    sample = {"l": ["1", "02"], "d": ["1.5", ""], "b": ["True", "false"], "s": ["1", "x"], "m": ["", "NA"]}
    found = model.columns(tuple(sample), pa.table(sample))
    assert found == specs(l="long", d="double", b="boolean", s="string", m="double")


def test_columns_with_types_by_option(seeing, numbers):
    """Types by option win over the signature and over what is found; a column that is not read is refused."""
    model = seeing([ColSpec("long", "a"), ColSpec("long", "b")], types=(("b", "double"),))
    assert model.columns((), None) == specs(a="long", b="double")
    model = MlflowModel(ScorerSpec(model_path=str(numbers), types=(("b", "double"), ("c", "long"))))
    with pytest.raises(ModelLoadError, match="--types names c, which the model does not read; it reads a, b"):
        model.columns(("a", "b"), pa.table({"a": ["1"], "b": ["2"]}))


def test_predict_refused_by_the_signature_shows_no_values(seeing):
    """Where MLflow refuses rows it quotes them; the error passes on the reason alone."""
    model = seeing([ColSpec("long", "a")], types=(("a", "double"),))
    with pytest.raises((PredictionError, MlflowException), match="Incompatible input types for column a") as raised:
        model.predict(pa.table({"a": [4711.5]}))
    assert "4711" not in str(raised.value)
    if isinstance(raised.value, MlflowException):
        assert Version("2.10") > MLFLOW, "it quotes rows, and so must not come as it is"
    else:
        assert "refuses the rows: " in str(raised.value)
        assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("outputs", "kinds"),
    [
        ([ColSpec("long")], ("long", "long")),
        ([ColSpec("double", "prediction"), ColSpec("string", "other")], ("double", "string")),
        ([TensorSpec(np.dtype("float32"), (-1,))], ("float", "float")),
        (arrays("double"), (None, None)),
        (None, (None, None)),
    ],
)
def test_kind_of_outputs(tmp_path, numbers, outputs, kinds):
    """The signature names the type of an output, by its name or of all; other methods have none."""
    model = mlflow.sklearn.load_model(numbers)
    signature = ModelSignature(inputs=Schema([ColSpec("double", "a")]), outputs=outputs and Schema(outputs))
    path = str(saved(tmp_path / "model", model, signature=signature))
    loaded = MlflowModel(ScorerSpec(model_path=path))
    assert (loaded.kind("prediction"), loaded.kind("other")) == kinds


# Options


PARAMS = ParamSchema(
    [
        ParamSpec("number", "long", 1),
        ParamSpec("text", "string", "a"),
        ParamSpec("flag", "boolean", default=False),
        ParamSpec("several", "double", [1.0], shape=(-1,)),
    ]
)


def test_params(seeing):
    """Parameters are given as the signature types them, beside the defaults of the others."""
    given = (("number", "7"), ("text", "007"), ("flag", "True"), ("several", "[1.5, 2]"))
    expected = "{'number': 7, 'text': '007', 'flag': True, 'several': [1.5, 2.0]}"
    assert expected in seeing([ColSpec("long", "a")], PARAMS, params=given).predict(pa.table({"a": [1]}))[0]
    model = seeing([ColSpec("long", "a")], PARAMS, params=(("text", "b"),))
    assert "{'text': 'b', 'number': 1, " in model.predict(pa.table({"a": [1]}))[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("number", "x"), "--param number=x: not a long"),
        (("number", "1.5"), "--param number=1.5: .*long"),
        (("several", "1"), "--param several=1: "),
        (("flag", "yes"), "--param flag=yes: not a boolean"),
        (("more", "1"), "--param more: the model takes no such parameter; it takes number, text, flag, several"),
    ],
)
def test_params_refused(seeing, given, message):
    """A parameter that is unknown or of another type is refused when the model is loaded."""
    with pytest.raises(ModelLoadError, match=message):
        seeing([ColSpec("long", "a")], PARAMS, params=(given,))


def test_params_without_any(numbers):
    """A model whose signature has no parameters takes none."""
    with pytest.raises(ModelLoadError, match="--param k: the model takes no such parameter; its signature has none"):
        MlflowModel(ScorerSpec(model_path=str(numbers), params=(("k", "1"),)))


def test_threads_of_every_part(tmp_path):
    """Every `n_jobs` inside a model is what a worker may use, for sums of many threads differ from run to run."""
    frame = pd.DataFrame({"a": [0.0, 1, 2, 3]})
    forest = RandomForestClassifier(n_estimators=3, n_jobs=-1).fit(frame, [0, 1, 0, 1])
    for number, model in enumerate([forest, make_pipeline(StandardScaler(), forest).fit(frame, [0, 1, 0, 1])]):
        loaded = MlflowModel(ScorerSpec(model_path=str(saved(tmp_path / str(number), model)), threads=2))
        raw = inner(loaded._model)  # noqa: SLF001 - nothing else tells
        assert {value for name, value in raw.get_params().items() if name.endswith("n_jobs")} == {2}


def test_method_of_the_model_inside(tmp_path):
    """Another method is called on the model inside; columns are named by its classes."""
    frame = pd.DataFrame({"a": [0.0, 1, 2, 3, 4, 5]})
    model = LogisticRegression().fit(frame, ["x", "y y", "x", "y y", "z", "z"])
    path = str(saved(tmp_path / "model", model))
    loaded = MlflowModel(ScorerSpec(model_path=path, method="predict_proba"))
    assert loaded.classes == ("x", "y y", "z")
    assert np.array_equal(loaded.predict(pa.table({"a": [1.0, 2.0]})), model.predict_proba(frame[1:3]))
    assert MlflowModel(ScorerSpec(model_path=path)).classes == ()
    assert MlflowModel(ScorerSpec(model_path=path, method="decision_function")).classes == ()


def test_method_that_is_not_there(numbers):
    """A method that the model inside does not have is refused, with those it has."""
    with pytest.raises(
        ModelLoadError, match="--method predict_proba: LinearRegression has no such method; it has predict"
    ):
        MlflowModel(ScorerSpec(model_path=str(numbers), method="predict_proba"))


# Loading


def test_module_that_is_missing(tmp_path, monkeypatch):
    """A model whose code needs what is not installed says what, and how to get it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "no_such_library.py").write_text("class Scaler:\n    def predict(self, frame):\n        return frame\n")
    from no_such_library import Scaler

    saved(tmp_path / "model", Scaler())
    (tmp_path / "no_such_library.py").unlink()
    monkeypatch.delitem(sys.modules, "no_such_library")
    with pytest.raises(ModelLoadError, match=r"needs the module 'no_such_library', .* pip install -r .*s.txt$"):
        MlflowModel(ScorerSpec(model_path=str(tmp_path / "model")))


def test_model_that_cannot_be_loaded(tmp_path, numbers):
    """Whatever goes wrong while a model is loaded is told with the model, the error and its place."""
    path = saved(tmp_path / "model", mlflow.sklearn.load_model(numbers))
    (path / "model.pkl").write_bytes(b"no pickle")
    with pytest.raises(ModelLoadError, match=r"model: the model cannot be loaded: UnpicklingError: .* \(.*\.py:\d+\)$"):
        MlflowModel(ScorerSpec(model_path=str(path)))


def test_code_with_modules_named_as_ours(tmp_path):
    """The code saved with a model may have a `scoring` or a `runtime` of its own; ours is in place afterwards."""
    for name in ("scoring", "runtime"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "readers.py").write_text(f"NAME = 'their {name}'\n")
    (tmp_path / "model.py").write_text(
        SEEING.replace("return [repr((model_input, params))]", "return [NAME + later()] * len(model_input)").replace(
            "import mlflow\n", "import mlflow\nfrom scoring.readers import NAME\n"
        )
        + "\n\ndef later():\n    from runtime.readers import NAME\n    return ', ' + NAME\n"
    )
    save = f"""
import sys; sys.path.insert(1, {str(ROOT)!r})
from tests.old_releases import save_code
save_code("saved", "model.py", code_paths=["scoring", "runtime"])
"""
    subprocess.run([sys.executable, "-c", save], cwd=tmp_path, check=True, capture_output=True)
    ours = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("scoring", "runtime")}
    path = list(sys.path)
    try:
        model = MlflowModel(ScorerSpec(model_path=str(tmp_path / "saved")))
        for _ in range(2):
            assert model.predict(pa.table({"a": [1, 2]})) == ["their scoring, their runtime"] * 2
    finally:
        sys.path[:] = path
    assert {name: sys.modules[name] for name in ours} == ours


@pytest.mark.parametrize("serialization", SERIALIZATIONS)
def test_predict_of_either_serialization(tmp_path, serialization):
    """Models saved by skops and by cloudpickle predict alike."""
    path = save_heart_model(tmp_path / "model", serialization=serialization)
    frame = heart_frame(50, seed=1)
    model = MlflowModel(ScorerSpec(model_path=str(path)))
    predictions = model.predict(pa.Table.from_pandas(frame, preserve_index=False))
    assert np.array_equal(predictions, mlflow.sklearn.load_model(path).predict(frame))


# Whole jobs


def test_python_model_without_a_signature(tmp_path):
    """A model of one's own is read by the first file's types; what no longer fits later goes to the quarantine."""
    save_code(tmp_path / "echo", ECHO)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("n,s\n1,a\n2,\n")
    (tmp_path / "in" / "b.csv").write_text("s,n,more\nb,3,?\nc,x,?\n")
    options = {"model": tmp_path / "echo", "engine": "inline", "chunk_rows": 9}
    receipt = run(input=tmp_path / "in", output=tmp_path / "out", **options)
    lines = Path(receipt.url).read_text().splitlines()
    assert [line.split(",")[0] + line.rsplit(",", 1)[1] for line in lines] == ["rowfile", "0a.csv", "1a.csv", "0b.csv"]
    assert all("n:int64 s:" in line for line in lines[1:])
    assert receipt.causes == {"n: not a long": 1}


def test_job_whose_columns_cannot_be_told(tmp_path, numbers):
    """Where neither signature nor input can tell the columns, the job stops before anything is scored."""
    (tmp_path / "in.csv").write_text("a,b\n1,2\n")
    options = {"model": numbers, "input": tmp_path / "in.csv", "output": tmp_path / "out", "engine": "inline"}
    with pytest.raises(ModelLoadError, match="--types names c, which the model does not read; it reads a, b"):
        run(**options, types={"c": "long"})
    assert not (tmp_path / "out" / "predictions.csv").exists()


REGISTER = """
import mlflow
from sklearn.dummy import DummyRegressor

for answer in (1.5, 3.0):
    with mlflow.start_run() as run:
        model = DummyRegressor(strategy="constant", constant=answer).fit([[0.0]], [0.0])
        options = {"name": "model"} if int(mlflow.__version__.split(".")[0]) > 2 else {"artifact_path": "model"}
        mlflow.sklearn.log_model(model, **options, registered_model_name="line", pip_requirements=[])
print(run.info.run_id)
"""


@pytest.mark.skipif(not THOROUGH, reason="make thorough: tests/runtime/test_model.py shows nearly the same")
def test_models_of_a_registry(tmp_path, monkeypatch):
    """A model is fetched by name and version, and from a run, with the caller's MLFLOW variables."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    made = subprocess.run([sys.executable, "-c", REGISTER], cwd=tmp_path, check=True, capture_output=True, text=True)
    run_id = made.stdout.split()[-1]
    (tmp_path / "in.csv").write_text("a\n1.5\n")
    expected = {"models:/line/1": "1.5", f"runs:/{run_id}/model": "3.0"}
    for number, (uri, prediction) in enumerate(expected.items()):
        receipt = run(model=uri, input=tmp_path / "in.csv", output=tmp_path / f"{number}", engine="inline")
        assert Path(receipt.url).read_text() == f"row,prediction,file\n0,{prediction},in.csv\n"
        assert receipt.content["model"]["uri"] == uri
    with pytest.raises(ModelLoadError, match="models:/line/3: the model cannot be fetched: "):
        run(model="models:/line/3", input=tmp_path / "in.csv", output=tmp_path / "3", engine="inline")
