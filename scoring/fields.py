"""Turn the text of a column into the type the signature names, and find what does not fit, a column at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""pandas' default markers of a missing value."""

TRUE = ("True", "TRUE", "true", "1")
FALSE = ("False", "FALSE", "false", "0")
SPACE = " \t"

Mask = npt.NDArray[np.bool_]

_INTEGER = r"^[+-]?[0-9]+$"
_DOUBLE = r"^[+-]?([0-9]+\.?[0-9]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|(?i:inf|infinity|nan))$"
_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:?[0-5]\d)?)?", flags=re.ASCII
)
_INT_RANGES = {"long": (-(2**63), 2**63 - 1), "integer": (-(2**31), 2**31 - 1)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS_RANGE = range(-(2**63) + 1, 2**63)


ARROW_TYPES: dict[str, pa.DataType] = {
    "long": pa.int64(),
    "integer": pa.int32(),
    "double": pa.float64(),
    "float": pa.float64(),  # rounded to float32 at the end, from the nearest double as pandas does
    "boolean": pa.bool_(),
    "string": pa.string(),
    "datetime": pa.timestamp("ns"),
    "binary": pa.string(),
}
"""What a column of each of `scoring.specs.COLUMN_TYPES` is read as."""

TEXT_FIRST = frozenset({"datetime"})
"""Types that are read as text and converted here, for Arrow reads more spellings than the rules allow."""

REFUSES_BLANKS = frozenset({"long", "integer", "boolean"})

_NULL_SCALARS = int(pa.__version__.partition(".")[0]) >= 24
"""Whether `if_else` may be given a scalar null: before 24 it then makes other text of slices (apache/arrow#49410)."""


def nulled(values: pa.Array | pa.ChunkedArray, where: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return values with those nulled where a mask is set, or null itself."""
    null = pa.scalar(None, values.type) if _NULL_SCALARS else pa.nulls(len(values), values.type)
    return pc.if_else(where, null, values)


def convert(text: pa.Array, type_name: str, date_format: str | None = None) -> tuple[pa.Array, dict[int, str]]:
    """Convert a column of text, null where missing, to its type.

    Returns:
        The column, null where a value is missing or does not fit, and the reasons of the latter by position.
    """
    if type_name in ("string", "binary"):
        return text, {}
    trimmed = pc.utf8_trim(text, characters=SPACE)
    blank = pc.or_(pc.is_null(text), pc.equal(trimmed, "").fill_null(True))
    trimmed = nulled(trimmed, blank)
    reasons: dict[int, str] = {}
    converted = _CONVERTERS[type_name](trimmed, type_name, date_format, reasons)
    if type_name in REFUSES_BLANKS:
        for index in np.flatnonzero(blank.to_numpy(zero_copy_only=False)).tolist():
            reasons[index] = blank_reason(type_name)
    return converted, reasons


def blank_reason(type_name: str) -> str:
    """Say that a value is missing where the type has none."""
    return f"blank where the signature says {type_name}"


def _odd_reason(type_name: str) -> str:
    return f"not {'an' if type_name == 'integer' else 'a'} {type_name}"


def _matching(text: pa.Array, pattern: str, type_name: str, reasons: dict[int, str]) -> pa.Array:
    """Null what does not match, with the reason that it is not of its type."""
    fits = pc.match_substring_regex(text, pattern)
    odd = pc.invert(fits).fill_null(False)
    for index in np.flatnonzero(odd.to_numpy(zero_copy_only=False)).tolist():
        reasons[index] = _odd_reason(type_name)
    return nulled(text, odd)


def _integers(text: pa.Array, type_name: str, _: str | None, reasons: dict[int, str]) -> pa.Array:
    low, high = _INT_RANGES[type_name]
    text = _matching(text, _INTEGER, type_name, reasons)
    target = ARROW_TYPES[type_name]
    text = pc.replace_substring_regex(text, pattern=r"^\+", replacement="")
    try:
        return text.cast(target)
    except pa.ArrowInvalid:
        values: list[int | None] = []
        for index, value in enumerate(text.to_pylist()):
            number = None if value is None else _integer(value)
            if number is not None and not low <= number <= high:
                reasons[index] = f"out of range for {type_name}"
                number = None
            values.append(number)
        return pa.array(values, target)


def _integer(text: str) -> int:
    # Python refuses to read thousands of digits; twenty are out of every range already
    number = int(text.lstrip("-0")[:20] or "0")
    return -number if text.startswith("-") else number


def _doubles(text: pa.Array, type_name: str, _: str | None, reasons: dict[int, str]) -> pa.Array:
    text = _matching(text, _DOUBLE, type_name, reasons)
    text = pc.replace_substring_regex(text, pattern=r"^\+", replacement="")
    try:
        return text.cast(pa.float64())
    except pa.ArrowInvalid:
        return pa.array([None if value is None else float(value) for value in text.to_pylist()], pa.float64())


def _booleans(text: pa.Array, type_name: str, _: str | None, reasons: dict[int, str]) -> pa.Array:
    fits = pc.is_in(text, value_set=pa.array(TRUE + FALSE))
    odd = pc.and_not(pc.invert(fits), pc.is_null(text))
    for index in np.flatnonzero(odd.to_numpy(zero_copy_only=False)).tolist():
        reasons[index] = _odd_reason(type_name)
    return pc.if_else(fits, pc.is_in(text, value_set=pa.array(TRUE)), pa.scalar(None, pa.bool_()))


def _datetimes(text: pa.Array, type_name: str, date_format: str | None, reasons: dict[int, str]) -> pa.Array:
    # dates repeat: each different text is read once
    encoded = text.dictionary_encode()
    read: Callable[[str], int] = _iso_nanoseconds if date_format is None else _formatted(date_format)
    instants: list[int | None] = []
    problems: list[str | None] = []
    for value in encoded.dictionary.to_pylist():
        try:
            instant = read(value)
        except ValueError:
            instants.append(None)
            problems.append(_odd_reason(type_name))
            continue
        fits = instant in _NS_RANGE
        instants.append(instant if fits else None)
        problems.append(None if fits else f"out of range for {type_name}")
    if any(problems):
        for index, code in enumerate(encoded.indices.to_pylist()):
            if code is not None and (problem := problems[code]) is not None:
                reasons[index] = problem
    return pa.array(instants, pa.int64()).cast(pa.timestamp("ns")).take(encoded.indices)


def _iso_nanoseconds(text: str) -> int:
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    day, minutes, seconds, fraction, zone = match.groups()
    instant = datetime.fromisoformat(f"{day}T{minutes or '00:00'}:{seconds or '00'}{zone or '+00:00'}")
    return _nanoseconds(instant) + int((fraction or "0").ljust(9, "0"))


def _formatted(date_format: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        instant = datetime.strptime(text, date_format)  # noqa: DTZ007 (the zone is put where there is none)
        return _nanoseconds(instant if instant.tzinfo else instant.replace(tzinfo=UTC))

    return read


def _nanoseconds(instant: datetime) -> int:
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000


_CONVERTERS: dict[str, Callable[[pa.Array, str, str | None, dict[int, str]], Any]] = {
    "long": _integers,
    "integer": _integers,
    "double": _doubles,
    "float": _doubles,
    "boolean": _booleans,
    "datetime": _datetimes,
}
