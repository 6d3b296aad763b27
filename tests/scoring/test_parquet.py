"""Parquet: cut at row groups, read as CSV is, and what does not fit or is damaged."""

import datetime as dt
import decimal
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.cell_score import CellScore
from scoring.cells import covered_digest, identity_digest, input_digest, name_digest
from scoring.errors import InputError
from scoring.files import InputSpec, list_inputs
from scoring.mlflow_model import MlflowModel
from scoring.probe import first_columns, objection_to_cutting
from scoring.readers import first_rows, read_cell
from scoring.rows import Dialect
from scoring.scan import Begin, StagedCells, StagedCover
from scoring.scanner import Scan, choose_grid
from scoring.specs import ColumnSpec, ReadPlan, ScorerSpec

COLUMNS = (ColumnSpec(name="n", type="long"), ColumnSpec(name="x", type="double"))


def plan_of(*columns, **options):
    """How to read these columns."""
    return ReadPlan(columns=columns or COLUMNS, dialect=Dialect(), **options)


def listed(root, **options):
    """The files of a folder, or a file."""
    return list_inputs(InputSpec(url=str(root), **options)).files


def cells_of(root, cell_rows=0, **begin):
    """The cells of a folder, or of a file."""
    return list(Scan(listed(root), Dialect(), Begin(spool_bytes=1, **begin), cell_rows).run())


def written(path, columns, rows_per_group=None):
    """Write columns, and return the only cell of the file."""
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, path, row_group_size=rows_per_group)
    (cell,) = cells_of(path)
    return cell


def numbers(rows):
    """A table of two numbers a row."""
    return pa.table({"n": pa.array(np.arange(rows)), "x": pa.array(np.arange(rows) / 4)})


# Cutting


@pytest.mark.parametrize(
    ("cell_rows", "expected"),
    [(0, [1000]), (1, [100] * 10), (100, [100] * 10), (299, [200] * 5), (300, [300, 300, 300, 100]), (5000, [1000])],
)
def test_cells_are_whole_row_groups(tmp_path, cell_rows, expected):
    """As many row groups as the grid has room for make a cell, one at the least; together they are the file."""
    pq.write_table(numbers(1000), tmp_path / "a.parquet", row_group_size=100)
    cells = cells_of(tmp_path / "a.parquet", cell_rows)
    parts = [part for cell in cells for part in cell.slices]
    assert [part.rows for part in parts] == expected
    assert (parts[0].start, parts[-1].stop) == (0, (tmp_path / "a.parquet").stat().st_size)
    assert all(before.stop == after.start for before, after in pairwise(parts))
    assert {(part.format, part.columns, part.problem) for part in parts} == {("parquet", ("n", "x"), "")}
    found = [read_cell(cell, plan_of()) for cell in cells]
    assert [row for each in found for row in each.rows] == list(range(1000))
    assert [n for each in found for n in each.table["n"].to_pylist()] == list(range(1000))


def test_row_groups_without_rows_and_files_without_rows(tmp_path):
    """Row groups of no rows belong to the cell they stand in, and a file without rows is a slice without rows."""
    with pq.ParquetWriter(tmp_path / "a.parquet", numbers(0).schema) as writer:
        for rows in (0, 3, 0, 2, 0):
            writer.write_table(numbers(rows))
    pq.write_table(numbers(0), tmp_path / "b.pqt")
    assert [[part.rows for part in cell.slices] for cell in cells_of(tmp_path, 3)] == [[3], [2], [0]]
    (empty,) = cells_of(tmp_path / "b.pqt")
    found = read_cell(empty, plan_of())
    assert (found.table, len(found.rows), found.accounts[0].rows) == (None, 0, 0)


@pytest.mark.parametrize("limit", [1, 99, 100, 101, 250])
@pytest.mark.parametrize("cell_rows", [0, 100, 1000])
def test_limit_ends_within_a_row_group(tmp_path, limit, cell_rows):
    """With a limit the scan ends at this row of the input, whichever row group it stands in."""
    for name in ("a.parquet", "b.parquet"):
        pq.write_table(numbers(150), tmp_path / name, row_group_size=100)
    cells = cells_of(tmp_path, cell_rows, limit_rows=limit)
    assert sum(cell.rows for cell in cells) == limit
    found = [int(row) for cell in cells for row in read_cell(cell, plan_of()).rows]
    assert found == [*range(150), *range(150)][:limit]


