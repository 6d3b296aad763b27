"""Columns as lines of JSON: an object a row, numbers as the CSV file writes them, missing and infinite ones as null."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api.extensions import ExtensionArray

from scoring.text import TEXT, Column, value_texts

__all__ = ["json_fields", "json_lines"]

_NO_NUMBERS = pa.array(["", "inf", "-inf"], TEXT)
_MASKED = pd.arrays.BooleanArray | pd.arrays.FloatingArray | pd.arrays.IntegerArray
_SORTS = {"f": "number", "i": "number", "u": "number", "b": "boolean", "M": "moment"}
_PLAIN_TEXT = r'^[^"\\\x00-\x1f]*$'


def json_fields(column: Column, *, kind: str | None = None) -> pa.LargeStringArray:
    """Write each value of a column as JSON.

    Args:
        column: The values.
        kind: The type that the model's signature names for them; see `scoring.columns.csv_fields`.
    """
    match _sort(column):
        case "number":
            texts = value_texts(column, kind)
            return _null_where(pc.is_in(texts, value_set=_NO_NUMBERS), texts)
        case "boolean":
            texts = value_texts(column)
            return _null_where(pc.equal(texts, ""), pc.ascii_lower(texts))
        case "moment":
            texts = value_texts(column)
            return _null_where(pc.equal(texts, ""), _strings(texts))
        case "text":
            texts = _as_arrow(column)
            return _null_where(pc.is_null(texts), _strings(pc.fill_null(texts.cast(TEXT), "")))
    texts = [_dumped(value, kind) for value in list(column)]
    return pa.array(texts, TEXT)


def json_lines(fields: Sequence[tuple[str, pa.Array | pa.Scalar]]) -> pa.Buffer:
    """Join columns of fields into the bytes of lines, an object each.

    Args:
        fields: Names and arrays of one length, one at least an array, from `json_fields`; a scalar is on every line.
    """
    pieces: list[Any] = []
    for name, values in fields:
        lead = ("{" if not pieces else ", ") + json.dumps(_encodable(name), ensure_ascii=False) + ": "
        pieces += [pa.scalar(lead, TEXT), values.cast(TEXT)]
    pieces += [pa.scalar("}\n", TEXT), pa.scalar("", TEXT)]
    lines = pc.binary_join_element_wise(*pieces)
    return pa.py_buffer(b"") if not len(lines) else _characters(lines)


def _characters(texts: pa.LargeStringArray) -> pa.Buffer:
    _, offsets, characters = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return characters.slice(int(bounds[0]), int(bounds[-1] - bounds[0]))


def _sort(column: Any) -> str:
    """Tell how a column can be written all at once: as number, boolean, moment or text; else value by value."""
    if isinstance(column, pa.Array | pa.ChunkedArray):
        of = column.type
        if pa.types.is_integer(of) or pa.types.is_floating(of):
            return "number"
        if pa.types.is_boolean(of):
            return "boolean"
        return "text" if pa.types.is_string(of) or pa.types.is_large_string(of) else "any"
    if isinstance(column, _MASKED):
        return "boolean" if isinstance(column, pd.arrays.BooleanArray) else "number"
    if isinstance(column, pd.arrays.StringArray | pd.arrays.ArrowStringArray):
        return "text" if _is_encodable(column) else "any"
    if isinstance(column, ExtensionArray):
        return "moment" if isinstance(column.dtype, pd.DatetimeTZDtype) else "any"
    if isinstance(column, np.ndarray):
        sort = _SORTS.get(column.dtype.kind, "any")
        if sort != "any" or column.dtype.kind not in "OU":
            return "any" if column.dtype.kind == "f" and column.dtype.itemsize > 8 else sort
    texts = len(column) and all(isinstance(value, str) for value in column)
    return "text" if texts and _is_encodable(column) else "any"


def _is_encodable(column: Any) -> bool:
    try:
        _as_arrow(column)
    except UnicodeEncodeError:
        return False
    return True


def _as_arrow(column: Any) -> pa.Array:
    array = column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column, from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _strings(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Put texts in quotes; each that needs escapes by itself."""
    plain = pc.match_substring_regex(texts, _PLAIN_TEXT)
    mark = pa.scalar('"', TEXT)
    lines = pc.binary_join_element_wise(mark, texts, mark, pa.scalar("", TEXT))
    if pc.all(plain).as_py() is not False:
        return lines
    odd = pc.invert(plain)
    return pc.replace_with_mask(
        lines, odd, pa.array([json.dumps(text, ensure_ascii=False) for text in texts.filter(odd).to_pylist()], TEXT)
    )


def _null_where(missing: pa.BooleanArray, texts: pa.LargeStringArray) -> pa.LargeStringArray:
    return pc.if_else(missing, pa.scalar("null", TEXT), texts)


def _dumped(value: Any, kind: str | None) -> str:
    """Write one value of any sort."""
    if isinstance(value, list | tuple | dict) or (hasattr(value, "__array__") and not isinstance(value, np.generic)):
        return json.dumps(_nested(value), ensure_ascii=False)
    if isinstance(value, str):
        return json.dumps(_encodable(value), ensure_ascii=False)
    text = str(value_texts([value], kind)[0])
    if isinstance(value, bool | np.bool_):
        return text.lower()
    if isinstance(value, np.timedelta64):  # a kind of np.integer
        return "null" if text == "" else json.dumps(text)
    if isinstance(value, int | float | np.integer | np.floating):
        return "null" if text in ("", "inf", "-inf") else text
    # a missing value has no text, and neither has one of no bytes
    return "null" if text == "" and not isinstance(value, bytes) else json.dumps(_encodable(text), ensure_ascii=False)


def _nested(value: Any) -> Any:
    """Turn what is inside a list or dict into what JSON has."""
    if isinstance(value, np.generic) and value.dtype.kind not in "Mm":
        value = value.item()
    elif hasattr(value, "__array__") and not isinstance(value, np.generic):
        array = np.asarray(value)
        value = list(array) if array.ndim else array[()]
        return _nested(value)
    if isinstance(value, dict):
        return {_encodable(key if isinstance(key, str) else str(key)): _nested(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nested(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _encodable(value)
    text = str(value_texts([value])[0])
    return None if text == "" and not isinstance(value, bytes) else _encodable(text)


def _encodable(text: str) -> str:
    """Spell halves of surrogate pairs with escapes."""
    return text.encode(errors="backslashreplace").decode()
