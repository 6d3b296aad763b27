"""Reading a cell: types one by one against the reference, misfits, accounts, and files that change."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import readers, reference
from scoring.cells import Cell, InputFile, slice_digest
from scoring.errors import InputError
from scoring.fields import MISSING, convert
from scoring.readers import read_cell, read_text
from scoring.reference import Misfit, fit
from scoring.rows import Dialect
from scoring.scan import Begin
from scoring.scanner import Scan
from scoring.specs import COLUMN_TYPES, ColumnSpec, ReadPlan
from tests.csv_texts import examples, field_texts

COLUMNS = (ColumnSpec(name="n", type="long"), ColumnSpec(name="x", type="double"))


def cells_of(*paths: Path, cell_rows: int = 10**9, dialect: Dialect | None = None) -> list[Cell]:
    """The cells of files."""
    files = tuple(InputFile(name=path.name, url=str(path), size_bytes=0, version="") for path in paths)
    return list(Scan(files, dialect or Dialect(), Begin(spool_bytes=1), cell_rows).run())


def read(path: Path, data: bytes, **plan):
    """Read all of a file in one cell."""
    path.write_bytes(data)
    (cell,) = cells_of(path, dialect=plan.get("dialect"))
    return read_cell(cell, ReadPlan(**{"columns": COLUMNS, "dialect": Dialect(), **plan}))


@pytest.fixture
def path(tmp_path):
    """Where a file may be written."""
    return tmp_path / "a.csv"


# Types


def fitted(text: str, kind: str, date_format: str | None) -> object:
    """What the reference makes of a text: a value that can be compared, or a reason."""
    try:
        value = fit(text, kind, date_format)
    except Misfit as misfit:
        return misfit.reason
    if kind == "datetime" and value is not None:
        return ("value", value.astype("int64"))
    if kind == "float":
        return ("value", str(np.float32(value)))
    return ("value", str(value) if isinstance(value, float) else value)


def converted(text: str, kind: str, date_format: str | None) -> object:
    """The same of the fast conversion."""
    column = pa.array([None if text in MISSING else text, "?"], pa.string())
    values, reasons = convert(column, kind, date_format)
    if 0 in reasons:
        assert values[0].as_py() is None
        return reasons[0]
    if kind == "datetime":
        return ("value", values.cast(pa.int64())[0].as_py())
    value = values[0].as_py()
    if kind in ("double", "float"):
        value = math.nan if value is None else value
        return ("value", str(np.float32(value) if kind == "float" else value))
    return ("value", value.encode() if kind == "binary" and value is not None else value)


def agree(text: str, kind: str, date_format: str | None) -> None:
    """Compare the two, and what Arrow makes of the text by itself."""
    expected = fitted(text, kind, date_format)
    assert converted(text, kind, date_format) == expected


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("kind", COLUMN_TYPES)
@examples(200)
@given(st.data())
def test_convert_equals_the_reference(kind, data):
    """Each text is the value, or misfits for the reason, that the reference says."""
    formats = [None, None, "%d.%m.%Y", "%Y-%m-%d %H:%M:%S%z"] if kind == "datetime" else [None]
    agree(data.draw(field_texts(kind)), kind, data.draw(st.sampled_from(formats)))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("kind", ["long", "integer", "double", "float"])
def test_convert_numbers_of_thousands_of_digits(kind):
    """Numbers are read however many digits they have."""
    nines, noughts = "9" * 5000, "0" * 5000
    for text in (nines, f"-{nines}", f"{noughts}7", f"-{noughts}7", f"+{noughts}", f".{noughts}1", f"1e{nines}"):
        agree(text, kind, None)


@given(st.lists(st.floats(), min_size=1))
def test_doubles_are_the_nearest(private_temporary_folder, values):
    """Every double is read as the one whose text it is, by Arrow too."""
    path = private_temporary_folder / "doubles.csv"
    found = read(path, ("n,x\n" + "".join(f"1,{value!r}\n" for value in values)).encode())
    assert found.table["x"].to_pandas().map(str).tolist() == [str(value) for value in values]
    path.unlink()


# Misfits


def test_misfits_are_named_in_the_order_of_the_signature(path):
    """A row that does not fit is an entry with its first misfit, and the others beside it; good rows go on."""
    found = read(path, b"x,n\n1.5,1\nodd,\n\n2,7\n3,many\n", columns=COLUMNS)
    assert found.quarantine == [
        {
            "file": "a.csv", "row": 1, "line": 3, "column": "n", "value": None,
            "reason": "blank where the signature says long",
            "more": [{"column": "x", "value": "odd", "reason": "not a double"}],
        },
        {"file": "a.csv", "row": 3, "line": 6, "column": "n", "value": "many", "reason": "not a long"},
    ]  # fmt: skip
    assert found.causes == {"n: blank where the signature says long": 1, "n: not a long": 1}
    assert found.table.to_pydict() == {"n": [1, 7], "x": [1.5, 2.0]}
    assert found.rows.tolist() == [0, 2]
    (account,) = found.accounts
    assert (account.rows, account.quarantined, account.given_up) == (4, 2, 0)


def test_values_can_be_left_out_of_the_quarantine(path):
    """No text of the input is in an entry, if so asked for."""
    found = read(path, b"n,x\nsecret,secret\n1,2,secret\n1,secret\n", quarantine_values=False)
    assert "secret" not in str(found.quarantine)
    assert "secret" not in str(found.causes)
    assert [entry["reason"] for entry in found.quarantine] == [
        "not a long", "3 fields where the header has 2", "not a double",
    ]  # fmt: skip


def test_kept_columns_are_text(path):
    """Columns to keep are copied as they stand, markers of missing values too, for the rows that fit."""
    found = read(path, b'n,note,x\n1,NA,2\nodd,?,2\n3,"a ""b""\n",4\n4,,4\n', keep=("note", "n"))
    assert [column.to_pylist() for column in found.keep] == [["NA", 'a "b"\n', ""], ["1", "3", "4"]]


def test_rows_of_many_files_are_told_apart(tmp_path):
    """Files read together keep their row numbers and counts, misfits and empty files among them."""
    texts = {"a.csv": b"n,x\n1,1\n2,2", "b.csv": b"x,n\n3,3\nodd,4\n5,5\n", "c.csv": b"x,n\n", "d.csv": b"n,x\n6,\r\n"}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    (cell,) = cells_of(*sorted(tmp_path.iterdir()), cell_rows=10**6)
    found = read_cell(cell, ReadPlan(columns=COLUMNS, dialect=Dialect()))
    assert found.table["n"].to_pylist() == [1, 2, 3, 5, 6]
    assert found.rows.tolist() == [0, 1, 0, 2, 0]
    assert found.counts == [("a.csv", 2), ("b.csv", 2), ("d.csv", 1)]
    assert [(each.name, each.rows, each.quarantined) for each in found.accounts] == [
        ("a.csv", 2, 0), ("b.csv", 3, 1), ("c.csv", 0, 0), ("d.csv", 1, 0),
    ]  # fmt: skip
    assert [each.digest for each in found.accounts] == [slice_digest(text) for text in texts.values()]


def test_failed_files_are_given_up(tmp_path):
    """A file without a column that it must have is a line of its own in the quarantine; one without rows is not."""
    texts = {"a.csv": b"x\n1\n2\n", "b.csv": b"x\n", "c.csv": b"x\n3\n"}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    (cell,) = cells_of(*sorted(tmp_path.iterdir()), cell_rows=10**6)
    found = read_cell(cell, ReadPlan(columns=COLUMNS, dialect=Dialect()))
    reason = "column 'n' is missing"
    assert found.quarantine == [
        {"file": "a.csv", "row": None, "rows": 2, "reason": reason},
        {"file": "c.csv", "row": None, "rows": 1, "reason": reason},
    ]
    assert (found.table, found.causes) == (None, {"rows of files without column 'n'": 3})
    assert [(each.rows, each.given_up) for each in found.accounts] == [(2, 2), (0, 0), (1, 1)]


def test_files_with_a_problem_are_given_up(path):
    """What could not be read on is a line with the problem, and nobody knows its rows."""
    path.write_bytes(b"n,x\n1,2\n")
    (cell,) = cells_of(path)
    broken = replace(cell.slices[0], rows=0, problem="cannot be read: I/O error")
    found = read_cell(Cell(slices=(broken,)), ReadPlan(columns=COLUMNS, dialect=Dialect()))
    assert found.quarantine == [{"file": "a.csv", "row": None, "rows": None, "reason": "cannot be read: I/O error"}]
    assert (found.table, found.accounts[0].problem) == (None, "cannot be read: I/O error")


# Odd files

ODD = {
    "nothing odd": b"1,2\n",
    "a line of white space": b"1,2\n \t\n3,4\n",
    "a byte order mark in the first row": b"\xef\xbb\xbf,2\n1,2\n",
    "bytes that are not valid": b"1,2\n3,\xff\n",
    "a stray quote": b'1,2\n3,4"\n5,6\n',
    "text behind a quote": b'"1"0,2\n3,"4"\n',
    "a quote never closed": b'1,2\n3,"4\n5,6\n',
    "a quote never closed at the end": b'1,2\n3,"',
    "hexadecimal numbers": b"0x10,0x10\n1,2\n",
    "payloads of not-a-number": b"1,nan(1)\n2,nan\n",
    "white space around numbers": b" 1,\t2 \n1 ,2\n",
    "lone carriage returns": b"1,2\r3,4\r\r5,6",
    "ragged rows": b"1\n1,2\n1,2,3\n,\n",
    "a trailing delimiter": b"1,2,\n3,4\n5,6,7\n8,9,\n,,\n1,2,\xff\n",
    "zero bytes": b"1,2\n\0,4\n5,6\0\n",
}


@pytest.mark.parametrize("rows", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("keep", [(), ("x",)])
def test_odd_rows_are_read_as_the_reference_does(path, rows, keep):
    """Whatever stands in a file, the rows and misfits found are those of the reference."""
    data = b"n,x\n" + rows
    columns = [reference.Column(name=column.name, type=column.type) for column in COLUMNS]
    seen = []
    expected = reference.score(
        [("a.csv", data)], columns, lambda frame: seen.append(frame) or frame["n"], cell_rows=0, keep=keep
    )
    found = read(path, data, keep=keep)
    assert found.quarantine == expected.quarantine
    if seen:
        assert seen[0].equals(found.table.to_pandas())


def test_plain_rows_are_never_read_one_by_one(path, monkeypatch):
    """The slow way is taken only where Arrow cannot see the same records."""
    monkeypatch.setattr(readers, "_read_by_record", None)
    slow = {"a line of white space", "a byte order mark in the first row", "bytes that are not valid"}
    slow |= {"a quote never closed", "a quote never closed at the end", "a trailing delimiter"}
    for name, rows in ODD.items():
        if name not in slow:
            assert read(path, b"n,x\n" + rows).accounts[0].rows


# Files that change


def test_a_file_that_became_shorter(path):
    """A file that lost bytes since it was scanned is an error that says so."""
    path.write_bytes(b"n,x\n1,2\n3,4\n")
    (cell,) = cells_of(path)
    path.write_bytes(b"n,x\n1,2\n")
    with pytest.raises(InputError, match=r"a\.csv: the file became shorter while it was scored; run again when"):
        read_cell(cell, ReadPlan(columns=COLUMNS, dialect=Dialect()))


def test_a_file_that_has_other_rows(path):
    """A file with another number of rows in the same bytes is an error that says so."""
    path.write_bytes(b"n,x\n1,2\n3,4\n")
    (cell,) = cells_of(path)
    path.write_bytes(b"n,x\n1,2\n\n\n\n\n")
    with pytest.raises(InputError, match=r"a\.csv: the file changed while it was scored; run again when it rests"):
        read_cell(cell, ReadPlan(columns=COLUMNS, dialect=Dialect()))


def test_a_file_that_is_gone(path):
    """A file that went away is the system's error, with its name."""
    path.write_bytes(b"n,x\n1,2\n")
    (cell,) = cells_of(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.csv"):
        read_cell(cell, ReadPlan(columns=COLUMNS, dialect=Dialect()))


# Rows of text


def test_first_rows_as_text(path):
    """The first rows are given as they stand, ragged ones left out."""
    path.write_bytes(b'\xef\xbb\xbfa,b\n\n1,"x\ny"\n2\nNA,\xff,\n3,\n4,"5"\n')
    (cell,) = cells_of(path)
    plan = ReadPlan(columns=(), dialect=Dialect())
    assert read_text(cell.slices[0], plan, 3).to_pydict() == {"a": ["1", "3", "4"], "b": ["x\ny", "", "5"]}
    assert read_text(cell.slices[0], plan, 1).to_pydict() == {"a": ["1"], "b": ["x\ny"]}
