"""Hypothesis strategies that write CSV files: plain ones, and as nasty as files come.

A file is drawn as a list of lines from pools of known trouble, mixed with a little random text, so that most rows of
most files still fit and a failing example shrinks to a few short lines.
"""

import gzip
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import zstandard
from hypothesis import settings
from hypothesis import strategies as st

from scoring.reference import Column

__all__ = [
    "PACKED", "chunked", "csv_files", "delimited", "examples", "field_texts", "plain_csv_files", "write_files",
]  # fmt: skip

PACKED: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
"""How bytes are packed under each extension."""

_T = TypeVar("_T")
_Files = st.SearchStrategy[list[tuple[str, bytes]]]

# fmt: off
_PATHS = ["a.csv", "b.csv", "part-000.csv", "part-001.csv", "x/a.csv", "x/y/z.csv", "z,1.csv", "é.csv", "数 据.csv"]
_LINE_ENDS = ["\n", "\r\n", "\r"]
_BLANK_LINES = ["", " ", "\t", "  \t "]
_MISSING = ["", "NA", "NaN", "nan", "null", "NULL", "None", "N/A", "#N/A", "<NA>", "-1.#IND", "n/a", "#N/A N/A", "-nan"]
_SPACES = ["", "", "", " ", "\t", "  "]

_WORDS = ["fixed", "normal", "reversible", "a b", "naïve", "数据", "🙂", "x'y", "0x", "-", "nat", "Nan", "na"]
_ODD_WORDS = [
    " padded ", "  ", "two\nlines", "two\r\nlines", "lone\rreturn", "a,b;c\td|e", 'say "so"', '"', '""', "\xa0",
]
_PLAIN = {
    "long": ["0", "1", "-1", "42", "1234567", "9223372036854775807", "-9223372036854775808"],
    "integer": ["0", "1", "-1", "42", "123456", "2147483647", "-2147483648"],
    "double": ["0.0", "1.5", "-2.25", "0.1", "1e-05", "123456789.125", "1e+16", "3"],
    "float": ["0.0", "1.5", "-2.25", "0.1", "1e-05", "123456.125", "3"],
    "boolean": ["True", "False", "true", "false", "1", "0", "TRUE", "FALSE"],
    "string": _WORDS,
    "datetime": ["2024-02-29", "1970-01-01 00:00:00", "2001-02-03T04:05:06.789", "2020-12-31 23:59:59.123456789"],
    "binary": _WORDS,
}
_NUMBERS = [
    "+1", "01", "007", "-0", "+0.0", "1.0", ".5", "5.", "-.5e+3", "1E5", "1e5", "1.e2", "1e400", "-1e400", "1e-400",
    "inf", "-inf", "+Infinity", "INF", "iNf", "+nan", "-NAN", "9223372036854775808", "-9223372036854775809",
    "2147483648", "-2147483649", "99999999999999999999", "+16777217", "0000000000000000000000001",
    "0.1000000000000000055511151231257827", "1.7976931348623159e308", "4.9e-324", "2.4e-324", "3.4028236e38", "1e-46",
    "0X1f", "nan(1)", "-NaN(ind)",
    "0x10", "1_000", "1,000", "1e", "e5", "--1", "+-1", "1.5f", "1d5", "1.2.3", ".", "-", "+", "infinit", "٣", "\uff11",
    "1٣", "½", "∞", "1\u202f000", " 1 ", "\t-2", "1 000", "1\xa0", "- 1", "1\n",
]
_BOOLEANS = ["yes", "no", "tRUE", "t", "T", "2", "01", "+1", "1.0", " true ", "\tFalse"]
_DATETIMES = [
    "2024-01-02T03:04", "2024-01-02T03:04:05Z", "2024-01-02T03:04:05.5+02:00", "2024-01-02T03:04-0930", "2262-04-11",
    "2262-04-11T23:47:16.854775807", "1677-09-21T00:12:43.145224193", "2262-04-12T01:00:00+02:00",
    "2262-04-11T23:47:16.854775808", "1677-09-21T00:12:43.145224192", "1677-09-20T23:59:59+02:00", "0000-01-01",
    "0001-01-01", "9999-12-31", "2023-02-29", "2024-13-01", "2024-00-10", "2024-1-2", "24-01-02", "2024/01/02",
    "20240102", "2024-01-02T", "2024-01-02T24:00", "2024-01-02T23:60", "2024-01-02T23:59:60", "2024-01-02T3:04",
    "2024-01-02T03:04.5", "2024-01-02T03:04:05.", "2024-01-02T03:04:05.1234567890", "2024-01-02Z", "2024-01-02T03Z",
    "2024-01-02T03:04+1", "2024-01-02t03:04", "2024-01-02T03:04z", "2024-01-02T03:04+24:00", "2024-02-30T25:00", "NaT",
    "now", "٢٠٢٤-01-02", "0", " 2024-01-02\t", "2024-01-02 03:04:05.000001 ", "2024-01-02  03:04", "2024-01-02T03:04 Z",
    "2024-01-02\t03:04",
]
_ODD = {
    "long": _NUMBERS,
    "integer": _NUMBERS,
    "double": _NUMBERS,
    "float": _NUMBERS,
    "boolean": _BOOLEANS,
    "string": _ODD_WORDS,
    "datetime": _DATETIMES,
    "binary": _ODD_WORDS,
}
_STRAY = [
    '5" pipe', '"ab"c"d', '"ab"cd', 'a""b', '"" x', ' "a"', '"a" ', '"x""y"z', '"a\nb"c', '"\r"', '"";',
]
_LINES = [
    '"', '""', '"a', 'a"b', '"a"b"c', ",", ",,", ";", "x", "1,2", '"1\n2', '""""', ' ""', "#", "\ufeff", "\u2028",
    "\x0b",
]
_BAD_BYTES = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xe2\x82", b"\xf5\x80", b"\xc0\xaf"]
# fmt: on


