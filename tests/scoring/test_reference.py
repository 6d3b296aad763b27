"""The reference itself: every table of `docs/csv.md` row by row, and pandas and `csv` where they must agree."""

import csv
import io
import math
import re
import zlib
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from scoring.reference import (
    Column,
    Misfit,
    csv_line,
    ends_group,
    fit,
    grid_cells,
    header_names,
    prediction_columns,
    records,
    score,
    value_text,
)
from tests.csv_texts import csv_files, plain_csv_files
from tests.old_releases import ISO, PANDAS

DOCUMENT = Path(__file__).parents[2] / "docs" / "csv.md"
COLUMNS = [
    Column(name="n", type="long"),
    Column(name="x", type="double"),
    Column(name="s", type="string"),
    Column(name="t", type="datetime", required=False),
]
NUMBERS = [Column(name="n", type="long"), Column(name="x", type="double")]
ODD_TEXT = st.text(alphabet='a1,;"\t \r\n', max_size=30)


def doubled(frame):
    """Give twice the first column: no row depends on another."""
    return frame.iloc[:, 0].to_numpy() * 2


def scored(data, columns=NUMBERS, predict=doubled, cell_rows=0, **options):
    """Score one file."""
    return score([("f.csv", data)], columns, predict, cell_rows=cell_rows, **options)


def table_under(heading):
    """The first cell of each row of the table under a heading of the document."""
    section = DOCUMENT.read_text().split(f"## {heading}")[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("|")]
    return [row for row in rows[1:] if set(row) != {"-"}]


# Records

RECORDS = {
    "plain": ("a,b\n1,2\n", [("a", "b"), ("1", "2")]),
    "no last line end": ("a,b\n1,2", [("a", "b"), ("1", "2")]),
    "carriage returns and line feeds": ("a\r\nb\rc\n\rd", [("a",), ("b",), ("c",), ("d",)]),
    "quote inside a field": ('5" pipe,1\n', [('5" pipe', "1")]),
    "space before a quote": (' "a",b', [(' "a"', "b")]),
    "doubled quotes": ('"say ""so""",""""\n', [('say "so"', '"')]),
    "text after a closing quote": ('"ab"c"d,"e" \n', [('abc"d', "e ")]),
    "quote opened again after text": ('"ab"c"",""x', [('abc""', "x")]),
    "line ends and delimiters in quotes": ('"a\r\nb,c\rd\n",e', [("a\r\nb,c\rd\n", "e")]),
    "blank lines": ("\n  \n\ta\n \t \r\n\r\rb\n ", [("\ta",), ("b",)]),
    "empty fields": (",\n,,\n", [("", ""), ("", "", "")]),
    "quoted nothing is a record": ('""\n"  "\n', [("",), ("  ",)]),
    "nothing": ("", []),
    "quote closed by the end": ('a,"b"', [("a", "b")]),
    "other separators of lines": ("a\x0bb\x0cc\x85d\u2028e\x1ef\n", [("a\x0bb\x0cc\x85d\u2028e\x1ef",)]),
}


@pytest.mark.parametrize(("text", "expected"), RECORDS.values(), ids=RECORDS.keys())
def test_records_of_text(text, expected):
    """A text is split as the document says."""
    assert [record.fields for record in records(text)] == expected
    assert all(record.closed for record in records(text))


def test_records_with_a_tab_between_fields():
    """The delimiter is no white space, so a line of tabs is a record."""
    assert [record.fields for record in records("\t\n  \n \ta,b\n", "\t")] == [("", ""), (" ", "a,b")]


def test_records_tell_line_and_text():
    """A record has the physical line it starts on, and its text without the line end."""
    found = list(records('a\r\n\r\n"b\r\nc\rd\n",e\r  \nf'))
    assert [(record.line, record.text) for record in found] == [(1, "a"), (3, '"b\r\nc\rd\n",e'), (8, "f")]


def test_records_quote_never_closed():
    """A quote that is never closed takes all the rest."""
    first, last = records('a\n1,"b\n2,c\n')
    assert first.closed
    assert (last.fields, last.line, last.text, last.closed) == (("1", "b\n2,c\n"), 2, '1,"b\n2,c\n', False)


@given(ODD_TEXT, st.sampled_from(",;\t"))
def test_records_equal_those_of_the_csv_module(text, delimiter):
    """Any text has the records that Python's own reader finds, lines of white space left out."""

    def kept(rows):
        return [row for row in rows if len(row) > 1 or "".join(row).strip(" \t")]

    own = [list(record.fields) for record in records(text, delimiter)]
    assert kept(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)) == kept(own)


@given(ODD_TEXT)
def test_records_can_be_read_one_by_one(text):
    """The text of a record alone is that record again, and lines and texts add up."""
    for record in records(text):
        (again,) = records(record.text)
        assert (record.fields, record.closed, 1) == (again.fields, again.closed, again.line)
        lines = re.split("\r\n|\r|\n", text)
        assert lines[record.line - 1] == re.split("\r\n|\r|\n", record.text)[0]


# Header

HEADERS = {
    ("a", "b"): ("a", "b"),
    ("a", "a", "a"): ("a", "a.1", "a.2"),
    ("a", "a", "a.1"): ("a", "a.2", "a.1"),
    ("a.1", "a", "a"): ("a.1", "a", "a.2"),
    ("a", ""): ("a", ""),
    ("", ""): ("", ".1"),
    (" a", "a"): (" a", "a"),
}


