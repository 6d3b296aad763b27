"""What a model may return, how its columns are called, and the text of every value."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import struct
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
from hypothesis import example, given
from hypothesis import strategies as st

from scoring.columns import csv_fields, csv_header, csv_lines, prediction_columns, quoted
from scoring.errors import PredictionError

KINDS = (None, "long", "integer", "double", "float", "boolean", "string", "datetime")


def written(predictions: object, rows: int = 3, *, classes: tuple[str, ...] = (), kind: str | None = None) -> str:
    """Return the score file of so many rows, without its column `file`."""
    columns = prediction_columns(predictions, rows, classes=classes)
    fields = [csv_fields(column, kind=kind) for column in columns.values()]
    lines = csv_lines([csv_fields(np.arange(rows)), *fields])
    return (csv_header(["row", *columns]) + lines.to_pybytes()).decode()


def texts(column: Any, kind: str | None = None) -> list[str]:
    """Return the fields of a column."""
    fields = csv_fields(column, kind=kind)
    assert fields.null_count == 0
    return fields.to_pylist()


def refusal(predictions: object, rows: int = 3) -> str:
    """Return the sentence with which predictions are refused."""
    with pytest.raises(PredictionError) as caught:
        prediction_columns(predictions, rows)
    return str(caught.value)


# The shapes of predictions

MIXED = pd.DataFrame(
    {
        "label": ["yes", "no", None],
        "probability": [0.5, 1.0, 1e-05],
        "votes": [3, 0, -1],
        "sure": [True, False, True],
        "seen": pd.to_datetime(["2024-02-29", None, "1999-12-31"]),
        7: pd.array([1, None, 3], dtype="Int64"),
        "notes": ['says "hi"', "a,b", "two\nlines"],
        "any": [None, [1, 2.5], {"k": np.float64(0.1)}],
    }
)


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        pytest.param(
            MIXED,
            "row,label,probability,votes,sure,seen,7,notes,any\n"
            '0,yes,0.5,3,True,2024-02-29 00:00:00,1,"says ""hi""",\n'
            '1,no,1.0,0,False,,,"a,b","[1, 2.5]"\n'
            "2,,1e-05,-1,True,1999-12-31 00:00:00,3,\"two\nlines\",{'k': 0.1}\n",
            id="frame",
        ),
        pytest.param(pd.Series([1.0, 2.5, np.nan], name="y"), "row,prediction\n0,1.0\n1,2.5\n2,\n", id="series"),
        pytest.param(np.array([3, 1, 2]), "row,prediction\n0,3\n1,1\n2,2\n", id="1-d"),
        pytest.param(np.array(["a", "b,c", ""]), 'row,prediction\n0,a\n1,"b,c"\n2,\n', id="1-d text"),
        pytest.param(
            np.array([[1.0], [2.0], [3.5]]), "row,prediction_0\n0,1.0\n1,2.0\n2,3.5\n", id="2-d of one column"
        ),
        pytest.param(
            np.array([[1, 2], [3, 4], [5, 6]], order="F"),
            "row,prediction_0,prediction_1\n0,1,2\n1,3,4\n2,5,6\n",
            id="2-d",
        ),
        pytest.param(
            np.array([[1, "a"], [None, "b"], [2.5, None]], object),
            "row,prediction_0,prediction_1\n0,1,a\n1,,b\n2,2.5,\n",
            id="2-d of objects",
        ),
        pytest.param(np.matrix([[1], [2], [3]]), "row,prediction_0\n0,1\n1,2\n2,3\n", id="matrix"),
        pytest.param([1, 2.5, "x"], "row,prediction\n0,1\n1,2.5\n2,x\n", id="list"),
        pytest.param(("a", "b", None), "row,prediction\n0,a\n1,b\n2,\n", id="tuple"),
        pytest.param(
            [[1, 2], [3, 4], [5, 6]], 'row,prediction\n0,"[1, 2]"\n1,"[3, 4]"\n2,"[5, 6]"\n', id="list of lists"
        ),
        pytest.param(
            [np.array([0.5, 1]), np.array([]), np.array(2)],
            'row,prediction\n0,"[0.5, 1.0]"\n1,[]\n2,2\n',
            id="list of arrays",
        ),
        pytest.param(
            {
                "a": np.array([1, 2, 3]),
                "b": ["x", "y", "z"],
                3: pd.Series([0.5, 1.5, 2.5], index=[2, 1, 0]),
                "c": np.array([[1], [2], [3]]),
                "d": np.array([[1, 2], [3, 4], [5, 6]]),
                "e": (True, False, None),
            },
            'row,a,b,3,c,d,e\n0,1,x,2.5,1,"[1, 2]",True\n1,2,y,1.5,2,"[3, 4]",False\n2,3,z,0.5,3,"[5, 6]",\n',
            id="dict of columns",
        ),
        pytest.param([{"b": 1}, {"a": "x", "b": 2.5}, {}], "row,b,a\n0,1,\n1,2.5,x\n2,,\n", id="list of dicts"),
        pytest.param([{"a": 1}, None, 2], "row,prediction\n0,{'a': 1}\n1,\n2,2\n", id="list of dicts and others"),
        pytest.param(
            scipy.sparse.csr_matrix([[0, 1.5], [2, 0], [0, 0]]),
            "row,prediction_0,prediction_1\n0,0.0,1.5\n1,2.0,0.0\n2,0.0,0.0\n",
            id="sparse matrix",
        ),
        pytest.param(
            pd.DataFrame({"a": pd.arrays.SparseArray([0, 0, 1]), "b": pd.arrays.SparseArray([np.nan, 0.5, np.nan])}),
            "row,a,b\n0,0,\n1,0,0.5\n2,1,\n",
            id="sparse frame",
        ),
        pytest.param(
            np.array([(1, 0.5, "a", [1, 2]), (2, 1.0, "b", [3, 4]), (3, 1e16, "c", [5, 6])], "i4,f4,U1,(2,)i8"),
            'row,f0,f1,f2,f3\n0,1,0.5,a,"[1, 2]"\n1,2,1.0,b,"[3, 4]"\n2,3,1e+16,c,"[5, 6]"\n',
            id="structured",
        ),
        pytest.param(
            np.ma.array([1.5, 2.5, 3.5], mask=[0, 1, 0], dtype="f4"), "row,prediction\n0,1.5\n1,\n2,3.5\n", id="masked"
        ),
        pytest.param(
            np.ma.array([[1, 2], [3, 4], [5, 6]], mask=[[0, 0], [1, 0], [0, 1]]),
            "row,prediction_0,prediction_1\n0,1,2\n1,,4\n2,5,\n",
            id="masked 2-d",
        ),
        pytest.param(np.ma.array(["a", "b", "c"], mask=[1, 0, 0]), "row,prediction\n0,\n1,b\n2,c\n", id="masked text"),
        pytest.param(
            np.ma.array(np.array(["2024-01-01"] * 3, "M8[D]"), mask=[1, 0, 1]),
            "row,prediction\n0,\n1,2024-01-01 00:00:00\n2,\n",
            id="masked datetimes",
        ),
        pytest.param(
            np.ma.array([(1, 2.5)] * 3, mask=[(0, 1), (1, 0), (0, 0)], dtype=[("a", "i8"), ("b", "f8")]),
            "row,a,b\n0,1,\n1,,2.5\n2,1,2.5\n",
            id="masked structured",
        ),
        pytest.param(pd.Index([5, 6, 7]), "row,prediction\n0,5\n1,6\n2,7\n", id="index"),
        pytest.param(pd.Categorical(["b", None, "a"]), "row,prediction\n0,b\n1,\n2,a\n", id="categorical"),
        pytest.param(
            pd.DataFrame([[1, 2], [3, 4], [5, 6]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", "x")])),
            "row,a_1,b_x\n0,1,2\n1,3,4\n2,5,6\n",
            id="columns of several levels",
        ),
        pytest.param(
            pd.DataFrame([[1, 2, 3]] * 3, columns=["a", "a", "a.1"]),
            "row,a,a.1,a.1.1\n0,1,2,3\n1,1,2,3\n2,1,2,3\n",
            id="names met twice",
        ),
        pytest.param(
            pd.DataFrame({"a,b": [1, 2, 3], 'c"': [1, 2, 3]}),
            'row,"a,b","c"""\n0,1,1\n1,2,2\n2,3,3\n',
            id="names to be quoted",
        ),
    ],
)
def test_write_shape(predictions: object, expected: str) -> None:
    """Every shape that a model may return is written as the golden text says."""
    assert written(predictions) == expected


