"""Score lines: the bytes of each format, for each form that a model's answer takes."""

import datetime as dt
import json
import math
from collections import Counter
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.columns import prediction_columns
from scoring.json_lines import json_fields
from scoring.lines import score_lines
from scoring.readers import CellInput
from scoring.rows import Dialect
from scoring.specs import ReadPlan
from scoring.text import value_texts

ROWS = 3


def cell(*counts, keep=()):
    """A cell as read: rows of these files."""
    rows = np.concatenate([np.arange(count) for _, count in counts])
    texts = [pa.array(column, pa.string()) for column in keep]
    return CellInput(rows=rows, counts=list(counts), keep=texts, causes=Counter())


def lines_of(predictions, output_format, *, read=None, keep=(), kind=None, file_names="path"):
    """The bytes of a cell."""
    read = read or cell(("sub/a b.csv", ROWS))
    plan = ReadPlan(columns=(), dialect=Dialect(), keep=keep, output_format=output_format, file_names=file_names)
    columns = prediction_columns(predictions, len(read.rows))
    return bytes(score_lines(read, columns, lambda _: kind, plan)).decode()


GOLDEN = {
    "one dimension": (
        np.array([0.1, 1.0, np.nan]),
        "0,0.1,FILE\n1,1.0,FILE\n2,,FILE\n",
        ['"prediction": 0.1', '"prediction": 1.0', '"prediction": null'],
    ),
    "single precision": (
        np.array([0.1, 1e-5, np.inf], np.float32),
        "0,0.1,FILE\n1,1e-05,FILE\n2,inf,FILE\n",
        ['"prediction": 0.1', '"prediction": 1e-05', '"prediction": null'],
    ),
    "labels": (
        np.array(["a", "b,c", 'd "e"']),
        '0,a,FILE\n1,"b,c",FILE\n2,"d ""e""",FILE\n',
        ['"prediction": "a"', '"prediction": "b,c"', '"prediction": "d \\"e\\""'],
    ),
    "integers in a Series": (
        pd.Series([1, 2, 3]),
        "0,1,FILE\n1,2,FILE\n2,3,FILE\n",
        ['"prediction": 1', '"prediction": 2', '"prediction": 3'],
    ),
    "two dimensions": (
        np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]]),
        "0,0.25,0.75,FILE\n1,1.0,0.0,FILE\n2,0.5,0.5,FILE\n",
        [
            '"prediction_0": 0.25, "prediction_1": 0.75', '"prediction_0": 1.0, "prediction_1": 0.0',
            '"prediction_0": 0.5, "prediction_1": 0.5',
        ],
    ),
    "a DataFrame": (
        pd.DataFrame({"preds": [True, False, True], "labels": ["x", None, "z"]}),
        "0,True,x,FILE\n1,False,,FILE\n2,True,z,FILE\n",
        ['"preds": true, "labels": "x"', '"preds": false, "labels": null', '"preds": true, "labels": "z"'],
    ),
    "nested values": (
        [[1, 2.5], {"box": np.array([1, 2]), "score": np.float64(0.5)}, []],
        '0,"[1, 2.5]",FILE\n1,"{\'box\': [1, 2], \'score\': 0.5}",FILE\n2,[],FILE\n',
        ['"prediction": [1, 2.5]', '"prediction": {"box": [1, 2], "score": 0.5}', '"prediction": []'],
    ),
    "dicts of columns": (
        {"a": [1, 2, 3], "b": [None, math.inf, -0.0]},
        "0,1,,FILE\n1,2,inf,FILE\n2,3,-0.0,FILE\n",
        ['"a": 1, "b": null', '"a": 2, "b": null', '"a": 3, "b": -0.0'],
    ),
    "moments": (
        pd.Series(pd.to_datetime(["2024-02-29T00:00:00.0", "2024-02-29T12:30:00.5", None])),
        "0,2024-02-29 00:00:00,FILE\n1,2024-02-29 12:30:00.500000,FILE\n2,,FILE\n",
        ['"prediction": "2024-02-29 00:00:00"', '"prediction": "2024-02-29 12:30:00.500000"', '"prediction": null'],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("predictions", "csv", "values"), GOLDEN.values(), ids=GOLDEN.keys())
def test_lines(predictions, csv, values):
    """Row, predictions and file; the path in CSV, the basename as Azure ML has it, objects in JSON (contract 4.3)."""
    assert lines_of(predictions, "csv") == csv.replace("FILE", "sub/a b.csv")
    assert lines_of(predictions, "azureml") == csv.replace("FILE", "a b.csv")
    assert lines_of(predictions, "jsonl") == "".join(
        f'{{"row": {row}, {value}, "file": "sub/a b.csv"}}\n' for row, value in enumerate(values)
    )
    for line in lines_of(predictions, "jsonl").splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_lines_equal_those_of_pandas():
    """A table is written as `DataFrame.to_csv` does without header and index."""
    frame = pd.DataFrame({"preds": [0.1, 1e-7, 3.0], "labels": ["a", 'b "c"', "d\ne"], "lists": [[1, 2], ["a"], {}]})
    expected = frame.assign(file="a b.csv").to_csv(header=False, index=True)
    assert lines_of(frame, "azureml") == expected