@pytest.mark.parametrize(("fields", "expected"), HEADERS.items())
def test_header_names(fields, expected):
    """Names met again are numbered."""
    assert header_names(fields) == expected


@given(st.lists(st.sampled_from(["a", "b", "a.1", "a.2", "a.1.1", "b.1"]), min_size=1, max_size=7))
def test_header_names_as_pandas_gives_them(fields):
    """Names met again are numbered as pandas numbers them."""
    frame = pd.read_csv(io.StringIO(",".join(fields) + "\n" + ",".join("1" for _ in fields)))
    assert tuple(frame.columns) == header_names(fields)


def test_header_in_another_order_with_more_columns():
    """A file may order its columns as it likes and have more of them."""
    assert scored(b"x,more,n\n1.5,?,7\n").scores == b"row,prediction,file\n0,14,f.csv\n"


TRAILING = {
    "every record": (b"n,x\n1,2,\n3,4,\n", [0, 1], {}),
    "quoted nothing": (b'n,x\n1,2,""\n3,4,\n', [0, 1], {}),
    "not in the first record": (b"n,x\n1,2\n3,4,\n", [0], {1: "3 fields where the header has 2"}),
    "filled later": (b"n,x\n1,2,\n3,4,5\n", [0], {1: "3 fields where the header has 2"}),
    "white space is not empty": (b"n,x\n1,2, \n", [], {0: "3 fields where the header has 2"}),
    "left out later": (b"n,x\n1,2,\n3,4\n", [0], {1: "2 fields where the header has 3"}),
    "two of them": (b"n,x\n1,2,,\n", [], {0: "4 fields where the header has 2"}),
    "in the header too": (b"n,x,\n1,2,\n3,4,5\n", [0, 1], {}),
    "after the header's": (b"n,x,\n1,2,,\n3,4,\n", [0], {1: "3 fields where the header has 4"}),
}


@pytest.mark.parametrize(("data", "rows", "reasons"), TRAILING.values(), ids=TRAILING.keys())
def test_trailing_delimiters(data, rows, reasons):
    """A trailing delimiter on the first data record is expected on every one."""
    result = scored(data)
    assert [int(line.split(",")[0]) for line in result.scores.decode().splitlines()[1:]] == rows
    assert {entry["row"]: entry["reason"] for entry in result.quarantine} == reasons


def test_no_header_names_from_options_or_signature():
    """Without a header the names are given, else those of the signature."""
    assert scored(b"1,2.5\n", header=False).scores == b"row,prediction,file\n0,2,f.csv\n"
    assert scored(b"1,2\n", header=False, input_columns=["x", "n"]).scores == b"row,prediction,file\n0,4,f.csv\n"


def test_file_without_a_required_column_fails():
    """A file without a column that it must have is a quarantine line for each slice, and nothing of it is predicted."""
    files = [("a.csv", b"x\n1\n2\n3\n"), ("b.csv", b"n,x\n1,2\n"), ("c.csv", b"x\n"), ("d.csv", b"n,x\n3,4\n")]
    result = score(files, NUMBERS, doubled, cell_rows=2)
    lines = [{"file": "a.csv", "row": None, "rows": rows, "reason": "column 'n' is missing"} for rows in (2, 1)]
    assert lines == result.quarantine
    assert (result.rows_read, result.rows_scored) == (5, 2)
    assert result.scores == b"row,prediction,file\n0,2,b.csv\n0,6,d.csv\n"


def test_file_without_a_column_to_keep_fails():
    """A file must have the columns to keep, too; the signature's are looked for first."""
    files = [("a.csv", b"n,x\n1,2\n"), ("b.csv", b"n\n1\n"), ("c.csv", b"n,x,id\n1,2,NA\n")]
    result = score(files, NUMBERS, doubled, cell_rows=100, keep=["id"])
    assert [entry["reason"] for entry in result.quarantine] == ["column 'id' is missing", "column 'x' is missing"]
    assert result.scores == b"row,id,prediction,file\n0,NA,2,c.csv\n"


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf", b"n,x", b"n,x\n\n"])
def test_files_without_rows(data):
    """A file of nothing, or of a header alone, has no rows and does not fail."""
    result = scored(data)
    assert (result.scores, result.quarantine, result.rows_read, result.rows_scored) == (b"", [], 0, 0)


# Missing values and types

MARKERS = re.findall("`([^`]+)`", DOCUMENT.read_text().split("the empty text,")[1].split("\n\n")[0])


@pytest.mark.parametrize("marker", ["", *MARKERS])
def test_missing_markers(marker):
    """Each marker is missing, quoted or not, in every type; pandas agrees, but for one that it knows since 2.0."""
    known = marker != "None" or Version("2") <= PANDAS
    assert not known or pd.read_csv(io.StringIO(f'a,b\n"{marker}",{marker}\n'), dtype=str).isna().all(axis=None)
    for type_name in ("string", "datetime", "binary"):
        assert fit(marker, type_name) is None
    for type_name in ("double", "float"):
        assert math.isnan(fit(marker, type_name))
    for type_name in ("long", "integer", "boolean"):
        with pytest.raises(Misfit, match=f"^blank where the signature says {type_name}$"):
            fit(marker, type_name)


