"""An MLflow model of any pyfunc flavor."""

from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.metadata import version
from io import StringIO
from typing import Any

import numpy.typing as npt
import pyarrow as pa

from scoring.enforcement import Conforming
from scoring.errors import InputError, ModelLoadError, ModelUseError, PredictionError
from scoring.own_modules import PACKAGES, UserModules
from scoring.specs import COLUMN_TYPES, ColumnSpec, ScorerSpec

METHODS = (
    "predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform",
)  # fmt: skip
_DTYPE_KINDS = {
    "int64": "long", "int32": "integer", "float64": "double", "float32": "float", "bool": "boolean",
    "str": "string", "object": "string",
}  # fmt: skip


class MlflowModel:
    """A model folder loaded by ``mlflow.pyfunc``.

    Raises:
        ModelLoadError: it cannot be loaded, lacks the method, or its signature cannot be read from CSV.
    """

    def __init__(self, spec: ScorerSpec) -> None:
        import mlflow.pyfunc

        self._around: AbstractContextManager[Any] = UserModules() if _brings_ours(spec.model_path) else nullcontext()
        try:
            # its warnings are of versions that differ, which the driver tells once; they take most of the time to load
            with self._around:
                self._model = mlflow.pyfunc.load_model(spec.model_path, suppress_warnings=True)
        except ModuleNotFoundError as error:
            raise ModelLoadError(_missing_module(spec.model_path, error)) from None
        except Exception as error:
            # whatever the model's code raises while it loads is the answer; scikit-learn says some of it in many lines
            last = traceback.extract_tb(error.__traceback__)[-1]
            reason = str(error).partition("\n")[0].rstrip(":")
            raise ModelLoadError(
                f"{spec.model_path}: the model cannot be loaded: {type(error).__name__}: {reason} "
                f"({os.path.basename(last.filename)}:{last.lineno}){_saved_with(spec.model_path)}"
            ) from error
        self._spec = spec
        self._limit_jobs(spec.threads)
        signature = self._model.metadata.signature
        self._inputs = None if signature is None else signature.inputs
        self._outputs = None if signature is None or spec.method != "predict" else signature.outputs
        self._kinds, self._kind_of_all = _output_kinds(self._outputs)
        self._params = self._typed_params()
        self.classes: tuple[str, ...] = ()
        self._method = self._bound_method()

    def columns(self, header: tuple[str, ...], sample: pa.Table | None) -> tuple[ColumnSpec, ...] | None:
        """Say which columns the model wants; see `Scorer.columns`."""
        wanted = self._signature_columns(header)
        if wanted is None and sample is not None:
            wanted = _inferred(sample)
        if wanted is None:
            return None
        given = dict(self._spec.types)
        unknown = sorted(set(given) - {column.name for column in wanted})
        if unknown:
            raise ModelUseError(
                f"--types names {', '.join(unknown)}, which the model does not read; it reads "
                + ", ".join(column.name for column in wanted)
            )
        return tuple(
            ColumnSpec(name=column.name, type=given.get(column.name, column.type), required=column.required)
            for column in wanted
        )

    def predict(self, rows: pa.Table | npt.NDArray[Any]) -> Any:
        """Predict for the rows of a table of the columns wanted, or for one image.

        Raises:
            PredictionError: the signature refuses them.
            InputError: it wants no image, or none of this shape.
        """
        from mlflow.exceptions import MlflowException

        data = self._tensors(_frame(rows)) if isinstance(rows, pa.Table) else self._image(rows)
        try:
            with self._around:
                return self._method(data)
        except MlflowException as error:
            if "Failed to enforce schema of data" not in str(error):
                raise
            # MLflow puts rows of the input before the reason
            reason = str(error).rpartition("Error: ")[2]
            raise PredictionError(f"the model's signature refuses the rows: {reason}") from None

    def kind(self, column: str) -> str | None:
        """Name the type by which an output column is written, where the signature has one."""
        return self._kinds.get(column, self._kind_of_all)

    def _signature_columns(self, header: tuple[str, ...]) -> tuple[ColumnSpec, ...] | None:
        schema = self._inputs
        if schema is None:
            return None
        if schema.is_tensor_spec():
            return self._tensor_columns(schema, header)
        columns = []
        if schema.has_input_names():
            names = schema.input_names()
        else:
            if not header:
                return None
            if len(header) < len(schema.inputs):
                raise ModelLoadError(
                    f"{self._spec.model_path}: the signature wants {len(schema.inputs)} columns, in order, "
                    f"and the first file has {len(header)}"
                )
            names = list(header[: len(schema.inputs)])
        for name, column in zip(names, schema.inputs, strict=True):
            type_name = getattr(column.type, "name", None)
            if type_name not in COLUMN_TYPES:
                raise ModelLoadError(
                    f"{self._spec.model_path}: column {name!r} of the signature is of type {column.type}, "
                    f"which a CSV file cannot hold (it can hold {', '.join(COLUMN_TYPES)})"
                )
            # MLflow before 2.10 knows the opposite only
            required = column.required if hasattr(column, "required") else not column.optional
            columns.append(ColumnSpec(name=name, type=type_name, required=required))
        return tuple(columns)

    def _tensor_columns(self, schema: Any, header: tuple[str, ...]) -> tuple[ColumnSpec, ...] | None:
        """Read a tensor of rows from all columns of the header, or named ones of a value a row from theirs."""
        tensors = schema.inputs
        types = [_DTYPE_KINDS.get(str(tensor.type)) for tensor in tensors]
        if all(tensor.name and tensor.shape in ((-1,), (-1, 1)) for tensor in tensors) and None not in types:
            return tuple(
                ColumnSpec(name=tensor.name, type=kind) for tensor, kind in zip(tensors, types, strict=True) if kind
            )
        if not header:
            # images have none, and may be what it wants
            return None
        kind = types[0]
        if len(tensors) > 1 or len(tensors[0].shape) != 2 or kind is None:
            raise ModelLoadError(
                f"{self._spec.model_path}: its signature wants {schema}, which rows of a CSV file cannot hold; "
                "save the model with a signature of columns"
            )
        width = tensors[0].shape[1]
        if width not in (-1, len(header)):
            raise ModelLoadError(
                f"{self._spec.model_path}: the signature wants rows of {width} values, "
                f"and the first file has {len(header)} columns"
            )
        return tuple(ColumnSpec(name=name, type=kind) for name in header)

    def _tensors(self, frame: Any) -> Any:
        """Give tensors as the signature says, where MLflow makes none of a frame itself."""
        if self._inputs is None or self._spec.method != "predict" or not self._inputs.is_tensor_spec():
            return frame
        first = self._inputs.inputs[0]
        if not first.name:
            return frame.to_numpy()
        if first.name not in frame:
            return {first.name: frame.to_numpy()}
        return {
            tensor.name: frame[tensor.name].to_numpy().reshape(-1, *tensor.shape[1:]) for tensor in self._inputs.inputs
        }

    def _image(self, image: npt.NDArray[Any]) -> Any:
        """Give an image as the tensor of the signature; without one as uint8, alone in its batch (contract 4.2)."""
        from scoring.images import as_tensor

        if self._inputs is None:
            return as_tensor(image, (1, *image.shape), "uint8")
        if not self._inputs.is_tensor_spec() or len(self._inputs.inputs) > 1:
            raise InputError(f"the model's signature wants {self._inputs}, which an image cannot be")
        (tensor,) = self._inputs.inputs
        array = as_tensor(image, tensor.shape, tensor.type)
        return {tensor.name: array} if tensor.name and self._spec.method == "predict" else array

    def _inner(self) -> Any:
        """Get at the model inside, of whatever flavor."""
        for name in ("unwrap_python_model", "get_raw_model"):
            try:
                return getattr(self._model, name)()
            except Exception:  # noqa: BLE001, S112 (MLflow's own refusals differ by flavor and version)
                continue
        wrapper = getattr(self._model, "_model_impl", self._model)
        # before MLflow 2.14 the wrapper of each flavor had a name of its own for it
        names = ("sklearn_model", "xgb_model", "lgb_model", "cb_model")
        return next((getattr(wrapper, name) for name in names if hasattr(wrapper, name)), wrapper)

    def _limit_jobs(self, threads: int) -> None:
        """Set every ``n_jobs`` of a scikit-learn model, for sums of many threads differ from run to run."""
        inner = self._inner()
        get_params = getattr(inner, "get_params", None)
        if not callable(get_params) or not callable(getattr(inner, "set_params", None)):
            return
        try:
            jobs = [name for name in get_params(deep=True) if name == "n_jobs" or name.endswith("__n_jobs")]
            inner.set_params(**dict.fromkeys(jobs, threads))
        except (TypeError, ValueError, AttributeError):
            # looks like scikit-learn and is not
            return

    def _typed_params(self) -> dict[str, Any] | None:
        if not self._spec.params:
            return None
        schema = getattr(self._model.metadata.signature, "params", None)
        known = {param.name: param for param in schema.params} if schema is not None else {}
        params: dict[str, Any] = {}
        for name, text in self._spec.params:
            if name not in known:
                offered = f"it takes {', '.join(known)}" if known else "its signature has none"
                raise ModelUseError(f"--param {name}: the model takes no such parameter; {offered}")
            params[name] = _param(known[name], text)
        return params

    def _bound_method(self) -> Callable[[Any], Any]:
        name = self._spec.method
        if name == "predict":
            return Conforming(self._model, self._params)
        inner = self._inner()
        method = getattr(inner, name, None)
        if not callable(method):
            offered = [known for known in METHODS if known == "predict" or callable(getattr(inner, known, None))]
            raise ModelUseError(
                f"--method {name}: {type(inner).__name__} has no such method; it has {', '.join(offered)}"
            )
        if self._params is not None:
            raise ModelUseError(f"--param goes with --method predict only, not with {name}")
        if name.startswith("predict"):
            self.classes = tuple(str(value) for value in getattr(inner, "classes_", ()))
        return method  # type: ignore[no-any-return]


