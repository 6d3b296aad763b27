"""The result of a scoring script, and the bytes that ``append_row`` makes of it (contract 2.3 and 3.1).

Nothing heavy is imported: what is no DataFrame as long as nobody has loaded pandas need not be asked by pandas.
"""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import StringIO
from types import GeneratorType
from typing import Any

from scoring.errors import PredictionError

__all__ = ["FORMATS", "lines_of", "rows_of"]

FORMATS = ("azureml", "csv", "jsonl")
LIST_COLUMN = "prediction"
"""What the one column of a list is called where columns have names."""
_QUOTED_WHERE = re.compile('[,"\n\r]')


def rows_of(result: Any) -> Any:
    """Return the rows a scoring script returned: a DataFrame as it is, all else as a list; its length is the items.

    A generator is used up here, so that its body runs where the script runs (contract 2.3).

    Raises:
        PredictionError: it is neither a DataFrame, list, tuple, array, Series nor generator.
    """
    if isinstance(result, list) or _is_frame(result):
        return result
    if isinstance(result, tuple | GeneratorType) or _is_a("pandas", "Series", result):
        return list(result)
    if _is_a("numpy", "ndarray", result) and result.ndim:
        return list(result)
    what = "None" if result is None else f"a value of type {type(result).__name__}"
    raise PredictionError(f"run() should return a list or a DataFrame, and it returned {what}")


def lines_of(rows: Any, output_format: str) -> tuple[bytes, tuple[str, ...]]:
    """Write the rows of `rows_of` as whole lines of UTF-8, and name the columns where the format is csv.

    azureml: what Azure ML writes; fields parted by a space, no header, elements of a list as their `str`.
    csv: RFC 4180 with line feeds; a list is one column. jsonl: one JSON value a line; rows of a DataFrame are objects.
    """
    if not len(rows):
        return b"", ()
    columns: tuple[str, ...] = ()
    if output_format == "jsonl":
        text = _json_lines(rows)
    elif output_format == "csv":
        columns = _column_names(rows) if _is_frame(rows) else (LIST_COLUMN,)
        text = _csv_lines(rows)
    elif _is_frame(rows):
        text = _separated(rows, " ", "\n")
    else:
        text = "\n".join(map(str, rows)) + "\n"
    # half a surrogate pair, as file names that are no UTF-8 have them, is no reason to lose the mini-batch
    return text.encode("utf-8", "backslashreplace"), columns


def _is_a(library: str, name: str, value: Any) -> bool:
    known = getattr(sys.modules.get(library), name, None)
    return isinstance(known, type) and isinstance(value, known)


def _is_frame(value: Any) -> bool:
    return _is_a("pandas", "DataFrame", value)


def _separated(frame: Any, separator: str, line_end: str) -> str:
    return frame.to_csv(sep=separator, header=False, index=False, lineterminator=line_end)  # type: ignore[no-any-return]


def _column_names(frame: Any) -> tuple[str, ...]:
    """Name the columns of a DataFrame, no two of them alike: the second `a` is `a.1`, as in an input's header."""
    labels = frame.columns
    names: dict[str, None] = {}
    for label in labels:
        name = "_".join(map(str, label)) if labels.nlevels > 1 else str(label)
        free, number = name, 0
        while free in names:
            number += 1
            free = f"{name}.{number}"
        names[free] = None
    return tuple(names)


# CSV


def _csv_lines(rows: Any) -> str:
    if not _is_frame(rows):
        return "".join(_csv_line([_csv_text(element)]) for element in rows)
    text = _separated(rows, ",", "\n")
    if "\r" not in text:
        return text
    # Python before 3.13 quotes a carriage return only where lines end in one
    records = csv.reader(StringIO(_separated(rows, ",", "\r\n"), newline=""))
    return "".join(map(_csv_line, records))


def _csv_text(element: Any) -> str:
    if _is_missing(element):
        return ""
    return str(element.tolist() if _is_a("numpy", "ndarray", element) else element)


def _csv_line(fields: Sequence[str]) -> str:
    """Join fields; a lone empty one is quoted, for a blank line is no record."""
    if len(fields) == 1 and not fields[0]:
        return '""\n'
    return ",".join(_quoted(field) if _QUOTED_WHERE.search(field) else field for field in fields) + "\n"


def _quoted(field: str) -> str:
    return '"' + field.replace('"', '""') + '"'


# JSON


def _json_lines(rows: Any) -> str:
    if not _is_frame(rows):
        return "".join(_json(element) + "\n" for element in rows)
    names = _column_names(rows)
    if not names:
        return "{}\n" * len(rows)
    columns = [rows.iloc[:, place].tolist() for place in range(len(names))]
    return "".join(_json(dict(zip(names, values, strict=True))) + "\n" for values in zip(*columns, strict=True))


def _json(value: Any) -> str:
    with suppress(TypeError, ValueError):  # something inside is no JSON
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return json.dumps(_jsonable(value), ensure_ascii=False, allow_nan=False)


def _jsonable(value: Any) -> Any:
    """Turn a value into what JSON can hold: a missing one is null, and what it has no form for is its `str`."""
    if _is_missing(value):
        return None
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if value is None or isinstance(value, str | int):
        return value
    if _is_a("numpy", "ndarray", value):
        return _jsonable(value.tolist())
    if _is_a("numpy", "generic", value) and not any(_is_a("numpy", name, value) for name in ("datetime64", "void")):
        plain = value.item()
        if type(plain) is not type(value):  # a float of 128 bits is its own item
            return _jsonable(plain)
    return str(value)


def _is_missing(value: Any) -> bool:
    """Tell whether a value stands for none: None, a NaN of any width, pandas' NA and NaT."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    if _is_a("numpy", "floating", value) or _is_a("numpy", "datetime64", value) or _is_a("numpy", "timedelta64", value):
        return bool(value != value)  # noqa: PLR0124 (nothing else is unlike itself)
    pandas = sys.modules.get("pandas")
    return pandas is not None and (value is getattr(pandas, "NA", None) or value is getattr(pandas, "NaT", None))