def test_missing_markers_are_all_there():
    """There are nineteen, and no other text is one."""
    assert len(set(MARKERS)) == 18
    assert [fit(text, "string") for text in ("NAN", "Null", "none", "-", "?", "NaT")] == [
        "NAN",
        "Null",
        "none",
        "-",
        "?",
        "NaT",
    ]


FITS = {
    "long": [
        *[("0", 0), ("-1", -1), ("+7", 7), (" 1\t", 1), ("007", 7), ("-0", 0), ("0" * 5000 + "1", 1)],
        *[("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63))],
    ],
    "integer": [("2147483647", 2**31 - 1), ("-2147483648", -(2**31)), (" +5", 5)],
    "double": [
        *[("1", 1.0), ("-1.5", -1.5), (".5", 0.5), ("5.", 5.0), ("1e-5", 1e-5), ("+1E+2", 100.0), ("5.e1", 50.0)],
        *[("1e400", math.inf), ("-1e400", -math.inf), ("1e-400", 0.0), (" 2 ", 2.0), ("0.1", 0.1)],
        *[("inf", math.inf), ("-INF", -math.inf), ("+Infinity", math.inf), ("iNfInItY", math.inf)],
        *[("9007199254740993", 9007199254740992.0), ("0.1000000000000000055511151231257827", 0.1)],
    ],
    "float": [("0.1", float(np.float32(0.1))), ("16777217", 16777216.0), ("1e39", math.inf), ("1e-46", 0.0)],
    "boolean": [
        *[(text, True) for text in ("True", "TRUE", "true", "1", " true", "1\t")],
        *[(text, False) for text in ("False", "FALSE", "false", "0", "\t0 ")],
    ],
    "string": [("a", "a"), (" a ", " a "), ("  ", "  "), (" NA", " NA"), ("1", "1"), ("é\n", "é\n")],
    "datetime": [
        ("2024-02-29", "2024-02-29"),
        ("2024-01-02T03:04", "2024-01-02T03:04"),
        ("2024-01-02 03:04:05", "2024-01-02T03:04:05"),
        ("2024-01-02 03:04:05.123456789", "2024-01-02T03:04:05.123456789"),
        ("2024-01-02T03:04:05.5Z", "2024-01-02T03:04:05.5"),
        ("2024-01-02T03:04+02:00", "2024-01-02T01:04"),
        ("2024-01-02T03:04-0930", "2024-01-02T12:34"),
        (" 2024-01-02\t", "2024-01-02"),
        ("1969-12-31 23:59:59.999999999", "1969-12-31T23:59:59.999999999"),
        ("2262-04-11T23:47:16.854775807", "2262-04-11T23:47:16.854775807"),
        ("1677-09-21T00:12:43.145224193", "1677-09-21T00:12:43.145224193"),
        ("2262-04-12T01:00:00+02:00", "2262-04-11T23:00:00"),
    ],
    "binary": [("é", b"\xc3\xa9"), (" a ", b" a "), ("  ", b"  "), (" NA", b" NA")],
}
MISFITS = {
    "long": [
        *["1.0", "a", "1e3", "1_000", "0x10", "--1", "+ 1", "1 2", "+", "٣", "\uff11", "1\u00a0", "1\n", "true", "inf"],
    ],
    "integer": ["1.0", "a"],
    "double": [
        *["a", "1e", "e5", ".", "-.", "1_000", "0x10", "1,5", "1.2.3", "1d5", "1f", "infinit", "nan1", "٣", "- 1", "½"],
        *["1\u00a0", "1\n", "True", "ınf", "+-1"],
    ],
    "float": ["a", "1_0"],
    "boolean": ["yes", "t", "T", "tRUE", "2", "01", "1.0", "+1", "True\n"],
    "datetime": [
        *["2023-02-29", "2024-13-01", "2024-00-01", "2024-1-2", "24-01-02", "20240102", "2024/01/02", "2024-01", "now"],
        *["2024-01-02T", "2024-01-02T03", "2024-01-02  03:04", "2024-01-02\t03:04", "2024-01-02t03:04", "2024-01-02Z"],
        *["2024-01-02T24:00", "2024-01-02T23:60", "2024-01-02T23:59:60", "2024-01-02T3:04", "2024-01-02T03:04.5"],
        *["2024-01-02T03:04:05.", "2024-01-02T03:04:05,5", "2024-01-02T03:04:05.1234567890", "2024-01-02T03:04 Z"],
        *["2024-01-02T03:04z", "2024-01-02T03:04+1", "2024-01-02T03:04+01", "2024-01-02T03:04+24:00", "-2024-01-02"],
        *["2024-01-02T03:04+01:60", "0000-01-01", "NaT", "٢٠٢٤-01-02", "2024-01-02\n", "1704164645"],
    ],
}
OUT_OF_RANGE = {
    "long": ["9223372036854775808", "-9223372036854775809", "9" * 5000],
    "integer": ["2147483648", "-2147483649", "9223372036854775808"],
    "datetime": [
        *["2262-04-11T23:47:16.854775808", "1677-09-21T00:12:43.145224192", "0001-01-01", "9999-12-31"],
        "2262-04-11T23:00:00-02:00",
    ],
}


def test_every_type_of_the_document_is_tested():
    """The tables here have a row for each row of the document's."""
    types = table_under("Types")
    assert [f"`{name}`" for name in FITS] == types


@pytest.mark.parametrize(("type_name", "text", "expected"), [(t, *case) for t, cases in FITS.items() for case in cases])
def test_fit(type_name, text, expected):
    """A text that fits is its value, of the plain Python type."""
    value = fit(text, type_name)
    if type_name == "datetime":
        expected = np.datetime64(expected, "ns")
    assert (expected, type(expected)) == (value, type(value))


@pytest.mark.parametrize("text", ["nan", "+nan", "-NAN", "NaN", "\tnAn "])
def test_fit_nan(text):
    """Not-a-number is a number, in any letter case, with any sign."""
    assert math.isnan(fit(text, "double"))
    assert math.isnan(fit(text, "float"))


@pytest.mark.parametrize(("type_name", "text"), [(t, text) for t, texts in MISFITS.items() for text in texts])
def test_fit_misfits(type_name, text):
    """A text of another form does not fit."""
    with pytest.raises(Misfit) as raised:
        fit(text, type_name)
    assert raised.value.reason == ("not an integer" if type_name == "integer" else f"not a {type_name}")


@pytest.mark.parametrize(("type_name", "text"), [(t, text) for t, texts in OUT_OF_RANGE.items() for text in texts])
def test_fit_out_of_range(type_name, text):
    """A value of the right form that is too large does not fit."""
    with pytest.raises(Misfit) as raised:
        fit(text, type_name)
    assert raised.value.reason == f"out of range for {type_name}"


@pytest.mark.parametrize("type_name", [name for name in FITS if name not in ("string", "binary")])
@pytest.mark.parametrize("space", [" ", "\t", " \t "])
def test_fit_white_space_alone_is_missing(type_name, space):
    """White space alone is missing in every type but string and binary."""
    if type_name in ("long", "integer", "boolean"):
        with pytest.raises(Misfit, match=f"^blank where the signature says {type_name}$"):
            fit(space, type_name)
    else:
        assert pd.isna(fit(space, type_name))


@pytest.mark.parametrize("type_name", list(MISFITS))
def test_fit_marker_in_white_space_is_not_missing(type_name):
    """A marker is one exactly as it stands; with white space around it is a text that does not fit."""
    with pytest.raises(Misfit, match=f"^not an? {type_name}$"):
        fit(" NULL", type_name)


def test_fit_date_format():
    """With a date format, a datetime is what it says and nothing else."""
    assert np.datetime64("2024-03-02", "ns") == fit(" 02.03.2024", "datetime", "%d.%m.%Y")
    assert np.datetime64("2024-03-02T10:00", "ns") == fit("2/3/24 12:00 +0200", "datetime", "%d/%m/%y %H:%M %z")
    assert fit("NA", "datetime", "%d.%m.%Y") is None
    for text, reason in [("2024-03-02", "not a"), ("31.02.2024", "not a"), ("01.01.9999", "out of range for")]:
        with pytest.raises(Misfit, match=f"^{reason} datetime$"):
            fit(text, "datetime", "%d.%m.%Y")


@given(st.floats())
def test_fit_reads_back_every_double(value):
    """Each double is read back from its text, and rounded to a float once."""
    text = repr(value)
    assert np.array_equal(value, fit(text, "double"), equal_nan=True)
    with np.errstate(over="ignore"):
        assert np.array_equal(np.float32(value), fit(text, "float"), equal_nan=True)


# What the model is given

KINDS = [Column(name=name, type=name) for name in FITS]
DTYPES = {
    "long": "int64",
    "integer": "int32",
    "double": "float64",
    "float": "float32",
    "boolean": "bool",
    "string": str(pd.read_csv(io.StringIO("a\nb\n")).dtypes.iloc[0]),
    "datetime": "datetime64[ns]",
    "binary": "object",
}
ONE_OF_EACH = b"1,2,0.5,0.1,true,a,2024-01-02 03:04,b\n1,2,,,0,,,\n"


def test_model_is_given_the_signature():
    """The frame has the columns of the signature in its order, with its types, and rows numbered from 0."""
    frames = []
    header = ",".join(FITS).encode() + b",more\n"
    scored(header + ONE_OF_EACH.replace(b"\n", b",?\n"), KINDS, lambda frame: frames.append(frame) or doubled(frame))
    (frame,) = frames
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == DTYPES
    assert pd.RangeIndex(2).equals(frame.index)
    assert [1, 2, 0.5, np.float32(0.1), True, "a", pd.Timestamp(2024, 1, 2, 3, 4), b"b"] == frame.iloc[0].tolist()
    assert list(FITS)[2:4] + list(FITS)[5:] == frame.columns[frame.iloc[1].isna()].tolist()
    assert all(type(value) is float for value in frame["string"].iloc[1:])


def test_optional_columns():
    """An optional column is left out where a file has none, and such files share no cell with others."""
    columns = [NUMBERS[0], *(Column(name=f"o_{name}", type=name, required=False) for name in FITS)]
    frames = []
    header = ",".join(column.name for column in columns).encode() + b"\n"
    files = [("a.csv", b"n\n5\n"), ("b.csv", header + b"1," + ONE_OF_EACH.splitlines()[0]), ("c.csv", b"n\n6\n")]
    score(files, columns, lambda frame: frames.append(frame) or doubled(frame), cell_rows=2**62)
    assert [["n"], [column.name for column in columns], ["n"]] == [list(frame.columns) for frame in frames]
    assert {f"o_{name}": dtype for name, dtype in DTYPES.items()} == {
        name: str(dtype) for name, dtype in frames[1].dtypes.items() if name != "n"
    }


def test_model_is_not_called_for_nothing():
    """A cell of which no row fits is not given to the model."""
    sizes = []
    result = scored(b"n,x\na,1\nb,1\n1,1\nc,1\n", predict=lambda f: sizes.append(len(f)) or doubled(f), cell_rows=2)
    assert (sizes, result.scores) == ([1], b"row,prediction,file\n2,2,f.csv\n")


# Rows that do not fit


def test_quarantine_entries():
    """A row that does not fit tells file, row, line, column, value and reason, and what else is wrong with it."""
    data = b'x,n,more\r\n1,2,"a\r\nb"\r\n\r\n oops,NA,\r\n1,2\r\n\xff\xe2\x82,1,\xc3\xa9\r\n1,1.5,"\r\n3,4,5\r\n'
    entries = scored(data).quarantine
    blank = "blank where the signature says long"
    named = {"column": "n", "value": None, "reason": blank}
    more = [{"column": "x", "value": " oops", "reason": "not a double"}]
    record = {"file": "f.csv", "row": 4, "line": 8, "column": None}
    assert entries == [
        {"file": "f.csv", "row": 1, "line": 5, **named, "more": more},
        {**record, "row": 2, "line": 6, "value": "1,2", "reason": "2 fields where the header has 3"},
        {**record, "row": 3, "line": 7, "value": "\\xff\\xe2\\x82,1,é", "reason": "not valid utf-8"},
        {**record, "value": '1,1.5,"\r\n3,4,5\r\n', "reason": "quote is never closed"},
    ]
    keys = ["file", "row", "line", "column", "value", "reason"]
    assert [list(entry) for entry in entries] == [[*keys, "more"], keys, keys, keys]


def test_quarantine_is_in_input_order():
    """Entries come by file and row, whatever the cells are."""
    files = [("b.csv", b"n,x\n1,2\n,1\n"), ("a.csv", b"x\n1\n"), ("c.csv", b"n,x\n1,z\n")]
    result = score(files, NUMBERS, doubled, cell_rows=100)
    assert [(e["file"], e["row"]) for e in result.quarantine] == [("b.csv", 1), ("a.csv", None), ("c.csv", 0)]
    assert (result.rows_read, result.rows_scored) == (4, 1)


def test_header_that_does_not_decode():
    """Bytes of a header that do not decode are escaped in the name."""
    columns = [Column(name="n\\xff", type="long")]
    assert scored(b"n\xff\n1\n", columns).scores == b"row,prediction,file\n0,2,f.csv\n"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig"])
def test_encodings(encoding):
    """A text in another encoding is the same text, with or without a byte order mark."""
    columns = [Column(name="é", type="string")]
    data = "é\nü\n".encode(encoding)
    if encoding == "utf-16-le":
        data = b"\xff\xfe" + data
    assert "row,prediction,file\n0,üü,f.csv\n".encode() == scored(data, columns, encoding=encoding).scores


def test_encoding_without_a_character_for_a_byte():
    """A byte that the encoding lacks does not fit, as in UTF-8."""
    (entry,) = scored(b"n,x,y\n1,2,\x81\xe9\n", encoding="cp1252").quarantine
    assert (entry["value"], entry["reason"]) == ("1,2,\\x81é", "not valid cp1252")


# Cells


def cut(sizes, cell_rows):
    """The cells of files named by their place."""
    return grid_cells([(f"{i}.csv", rows, ["a"]) for i, rows in enumerate(sizes)], cell_rows)


def test_grid_without_cell_rows():
    """Without a number of rows each file is a cell."""
    assert cut([5, 0, 1], 0) == [[(0, 0, 5)], [(1, 0, 0)], [(2, 0, 1)]]


def test_grid_cuts_from_row_0_of_each_file():
    """A file of half a cell or more is cut by itself, every so many rows."""
    assert cut([9, 2, 4], 4) == [[(0, 0, 4)], [(0, 4, 8)], [(0, 8, 9)], [(1, 0, 2)], [(2, 0, 4)]]


def test_grid_groups_small_files():
    """Small files are grouped up to a cell; a file that is not small closes the group."""
    small = 10**9
    sizes = [small, small, small, small, 50 * small, small, 0, small]
    names = ["a", "b", "c", "d", "e", "f", "g", "h"]
    n = 3 * small
    # Borders by content are left out by names that have none here.
    quiet = [next(f"{name}{i}" for i in range(99) if not ends_group(f"{name}{i}", small, n)) for name in names]
    cells = grid_cells([(name, rows, ["a"]) for name, rows in zip(quiet, sizes, strict=True)], n)
    assert [[0, 1, 2], [3], *[[4]] * 17, [5, 6, 7]] == [[number for number, _, _ in cell] for cell in cells]


def test_grid_groups_files_of_the_same_columns():
    """Small files are grouped where their columns have the same names, in any order; one without rows has none."""
    columns = {"a": "xy", "b": "yx", "c": "", "d": "xy", "e": "xyz", "f": "x", "g": "x"}
    cells = grid_cells([(name, name not in "cf", names) for name, names in columns.items()], 2**40)
    assert [[number for number, _, _ in cell] for cell in cells] == [[0, 1, 2, 3], [4, 5], [6]]


def test_ends_group_by_name_and_size():
    """A border lies behind a file by its own name and size, more often the larger it is."""
    for name in ("a.csv", "é.csv"):
        border = zlib.crc32(name.encode()) * 1000 / 2**32
        assert not ends_group(name, int(border), 1000)
        assert ends_group(name, int(border) + 1, 1000)
    assert not ends_group("a.csv", 0, 1000)


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(0, 20))
def test_grid_covers_every_row_once(sizes, cell_rows):
    """Cells hold all rows of all files, in order, and no more than a cell may."""
    cells = cut(sizes, cell_rows)
    places = [(number, row) for cell in cells for number, start, stop in cell for row in range(start, stop)]
    assert [(number, row) for number, rows in enumerate(sizes) for row in range(rows)] == places
    if cell_rows:
        assert all(sum(stop - start for _, start, stop in cell) <= cell_rows for cell in cells)


# Output

TAIPEI = timezone(timedelta(hours=8))
MOMENT = datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001 - without an offset
VALUES = {
    "missing (None, NaN, NaT, NA)": [
        (value, "")
        for value in (None, math.nan, np.float32("nan"), pd.NaT, pd.NA, np.datetime64("NaT"), np.timedelta64("NaT"))
    ],
    "float64, float32, float16": [
        *[(1.0, "1.0"), (0.1, "0.1"), (1e-5, "1e-05"), (1e16, "1e+16"), (-0.0, "-0.0"), (1e15, "1000000000000000.0")],
        *[(math.inf, "inf"), (-math.inf, "-inf"), (np.float64(0.0001), "0.0001"), (5e-324, "5e-324")],
        *[(np.float32(0.1), "0.1"), (np.float32(1e8), "100000000.0"), (np.float32(1e16), "1e+16")],
        *[
            (np.float32(16777216), "16777216.0"),
            (np.float32(1e-5), "1e-05"),
            (np.float32(1e-4), "0.0001"),
            (np.float32("-inf"), "-inf"),
        ],
        *[(np.float32(3.4028235e38), "3.4028235e+38"), (np.float32(1e-45), "1e-45"), (np.float32(-0.0), "-0.0")],
        *[
            (np.float16(0.1), "0.1"),
            (np.float16(65504), "65500.0"),
            (np.float16(1), "1.0"),
            (np.float16(6e-8), "6e-08"),
        ],
    ],
    "integer": [
        (0, "0"),
        (-5, "-5"),
        (10**30, str(10**30)),
        (np.int8(-3), "-3"),
        (np.uint64(2**64 - 1), str(2**64 - 1)),
    ],
    "boolean": [(True, "True"), (False, "False"), (np.True_, "True"), (np.False_, "False")],
    "text": [("a", "a"), ("", ""), (" é\n", " é\n"), (np.str_("x"), "x"), ("NA", "NA")],
    "bytes": [(b"\xc3\xa9\xff", "é\\xff"), (np.bytes_(b"a"), "a"), (b"", "")],
    "datetime": [
        (MOMENT, "2024-01-02 03:04:05"),
        (datetime(2024, 1, 2), "2024-01-02 00:00:00"),  # noqa: DTZ001 - without an offset
        (MOMENT.replace(microsecond=60), "2024-01-02 03:04:05.000060"),
        (MOMENT.replace(year=33), "0033-01-02 03:04:05"),
        (MOMENT.replace(tzinfo=UTC), "2024-01-02 03:04:05+00:00"),
        (MOMENT.replace(tzinfo=TAIPEI, microsecond=500000), "2024-01-02 03:04:05.500000+08:00"),
        (MOMENT.replace(tzinfo=timezone(-timedelta(hours=3, minutes=30))), "2024-01-02 03:04:05-03:30"),
        (pd.Timestamp("2024-01-02"), "2024-01-02 00:00:00"),
        (pd.Timestamp("2024-01-02 03:04:05.000000001Z"), "2024-01-02 03:04:05.000000001+00:00"),
        (pd.Timestamp("2024-01-02 03:04:05.1"), "2024-01-02 03:04:05.100000"),
        (np.datetime64("2024-01-02T03:04:05.000001001"), "2024-01-02 03:04:05.000001001"),
        (np.datetime64("2024-01-02"), "2024-01-02 00:00:00"),
    ],
    "date": [(date(2024, 1, 2), "2024-01-02"), (date(33, 1, 2), "0033-01-02")],
    "timedelta and anything else": [
        (timedelta(days=1), "1 day, 0:00:00"),
        (pd.Timedelta(days=1), "1 days 00:00:00"),
        (np.timedelta64(10**9, "ns"), "0 days 00:00:01"),
        *[(Decimal("1.10"), "1.10"), (1 + 2j, "(1+2j)"), (time(3, 4), "03:04:00"), (frozenset({1}), "frozenset({1})")],
        (pd.Period("2024-01", "M"), "2024-01"),
    ],
    "list, tuple, dict, array": [
        ([1, "a", None, 0.5], "[1, 'a', None, 0.5]"),
        ([], "[]"),
        ((np.int64(1),), "(1,)"),
        ({"a": np.float64(0.5), np.str_("b"): np.array([1, 2])}, "{'a': 0.5, 'b': [1, 2]}"),
        (np.array([[1.0, np.nan], [2.0, 3.0]]), "[[1.0, nan], [2.0, 3.0]]"),
        (np.array([np.array([True]), {"k": np.int8(1)}], dtype=object), "[[True], {'k': 1}]"),
        ([(np.True_, [np.float32(0.5)])], "[(True, [0.5])]"),
    ],
}
TYPED = [
    (2.0, "long", "2"),
    (-2.0, "integer", "-2"),
    (np.float32(3), "long", "3"),
    (-0.0, "long", "0"),
    (2.5, "long", "2.5"),
    (math.inf, "long", "inf"),
    (math.nan, "long", ""),
    (1e18, "long", "1000000000000000000"),
    (2.0**63, "long", "9.223372036854776e+18"),
    (-(2.0**63), "long", "-9223372036854775808"),
    (2.0**31, "integer", "2147483648.0"),
    (2, "long", "2"),
    (2, "double", "2.0"),
    (np.int64(2), "float", "2.0"),
    (10**16, "double", "1e+16"),
    (2**53 + 1, "double", "9007199254740993"),
    (2**24 + 1, "double", "16777217.0"),
    (2**24 + 1, "float", "16777217"),
    (2**31, "float", "2147483600.0"),
    (10**400, "double", str(10**400)),
    (10**39, "float", str(10**39)),
    (0.1, "float", "0.1"),
    (np.float32(0.1), "double", "0.1"),
    (True, "long", "True"),
    (True, "double", "True"),
    (1, "boolean", "1"),
    (1, "string", "1"),
    ("2", "long", "2"),
    ("a", "double", "a"),
    (None, "string", ""),
    ([2.0], "long", "[2.0]"),
]


def test_every_value_of_the_document_is_tested():
    """The table here has a row for each row of the document's."""
    assert list(VALUES) == table_under("Output")


@pytest.mark.parametrize(("value", "expected"), [case for cases in VALUES.values() for case in cases], ids=repr)
def test_value_text(value, expected):
    """Each value is written as the document says."""
    assert value_text(value) == expected


@pytest.mark.parametrize(("value", "kind", "expected"), TYPED, ids=repr)
def test_value_text_by_the_type_of_the_signature(value, kind, expected):
    """A value is written by the type its signature names, where nothing is lost by it."""
    assert value_text(value, kind) == expected


# pandas writes a float32 as NumPy prints it: new versions with an exponent from 1e6 on and at 1e-04, Python with none.
ONE_TYPED = {
    "float64": st.floats(),
    "float32": st.floats(width=32).filter(
        lambda value: not 1e6 <= abs(value) < 1e16 and abs(value) != np.float32(1e-4)
    ),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint8": st.integers(0, 255),
    "bool": st.booleans(),
    "Int64": st.none() | st.integers(-(2**63), 2**63 - 1),
    "boolean": st.none() | st.booleans(),
    "object": st.none() | st.text(alphabet='ab,"\n é;\t', max_size=4) | st.lists(st.integers() | st.text(), max_size=2),
    "string": st.none() | st.text(alphabet='ab,"\n é;\t', max_size=4),
    "datetime64[ns]": st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)).map(  # noqa: DTZ001 - without offsets
        lambda moment: pd.Timestamp(moment.replace(microsecond=0)) + pd.Timedelta(789, "ns")
    ),
    "datetime64[us, UTC]": st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)).map(  # noqa: DTZ001 - see below
        lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000 + 1, tzinfo=UTC)
    ),
}