def test_small_files_of_the_same_columns_are_grouped(tmp_path):
    """Small files are scored together, but not with CSV files, and not with other columns."""
    for name in ("a.parquet", "b.parquet", "d.parquet"):
        pq.write_table(numbers(10), tmp_path / name)
    (tmp_path / "c.csv").write_text("n,x\n1,2\n")
    pq.write_table(pa.table({"n": [1], "y": [2.0]}), tmp_path / "e.parquet")
    cells = cells_of(tmp_path, 10**6)
    assert [[part.name for part in cell.slices] for cell in cells] == [
        ["a.parquet", "b.parquet"], ["c.csv"], ["d.parquet"], ["e.parquet"],
    ]  # fmt: skip
    found = read_cell(cells[0], plan_of())
    assert found.rows.tolist() == [*range(10), *range(10)]
    assert found.counts == [("a.parquet", 10), ("b.parquet", 10)]


def test_grid_is_chosen_by_the_bytes_in_memory(tmp_path):
    """The grid depends on the rows and bytes that the footers name, and is the same for files of either format."""
    pq.write_table(numbers(400_000), tmp_path / "a.parquet")
    grid = choose_grid(listed(tmp_path), Dialect(), -1)
    assert (grid.cell_rows, grid.estimated_rows) == (16_384, 400_000)
    assert choose_grid(listed(tmp_path), Dialect(), 7).cell_rows == 7


def test_arrow_is_imported_only_for_parquet(tmp_path):
    """The scanner of CSV files does without Arrow."""
    code = (
        "import sys; from scoring.scanner import Scan, choose_grid; from scoring.files import *; "
        "from scoring.rows import Dialect; from scoring.scan import Begin; "
        "files = list_inputs(InputSpec(url=sys.argv[1])).files; choose_grid(files, Dialect(), -1); "
        "list(Scan(files, Dialect(), Begin(), 0).run()); print('pyarrow' in sys.modules)"
    )
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text("n\n1\n")
    shutil.copytree(tmp_path / "csv", tmp_path / "both")
    pq.write_table(numbers(1), tmp_path / "both" / "a.parquet")
    for folder, expected in {"csv": "False", "both": "True"}.items():
        ran = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / folder)], capture_output=True, text=True, check=True
        )
        assert ran.stdout.strip() == expected


# What is staged already


def staged_as(cell, files, scored):
    """A part that covers a cell."""
    (part,) = cell.slices
    covered = ((each.name, each.start, each.stop, each.digest) for each in scored.accounts)
    return StagedCover(
        key="k", name_digest=name_digest(part.name), start=part.start, length=cell.size_bytes, rows=cell.rows,
        identity=identity_digest(files), input_digest=input_digest(covered),
    )  # fmt: skip


def test_row_groups_that_are_staged_are_found_again(tmp_path):
    """A part is used again where only the file's time changed, and not where its bytes or its columns' names did."""
    path = tmp_path / "a.parquet"
    pq.write_table(numbers(300), path, row_group_size=100)
    files = listed(path)
    second = cells_of(path, 100)[1]
    cover = staged_as(second, files, read_cell(second, plan_of()))
    older = tuple(replace(file, version="1") for file in files)

    def found_again(files):
        begin = Begin(staged=(cover,))
        return [isinstance(found, StagedCells) for found in Scan(files, Dialect(), begin, 100).run()]

    assert found_again(files) == found_again(older) == [False, True, False]
    pq.write_table(numbers(300).rename_columns(["n", "y"]), path, row_group_size=100)
    assert found_again(older) == [False, False, False]


def test_digest_of_a_slice_is_that_of_its_account(tmp_path):
    """What the worker digests is what the scanner compares with."""
    pq.write_table(numbers(300), tmp_path / "a.parquet", row_group_size=100)
    for cell in cells_of(tmp_path, 100):
        assert [each.digest for each in read_cell(cell, plan_of()).accounts] == [covered_digest(cell.slices[0])]


# Types

