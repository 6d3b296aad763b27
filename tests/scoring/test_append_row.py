"""The bytes that append_row makes of what a scoring script returns (contract 2.3 and 3.1)."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from io import StringIO
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from scoring.append_row import lines_of, rows_of
from scoring.errors import PredictionError


class Pair(NamedTuple):
    """What a script may return: a tuple with names."""

    file: str
    label: int


class Shown:
    """A value that says who it is in several ways."""

    def __str__(self) -> str:
        return "its str"

    def __repr__(self) -> str:
        return "its repr"

    def __format__(self, spec: str) -> str:
        return "its format"


def written(result: Any, output_format: str = "azureml") -> bytes:
    """Return the bytes of what a script returned."""
    return lines_of(rows_of(result), output_format)[0]


def frame(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """Return a DataFrame of rows, its columns called a, b, c."""
    return pd.DataFrame(list(rows), columns=list("abc"[: len(rows[0])]))


def yielded() -> Iterator[str]:
    """Return one row after the other, as no deployment should and one sample does."""
    yield "a"
    yield "b"


FLOAT32 = np.array([0.1], np.float32)

# each row of the table in contract 3.1, in its order
TABLE_3_1 = [
    pytest.param(frame(("f.csv", 1, 0.5), ("g.csv", 2, 1.5)), b"f.csv 1 0.5\ng.csv 2 1.5\n", id="DataFrame"),
    pytest.param(frame((1, 2, 3))[["c", "a"]], b"3 1\n", id="DataFrame: columns in order"),
    pytest.param(frame((1,), (2,)).set_index(pd.Index(["x", "y"])), b"1\n2\n", id="DataFrame: index never written"),
    pytest.param(frame(('say "hi"', 1)), b'"say ""hi""" 1\n', id="DataFrame: inner quotes doubled"),
    pytest.param(frame(('5"', 1)), b'"5""" 1\n', id="DataFrame: a quote alone"),
    pytest.param(frame(("a b", 1)), b'"a b" 1\n', id="value with a space"),
    pytest.param(frame(("a\nb", 1)), b'"a\nb" 1\n', id="value with a line end"),
    pytest.param(frame(("a,b", 1)), b"a,b 1\n", id="value with a comma"),
    pytest.param(frame((1, None, 3)), b"1  3\n", id="None in a DataFrame"),
    pytest.param(frame((1, np.nan, 3)), b"1  3\n", id="NaN in a DataFrame"),
    pytest.param(frame((1, pd.NA, "x")), b"1  x\n", id="NA in a DataFrame"),
    pytest.param(frame(([1, 2], {"k": 1})), b'"[1, 2]" "{\'k\': 1}"\n', id="nested cell"),
    pytest.param(frame(([1], {})), b"[1] {}\n", id="nested cell without a space"),
    pytest.param([["a", 1], "b"], b"['a', 1]\nb\n", id="list element"),
    pytest.param(['say "hi", you'], b'say "hi", you\n', id="list element: no quoting"),
    pytest.param(["two\nlines"], b"two\nlines\n", id="list element with a line end makes two lines"),
    pytest.param([None, True, 1, 0.1, {"k": "v"}], b"None\nTrue\n1\n0.1\n{'k': 'v'}\n", id="list element: any type"),
    pytest.param([Shown()], b"its str\n", id="list element: its str"),
    pytest.param(pd.DataFrame([[1, 2]], columns=["a", "a"]), b"1 2\n", id="column names never written"),
    pytest.param(
        pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_product([["x"], [1, 2]])), b"1 2\n", id="two levels"
    ),
    pytest.param(frame((0.1, 3e-20, True)), b"0.1 3e-20 True\n", id="pandas defaults"),
    pytest.param(frame((1e300, -0.0, float("inf"))), b"1e+300 -0.0 inf\n", id="pandas defaults: odd floats"),
    pytest.param(pd.DataFrame({"a": FLOAT32}), b"0.1\n", id="float32 in a DataFrame"),
    pytest.param(FLOAT32.tolist(), b"0.10000000149011612\n", id="float32 in a list, as its double"),
    pytest.param([0.1, 3e-20, 1e16], b"0.1\n3e-20\n1e+16\n", id="Python defaults"),
    pytest.param(pd.DataFrame({"a": pd.to_datetime(["2024-01-02 03:04"])}), b'"2024-01-02 03:04:00"\n', id="moment"),
    pytest.param(["a\r", "b"], b"a\r\nb\n", id="line end is a line feed"),
    pytest.param(["é", "漢", "🙂"], "é\n漢\n🙂\n".encode(), id="UTF-8 without a mark"),
    pytest.param(frame(("é", "漢")), "é 漢\n".encode(), id="UTF-8 of a DataFrame"),
    pytest.param(["caf\udce9.csv"], b"caf\\udce9.csv\n", id="half a surrogate pair"),
    pytest.param(
        pd.DataFrame({"a": pd.Series(["caf\udce9"], dtype=object)}), b"caf\\udce9\n", id="half a pair in a cell"
    ),
]