@pytest.mark.parametrize("dtype", ONE_TYPED)
@given(data=st.data())
def test_value_text_equals_that_of_pandas(dtype, data):
    """A column of one type is written as `to_csv` writes it."""
    values = data.draw(st.lists(ONE_TYPED[dtype], min_size=1, max_size=8))
    column = pd.Series(values, dtype=dtype)
    frame = pd.DataFrame({"a": column, "b": 1})
    own = "".join(csv_line([value_text(value), "1"]) for value in column.array)
    assert frame.to_csv(index=False, header=False, lineterminator="\n") == own


@given(st.floats(width=32))
def test_value_text_of_floats_is_the_shortest(value):
    """The text of a 32-bit float reads back the same and has Python's form."""
    text = value_text(np.float32(value))
    if not math.isnan(value):
        assert np.float32(value) == np.float32(text)
        assert text == repr(float(text))
        assert len(text) <= len(repr(float(np.float32(value))))


@given(st.lists(st.text(alphabet="ab,\"\n\r é;\t'", max_size=5), min_size=2, max_size=4))
def test_csv_line_reads_back(fields):
    """A line is one record again, and only fields that need them have quotes."""
    line = csv_line(fields)
    ((again,)) = csv.reader(io.StringIO(line, newline=""))
    assert again == fields
    for text in fields:
        assert (f'"{text.replace(chr(34), chr(34) * 2)}"' in line) >= bool(set(text) & set(',"\r\n'))
    assert line.endswith("\n")