def test_rows_of_many_files():
    """Rows are numbered in their file, and each has the name of its own."""
    read = cell(("x/a.csv", 2), ("y/a.csv", 1), keep=[["k", "", 'q"']])
    options = {"read": read, "keep": ("note",)}
    predictions = np.array([1, 2, 3])
    assert lines_of(predictions, "csv", **options) == '0,k,1,x/a.csv\n1,,2,x/a.csv\n0,"q""",3,y/a.csv\n'
    assert (
        lines_of(predictions, "csv", **options, file_names="basename") == '0,k,1,a.csv\n1,,2,a.csv\n0,"q""",3,a.csv\n'
    )
    assert lines_of(predictions, "azureml", **options) == '0,k,1,a.csv\n1,,2,a.csv\n0,"q""",3,a.csv\n'
    assert lines_of(predictions, "jsonl", **options, file_names="basename") == (
        '{"row": 0, "note": "k", "prediction": 1, "file": "a.csv"}\n'
        '{"row": 1, "note": "", "prediction": 2, "file": "a.csv"}\n'
        '{"row": 0, "note": "q\\"", "prediction": 3, "file": "a.csv"}\n'
    )


def test_lines_follow_the_kind_of_the_signature():
    """Numbers of JSON are written by the type that the signature names, as in CSV."""
    assert lines_of(np.array([1.0, 2.5, 3.0]), "jsonl", kind="long").count('"prediction": 1,') == 1
    assert lines_of(np.array([1, 2, 3]), "jsonl", kind="double").count('"prediction": 1.0,') == 1


def test_names_that_are_no_text():
    """A file name of odd bytes, and a column of odd letters, are spelled with escapes; JSON stays JSON."""
    read = cell(("\udcff.csv", 1))
    line = lines_of({'a"\ud800': ["\udcff"]}, "jsonl", read=read)
    assert json.loads(line) == {"row": 0, 'a"\\ud800': "\\udcff", "file": "\\xff.csv"}


ODD = [
    (None, None), (pd.NA, None), (pd.NaT, None), (math.nan, None), (np.float32(math.inf), None), (Decimal("NaN"), None),
    (True, True), (np.bool_(False), False), (10**30, 10**30), (np.int8(-3), -3), (np.float32(0.1), 0.1), (0.1, 0.1),
    ("", ""), ("NaN", "NaN"), ("\u2028\x00\\", "\u2028\x00\\"), (b"\xff", "\\xff"), (b"", ""),
    (Decimal("1.50"), "1.50"),
    (dt.date(2024, 2, 29), "2024-02-29"), (np.datetime64("2024-02-29", "ns"), "2024-02-29 00:00:00"),
    (np.timedelta64("NaT"), None), (pd.Timedelta(days=1), "1 days 00:00:00"), (np.array(7), 7),
    ((1, [math.nan, {1: None, "k": {2}}]), [1, [None, {"1": None, "k": "{2}"}]]),
    (np.array([[1.0, math.inf]]), [[1.0, None]]),
    ({"t": np.datetime64("2024-02-29", "ns")}, {"t": "2024-02-29 00:00:00"}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), ODD, ids=[repr(value) for value, _ in ODD])
def test_json_of_any_value(value, expected):
    """Numbers are numbers, missing and infinite ones null, all else text, inside lists and dicts too."""
    values = np.empty(2, object)
    values[0] = value
    values[1] = "x"
    for column in (values, [value, "x"], [value, {}]):
        assert json.loads(json_fields(column)[0].as_py()) == expected


COLUMNS = {
    "masked integers": (pd.array([1, None], "Int64"), [1, None]),
    "masked floats": (pd.array([1.5, None], "Float32"), [1.5, None]),
    "masked booleans": (pd.array([True, None], "boolean"), [True, None]),
    "pandas strings": (pd.array(["a", None], "string"), ["a", None]),
    "pandas' own strings": (pd.Series(["a", None], dtype="str").array, ["a", None]),
    "categories": (pd.Categorical(["a", None]), ["a", None]),
    "arrow integers": (pd.array([1, None], pd.ArrowDtype(pa.int64())), [1, None]),
    "zoned moments": (pd.array(pd.to_datetime(["2024-02-29", None], utc=True)), ["2024-02-29 00:00:00+00:00", None]),
    "an arrow column": (pa.array([1, None]), [1, None]),
    "an arrow column of chunks": (pa.chunked_array([["a"], [None]]), ["a", None]),
    "booleans": (np.array([True, False]), [True, False]),
    "half precision": (np.array([0.1, np.nan], np.float16), [0.1, None]),
    "long doubles": (np.array([0.5, np.nan], np.longdouble), [0.5, None]),
    "complex numbers": (np.array([1j, 2]), ["1j", "(2+0j)"]),
    "objects": (np.array([1, None], object), [1, None]),
    "texts as objects": (np.array(["a", '"'], object), ["a", '"']),
}


@pytest.mark.parametrize(("column", "expected"), COLUMNS.values(), ids=COLUMNS.keys())
def test_json_of_columns(column, expected):
    """Every sort of column is written as what its values are."""
    assert [json.loads(text) for text in json_fields(column).to_pylist()] == expected


@given(st.lists(st.text() | st.none(), min_size=1))
def test_json_of_texts(texts):
    """Any text comes back as it was."""
    assert [json.loads(text) for text in json_fields(texts).to_pylist()] == texts


@given(st.lists(st.floats(), min_size=1))
def test_json_of_floats(values):
    """A float is written as in CSV, but what is no number as null."""
    column = np.array(values)
    expected = [
        text if math.isfinite(value) else "null"
        for value, text in zip(values, value_texts(column).to_pylist(), strict=True)
    ]
    assert json_fields(column).to_pylist() == expected