def test_name_classes() -> None:
    """A column for each class is named after it; where their numbers differ, columns are numbered."""
    probabilities = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])

    assert (
        written(probabilities, classes=("no", "yes"))
        == "row,prediction_no,prediction_yes\n0,0.25,0.75\n1,1.0,0.0\n2,0.5,0.5\n"
    )
    assert list(prediction_columns(probabilities, 3, classes=("a", "b", "c"))) == ["prediction_0", "prediction_1"]
    assert list(prediction_columns(probabilities[:, 0], 3, classes=("a", "b"))) == ["prediction"]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ([2, 0, 1], "b,c,a"),
        ([2.0, 0.0, 1.0], "b,c,a"),
        (pd.array([2, 0, 1], dtype="Int64"), "b,c,a"),
        (pd.Index([2, 0, 1], dtype=object), "b,c,a"),
        (range(2, -1, -1), "c,b,a"),
        ([0, 1, 2], "a,b,c"),
        ([0, 1, 1], "a,b,c"),
        ([3, 1, 2], "a,b,c"),
        ([-1, 1, 0], "a,b,c"),
        (["2", "0", "1"], "a,b,c"),
        ([2.0, np.nan, 1.0], "a,b,c"),
        (pd.MultiIndex.from_tuples([(2, 0), (0, 0), (1, 0)]), "a,b,c"),
    ],
)
def test_realign(index: Any, expected: str) -> None:
    """An index that permutes the rows puts them back in order, any other says nothing; for tables and columns alike."""
    values = ["a", "b", "c"]
    frame = pd.DataFrame({"x": values, "y": pd.Categorical(values), "z": np.array(values, object)}, index=index)

    assert [",".join(texts(column)) for column in prediction_columns(frame, 3).values()] == [expected] * 3
    assert ",".join(texts(prediction_columns(frame["x"], 3)["prediction"])) == expected
    assert ",".join(texts(prediction_columns({"k": frame["y"]}, 3)["k"])) == expected


