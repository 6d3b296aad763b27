"""Compare what a peer wrote with what Scoreline wrote, row by row."""

import filecmp
import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv


class OutputsDifferError(Exception):
    """A peer wrote something else than Scoreline: its time does not count."""


def check_same_bytes(ours: Path, theirs: Path) -> None:
    """Fail with the first line that differs, unless both files hold the same bytes.

    Raises:
        OutputsDifferError: they do not.
    """
    if filecmp.cmp(ours, theirs, shallow=False):
        return
    with open(ours) as our_lines, open(theirs) as their_lines:
        for number, (our_line, their_line) in enumerate(zip_longest(our_lines, their_lines), start=1):
            if our_line != their_line:
                raise OutputsDifferError(
                    f"outputs differ in line {number}: scoreline wrote {our_line!r}, the peer {their_line!r}"
                )


def check_same_rows(ours: Path, theirs: pa.Table) -> None:
    """Fail with the first row that differs, unless each file has the same predictions in the same order.

    Numbers are compared as numbers, without any tolerance: ``1`` and ``1.0`` are the same, their last bits count.

    Args:
        ours: a score file.
        theirs: `prediction` and `file`, and `id` where the order of the rows of a file is that of its ids.

    Raises:
        OutputsDifferError: they have not.
    """
    reference = _read_csv(ours)
    if len(reference) != len(theirs):
        raise OutputsDifferError(f"outputs differ: scoreline wrote {len(reference):,} rows, the peer {len(theirs):,}")
    # by file, and inside of one as they come: sorting is stable
    our_names, our_files, our_order = _sorted(reference, "row")
    their_names, their_files, their_order = _sorted(theirs, "id")
    if our_names != their_names or not np.array_equal(our_files, their_files):
        raise OutputsDifferError("outputs differ: the peer's rows are of other files, or in another number of each")
    our_values = _numbers(reference["prediction"].take(our_order))
    their_values = _numbers(theirs["prediction"].take(their_order))
    same = (our_values == their_values) | ((our_values != our_values) & (their_values != their_values))  # noqa: PLR0124 - NaN
    if same.all():
        return
    place = int(np.argmin(same))
    row = reference["row"].take(our_order)[place]
    raise OutputsDifferError(
        f"outputs differ in {int((~same).sum()):,} rows, first in row {row} of {our_names[our_files[place]]}: "
        f"scoreline wrote {our_values[place]}, the peer {their_values[place]}"
    )


def read_parts(folder: Path) -> pa.Table:
    """Read the CSV files that a peer wrote, in the order of their names."""
    paths = [path for path in sorted(folder.glob("*.csv")) if path.stat().st_size]
    return pa.concat_tables([_read_csv(path) for path in paths], promote_options="permissive").unify_dictionaries()


def read_json_of_each(folder: Path) -> pa.Table:
    """Read what `mlflow models predict` wrote for each file."""
    predictions: list[Any] = []
    files: list[str] = []
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())["predictions"]
        predictions += found
        files += [path.name.removesuffix(".json")] * len(found)
    return pa.table({"prediction": predictions, "file": pa.array(files).dictionary_encode()})


def _read_csv(path: Path) -> pa.Table:
    options = csv.ConvertOptions(column_types={"file": pa.dictionary(pa.int32(), pa.string())})
    return csv.read_csv(path, convert_options=options).unify_dictionaries()


def _sorted(table: pa.Table, then_by: str) -> tuple[list[str], Any, Any]:
    """Return the names of the files, the number of the file of each row, sorted, and the order that sorts the rows."""
    column = table["file"].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
    paths = column.dictionary.to_pylist()
    names = sorted({_name(path) for path in paths})
    numbers = np.array([names.index(_name(path)) for path in paths], dtype=np.int32)
    files = numbers[column.indices.to_numpy()]
    keys = [files] if then_by not in table.column_names else [table[then_by].to_numpy(), files]
    order = np.lexsort(keys)
    return names, files[order], order


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _numbers(column: pa.ChunkedArray) -> Any:
    return column.cast(pa.float64()).to_numpy() if not pa.types.is_string(column.type) else column.to_numpy()