def _param(param: Any, text: str) -> Any:
    """Read a parameter as its type says: text as it stands, all else as JSON, and Python's True and False.

    Raises:
        ModelLoadError: it is none of its type.
    """
    from mlflow.exceptions import MlflowException

    kind = param.dtype.name
    if param.shape is None and kind in ("string", "datetime", "binary"):
        value: Any = text
    else:
        try:
            value = {"True": True, "False": False}[text] if text in ("True", "False") else json.loads(text)
        except ValueError:
            raise ModelUseError(f"--param {param.name}={text}: not a {kind}, written as JSON") from None
    try:
        param.validate_param_spec(value, param)
    except MlflowException as error:
        raise ModelUseError(f"--param {param.name}={text}: {str(error).rpartition('error: ')[2]}") from None
    return value


def _frame(table: pa.Table) -> Any:
    """Make the frame that `pandas.read_csv` would, given the types."""
    import numpy as np
    import pandas as pd

    frame = table.to_pandas(use_threads=False)
    if int(pd.__version__.split(".", maxsplit=1)[0]) < 3:
        # text is objects there, and a missing one NaN, not None: encoders tell them apart
        for name in table.column_names:
            if table.schema.field(name).type == pa.string() and table[name].null_count:
                values = frame[name].to_numpy(dtype=object, copy=True)
                values[pd.isna(values)] = np.nan
                frame[name] = values
    return frame


