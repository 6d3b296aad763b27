"""Read rows of Parquet files into the frame the model is called with, by the rules of `scoring.readers`.

A value is of the signature's type where nothing of it is lost (contract 4.2): numbers widen, whole floats are integers,
text is judged by `scoring.fields` as the text of a CSV file is. A null is a missing value, and so is what a CSV file
would call missing in a column of text that is to be numbers; where text is wanted it stands as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoring.cells import Cell, Slice, covered_digest
from scoring.errors import InputError
from scoring.fields import ARROW_TYPES, MISSING, REFUSES_BLANKS, blank_reason, convert, nulled
from scoring.readers import (
    CellInput,
    Rows,
    final_type,
    give_up,
    give_up_problem,
    missing_column,
    note_misfits,
    slice_account,
)
from scoring.row_groups import damage
from scoring.specs import ColumnSpec, ReadPlan
from scoring.text import value_texts

__all__ = ["column_type", "read_cell", "read_sample"]

_Reasons = dict[int, str]
_LIMITS: dict[str, Any] = {"long": np.iinfo(np.int64), "integer": np.iinfo(np.int32)}
_SMALL_INTEGERS = frozenset({"int8", "int16", "int32", "uint8", "uint16"})


def read_cell(cell: Cell, plan: ReadPlan) -> CellInput:
    """Read the slices of a cell, all of them of Parquet files.

    Raises:
        InputError: a file is not what it was when it was scanned.
        OSError: a file cannot be read.
    """
    result = CellInput()
    tables: list[pa.Table] = []
    numbers: list[Rows] = []
    kept: list[list[pa.Array]] = []
    for part in cell.slices:
        if part.problem:
            give_up_problem(part, result)
            continue
        account = slice_account(part, covered_digest(part))
        missing = missing_column(part, plan)
        if not part.rows:
            result.accounts.append(account)
            continue
        if missing is not None:
            cause = f"rows of files without column {missing!r}"
            give_up(part, account, result, reason=f"column {missing!r} is missing", cause=cause)
            continue
        try:
            stored = _stored(part, [*(column.name for column in _wanted(part, plan)), *plan.keep])
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = damage(error)
            give_up(part, account, result, reason=reason, cause=f"{part.name}: {reason}")
            continue
        table, keep, rows = _fitting(part, stored, plan, result)
        result.accounts.append(replace(account, quarantined=part.rows - len(rows)))
        result.counts.append((part.name, len(rows)))
        tables.append(table)
        numbers.append(rows)
        kept.append(keep)
    if tables:
        result.table = pa.concat_tables(tables)
        result.rows = np.concatenate(numbers)
        result.keep = [pa.chunked_array(texts, pa.string()).combine_chunks() for texts in zip(*kept, strict=True)]
    return result


def _fitting(part: Slice, stored: pa.Table, plan: ReadPlan, result: CellInput) -> tuple[pa.Table, list[pa.Array], Rows]:
    """Convert the rows of a slice and note those that do not fit; return the others, what is kept, their numbers."""
    columns: dict[str, pa.Array] = {}
    misfits: dict[int, list[tuple[str | None, str | None, str]]] = {}
    for column in _wanted(part, plan):
        values, reasons = _fitted(stored[column.name], column.type, plan.date_format)
        blank = blank_reason(column.type)
        for index, reason in sorted(reasons.items()):
            value = None if reason == blank else _value_text(stored[column.name], index)
            misfits.setdefault(index, []).append((column.name, value, reason))
        columns[column.name] = values.cast(final_type(column))
    for index in sorted(misfits):
        note_misfits(part, index, misfits[index], plan, result)
    table = pa.table(columns) if columns else stored.select([])
    keep = [value_texts(stored[name]).cast(pa.string()) for name in plan.keep]
    rows = np.arange(part.first_row, part.first_row + part.rows)
    if not misfits:
        return table, keep, rows
    fits = np.ones(part.rows, bool)
    fits[list(misfits)] = False
    mask = pa.array(fits)
    return table.filter(mask), [text.filter(mask) for text in keep], rows[fits]


def _wanted(part: Slice, plan: ReadPlan) -> list[ColumnSpec]:
    return [column for column in plan.columns if column.name in part.columns]


def read_sample(part: Slice, rows: int) -> pa.Table:
    """Read the first rows of a slice to tell the types of its columns.

    As pandas reads it: without the columns of a frame's index, and with integers as floats where one is missing.
    Columns of text are large strings, so that nobody looks for numbers in them.
    """
    with _opened(part) as opened:
        names = [name for name in part.columns if name not in _index_columns(opened.schema_arrow)]
    table = _stored(part, names).slice(0, rows)
    columns = {}
    for name in names:
        values = table[name]
        kind = column_type(values.type)
        if kind == "string":
            values = pa.array([""] * len(values), pa.large_string())
        elif kind in ("long", "integer") and values.null_count:
            values = pa.array(np.zeros(len(values)))
        columns[name] = values
    return pa.table(columns)


def column_type(of: pa.DataType) -> str:
    """Name the type of a signature that a stored type is."""
    if pa.types.is_dictionary(of):
        return column_type(of.value_type)
    if pa.types.is_integer(of):
        return "integer" if str(of) in _SMALL_INTEGERS else "long"
    tests: Sequence[tuple[Callable[[pa.DataType], bool], str]] = (
        (pa.types.is_float64, "double"),
        (pa.types.is_floating, "float"),
        (pa.types.is_decimal, "double"),
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_timestamp, "datetime"),
        (pa.types.is_date, "datetime"),
        (_is_binary, "binary"),
    )
    return next((kind for test, kind in tests if test(of)), "string")


def _opened(part: Slice) -> pq.ParquetFile:
    return pq.ParquetFile(part.url)


def _index_columns(schema: pa.Schema) -> set[str]:
    written = (schema.metadata or {}).get(b"pandas")
    index = json.loads(written).get("index_columns", []) if written else []
    return {name for name in index if isinstance(name, str)}


def _stored(part: Slice, names: Iterable[str]) -> pa.Table:
    """Read columns of the rows of a slice as they are stored, each in one piece.

    Raises:
        InputError: the file has other rows than it had.
    """
    groups: list[int] = []
    skip = first_row = 0
    with _opened(part) as opened:
        for number in range(opened.metadata.num_row_groups):
            behind = first_row + opened.metadata.row_group(number).num_rows
            if behind > part.first_row and first_row < part.first_row + part.rows:
                skip = skip if groups else part.first_row - first_row
                groups.append(number)
            first_row = behind
        columns = list(dict.fromkeys(names))
        table = opened.read_row_groups(groups, columns=columns, use_threads=False).slice(skip, part.rows)
    if table.num_rows != part.rows or not set(columns) <= set(table.column_names):
        raise InputError(f"{part.name}: the file changed while it was scored; run again when it rests")
    return pa.table({name: _plain(table[name]) for name in columns}) if columns else table.select([])


def _plain(values: pa.ChunkedArray) -> pa.Array:
    """Put a column in one piece, without a dictionary."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)