SHAPES = {
    "DataFrame": (pd.DataFrame({"a": [1, 2], 3: ["x", None]}), ["a", "3"], [["1", "x"], ["2", ""]]),
    "DataFrame of floats": (pd.DataFrame({"a": np.array([0.1, 1], "float32")}), ["a"], [["0.1"], ["1.0"]]),
    "index permuted": (pd.DataFrame({"a": [1, 2]}, index=[1, 0]), ["a"], [["2"], ["1"]]),
    "another index": (pd.DataFrame({"a": [1, 2]}, index=[7, 7]), ["a"], [["1"], ["2"]]),
    "Series": (pd.Series([0.5, np.nan], name="y"), ["prediction"], [["0.5"], [""]]),
    "Series permuted": (pd.Series([0.5, 1], index=[1, 0]), ["prediction"], [["1.0"], ["0.5"]]),
    "1-D": (np.array([1, 2]), ["prediction"], [["1"], ["2"]]),
    "2-D": (np.array([[1, 2], [3, 4]]), ["prediction_0", "prediction_1"], [["1", "2"], ["3", "4"]]),
    "list": ([None, [1, 2]], ["prediction"], [[""], ["[1, 2]"]]),
    "dict of arrays": ({"a": np.array([True, False]), "b": [b"x", "y"]}, ["a", "b"], [["True", "x"], ["False", "y"]]),
    "dict of Series": ({"a": pd.Series(np.array([0.1, 2], "float32"))}, ["a"], [["0.1"], ["2.0"]]),
    "list of dicts": ([{"a": 1}, {"b": 2, "a": 3}], ["a", "b"], [["1", ""], ["3", "2"]]),
}