DAY = dt.date(2024, 2, 29)
MOMENT = dt.datetime.fromisoformat("2024-02-29T12:30:01.250")
ZONE = dt.timezone(dt.timedelta(hours=2))
FITS = {
    "int32 as long": (pa.int32(), [1, -1], "long", [1, -1]),
    "uint64 as long": (pa.uint64(), [0, 2**63 - 1], "long", [0, 2**63 - 1]),
    "int64 as integer": (pa.int64(), [2**31 - 1, -(2**31)], "integer", [2**31 - 1, -(2**31)]),
    "whole floats as long": (pa.float64(), [1.0, -0.0, -(2.0**63)], "long", [1, 0, -(2**63)]),
    "text as long": (pa.string(), [" 7", "+8"], "long", [7, 8]),
    "decimal as long": (pa.decimal128(5, 0), [decimal.Decimal(7)], "long", [7]),
    "int64 as double": (pa.int64(), [1, None], "double", [1.0, None]),
    "float32 as double": (pa.float32(), [0.5, None], "double", [0.5, None]),
    "decimal as double": (pa.decimal128(5, 2), [decimal.Decimal("1.25")], "double", [1.25]),
    "text as double": (pa.large_string(), ["1e3", "", "NA", None], "double", [1000.0, None, None, None]),
    "nothing as double": (pa.null(), [None], "double", [None]),
    "double as float": (pa.float64(), [0.1, None], "float", [np.float32(0.1).item(), None]),
    "bool as boolean": (pa.bool_(), [True, False], "boolean", [True, False]),
    "integer as boolean": (pa.int8(), [1, 0], "boolean", [True, False]),
    "text as boolean": (pa.string(), ["true", "FALSE"], "boolean", [True, False]),
    "text as string": (pa.string(), ["a", "", "NA", None], "string", ["a", "", "NA", None]),
    "categories as string": (
        pa.dictionary(pa.int8(), pa.string()), ["a", "b", None, "a"], "string", ["a", "b", None, "a"],
    ),
    "bytes as string": (pa.binary(), [b"a", None], "string", ["a", None]),
    "integer as string": (pa.int64(), [1, None], "string", ["1", None]),
    "float as string": (pa.float64(), [1.0, None], "string", ["1.0", None]),
    "microseconds as datetime": (pa.timestamp("us"), [MOMENT, None], "datetime", [pd.Timestamp(MOMENT), None]),
    "milliseconds as datetime": (pa.timestamp("ms"), [MOMENT], "datetime", [pd.Timestamp(MOMENT)]),
    "zoned as datetime": (
        pa.timestamp("us", "+02:00"), [MOMENT.replace(tzinfo=ZONE)], "datetime",
        [pd.Timestamp(MOMENT) - pd.Timedelta(hours=2)],
    ),
    "day as datetime": (pa.date32(), [DAY, None], "datetime", [pd.Timestamp(DAY), None]),
    "text as datetime": (pa.string(), ["2024-02-29", ""], "datetime", [pd.Timestamp(DAY), None]),
    "bytes as binary": (pa.binary(), [b"\xff", None], "binary", [b"\xff", None]),
    "text as binary": (pa.string(), ["é"], "binary", ["é".encode()]),
}  # fmt: skip


@pytest.mark.parametrize(("stored", "values", "kind", "expected"), FITS.values(), ids=FITS.keys())
def test_values_that_fit(tmp_path, stored, values, kind, expected):
    """A value is given as the signature's type where nothing of it is lost (contract 4.2)."""
    cell = written(tmp_path / "a.parquet", {"c": pa.array(values, stored)})
    found = read_cell(cell, plan_of(ColumnSpec(name="c", type=kind)))
    assert found.quarantine == []
    assert found.table["c"].to_pylist() == expected