@pytest.mark.parametrize(("result", "expected"), TABLE_3_1)
def test_bytes_of_azure(result: Any, expected: bytes) -> None:
    """Every case of contract 3.1 is written as Azure ML writes it."""
    assert written(result) == expected


@pytest.mark.parametrize(
    ("result", "items", "expected"),
    [
        pytest.param(frame((1,), (2,)), 2, b"1\n2\n", id="DataFrame"),
        pytest.param(["a"], 1, b"a\n", id="list"),
        pytest.param(("a", "b"), 2, b"a\nb\n", id="tuple"),
        pytest.param(Pair("f", 1), 2, b"f\n1\n", id="tuple with names"),
        pytest.param(np.array([1.5, 2]), 2, b"1.5\n2.0\n", id="array"),
        pytest.param(np.array(["a", "b"]), 2, b"a\nb\n", id="array of text"),
        pytest.param(np.array([[1, 2], [3, 4]]), 2, b"[1 2]\n[3 4]\n", id="array of two dimensions"),
        pytest.param(pd.Series([1, 2], index=[7, 8], name="x"), 2, b"1\n2\n", id="Series"),
        pytest.param(yielded(), 2, b"a\nb\n", id="generator"),
        pytest.param([], 0, b"", id="empty list"),
        pytest.param((), 0, b"", id="empty tuple"),
        pytest.param(pd.DataFrame(), 0, b"", id="empty DataFrame"),
        pytest.param(pd.DataFrame({"a": []}), 0, b"", id="DataFrame without rows"),
        pytest.param(np.array([]), 0, b"", id="empty array"),
    ],
)
def test_accepted_types(result: Any, items: int, expected: bytes) -> None:
    """What contract 2.3 accepts is counted and written; nothing is written of what is empty."""
    rows = rows_of(result)
    assert (len(rows), lines_of(rows, "azureml")) == (items, (expected, ()))


@pytest.mark.parametrize(
    ("result", "what"),
    [
        pytest.param(None, "None", id="None"),
        pytest.param("done", "a value of type str", id="str"),
        pytest.param(b"done", "a value of type bytes", id="bytes"),
        pytest.param({"a": 1}, "a value of type dict", id="dict"),
        pytest.param({"a"}, "a value of type set", id="set"),
        pytest.param(3, "a value of type int", id="int"),
        pytest.param(range(3), "a value of type range", id="range"),
        pytest.param(map(str, "ab"), "a value of type map", id="map"),
        pytest.param(np.array(3), "a value of type ndarray", id="array without a dimension"),
        pytest.param(np.float64(3), "a value of type float64", id="number of NumPy"),
    ],
)
def test_refused_types(result: Any, what: str) -> None:
    """All else is refused in Azure ML's words, without a value of the user's (contract 2.3)."""
    with pytest.raises(PredictionError) as refused:
        rows_of(result)
    assert str(refused.value) == f"run() should return a list or a DataFrame, and it returned {what}"


def test_rows_of_a_generator_that_fails_fail() -> None:
    """What a generator raises passes, and nothing of it is written."""

    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("second row")

    with pytest.raises(ValueError, match="second row"):
        rows_of(failing())


CSV = [
    pytest.param(frame(("a b", 1)), ("a", "b"), b"a b,1\n", id="DataFrame"),
    pytest.param(frame(("a,b", 'c"d', "e\nf")), ("a", "b", "c"), b'"a,b","c""d","e\nf"\n', id="quoting"),
    pytest.param(frame(("a\rb", 1), ("c", 2)), ("a", "b"), b'"a\rb",1\nc,2\n', id="carriage return"),
    pytest.param(frame(("a\r\nb", None), ("c", 2)), ("a", "b"), b'"a\r\nb",\nc,2.0\n', id="both line ends"),
    pytest.param(frame((None, 1.5)), ("a", "b"), b",1.5\n", id="missing"),
    pytest.param(frame((None,)), ("a",), b'""\n', id="missing alone"),
    pytest.param(pd.DataFrame([[1, 2, 3]], columns=["a", "a", "a.1"]), ("a", "a.1", "a.1.1"), b"1,2,3\n", id="alike"),
    pytest.param(
        pd.DataFrame([[1, 2]], columns=pd.Index([0, None], dtype=object)),
        ("0", "None"),
        b"1,2\n",
        id="names that are no text",
    ),
    pytest.param(pd.DataFrame([[1, 2]], columns=['x,"y"\n', ""]), ('x,"y"\n', ""), b"1,2\n", id="odd names"),
    pytest.param(pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("x", 1)])), ("x_1",), b"1\n", id="two levels"),
    pytest.param(["a,b", 1, None, 'c"d'], ("prediction",), b'"a,b"\n1\n""\n"c""d"\n', id="list"),
    pytest.param([[1, 2], {"k": 1}], ("prediction",), b"\"[1, 2]\"\n{'k': 1}\n", id="nested list"),
    pytest.param(np.array([[0.25, 0.75]]), ("prediction",), b'"[0.25, 0.75]"\n', id="array of two dimensions"),
    pytest.param(np.array([0.5, np.nan]), ("prediction",), b'0.5\n""\n', id="array"),
    pytest.param(pd.Series(["x", None], dtype=object), ("prediction",), b'x\n""\n', id="Series"),
    pytest.param(["a\nb", "c\rd"], ("prediction",), b'"a\nb"\n"c\rd"\n', id="line ends"),
    pytest.param(["caf\udce9"], ("prediction",), b"caf\\udce9\n", id="half a surrogate pair"),
    pytest.param([], (), b"", id="nothing"),
    pytest.param(pd.DataFrame({"a": []}), (), b"", id="no rows"),
]