@pytest.mark.parametrize(("result", "names", "texts"), SHAPES.values(), ids=SHAPES.keys())
def test_prediction_columns(result, names, texts):
    """What a model returns becomes named columns."""
    columns = prediction_columns(result, 2)
    assert [name for name, _ in columns] == names
    assert [[value_text(values[i]) for _, values in columns] for i in range(2)] == texts


def test_prediction_columns_of_another_size():
    """Another number of rows than were given, or a third dimension, is an error."""
    with pytest.raises(ValueError, match="the model returned 2 rows for 3"):
        prediction_columns([1, 2], 3)
    with pytest.raises(ValueError, match="3 dimensions"):
        prediction_columns(np.zeros((2, 1, 1)), 2)


def test_score_keeps_columns_and_writes_by_type():
    """Kept columns are copied as they stand, predictions are written by the signature's types, names are quoted."""

    def predict(frame):
        return pd.DataFrame({"a,b": frame["x"], "c": frame["n"]})

    files = [("é,.csv", b'n,x,id\n1,2,"u,""v"\n3,4,\n'), ("z.csv", b"n,x,id\n5,,NA,\n")]
    result = score(files, NUMBERS, predict, cell_rows=0, keep=["id"], output_types={"a,b": "long", "c": "double"})
    expected = 'row,id,"a,b",c,file\n0,"u,""v",2,1.0,"é,.csv"\n1,,4,3.0,"é,.csv"\n0,NA,,5.0,z.csv\n'
    assert expected.encode() == result.scores