@pytest.mark.parametrize("empty", [[], np.array([]), pd.DataFrame({"prediction": []}), pd.Series([], dtype=float)])
def test_write_no_rows(empty: object) -> None:
    """No rows are no lines."""
    assert written(empty, 0) == "row,prediction\n"


# What is refused


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        (np.zeros(2), "the model returned 2 predictions for 3 rows"),
        ([1], "the model returned 1 prediction for 3 rows"),
        (np.zeros((5, 2)), "the model returned 5 predictions for 3 rows"),
        (pd.DataFrame({"a": range(12345)}), "the model returned 12,345 predictions for 3 rows"),
        (pd.DataFrame(), "the model returned 0 predictions for 3 rows"),
        (pd.Series([1, 2]), "the model returned 2 predictions for 3 rows"),
        ([{"a": 1}], "the model returned 1 prediction for 3 rows"),
        ({"a": [1, 2, 3], "b": [1]}, "the model returned 1 prediction in 'b' for 3 rows"),
        (scipy.sparse.csr_matrix((2, 2)), "the model returned 2 predictions for 3 rows"),
        (np.zeros((3, 2, 1)), "the model returned an array of 3 dimensions (3 x 2 x 1)"),
        ({"a": np.zeros((3, 2, 1))}, "the model returned an array of 3 dimensions (3 x 2 x 1) in 'a'"),
        (np.zeros((3, 2), "i4,f4"), "the model returned a structured array of 2 dimensions (3 x 2)"),
        (np.array(1), "the model returned an array of no dimensions"),
        (np.float64(1), "the model returned a value of type float64"),
        (1.5, "the model returned a value of type float"),
        ("abc", "the model returned a value of type str"),
        (None, "the model returned None"),
        (iter([1, 2, 3]), "the model returned a value of type list_iterator"),
        ({"label": "abc"}, "the model returned a value of type str in 'label'"),
        ({}, "the model returned no columns"),
        ([{}, {}, {}], "the model returned no columns"),
        (np.zeros((3, 0)), "the model returned no columns"),
        (pd.DataFrame(index=range(3)), "the model returned no columns"),
    ],
)
def test_refuse(predictions: object, expected: str) -> None:
    """What cannot be written is refused in a sentence that says what was returned, and for how many rows."""
    assert refusal(predictions).startswith(expected)


