"""The slow and plain statement of what Scoreline reads, asks a model, and writes.

Every rule of `docs/csv.md` stands here once, one character and one value at a time. No job runs this module:
it is what the fast modules are compared with, byte for byte.

    bytes -> text -> records -> rows (those that do not fit leave here) -> cells -> predict -> lines
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

__all__ = [
    "Column",
    "Misfit",
    "Record",
    "ReferenceResult",
    "csv_line",
    "ends_group",
    "fit",
    "grid_cells",
    "header_names",
    "prediction_columns",
    "records",
    "score",
    "value_text",
]

# First row and the row after the last, of the file with this number.
_Span: TypeAlias = tuple[int, int, int]

_MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SPECIAL_NUMBER = re.compile(r"[+-]?(inf|infinity|nan)", re.IGNORECASE | re.ASCII)
_DATETIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(?:(Z)|([+-])([0-9]{2}):?([0-9]{2}))?)?"
)
_BAD_BYTE = re.compile("[\udc80-\udcff]")
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_ARTICLES = {"integer": "an"}
_INTEGER_BITS = {"long": 64, "integer": 32}
# Before pandas 3, read_csv gave text as objects.
_TEXT_DTYPE = "object" if int(pd.__version__.split(".", maxsplit=1)[0]) < 3 else "str"
_DTYPES = {
    "long": "int64",
    "integer": "int32",
    "double": "float64",
    "float": "float32",
    "boolean": "bool",
    "string": _TEXT_DTYPE,
    "datetime": "datetime64[ns]",
    "binary": "object",
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record of a CSV text."""

    fields: tuple[str, ...]
    line: int
    """The 1-based physical line it starts on."""
    text: str
    """The whole record as it stands, without its line end."""
    closed: bool
    """False where its last quote is never closed."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One input column of a model's signature."""

    name: str
    type: str
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class ReferenceResult:
    """What a whole job writes."""

    scores: bytes
    """The score file with its header line; empty where no row was scored, as nobody then knows its columns."""
    quarantine: list[dict[str, Any]]
    rows_read: int
    rows_scored: int