def _value_text(values: pa.ChunkedArray, index: int) -> str:
    return str(value_texts(values.slice(index, 1).combine_chunks())[0].as_py())


def _is_text(of: pa.DataType) -> bool:
    return bool(pa.types.is_string(of) or pa.types.is_large_string(of))


def _is_binary(of: pa.DataType) -> bool:
    return bool(pa.types.is_binary(of) or pa.types.is_large_binary(of) or pa.types.is_fixed_size_binary(of))


# Types


def _fitted(column: pa.ChunkedArray, kind: str, date_format: str | None) -> tuple[pa.Array, _Reasons]:
    """Convert a column to a type of the signature: the values, null where one is missing or does not fit, and why."""
    values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if pa.types.is_null(values.type):
        values = values.cast(ARROW_TYPES[kind])
    of, reasons = values.type, dict[int, str]()
    match kind:
        case "long" | "integer" if pa.types.is_integer(of):
            values = _within(values, kind, reasons)
        case "long" | "integer" if pa.types.is_floating(of):
            values = _whole(values, kind, reasons)
        case "double" | "float" if pa.types.is_integer(of) or pa.types.is_floating(of) or pa.types.is_decimal(of):
            values = values.cast(pa.float64(), safe=False)
        case "boolean" if pa.types.is_boolean(of):
            pass
        case "datetime" if pa.types.is_timestamp(of) or pa.types.is_date(of):
            values = _instants(values, reasons)
        case "string" | "binary" if _is_text(of):
            values = values.cast(pa.string())
        case "binary" if _is_binary(of):
            values = values.cast(pa.binary())
        case "string" if _is_binary(of):
            values = _decoded(values, reasons)
        case _:
            return convert(_as_text(values), kind, date_format)
    if kind in REFUSES_BLANKS and values.null_count:
        blank = blank_reason(kind)
        for index in np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)).tolist():
            reasons.setdefault(index, blank)
    return values, reasons