def test_refuse_one_row() -> None:
    """One row is not called rows."""
    assert refusal([1, 2, 3], 1) == "the model returned 3 predictions for 1 row"


# The text of a value


class Colour(str, enum.Enum):  # noqa: UP042 - a StrEnum would print its value
    """An enumeration of texts, whose own str() is another."""

    RED = "red"


class Mood:
    """An object that only knows its str()."""

    def __str__(self) -> str:
        """Return a text that needs quotes."""
        return "so, so"


class Point(NamedTuple):
    """A tuple whose own str() is another."""

    x: int
    y: int


HOUR = dt.timezone(dt.timedelta(hours=1))

VALUES = [
    (None, ""),
    (math.nan, ""),
    (np.float32("nan"), ""),
    (pd.NaT, ""),
    (pd.NA, ""),
    (np.datetime64("NaT"), ""),
    (np.timedelta64("NaT"), ""),
    (decimal.Decimal("NaN"), ""),
    (decimal.Decimal("sNaN"), ""),
    (np.ma.masked, ""),
    (1.0, "1.0"),
    (0.1, "0.1"),
    (1e-05, "1e-05"),
    (0.0001, "0.0001"),
    (1e16, "1e+16"),
    (123456789012345.6, "123456789012345.6"),
    (-0.0, "-0.0"),
    (math.inf, "inf"),
    (-math.inf, "-inf"),
    (np.float64(0.1), "0.1"),
    (np.float32(0.1), "0.1"),
    (np.float32(1e-4), "0.0001"),
    (np.float32(1e-5), "1e-05"),
    (np.float32(16777216), "16777216.0"),
    (np.float32(50331648), "50331650.0"),
    (np.float32(1e16), "1e+16"),
    (np.float16(0.1), "0.1"),
    (np.float16(65504), "65500.0"),
    (np.longdouble(0.5), "0.5"),
    (7, "7"),
    (-(10**30), "-1000000000000000000000000000000"),
    (np.int8(-3), "-3"),
    (np.uint64(2**64 - 1), "18446744073709551615"),
    (True, "True"),
    (np.bool_(False), "False"),
    ("", ""),
    (" as it stands ", " as it stands "),
    ("nan", "nan"),
    ("größer", "größer"),
    ("a,b", '"a,b"'),
    ('"', '""""'),
    ("a\nb", '"a\nb"'),
    ("a\rb", '"a\rb"'),
    ("half \ud800", "half \\ud800"),
    (np.str_("x"), "x"),
    (Colour.RED, "red"),
    (b"gr\xc3\xbc\xff,", '"gr\u00fc\\xff,"'),
    (np.bytes_(b"x"), "x"),
    (dt.datetime(2024, 2, 29), "2024-02-29 00:00:00"),  # noqa: DTZ001
    (dt.datetime(5, 1, 2, 3, 4, 5, 60), "0005-01-02 03:04:05.000060"),  # noqa: DTZ001
    (dt.datetime(2024, 1, 1, tzinfo=HOUR), "2024-01-01 00:00:00+01:00"),
    (pd.Timestamp("2024-01-01 00:00:00.5"), "2024-01-01 00:00:00.500000"),
    (pd.Timestamp("2024-01-01 00:00:00.000000001", tz="UTC"), "2024-01-01 00:00:00.000000001+00:00"),
    (np.datetime64("2024-01-01"), "2024-01-01 00:00:00"),
    (np.datetime64("1969-12-31T23:59:59.999999999"), "1969-12-31 23:59:59.999999999"),
    (dt.date(2024, 1, 1), "2024-01-01"),
    (dt.time(1, 2), "01:02:00"),
    (dt.timedelta(days=1), '"1 day, 0:00:00"'),
    (pd.Timedelta(days=1), "1 days 00:00:00"),
    (np.timedelta64(1, "D"), "1 days 00:00:00"),
    (np.timedelta64(2, "Y"), "2 years"),
    (decimal.Decimal("1.50"), "1.50"),
    (1 + 2j, "(1+2j)"),
    (pd.Period("2024-01"), "2024-01"),
    (Mood(), '"so, so"'),
    ([], "[]"),
    ([1, None, "x", math.nan], "\"[1, None, 'x', nan]\""),
    ((np.int64(1), np.float32(0.5)), '"(1, 0.5)"'),
    (Point(1, 2), '"(1, 2)"'),
    ({"k": np.bool_(True), np.str_("l"): [np.float64(0.1)]}, "\"{'k': True, 'l': [0.1]}\""),
    (np.array([[1, 2], [3, 4]]), '"[[1, 2], [3, 4]]"'),
    (np.array(["a", None], object), "\"['a', None]\""),
    (np.array([{"k": np.int64(1)}], object), "[{'k': 1}]"),
    (np.array(5), "5"),
    (np.ma.array([1.5, 2.5], mask=[0, 1]), '"[1.5, None]"'),
    (pd.Series([1.5, 2.5]), '"[1.5, 2.5]"'),
    (np.array(["2024-01-01"], "M8[ns]"), '"[datetime.datetime(2024, 1, 1, 0, 0)]"'),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=lambda value: ascii(value)[:40])
