"""Put a cell's scores together: row, kept columns, predictions, file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from scoring.columns import Column, csv_fields, csv_lines, quoted
from scoring.readers import CellInput


def score_lines(read: CellInput, columns: Mapping[str, Column], kind: Callable[[str], str | None]) -> pa.Buffer:
    """Write the lines of a cell.

    Args:
        read: the cell as read; its rows that fit were predicted for, in order.
        columns: the predictions, a value for each of these rows.
        kind: the type by which a column is written, where the signature names one.
    """
    predictions = [csv_fields(column, kind=kind(name)) for name, column in columns.items()]
    kept = [quoted(text) for text in read.keep]
    return csv_lines([pa.array(read.rows).cast(pa.large_string()), *kept, *predictions, _file_fields(read)])


def _file_fields(read: CellInput) -> pa.Array | pa.Scalar:
    names = [_printable(name) for name, _ in read.counts]
    texts = quoted(pa.array(names, pa.large_string()))
    if len(names) == 1:
        return texts[0]
    counts = np.array([count for _, count in read.counts])
    return texts.take(pa.array(np.repeat(np.arange(len(names)), counts)))


def _printable(name: str) -> str:
    """Spell a file name that is not UTF-8 with escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