BLANK = "blank where the signature says"
MISFITS = {
    "null as long": (pa.int64(), None, "long", None, f"{BLANK} long"),
    "null as boolean": (pa.bool_(), None, "boolean", None, f"{BLANK} boolean"),
    "null in a column of nulls": (pa.null(), None, "integer", None, f"{BLANK} integer"),
    "NaN as long": (pa.float64(), math.nan, "long", None, f"{BLANK} long"),
    "empty text as long": (pa.string(), "", "long", None, f"{BLANK} long"),
    "fraction as long": (pa.float64(), 1.5, "long", "1.5", "not a long"),
    "infinity as integer": (pa.float64(), math.inf, "integer", "inf", "not an integer"),
    "large float as long": (pa.float64(), 2.0**63, "long", "9.223372036854776e+18", "out of range for long"),
    "large as integer": (pa.int64(), 2**31, "integer", "2147483648", "out of range for integer"),
    "large unsigned as long": (pa.uint64(), 2**63, "long", "9223372036854775808", "out of range for long"),
    "text as long": (pa.string(), "many", "long", "many", "not a long"),
    "bool as long": (pa.bool_(), True, "long", "True", "not a long"),
    "day as long": (pa.date32(), DAY, "long", "2024-02-29", "not a long"),
    "list as double": (pa.list_(pa.int64()), [1, 2], "double", "[1, 2]", "not a double"),
    "two as boolean": (pa.int64(), 2, "boolean", "2", "not a boolean"),
    "number as datetime": (pa.int64(), 2024, "datetime", "2024", "not a datetime"),
    "far moment": (
        pa.timestamp("s"), dt.datetime.fromisoformat("9000-01-01"), "datetime", "9000-01-01 00:00:00",
        "out of range for datetime",
    ),
    "bytes that are no text": (pa.binary(), b"\xff", "string", "\\xff", "not valid utf-8"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS.values(), ids=MISFITS.keys())
def test_values_that_do_not_fit(tmp_path, case):
    """A value that does not fit costs its row, and is named with its column; the rows beside it go on."""
    stored, value, kind, text, reason = case
    columns = {"good": pa.array([1, 2, 3]), "c": pa.array([None, value, None], stored)}
    cell = written(tmp_path / "a.parquet", columns)
    found = read_cell(cell, plan_of(ColumnSpec(name="c", type=kind), ColumnSpec(name="good", type="long")))
    entry = next(entry for entry in found.quarantine if entry["row"] == 1)
    assert entry == {"file": "a.parquet", "row": 1, "line": None, "column": "c", "value": text, "reason": reason}
    fits = [] if kind in ("long", "integer", "boolean") else [0, 2]
    assert found.rows.tolist() == fits
    (account,) = found.accounts
    assert (account.rows, account.quarantined) == (3, 3 - len(fits))


def test_columns_are_found_by_name_and_kept_as_text(tmp_path):
    """Columns come in the order wanted, whatever theirs is; those to keep are the text that CSV would hold."""
    columns = {"x": [1.5, 2.0], "a.b": [True, None], "n": [1, 2], "day": pa.array([DAY, None])}
    cell = written(tmp_path / "a.parquet", columns)
    found = read_cell(
        cell, plan_of(*COLUMNS, ColumnSpec(name="gone", type="long", required=False), keep=("a.b", "day", "n"))
    )
    assert found.table.to_pydict() == {"n": [1, 2], "x": [1.5, 2.0]}
    assert [text.to_pylist() for text in found.keep] == [["True", ""], ["2024-02-29", ""], ["1", "2"]]


def test_files_that_fail_as_a_whole(tmp_path):
    """A file without a column, and a damaged one, fail alone, each with a sentence."""
    pq.write_table(pa.table({"x": [1.0, 2.0]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"no parquet, whatever its name says")
    (tmp_path / "c.parquet").write_bytes(b"")
    pq.write_table(numbers(3), tmp_path / "d.parquet")
    twice = pa.table([pa.array([1]), pa.array([2])], names=["n", "n"])
    pq.write_table(twice, tmp_path / "e.parquet")
    found = [read_cell(cell, plan_of()) for cell in cells_of(tmp_path, 100)]
    entries = [entry for each in found for entry in each.quarantine]
    assert [(entry["file"], entry["row"], entry["rows"]) for entry in entries] == [
        ("a.parquet", None, 2), ("b.parquet", None, None), ("c.parquet", None, None), ("e.parquet", None, None),
    ]  # fmt: skip
    reasons = [entry["reason"] for entry in entries]
    assert reasons[0] == "column 'n' is missing"
    assert all(reason.startswith("cannot be read as Parquet: Parquet ") for reason in reasons[1:3])
    assert reasons[3] == "two of its columns are named 'n'"
    assert sum(len(each.rows) for each in found) == 3


def test_damaged_pages_cost_their_slice(tmp_path):
    """Where the footer is whole and a page is not, its rows are given up, and counted."""
    path = tmp_path / "a.parquet"
    pq.write_table(numbers(3000), path, row_group_size=1000, compression="snappy")
    cells = cells_of(path, 1000)
    data = bytearray(path.read_bytes())
    second = cells[1].slices[0]
    data[second.start : second.stop] = b"\xff" * (second.stop - second.start)
    path.write_bytes(data)
    found = [read_cell(cell, plan_of()) for cell in cells]
    assert [len(each.rows) for each in found] == [1000, 0, 1000]
    (entry,) = found[1].quarantine
    assert (entry["row"], entry["rows"]) == (None, 1000)
    assert entry["reason"].startswith("cannot be read as Parquet: ")
    assert found[1].accounts[0].given_up == 1000


def test_a_file_that_changed_or_went(tmp_path):
    """A file with other rows than were scanned is an error that says so; one that is gone is the system's."""
    path = tmp_path / "a.parquet"
    cell = written(path, numbers(5))
    pq.write_table(numbers(3), path)
    with pytest.raises(InputError, match=r"a\.parquet: the file changed while it was scored; run again when it rests"):
        read_cell(cell, plan_of())
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_cell(cell, plan_of())


# Without a signature


def test_types_are_those_of_the_schema(tmp_path):
    """A model without a signature is given what pandas reads; text stays text, and an index is no column."""

    class Wanting:
        """Asks for what is there."""

        classes = ()
        columns = MlflowModel.columns
        _signature_columns = staticmethod(lambda header: None)  # noqa: ARG005
        _spec = ScorerSpec(model_path="m")

    frame = pd.DataFrame(
        {
            "zip": ["01234", "1"], "n": [1, 2], "m": pd.array([1, None], "Int64"), "f": np.array([1, 2], "float32"),
            "b": [True, False], "t": [pd.Timestamp(MOMENT)] * 2, "i": np.array([1, 2], "int16"), "y": [b"a", b"b"],
        },
        index=pd.Index([7, 8], name="key"),
    )  # fmt: skip
    frame.to_parquet(tmp_path / "a.parquet")
    (cell,) = cells_of(tmp_path)
    found = first_columns(Wanting(), cell, ReadPlan(columns=(), dialect=Dialect()))
    assert {column.name: column.type for column in found} == {
        "zip": "string", "n": "long", "m": "double", "f": "float", "b": "boolean", "t": "datetime", "i": "integer",
        "y": "binary",
    }  # fmt: skip


# The same as CSV


@pytest.mark.parametrize("options", [{}, {"keep": ("sex",)}, {"output_format": "azureml"}, {"output_format": "jsonl"}])
def test_scores_equal_those_of_csv(tmp_path, heart_model, heart_rows, options):
    """The same rows as Parquet and as CSV give the same bytes, in cells of the same rows."""
    csv = heart_rows(700)
    frame = pd.read_csv(csv)
    (tmp_path / "csv").mkdir()
    (tmp_path / "parquet").mkdir()
    shutil.copy(csv, tmp_path / "csv" / "a.csv")
    frame.to_parquet(tmp_path / "parquet" / "a.parquet", row_group_size=100, index=False)
    model = MlflowModel(ScorerSpec(model_path=str(heart_model)))
    plan = ReadPlan(columns=model.columns((), None), dialect=Dialect(), **options)
    lines = {
        name: b"".join(bytes(CellScore(model, plan, cell).lines) for cell in cells_of(tmp_path / name, 200))
        for name in ("csv", "parquet")
    }
    assert lines["csv"].count(b"\n") == 700
    assert lines["parquet"].replace(b"a.parquet", b"a.csv") == lines["csv"]


def test_probe_of_row_groups(tmp_path, heart_model, heart_rows):
    """The first rows of a row group can be probed."""
    pd.read_csv(heart_rows(700)).to_parquet(tmp_path / "a.parquet", index=False)
    (cell,) = cells_of(tmp_path)
    assert read_cell(
        first_rows(cell, 30, Dialect()), plan_of(ColumnSpec(name="age", type="double"))
    ).rows.tolist() == list(range(30))
    model = MlflowModel(ScorerSpec(model_path=str(heart_model)))
    plan = ReadPlan(columns=model.columns((), None), dialect=Dialect())
    assert objection_to_cutting(model, cell, plan, 100) == ""