def test_write_value(value: object, expected: str) -> None:
    """A value is written as the table of docs/csv.md says, alone and beside others."""
    assert texts([value]) == [expected]
    assert texts([value, value]) == [expected, expected]
    assert texts([value, 1]) == [expected, "1"]
    assert texts([value, None, "x"]) == [expected, "", "x"]


def test_write_all_values() -> None:
    """Values of every type may stand in one column."""
    assert texts([value for value, _ in VALUES]) == [expected for _, expected in VALUES]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("long", 3.0, "3"),
        ("long", -0.0, "0"),
        ("long", 3.5, "3.5"),
        ("long", math.nan, ""),
        ("long", math.inf, "inf"),
        ("long", -(2.0**63), "-9223372036854775808"),
        ("long", 2.0**63, "9.223372036854776e+18"),
        ("long", np.float32(16777216), "16777216"),
        ("long", np.float16(5), "5"),
        ("long", True, "True"),
        ("long", "x", "x"),
        ("integer", 2147483647.0, "2147483647"),
        ("integer", 2147483648.0, "2147483648.0"),
        ("integer", 2147483648, "2147483648"),
        ("double", 3, "3.0"),
        ("double", 2**53, "9007199254740992.0"),
        ("double", 2**53 + 1, "9007199254740993"),
        ("double", 2**60, "1.152921504606847e+18"),
        ("double", 2**63 - 1, "9223372036854775807"),
        ("double", np.uint64(2**64 - 1), "18446744073709551615"),
        ("double", np.uint64(2**63), "9.223372036854776e+18"),
        ("double", -(2**63), "-9.223372036854776e+18"),
        ("double", 10**400, "1" + "0" * 400),
        ("double", False, "False"),
        ("float", 3, "3.0"),
        ("float", 16777217, "16777217"),
        ("float", 0.1, "0.1"),
        ("float", 10**39, "1" + "0" * 39),
        ("boolean", 1, "1"),
        ("string", 1.5, "1.5"),
        ("datetime", dt.date(2024, 1, 1), "2024-01-01"),
    ],
)
def test_write_kind(kind: str, value: object, expected: str) -> None:
    """A value is written by the type its signature names, and by its own where that would lose something."""
    assert texts([value], kind) == [expected]
    assert texts([value, "x"], kind) == [expected, "x"]
    if isinstance(value, bool | float | np.generic) or (isinstance(value, int) and abs(value) < 2**62):
        array = np.array([value])
        assert texts(array, kind) == [expected]
        assert array.dtype == np.float16 or texts(pd.Categorical(array), kind) == [expected]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.array([1, None], dtype="Int64"), ["1", ""]),
        (pd.array([2**63, None], dtype="UInt64"), ["9223372036854775808", ""]),
        (pd.array([0.1, None], dtype="Float32"), ["0.1", ""]),
        (pd.array([True, None], dtype="boolean"), ["True", ""]),
        (pd.array(["a,b", None], dtype="string"), ['"a,b"', ""]),
        (pd.array(["a", None], dtype="string[pyarrow]"), ["a", ""]),
        (pd.array(["half \ud800", None], dtype="string[python]"), ["half \\ud800", ""]),
        (pd.Categorical([2.5, None, 2.5]), ["2.5", "", "2.5"]),
        (pd.Categorical([]), []),
        (pd.Series(["a", None]).array, ["a", ""]),
        (pd.period_range("2024-01", periods=2, freq="M").array, ["2024-01", "2024-02"]),
        (pd.IntervalIndex.from_breaks([0, 1]).array, ['"(0, 1]"']),
        (pd.to_timedelta([1, None], unit="D").array, ["1 days 00:00:00", ""]),
        (pd.array([[1, 2], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))), ['"[1, 2]"', ""]),
        (pd.array([1, None], dtype=pd.ArrowDtype(pa.int8())), ["1", ""]),
        (
            pd.array([dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], pd.ArrowDtype(pa.timestamp("us", "UTC"))),
            ["2024-01-01 00:00:00+00:00"],
        ),
        (pa.array([dt.date(2024, 1, 1), None]), ["2024-01-01", ""]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.chunked_array([["a"], ["b"]]), ["a", "b"]),
        (pa.nulls(2), ["", ""]),
        (np.array([1.5, 2.0], ">f8"), ["1.5", "2.0"]),
        (np.array([1, 2], ">i4"), ["1", "2"]),
        (np.arange(6)[::2], ["0", "2", "4"]),
        (np.array(["ab", "größer", "a\0b", "\ud800"]), ["ab", "größer", "a\0b", "\\ud800"]),
        (np.array([b"ab", b"\xff"]), ["ab", "\\xff"]),
        (np.array([1 + 2j, np.nan]), ["(1+2j)", ""]),
        (np.array([1.5, np.nan], np.longdouble), ["1.5", ""]),
        (np.array([1, 2], "m8[s]"), ["0 days 00:00:01", "0 days 00:00:02"]),
        (np.array([[1, 2], [3, 4]], object), ['"[1, 2]"', '"[3, 4]"']),
    ],
)
def test_write_column(column: Any, expected: list[str]) -> None:
    """Columns of every kind of array are written like their values."""
    assert texts(column) == expected


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        (
            np.array(["2024-01-01", "1969-12-31T23:59:59.5", "2024-01-01T00:00:00.000001", "NaT"], "M8[us]"),
            ["2024-01-01 00:00:00", "1969-12-31 23:59:59.500000", "2024-01-01 00:00:00.000001", ""],
        ),
        (
            np.array(["2024-01-01T00:00:00.000000001", "1677-09-22T00:00:00.12", "NaT"], "M8[ns]"),
            ["2024-01-01 00:00:00.000000001", "1677-09-22 00:00:00.120000", ""],
        ),
        (np.array(["2024-03", "0005-01"], "M8[M]"), ["2024-03-01 00:00:00", "0005-01-01 00:00:00"]),
        (np.array(["1970-01-01T00:00:00.000000001"], "M8[ps]"), ["1970-01-01 00:00:00.000000001"]),
        (np.array(["NaT", "NaT"], "M8[ns]"), ["", ""]),
        (
            pd.DatetimeIndex(np.array(["2024-01-01T00:30", "2024-07-01T00:30:00.000001", "NaT"], "M8[us]"))
            .tz_localize("Europe/Berlin")
            .array,
            ["2024-01-01 00:30:00+01:00", "2024-07-01 00:30:00.000001+02:00", ""],
        ),
        (
            pd.to_datetime(["2024-01-01", None]).tz_localize(dt.timezone(-dt.timedelta(hours=3, minutes=30))).array,
            ["2024-01-01 00:00:00-03:30", ""],
        ),
        (
            pd.to_datetime(["2024-01-01"]).tz_localize(dt.timezone(-dt.timedelta(minutes=30, seconds=52))).array,
            ["2024-01-01 00:00:00-00:30:52"],
        ),
    ],
)
def test_write_moments(moments: Any, expected: list[str]) -> None:
    """Moments are written with their time, their decimals by three or six more digits, and their own offset."""
    assert texts(moments) == expected
    assert texts(list(moments)) == expected