def test_score_needs_the_same_columns_of_every_cell():
    """Other prediction columns in a later cell are an error."""
    with pytest.raises(ValueError, match="columns"):
        scored(b"n,x\n1,2\n3,4\n", predict=lambda frame: {str(frame["n"].iloc[0]): [1]}, cell_rows=1)


# Whole jobs


def texts(frame):
    """Give each row as text: a change of any value changes it."""
    return [repr(row) for row in frame.reset_index(drop=True).astype(object).itertuples(index=False, name=None)]


@given(csv_files(COLUMNS), st.integers(1, 9))
def test_score_does_not_depend_on_the_grid(files, cell_rows):
    """A model that looks at one row at a time gives the same bytes on any grid, and every row is accounted for."""
    columns = [column for column in COLUMNS if column.required]
    whole = score(files, columns, texts, cell_rows=0)
    cut = score(files, columns, texts, cell_rows=cell_rows)
    assert (cut.scores, cut.rows_read, cut.rows_scored) == (whole.scores, whole.rows_read, whole.rows_scored)
    assert [entry for entry in cut.quarantine if entry["row"] is not None] == [
        entry for entry in whole.quarantine if entry["row"] is not None
    ]
    # A failed file has a line for each of its slices.
    lost, lost_whole = (sum(entry.get("rows", 1) for entry in result.quarantine) for result in (cut, whole))
    assert lost == lost_whole
    assert whole.rows_scored + lost == whole.rows_read
    order = {path: place for place, (path, _) in enumerate(files)}
    lines = [(line[-1], int(line[0])) for line in list(csv.reader(io.StringIO(whole.scores.decode(), newline="")))[1:]]
    for places in (lines, [(entry["file"], entry["row"] or 0) for entry in whole.quarantine]):
        assert sorted(places, key=lambda place: (order[place[0]], place[1])) == places


@given(plain_csv_files(COLUMNS))
def test_score_of_plain_files_equals_pandas(files):
    """Plain files are read as pandas reads them."""
    result = score(files, COLUMNS, texts, cell_rows=5)
    expected = []
    for path, data in files:
        frame = pd.read_csv(io.BytesIO(data), dtype={"s": str})
        frame = frame.astype({"n": "int64", "x": "float64"})
        frame["t"] = pd.to_datetime(frame["t"], **ISO).astype("datetime64[ns]")
        expected += [[str(row), text, path] for row, text in enumerate(texts(frame))]
    assert result.quarantine == []
    assert list(csv.reader(io.StringIO(result.scores.decode(), newline="")))[1:] == expected


@given(plain_csv_files(KINDS, delimiter=";"))
def test_plain_files_fit(files):
    """Every row of a plain file fits, whatever the types are."""
    result = score(files, KINDS, texts, cell_rows=4, delimiter=";")
    assert ([], result.rows_read) == (result.quarantine, result.rows_scored)