def examples(usual: int) -> settings:
    """Try so many examples, or as many as SCORELINE_EXAMPLES says where that is more."""
    return settings(max_examples=max(usual, int(os.environ.get("SCORELINE_EXAMPLES", "0"))))


def chunked(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Cut bytes into chunks, none of them empty."""
    places = st.sets(st.integers(1, max(1, len(data) - 1)), max_size=8)
    return places.map(lambda some: [data[a:b] for a, b in pairwise([0, *sorted(some), len(data)]) if a < b])


def write_files(root: Path, files: Sequence[tuple[str, bytes]]) -> None:
    """Write files below a folder."""
    for name, data in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def delimited(fields: Sequence[str], delimiter: str = ",") -> str:
    """Join fields to one record without its line end, quoting only where it must be done."""
    record = delimiter.join(_quoted(text) if _needs_quotes(text, delimiter) else text for text in fields)
    # One field of nothing or white space would be a blank line.
    return record if record.strip(" \t".replace(delimiter, "")) else delimiter.join(_quoted(text) for text in fields)


def plain_csv_files(
    columns: Sequence[Column], *, delimiter: str = ",", max_files: int = 4, max_rows: int = 12, missing: bool = True
) -> _Files:
    """Well-formed UTF-8 files with a header, all of whose rows fit and which `csv` and pandas read alike.

    Args:
        columns: The signature; each file has all its columns, in this order.
        delimiter: The character between fields.
        max_files: How many files at most; there is at least one.
        max_rows: How many rows a file has at most.
        missing: Whether values may be missing where the type allows it.
    """
    cells = [st.sampled_from(_plain_pool(column.type, missing)) for column in columns]
    row = st.tuples(*cells).map(partial(delimited, delimiter=delimiter))
    header = delimited([column.name for column in columns], delimiter)

    def written(lines: list[str], line_end: str, last: bool) -> bytes:
        return (line_end.join([header, *lines]) + (line_end if last else "")).encode()

    contents = st.builds(written, st.lists(row, max_size=max_rows), st.sampled_from(["\n", "\r\n"]), st.booleans())
    return _files(contents, max_files, min_files=1)


def csv_files(
    columns: Sequence[Column],
    *,
    delimiter: str = ",",
    min_files: int = 0,
    max_files: int = 4,
    max_rows: int = 12,
    header: bool = True,
) -> _Files:
    """Files of any kind: none, empty ones, headers alone, good rows among rows that do not fit, and plain rubbish.

    Args:
        columns: The signature. Files order it as they like, add columns, and now and then lack one.
        delimiter: The character between fields.
        min_files: How many files at least.
        max_files: How many files at most.
        max_rows: How many lines a file has at most, the header not counted.
        header: Whether files begin with one.
    """
    names = tuple(column.name for column in columns)
    if header:
        contents = _headers(columns).flatmap(lambda chosen: _content(chosen, tuple(columns), delimiter, max_rows, True))
    else:
        contents = _content(names, tuple(columns), delimiter, max_rows, False)
    rare = st.sampled_from([b"", b"\n", b" \r\n\t\n", b"\xef\xbb\xbf", b'"', delimited(names, delimiter).encode()])
    return _files(_mostly(contents, rare, 9), max_files, min_files)


def field_texts(kind: str) -> st.SearchStrategy[str]:
    """Texts of one field, without the quotes around it: values of a type, of others, and whatever comes close."""
    others = [text for pool in _ODD.values() for text in pool]
    known = [*_plain_pool(kind, missing=True), *_ODD[kind] * 3, *_MISSING, *others]
    dressed = st.builds("{}{}{}".format, st.sampled_from(_SPACES), st.sampled_from(known), st.sampled_from(_SPACES))
    return _mostly(dressed, st.text(alphabet="0123456789+-.eE:TZ \tinfaNx_", max_size=12), 2)


def _files(contents: st.SearchStrategy[bytes], max_files: int, min_files: int = 0) -> _Files:
    def filled(paths: list[str]) -> _Files:
        ordered = sorted(paths, key=str.encode)
        return st.tuples(*[contents] * len(ordered)).map(lambda drawn: list(zip(ordered, drawn, strict=True)))

    return st.lists(st.sampled_from(_PATHS), min_size=min_files, max_size=max_files, unique=True).flatmap(filled)


def _headers(columns: Sequence[Column]) -> st.SearchStrategy[tuple[str, ...]]:
    """Names of a file's columns: the signature's, in an order, with some of it left out and others put in."""
    names = [column.name for column in columns]
    optional = [column.name for column in columns if not column.required]
    extra = st.lists(st.sampled_from(["extra", "", "note é", 'odd,"\r', "a b", *names[:1]]), max_size=2)
    absent = st.sets(st.sampled_from(optional)) if optional else st.just(set[str]())
    # Else one file in ten lacks a column that it must have, or one that it need not.
    lost = _mostly(absent, st.sampled_from(names).map(lambda name: {name}), 9) if names else absent

    def ordered(more: list[str], lacking: set[str]) -> st.SearchStrategy[list[str]]:
        present = [name for name in names if name not in lacking] + more
        return _mostly(st.just(present), st.permutations(present), 1)

    mixed = st.tuples(extra, lost).flatmap(lambda drawn: ordered(*drawn)).map(tuple)
    return _mostly(st.just(tuple(names)), mixed, 1)


@cache
def _content(
    names: tuple[str, ...], columns: tuple[Column, ...], delimiter: str, max_rows: int, header: bool
) -> st.SearchStrategy[bytes]:
    types = {column.name: column.type for column in columns}
    kinds = [types.get(name, "string") for name in names]

    def row(cell: Callable[[str, str], st.SearchStrategy[str]]) -> st.SearchStrategy[str]:
        cells = st.tuples(*(cell(kind, delimiter) for kind in kinds))
        return cells.map(delimiter.join)

    good, mixed, odd = row(_good_cell), row(_mixed_cell), row(_odd_cell)
    ragged = st.tuples(good, st.integers(-2, 2)).map(lambda drawn: _ragged(*drawn, delimiter))
    rubbish = _mostly(st.sampled_from(_LINES), _text(), 1)
    line = st.sampled_from([good, good, good, good, mixed, mixed, mixed, odd, st.sampled_from(_BLANK_LINES), ragged])
    lines = st.lists(_mostly(line.flatmap(lambda drawn: drawn), rubbish, 19), max_size=max_rows)
    head = [delimited(names, delimiter)] if header else []
    ends = _mostly(
        st.sampled_from([["\n"], ["\n"], ["\r\n"], ["\r"]]),
        st.lists(st.sampled_from(_LINE_ENDS), min_size=2, max_size=5),
        2,
    )
    return st.builds(
        partial(_written, head, delimiter=delimiter),
        lines,
        ends,
        bom=st.sampled_from([False, False, True]),
        blanks_first=_mostly(st.just([]), st.lists(st.sampled_from(_BLANK_LINES), max_size=2), 5),
        last_end=st.booleans(),
        trailing=st.sampled_from(["no"] * 6 + ["all", "most"]),
        bad=_mostly(st.none(), st.tuples(st.sampled_from(_BAD_BYTES), st.integers(0, 400)), 7),
    )


def _written(
    head: list[str],
    lines: list[str],
    ends: list[str],
    *,
    delimiter: str,
    bom: bool,
    blanks_first: list[str],
    last_end: bool,
    trailing: str,
    bad: tuple[bytes, int] | None,
) -> bytes:
    """Put a file together from its lines and line ends, the latter used in turn."""
    if trailing != "no":
        lines = [line + delimiter if trailing == "all" or i % 3 == 0 else line for i, line in enumerate(lines)]
    lines = [*blanks_first, *head, *lines]
    text = "".join(line + ends[i % len(ends)] for i, line in enumerate(lines))
    if not last_end and lines:
        text = text.removesuffix(ends[(len(lines) - 1) % len(ends)])
    data = (b"\xef\xbb\xbf" if bom else b"") + text.encode()
    if bad is not None:
        place = bad[1] % (len(data) + 1)
        data = data[:place] + bad[0] + data[place:]
    return data


def _ragged(record: str, change: int, delimiter: str) -> str:
    if change >= 0:
        return record + delimiter * change
    return delimiter.join(record.split(delimiter)[:change])


@cache
def _good_cell(kind: str, delimiter: str) -> st.SearchStrategy[str]:
    """A value that fits, at times with white space or quotes around it."""
    return st.sampled_from([_quoted_if_needed(text, delimiter) for text in _plain_pool(kind, missing=True)])


@cache
def _mixed_cell(kind: str, delimiter: str) -> st.SearchStrategy[str]:
    """A value that mostly fits, in any dress."""
    value = _mostly(st.sampled_from(_plain_pool(kind, missing=True)), st.sampled_from(_ODD[kind]), 4)
    return st.builds(partial(_dressed, delimiter=delimiter), value, st.sampled_from(_SPACES), st.integers(0, 3))


@cache
def _odd_cell(kind: str, delimiter: str) -> st.SearchStrategy[str]:
    """Anything: a value of this type or of another, stray quotes, a marker, random text."""
    others = [text for pool in _ODD.values() for text in pool]
    known = [*_ODD[kind] * 3, *others, *_MISSING, *[" " + marker for marker in _MISSING[1:3]]]
    dressed = [_quoted_if_needed(text, delimiter) for text in known] + [_quoted(text) for text in known]
    return _mostly(st.sampled_from(dressed + _STRAY * 3), _text(), 5)


def _plain_pool(kind: str, missing: bool) -> list[str]:
    if not missing or kind in ("long", "integer", "boolean"):
        return _PLAIN[kind]
    return [*_PLAIN[kind], "", "NA"]


def _dressed(text: str, space: str, dress: int, delimiter: str) -> str:
    if dress == 0:
        return _quoted(space + text + space)
    if dress == 1:
        return _quoted_if_needed(space + text, delimiter)
    return _quoted_if_needed(text + space, delimiter)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _needs_quotes(text: str, delimiter: str) -> bool:
    return any(mark in text for mark in (delimiter, '"', "\n", "\r"))


def _quoted_if_needed(text: str, delimiter: str) -> str:
    return _quoted(text) if _needs_quotes(text, delimiter) else text


def _text() -> st.SearchStrategy[str]:
    return st.text(alphabet='ab1.,;" \t\n\r-é数', max_size=6)


def _mostly(usual: st.SearchStrategy[_T], rare: st.SearchStrategy[_T], times: int) -> st.SearchStrategy[_T]:
    """One of two strategies, the first so many times as often as the second."""
    # one_of would draw its distinct branches alike, however often one is named.
    return st.sampled_from([usual] * times + [rare]).flatmap(lambda strategy: strategy)