# Properties


def bits_as_float(bits: int) -> float:
    """Return the double of these bits: small, large and odd ones are met as often as others."""
    return struct.unpack("d", struct.pack("Q", bits))[0]


DOUBLES = st.one_of(
    st.floats(),
    st.integers(0, 2**64 - 1).map(bits_as_float),
    st.floats(-1e5, 1e5),
    st.integers(-(2**54), 2**54).map(float),
    st.builds(lambda digits, exponent: float(f"{digits}e{exponent}"), st.integers(-999, 999), st.integers(-12, 20)),
)
# What csv.writer of Python and pandas quotes too; it leaves a lone \r alone in Python 3.11.
WORDS = st.text(st.sampled_from('ab,"\n 0é€𝄞'), max_size=4)
NAMED = st.one_of(WORDS, st.text(max_size=3).filter(lambda text: "\0" not in text and "\r" not in text))


def float32_text(value: np.float32) -> str:
    """Return the shortest digits of a float32, which NumPy knows, in the form that Python gives a float."""
    return "" if np.isnan(value) else repr(float(np.format_float_scientific(value, unique=True)))


def with_edges(edges: list[float], dtype: Any) -> Any:
    """Return powers of ten with their next neighbours on both sides, and both signs."""
    values = np.array(edges, dtype)
    values = np.concatenate([values, np.nextafter(values, dtype(0)), np.nextafter(values, dtype(np.inf))])
    return np.concatenate([values, -values])