def _brings_ours(model_path: str) -> bool:
    """Tell whether the code saved with a model has modules named as our packages are (design.md section 8)."""
    try:
        with open(os.path.join(model_path, "MLmodel"), encoding="utf-8") as source:
            folder = re.search(r"^ +code: *['\"]?([^'\"\n]+)", source.read(), re.MULTILINE)
        names = os.listdir(os.path.join(model_path, folder[1])) if folder is not None else []
    except OSError:
        return False
    return any(name.partition(".")[0] in PACKAGES for name in names)


def _saved_with(model_path: str) -> str:
    """Name the releases of MLflow and scikit-learn that a model was saved with, where others are installed."""
    with suppress(OSError):
        with open(os.path.join(model_path, "MLmodel"), encoding="utf-8") as source:
            text = source.read()
        apart = []
        for name, package in (("mlflow", "mlflow"), ("sklearn", "scikit-learn")):
            saved = re.search(rf"^ *{name}_version: *['\"]?([^'\"\n]+)", text, re.MULTILINE)
            if saved is not None and saved[1] != version(package):
                apart.append(f"{package} {saved[1]} (here is {version(package)})")
        if apart:
            return f"; it was saved with {' and '.join(apart)}: install what it was saved with"
    return ""


def _missing_module(model_path: str, error: ModuleNotFoundError) -> str:
    requirements = os.path.join(model_path, "requirements.txt")
    install = f"pip install -r {requirements}" if os.path.exists(requirements) else f"pip install {error.name}"
    return f"{model_path}: the model needs the module {error.name!r}, which is not installed here; {install}"


def _output_kinds(schema: Any) -> tuple[dict[str, str], str | None]:
    """Read the types of outputs off a signature: by name, and the one of all others."""
    if schema is None:
        return {}, None
    kinds: dict[str, str] = {}
    for spec in schema.inputs:
        kind = _DTYPE_KINDS.get(str(spec.type)) if schema.is_tensor_spec() else getattr(spec.type, "name", None)
        if kind is None:
            continue
        if spec.name is None:
            return {}, kind
        kinds[spec.name] = kind
    return kinds, None


def _inferred(sample: pa.Table) -> tuple[ColumnSpec, ...]:
    """Read the types of columns off rows: of text as pandas does, of others as they are stored."""
    import pandas as pd

    from scoring.parquet import column_type

    types = {field.name: column_type(field.type) for field in sample.schema}
    texts = [field.name for field in sample.schema if field.type == pa.string()]
    if texts:
        text = StringIO()
        sample.select(texts).to_pandas().to_csv(text, index=False)
        text.seek(0)
        frame = pd.read_csv(text)
        if len(frame.columns) != len(texts):
            raise InputError("the columns of the first file cannot be told apart; give the model a signature")
        kinds = {"i": "long", "u": "long", "f": "double", "b": "boolean"}
        types |= {name: kinds.get(dtype.kind, "string") for name, dtype in zip(texts, frame.dtypes, strict=True)}
    return tuple(ColumnSpec(name=name, type=kind) for name, kind in types.items())