def _as_text(values: pa.Array) -> pa.Array:
    """Write values as the text that a CSV file would hold, null where missing."""
    text = values if _is_text(values.type) else value_texts(values)
    missing = pc.is_null(values)
    if _is_text(values.type):
        missing = pc.or_(missing, pc.is_in(text, value_set=pa.array(MISSING, text.type)))
    return nulled(text.cast(pa.string()), missing)


def _nulled(values: pa.Array, bad: Any, reason: str, reasons: _Reasons) -> pa.Array:
    """Null what does not fit, with the reason."""
    for index in np.flatnonzero(bad).tolist():
        reasons[index] = reason
    return nulled(values, pa.array(bad))


def _within(values: pa.Array, kind: str, reasons: _Reasons) -> pa.Array:
    low, high = int(_LIMITS[kind].min), int(_LIMITS[kind].max)
    try:
        return values.cast(ARROW_TYPES[kind])
    except pa.ArrowInvalid:
        numbers = [False if number is None else not low <= number <= high for number in values.to_pylist()]
    return _nulled(values, np.array(numbers), f"out of range for {kind}", reasons).cast(ARROW_TYPES[kind])


def _whole(values: pa.Array, kind: str, reasons: _Reasons) -> pa.Array:
    low, high = int(_LIMITS[kind].min), int(_LIMITS[kind].max)
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    missing = np.isnan(numbers)
    odd = ~missing & (np.trunc(numbers) != numbers)
    # the largest integer is no float: the next one is
    outside = ~missing & ~odd & ((numbers < low) | (numbers >= float(high + 1)))
    _nulled(values, odd | np.isinf(numbers), f"not a{'n' * (kind == 'integer')} {kind}", reasons)
    _nulled(values, outside & ~np.isinf(numbers), f"out of range for {kind}", reasons)
    bad = missing | odd | outside
    return pa.array(np.where(bad, 0, numbers).astype(np.int64), mask=bad).cast(ARROW_TYPES[kind])


def _instants(values: pa.Array, reasons: _Reasons) -> pa.Array:
    """Turn dates and moments into nanoseconds of UTC."""
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("s") if pa.types.is_date32(values.type) else pa.timestamp("ms"))
    unit = values.type.unit
    values = values.cast(pa.int64())
    factor = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    low, high = -((2**63 - 1) // factor), (2**63 - 1) // factor
    outside = pc.or_(pc.less(values, low), pc.greater(values, high)).fill_null(False).to_numpy(zero_copy_only=False)
    if outside.any():
        values = _nulled(values, outside, "out of range for datetime", reasons)
    return pc.multiply(values, factor).cast(pa.timestamp("ns"))


def _decoded(values: pa.Array, reasons: _Reasons) -> pa.Array:
    try:
        return values.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        texts: list[str | None] = []
        for index, value in enumerate(values.to_pylist()):
            try:
                texts.append(None if value is None else value.decode())
            except UnicodeDecodeError:
                texts.append(None)
                reasons[index] = "not valid utf-8"
        return pa.array(texts, pa.string())