@given(st.lists(DOUBLES, max_size=30))
def test_double_equals_repr(values: list[float]) -> None:
    """A float64 is written as Python's repr, in a column and in a list."""
    expected = ["" if math.isnan(value) else repr(value) for value in values]

    assert texts(np.array(values, np.float64)) == expected
    assert texts(values) == expected


@given(st.lists(st.integers(0, 2**32 - 1), max_size=30))
def test_single_equals_shortest(bits: list[int]) -> None:
    """A float32 is written with the shortest digits that read back as the same float32, in Python's form."""
    values = np.array(bits, np.uint32).view(np.float32)

    assert texts(values) == [float32_text(value) for value in values]
    assert texts(list(values)) == [float32_text(value) for value in values]


def test_float_edges() -> None:
    """Where the form of a number changes, both sides are right."""
    edges = [10.0**exponent for exponent in range(-13, 20)]
    doubles = np.concatenate([with_edges(edges, np.float64), 2.0 ** np.arange(-1074, 1024)])
    singles = with_edges(edges, np.float32)

    assert texts(doubles) == [repr(value) for value in doubles.tolist()]
    assert texts(singles) == [float32_text(value) for value in singles]
    # Few odd ones among many take another way than many.
    for values in (doubles, singles):
        filled = np.full(400 * len(values), values.dtype.type(0.25))
        filled[::400] = values
        assert texts(filled)[::400] == texts(values)
        assert set(texts(filled[1:400])) == {"0.25"}


def test_every_half() -> None:
    """Every float16 there is reads back as itself, and is written alike in a column and alone."""
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    written_texts = texts(halves)
    read = np.array([float(text or "nan") for text in written_texts], np.float16)

    assert np.array_equal(halves, read, equal_nan=True)
    assert texts(list(halves[::97])) == written_texts[::97]


@given(
    st.one_of(
        st.lists(DOUBLES.filter(lambda value: not math.isnan(value)), min_size=1).map(np.array),
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1).map(lambda values: np.array(values, np.int64)),
        st.lists(st.booleans(), min_size=1).map(np.array),
        st.lists(NAMED, min_size=1).map(lambda values: np.array(values, object)),
        st.lists(st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)), min_size=1).map(  # noqa: DTZ001
            # With one moment that has a fraction and a time: pandas drops what all of a column lack.
            lambda values: np.array([value.replace(microsecond=1) for value in values], "M8[us]")
        ),
    )
)
def test_equal_pandas(values: Any) -> None:
    """A column of one type is written as pandas writes it."""
    frame = pd.DataFrame({"row": np.arange(len(values)), "value": values})
    fields = [csv_fields(np.arange(len(values))), csv_fields(frame["value"].array)]

    assert csv_lines(fields).to_pybytes() == frame.to_csv(index=False, header=False).encode()
    assert fields[1].equals(csv_fields(values))