@pytest.mark.parametrize(("result", "columns", "expected"), CSV)
def test_csv(result: Any, columns: tuple[str, ...], expected: bytes) -> None:
    """As CSV, fields are parted by commas and quoted as RFC 4180 says, and columns have names, no two alike."""
    assert lines_of(rows_of(result), "csv") == (expected, columns)


def test_csv_comes_back() -> None:
    """Any text in a cell is read back as it was."""
    texts = ["", " ", ",", '"', '""', "\n", "\r", "\r\n", "a\rb,c\n\"d'", "'", "#", "é\u2028", "\t", "=1"]
    table = pd.DataFrame({"a": texts, "b": texts[::-1]})
    text = written(table, "csv").decode()
    assert list(csv.reader(StringIO(text, newline=""))) == [list(pair) for pair in zip(texts, texts[::-1], strict=True)]


JSONL = [
    pytest.param(frame(("x", 1, 0.5)), [{"a": "x", "b": 1, "c": 0.5}], id="DataFrame"),
    pytest.param(frame((None, np.nan, pd.NaT)), [{"a": None, "b": None, "c": None}], id="missing"),
    pytest.param(pd.DataFrame({"a": pd.array([1, None], "Int64")}), [{"a": 1}, {"a": None}], id="integers with NA"),
    pytest.param(pd.DataFrame([[1, 2]], columns=["a", "a"]), [{"a": 1, "a.1": 2}], id="alike"),
    pytest.param(pd.DataFrame([[1]], columns=[7]), [{"7": 1}], id="name that is no text"),
    pytest.param(pd.DataFrame(index=[0, 1]), [{}, {}], id="rows without columns"),
    pytest.param(pd.DataFrame({"a": pd.to_datetime(["2024-01-02"])}), [{"a": "2024-01-02 00:00:00"}], id="moment"),
    pytest.param(frame(([1, {"k": None}], True)), [{"a": [1, {"k": None}], "b": True}], id="nested cell"),
    pytest.param(["a\nb", 1, 0.1, None, True], ["a\nb", 1, 0.1, None, True], id="list"),
    pytest.param([{"k": [1, 2]}, ["x", {}], (1, 2)], [{"k": [1, 2]}, ["x", {}], [1, 2]], id="nested list"),
    pytest.param([{1: "a", None: "b"}], [{"1": "a", "null": "b"}], id="keys that are no text"),
    pytest.param([{(1, 2): np.int8(3)}], [{"(1, 2)": 3}], id="keys that JSON has no form for"),
    pytest.param([np.float32(0.5), np.int64(7), np.bool_(True)], [0.5, 7, True], id="numbers of NumPy"),
    pytest.param([np.array([[1.5, np.nan]])], [[[1.5, None]]], id="array inside"),
    pytest.param(np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]], id="array of two dimensions"),
    pytest.param([np.longdouble(0.5), np.datetime64("2024-01-02")], ["0.5", "2024-01-02"], id="no form in JSON"),
    pytest.param([float("nan"), float("inf"), -np.inf], [None, "inf", "-inf"], id="odd floats"),
    pytest.param([date(2024, 1, 2), Decimal("1.10"), 1j], ["2024-01-02", "1.10", "1j"], id="their str"),
    pytest.param([Shown(), {"k": Shown()}], ["its str", {"k": "its str"}], id="any object"),
    pytest.param([2**70], [2**70], id="large integer"),
    pytest.param(["é", "caf\udce9"], ["é", "caf\udce9"], id="text"),
    pytest.param([], [], id="nothing"),
]


@pytest.mark.parametrize(("result", "expected"), JSONL)
def test_jsonl(result: Any, expected: list[Any]) -> None:
    """As JSON lines, each row is one value: an object of a DataFrame's row, an element as it is or as its str."""
    data, columns = lines_of(rows_of(result), "jsonl")
    assert [json.loads(line) for line in data.decode().splitlines()] == expected
    assert columns == ()


def test_jsonl_is_plain_utf8() -> None:
    """Letters are not escaped, and half a surrogate pair is as JSON escapes it."""
    assert written([{"é": "caf\udce9"}], "jsonl") == '{"é": "caf\\udce9"}\n'.encode()


def test_nothing_heavy_is_loaded_for_a_list() -> None:
    """A script that needs no pandas does not pay for it."""
    code = (
        "import sys; from scoring.append_row import lines_of, rows_of; lines_of(rows_of(['a']), 'csv'); "
        "print({'pandas', 'numpy', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