class Misfit(Exception):  # noqa: N818 - a finding about a value, not an error of the program
    """A value does not fit its column."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# Records


def records(text: str, delimiter: str = ",") -> Iterator[Record]:
    """Split a text into its records, blank lines left out."""
    fields: list[str] = []
    value = raw = ""
    line = first_line = 1
    state = "start of field"  # then "text", or "quoted" and, at a quote that may end it, "quote in quoted"
    for char in re.findall(r"\r\n|.", text, re.DOTALL):  # single characters, but \r\n is one
        ends_line = char in ("\n", "\r\n", "\r")
        line += ends_line
        if ends_line and state != "quoted":
            if not _is_blank(raw, delimiter):
                yield Record(fields=(*fields, value), line=first_line, text=raw, closed=True)
            fields, value, raw, first_line, state = [], "", "", line, "start of field"
            continue
        raw += char
        if state == "quoted" and char == '"':
            state = "quote in quoted"
        elif state == "quoted":
            value += char
        elif state == "quote in quoted" and char == '"':
            value, state = value + '"', "quoted"
        elif char == delimiter:
            fields, value, state = [*fields, value], "", "start of field"
        elif state == "start of field" and char == '"':
            state = "quoted"
        else:
            value, state = value + char, "text"
    if not _is_blank(raw, delimiter):
        yield Record(fields=(*fields, value), line=first_line, text=raw, closed=state != "quoted")


def _is_blank(raw: str, delimiter: str) -> bool:
    return all(character in " \t" and character != delimiter for character in raw)


def header_names(fields: Sequence[str]) -> tuple[str, ...]:
    """Name the columns of a header: a name met again gets the first free number, as pandas numbers it."""
    seen: Counter[str] = Counter()
    names = []
    for original in fields:
        name, number = original, seen[original]
        while number > 0:
            seen[original] = number + 1
            name = f"{original}.{number}"
            number = number + 1 if name in fields else seen[name]
        names.append(name)
        seen[name] += 1
    return tuple(names)


# Types


def fit(text: str, type_name: str, date_format: str | None = None) -> object:
    """Read the text of a field as a signature's type says.

    Returns:
        The value; for a missing one NaN where the type is a floating one, else None.

    Raises:
        Misfit: The text is no such value, or is missing where the type has no missing value.
    """
    stripped = text if type_name in ("string", "binary") else text.strip(" \t")
    if text in _MISSING or stripped == "":
        if type_name in ("long", "integer", "boolean"):
            raise Misfit(f"blank where the signature says {type_name}")
        return math.nan if type_name in ("double", "float") else None
    match type_name:
        case "long" | "integer":
            return _integer(stripped, type_name)
        case "double" | "float":
            return _floating(stripped, type_name)
        case "boolean":
            return _boolean(stripped)
        case "datetime":
            return _iso_datetime(stripped) if date_format is None else _formatted_datetime(stripped, date_format)
        case "binary":
            return stripped.encode()
        case "string":
            return stripped
    raise ValueError(f"no such type: {type_name}")


def _integer(text: str, type_name: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise Misfit(f"not {_ARTICLES.get(type_name, 'a')} {type_name}")
    digits = text.lstrip("+-").lstrip("0") or "0"
    magnitude = 2 ** (_INTEGER_BITS[type_name] - 1)
    # Python refuses to read thousands of digits; 20 are too large already.
    value = int(digits[:20]) * (-1 if text.startswith("-") else 1)
    if not -magnitude <= value < magnitude:
        raise Misfit(f"out of range for {type_name}")
    return value


def _floating(text: str, type_name: str) -> float:
    if not _NUMBER.fullmatch(text) and not _SPECIAL_NUMBER.fullmatch(text):
        raise Misfit(f"not {_ARTICLES.get(type_name, 'a')} {type_name}")
    value = float(text)
    if type_name == "double":
        return value
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _boolean(text: str) -> bool:
    if text in ("True", "TRUE", "true", "1"):
        return True
    if text in ("False", "FALSE", "false", "0"):
        return False
    raise Misfit("not a boolean")


def _iso_datetime(text: str) -> np.datetime64:
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise Misfit("not a datetime")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    decimals, _, sign, offset_hour, offset_minute = match.groups()[6:]
    offset = (int(offset_hour or 0) * 60 + int(offset_minute or 0)) * (-1 if sign == "-" else 1)
    if hour > 23 or minute > 59 or second > 59 or int(offset_hour or 0) > 23 or int(offset_minute or 0) > 59:
        raise Misfit("not a datetime")
    try:
        days = date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        raise Misfit("not a datetime") from None
    seconds = ((days * 24 + hour) * 60 + minute - offset) * 60 + second
    return _nanoseconds(seconds * 10**9 + int((decimals or "").ljust(9, "0")))


def _formatted_datetime(text: str, date_format: str) -> np.datetime64:
    try:
        moment = datetime.strptime(text, date_format)  # noqa: DTZ007 - without an offset it is taken as UTC
    except ValueError:
        raise Misfit("not a datetime") from None
    since_epoch = moment.replace(tzinfo=None) - datetime(1970, 1, 1)  # noqa: DTZ001 - both without an offset
    since_epoch -= moment.utcoffset() or timedelta()
    return _nanoseconds(since_epoch // timedelta(microseconds=1) * 1000)


def _nanoseconds(count: int) -> np.datetime64:
    if not -(2**63) < count < 2**63:  # the lowest number stands for NaT
        raise Misfit("out of range for datetime")
    return np.datetime64(count, "ns")


# Rows


@dataclass(frozen=True, kw_only=True)
class _Rules:
    columns: Sequence[Column]
    delimiter: str
    encoding: str
    date_format: str | None
    header: bool
    input_columns: Sequence[str]
    keep: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class _Row:
    values: dict[str, object]
    kept: list[str]


@dataclass(frozen=True, kw_only=True)
class _Table:
    """One input file: its rows that fit, and the quarantine entries of the others, by their numbers."""

    path: str
    names: Sequence[str] = ()
    rows_read: int = 0
    rows: dict[int, _Row] = field(default_factory=dict)
    quarantine: dict[int, dict[str, Any]] = field(default_factory=dict)
    missing: str | None = None
    """A column it lacks, so that it fails as a whole."""


def _table(path: str, data: bytes, rules: _Rules) -> _Table:
    # A byte that does not decode becomes one lone surrogate, so that it is found again in the record that holds it.
    text = data.decode(rules.encoding, errors="surrogateescape").removeprefix(_mark(rules.encoding))
    found = list(records(text, rules.delimiter))
    if not found:
        return _Table(path=path)
    if rules.header:
        names = header_names([_shown(name) for name in found.pop(0).fields])
    else:
        names = tuple(rules.input_columns or [column.name for column in rules.columns])
    needed = [*(column.name for column in rules.columns if column.required), *rules.keep]
    for name in needed:
        if name not in names:
            return _Table(path=path, names=names, rows_read=len(found), missing=name)

    trailing = bool(found) and len(found[0].fields) == len(names) + 1 and found[0].fields[-1] == ""
    rows: dict[int, _Row] = {}
    quarantine: dict[int, dict[str, Any]] = {}
    for number, record in enumerate(found):
        reason = _record_misfit(record, len(names), trailing, rules.encoding)
        fields = dict(zip(names, record.fields, strict=False))
        values, misfits = _values(fields, rules) if reason is None else ({}, [])
        if reason is not None:
            misfits = [{"column": None, "value": _shown(record.text), "reason": reason}]
        if misfits:
            more = {"more": misfits[1:]} if misfits[1:] else {}
            quarantine[number] = {"file": path, "row": number, "line": record.line, **misfits[0], **more}
        else:
            rows[number] = _Row(values=values, kept=[fields[name] for name in rules.keep])
    return _Table(path=path, names=names, rows_read=len(found), rows=rows, quarantine=quarantine)


def _mark(encoding: str) -> str:
    """Return what the byte order mark of UTF-8 is read as: it is skipped in every encoding that keeps ASCII."""
    keeps_ascii = "a".encode(encoding) == b"a"
    return b"\xef\xbb\xbf".decode(encoding, errors="surrogateescape") if keeps_ascii else "\ufeff"


def _record_misfit(record: Record, width: int, trailing: bool, encoding: str) -> str | None:
    count = len(record.fields)
    if not record.closed:
        return "quote is never closed"
    if trailing and count == width + 1 and record.fields[-1] != "":
        return f"{count} fields where the header has {width}"
    if count != width + trailing:
        return f"{count} fields where the header has {width + trailing}"
    if _BAD_BYTE.search(record.text):
        return f"not valid {encoding}"
    return None


def _values(fields: Mapping[str, str], rules: _Rules) -> tuple[dict[str, object], list[dict[str, Any]]]:
    values: dict[str, object] = {}
    misfits = []
    for column in rules.columns:
        if column.name not in fields:
            continue
        text = fields[column.name]
        try:
            values[column.name] = fit(text, column.type, rules.date_format)
        except Misfit as misfit:
            value = None if misfit.reason.startswith("blank") else text
            misfits.append({"column": column.name, "value": value, "reason": misfit.reason})
    return values, misfits


def _shown(text: str) -> str:
    return _BAD_BYTE.sub(lambda bad: f"\\x{ord(bad[0]) - 0xDC00:02x}", text)


# Cells


def grid_cells(files: Sequence[tuple[str, int, Collection[str]]], cell_rows: int) -> list[list[_Span]]:
    """Lay the grid over files given as (path, rows read, names of their columns): the rows of each `predict` call."""
    cells: list[list[_Span]] = []
    group: list[_Span] = []
    grouped_rows = 0
    grouped_names: set[str] = set()
    for number, (path, rows, names) in enumerate(files):
        small = rows * 2 < cell_rows
        alike = grouped_rows == 0 or rows == 0 or grouped_names == set(names)
        if group and not (small and alike and grouped_rows + rows <= cell_rows):
            cells.append(group)
            group, grouped_rows = [], 0
        if small:
            group.append((number, 0, rows))
            grouped_rows += rows
            grouped_names = set(names) if rows else grouped_names
            if ends_group(path, rows, cell_rows):
                cells.append(group)
                group, grouped_rows = [], 0
        else:
            step = cell_rows or max(rows, 1)
            cells += [[(number, start, min(start + step, rows))] for start in range(0, max(rows, 1), step)]
    return [*cells, group] if group else cells


def ends_group(path: str, rows: int, cell_rows: int) -> bool:
    """Tell whether a group of small files ends behind this one, by its own name and size alone."""
    return zlib.crc32(path.encode()) * cell_rows < rows * 2**32


def _frame(names: Sequence[str], rows: Sequence[_Row], columns: Sequence[Column]) -> Any:
    return pd.DataFrame(
        {
            column.name: _series(column.type, [row.values[column.name] for row in rows])
            for column in columns
            if column.name in names
        },
        index=range(len(rows)),
    )


def _series(type_name: str, values: Sequence[object]) -> Any:
    dtype = _DTYPES[type_name]
    if type_name == "binary":
        return pd.Series(values, dtype=dtype)
    blank = np.datetime64("NaT", "ns") if type_name == "datetime" else math.nan
    return pd.Series([blank if value is None else value for value in values], dtype=dtype)


# Predictions


def prediction_columns(result: Any, rows: int) -> list[tuple[str, list[object]]]:
    """Turn what a model returned for so many rows into named columns of values.

    Raises:
        ValueError: It has another number of rows, or more than two dimensions.
    """
    if hasattr(result, "toarray"):
        result = result.toarray()
    named: list[tuple[str, list[object]]]
    if isinstance(result, pd.DataFrame):
        result = _realigned(result)
        named = [(str(name), list(result.iloc[:, i].array)) for i, name in enumerate(result.columns)]
    elif isinstance(result, pd.Series):
        named = [("prediction", list(_realigned(result).array))]
    elif isinstance(result, np.ndarray) and result.ndim == 2:
        named = [(f"prediction_{i}", list(result[:, i])) for i in range(result.shape[1])]
    elif isinstance(result, np.ndarray) and result.ndim > 2:
        raise ValueError(f"the model returned an array of {result.ndim} dimensions")
    elif isinstance(result, Mapping):
        columns = {name: values.array if isinstance(values, pd.Series) else values for name, values in result.items()}
        named = [(str(name), list(values)) for name, values in columns.items()]
    elif isinstance(result, list) and result and all(isinstance(item, Mapping) for item in result):
        names = list(dict.fromkeys(name for item in result for name in item))
        named = [(str(name), [item.get(name) for item in result]) for name in names]
    else:
        named = [("prediction", list(result))]
    for _, values in named:
        if len(values) != rows:
            raise ValueError(f"the model returned {len(values)} rows for {rows}")
    return named


def _realigned(result: Any) -> Any:
    numbers = list(range(len(result)))
    if result.index.tolist() != numbers and Counter(result.index) == Counter(numbers):
        return result.loc[numbers]
    return result


def value_text(value: Any, kind: str | None = None) -> str:
    """Write one value of the output, by the type its signature names where nothing is lost by it."""
    if isinstance(value, list | tuple | dict | np.ndarray):
        return str(_plain(value))
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, np.timedelta64):  # which NumPy calls an integer
        return str(pd.Timedelta(value))
    if isinstance(value, int | np.integer):
        return _integer_text(int(value), kind)
    if isinstance(value, float | np.float32 | np.float16):
        if kind in _INTEGER_BITS and math.isfinite(value) and value == int(value):
            magnitude = 2 ** (_INTEGER_BITS[kind] - 1)
            if -magnitude <= int(value) < magnitude:
                return str(int(value))
        return _float_text(value)
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, np.datetime64 | datetime):
        return _datetime_text(pd.Timestamp(value) if isinstance(value, np.datetime64) else value)
    return str(value)  # a date's str() is its ISO form


def _integer_text(value: int, kind: str | None) -> str:
    if kind not in ("double", "float"):
        return str(value)
    try:
        with np.errstate(over="ignore"):
            floating = np.float32(value) if kind == "float" else np.float64(value)
    except OverflowError:
        return str(value)
    return _float_text(floating) if math.isfinite(floating) and int(floating) == value else str(value)


def _float_text(value: float | np.floating[Any]) -> str:
    if isinstance(value, float):  # float64 is one
        return float.__repr__(value)
    # NumPy knows the shortest digits for the width, Python the form; a double keeps so few digits as they are.
    return repr(float(np.format_float_scientific(value, unique=True)))


def _datetime_text(moment: datetime) -> str:
    nanosecond = getattr(moment, "nanosecond", 0)
    text = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
    text += f" {moment.hour:02}:{moment.minute:02}:{moment.second:02}"
    if nanosecond:
        text += f".{moment.microsecond:06}{nanosecond:03}"
    elif moment.microsecond:
        text += f".{moment.microsecond:06}"
    offset = moment.utcoffset()
    if offset is None:
        return text
    sign, size = ("-", -offset) if offset < timedelta() else ("+", offset)
    minutes, seconds = divmod(int(size.total_seconds()), 60)
    return text + f"{sign}{minutes // 60:02}:{minutes % 60:02}" + (f":{seconds:02}" if seconds else "")


def _plain(value: object) -> object:
    match value:
        case np.ndarray():
            return _plain(value.tolist())
        case np.generic():
            return value.item()
        case list():
            return [_plain(item) for item in value]
        case tuple():
            return tuple(_plain(item) for item in value)
        case dict():
            return {_plain(key): _plain(item) for key, item in value.items()}
    return value


def csv_line(fields: Sequence[str]) -> str:
    """Write one line, its end included, with quotes only around the fields that need them."""
    return ",".join(_quoted(text) if any(mark in text for mark in ',"\n\r') else text for text in fields) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


# The job


def score(
    files: Sequence[tuple[str, bytes]],
    columns: Sequence[Column],
    predict: Callable[[pd.DataFrame], object],
    *,
    cell_rows: int,
    delimiter: str = ",",
    encoding: str = "utf-8",
    date_format: str | None = None,
    header: bool = True,
    input_columns: Sequence[str] = (),
    keep: Sequence[str] = (),
    output_types: Mapping[str, str] | None = None,
    cells: Callable[[Sequence[tuple[str, int, Collection[str]]], int], list[list[_Span]]] = grid_cells,
) -> ReferenceResult:
    """Score whole files, given as (path below the input root, bytes) in plan order.

    Args:
        files: The input.
        columns: The model's signature.
        predict: Called once for each cell with the rows of it that fit, unless there are none.
        cell_rows: Rows read for a cell; 0 makes each file one cell.
        delimiter: The character between fields.
        encoding: One whose bytes above 127 can be escaped, so any that holds ASCII as it is.
        date_format: What `datetime` columns look like where they are not ISO 8601.
        header: Whether the first record of each file names its columns.
        input_columns: The names where no header does; else those of the signature.
        keep: Input columns copied as text before the predictions; a file must have them.
        output_types: The signature's types of the prediction columns, by their names.
        cells: How the files, given as (path, rows read, names of their columns), are cut and grouped.
    """
    rules = _Rules(
        columns=columns, delimiter=delimiter, encoding=encoding, date_format=date_format,
        header=header, input_columns=input_columns, keep=keep,
    )  # fmt: skip
    tables = [_table(path, data, rules) for path, data in files]
    names: list[str] | None = None
    lines: list[str] = []
    quarantine: list[dict[str, Any]] = []
    for cell in cells([(table.path, table.rows_read, table.names) for table in tables], cell_rows):
        spans = [(tables[number], start, stop) for number, start, stop in cell]
        quarantine += [entry for span in spans for entry in _quarantined(*span)]
        places = [(table, row) for table, start, stop in spans for row in range(start, stop) if row in table.rows]
        if not places:
            continue
        rows = [table.rows[row] for table, row in places]
        named = prediction_columns(predict(_frame(places[0][0].names, rows, columns)), len(rows))
        if names is None:
            names = [name for name, _ in named]
            lines.append(csv_line(["row", *keep, *names, "file"]))
        if names != [name for name, _ in named]:
            raise ValueError(f"the model returned columns {[name for name, _ in named]} after {names}")
        texts = [[value_text(value, (output_types or {}).get(name)) for value in values] for name, values in named]
        for i, (table, row) in enumerate(places):
            lines.append(csv_line([str(row), *rows[i].kept, *(column[i] for column in texts), table.path]))
    return ReferenceResult(
        scores="".join(lines).encode(),
        quarantine=quarantine,
        rows_read=sum(table.rows_read for table in tables),
        rows_scored=max(len(lines) - 1, 0),
    )


def _quarantined(table: _Table, start: int, stop: int) -> list[dict[str, Any]]:
    if table.missing is not None and stop > start:
        reason = f"column {table.missing!r} is missing"
        return [{"file": table.path, "row": None, "rows": stop - start, "reason": reason}]
    return [table.quarantine[row] for row in range(start, stop) if row in table.quarantine]