ANYTHING = st.one_of(
    st.none(),
    DOUBLES,
    st.integers(-(2**70), 2**70),
    st.booleans(),
    NAMED,
    st.binary(max_size=3),
    st.datetimes(timezones=st.none() | st.just(HOUR)),
    st.dates(),
    st.timedeltas(),
    st.decimals(),
    st.lists(st.floats(), max_size=2).map(np.array),
    st.floats(width=32).map(np.float32),
)
COLUMNS = st.one_of(
    st.lists(ANYTHING, max_size=8),
    st.lists(DOUBLES, max_size=8).map(lambda values: np.array(values, np.float64)),
    st.lists(st.floats(width=32), max_size=8).map(lambda values: np.array(values, np.float32)),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8).map(lambda values: np.array(values, np.int64)),
    st.lists(NAMED, max_size=8).map(lambda values: np.array(values, "U4")),
    st.lists(NAMED | st.none(), max_size=8).map(lambda values: np.array(values, object)),
    st.lists(NAMED | st.none(), max_size=8).map(pd.Categorical),
    st.lists(st.integers(-(2**40), 2**40), max_size=8).map(lambda values: np.array(values, "M8[us]")),
)


@given(COLUMNS, st.sampled_from(KINDS), st.data())
@example([1, 2.5], "long", None)
def test_neighbours_change_nothing(column: Any, kind: str | None, data: st.DataObject | None) -> None:
    """The fields of a column are those of its parts, one behind the other, and those of its values alone."""
    cut = data.draw(st.integers(0, len(column))) if data else 1
    whole = texts(column, kind)

    assert texts(column[:cut], kind) + texts(column[cut:], kind) == whole
    assert [text for value in column for text in texts([value], kind)] == whole


@given(st.lists(st.text(max_size=5), max_size=8), st.integers(0, 3))
def test_quote_where_needed(values: list[str], skipped: int) -> None:
    """Quotes go around what holds a comma, a quote or a line end, in a slice of a larger array too."""
    expected = [
        '"' + value.replace('"', '""') + '"' if any(mark in value for mark in ',"\r\n') else value for value in values
    ]

    assert quoted(pa.array(values, pa.string())[skipped:]).to_pylist() == expected[skipped:]
    assert quoted(pa.array(values, pa.large_string())[skipped:]).to_pylist() == expected[skipped:]


# Lines


def test_lines_repeat_scalars() -> None:
    """A scalar stands on every line, at any place."""
    file = quoted(pa.array(["a,b.csv"]))[0]
    numbers = csv_fields(np.arange(3))

    assert csv_lines([numbers, file]).to_pybytes() == b'0,"a,b.csv"\n1,"a,b.csv"\n2,"a,b.csv"\n'
    assert csv_lines([file, numbers]).to_pybytes() == b'"a,b.csv",0\n"a,b.csv",1\n"a,b.csv",2\n'
    assert csv_lines([numbers]).to_pybytes() == b"0\n1\n2\n"


def test_lines_of_slices() -> None:
    """Fields may be slices, of either kind of text; no fields are no lines."""
    fields = csv_fields(np.array(["a", "b", "c", "d"]))
    others = pa.array(["w", "x", "y", "z"])

    assert bytes(csv_lines([fields[1:3], others[1:3]])) == b"b,x\nc,y\n"
    assert bytes(csv_lines([fields[4:], others[4:]])) == b""


def test_header_quotes_names() -> None:
    """A header is a line of fields like any other."""
    assert csv_header(["row", 'a "b"', "", "x\ny", "größe"]) == b'row,"a ""b""",,"x\ny",gr\xc3\xb6\xc3\x9fe\n'
