"""Find where CSV records end, at the speed of a newline search.

The rules are those of docs/csv.md. Three ways, from fast to slow, chosen block by block: no quotes (newlines are
record ends), quotes that all open at the start of a field (newlines behind an even number of quotes), and a tokenizer
for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

BLOCK_BYTES = 4 * 2**20
MAX_RECORD_BYTES = 64 * 2**20

Offsets = npt.NDArray[np.int64]

_LF, _CR, _QUOTE, _SPACE, _TAB = b'\n\r" \t'


class ScanError(Exception):
    """The rest of a file cannot be cut into records; the text says why."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive whole records, the last of them a row (but in the last block).

    Attributes:
        start: offset of its first byte in the decoded stream.
        data: its bytes.
        row_stops: offset behind each record that is a row.
        line_stops: offset behind each physical line end.
        plain: whether Arrow's parser sees the same records: no line is of white space alone, every quote is closed.
    """

    start: int
    data: bytes
    row_stops: Offsets
    line_stops: Offsets
    plain: bool


def scan_blocks(chunks: Iterable[bytes], *, delimiter: str, start: int = 0) -> Iterator[Block]:
    """Cut a stream, which begins at the start of a record, into blocks of whole records.

    Args:
        chunks: the bytes, in pieces of any size.
        delimiter: one ASCII character.
        start: offset of the first byte in the stream.

    Raises:
        ScanError: a record is longer than `MAX_RECORD_BYTES`.
    """
    tail = b""
    for chunk in chunks:
        data = tail + chunk if tail else chunk
        block = _whole_records(data, ord(delimiter), start, final=False)
        if block is None:
            if len(data) > MAX_RECORD_BYTES:
                raise ScanError(
                    f"a record of more than {MAX_RECORD_BYTES // 2**20} MiB begins at byte {start:,}: "
                    "probably a quote is opened there and never closed"
                )
            tail = data
            continue
        yield block
        tail = data[len(block.data) :]
        start += len(block.data)
    if tail:
        block = _whole_records(tail, ord(delimiter), start, final=True)
        if block is not None:
            yield block


def _whole_records(data: bytes, delimiter: int, start: int, *, final: bool) -> Block | None:
    cells = np.frombuffer(data, dtype=np.uint8)
    newlines = np.flatnonzero(cells == _LF)
    returns = np.flatnonzero(cells == _CR) if b"\r" in data else None
    quotes = np.flatnonzero(cells == _QUOTE) if b'"' in data else None
    if (returns is not None and _any_lone_return(cells, returns, final)) or (
        quotes is not None and not _quotes_open_fields(cells, quotes, delimiter)
    ):
        return _tokenized(data, cells, delimiter, start, final=final)
    ends = newlines
    if quotes is not None:
        ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
    plain = True
    if final and (ends.size == 0 or ends[-1] != len(data) - 1):
        ends = np.append(ends, len(data) - 1)
        # an odd number of quotes: the last record is never closed
        plain = quotes is None or quotes.size % 2 == 0
    if ends.size == 0:
        return None
    stops = ends + 1
    blank, whitespace = _blank_records(data, cells, stops, delimiter)
    rows = stops if blank is None else stops[~blank]
    if not final and rows.size == 0:
        return None
    consumed = len(data) if final else int(rows[-1])
    return Block(
        start=start,
        data=data if consumed == len(data) else data[:consumed],
        row_stops=rows + start,
        line_stops=newlines[: np.searchsorted(newlines, consumed)] + (1 + start),
        plain=plain and not whitespace,
    )


def _any_lone_return(cells: npt.NDArray[np.uint8], returns: Offsets, final: bool) -> bool:
    if returns[-1] == cells.size - 1:
        if final:
            return True
        returns = returns[:-1]
    return bool((cells[returns + 1] != _LF).any())


def _quotes_open_fields(cells: npt.NDArray[np.uint8], quotes: Offsets, delimiter: int) -> bool:
    """Tell whether every odd quote stands at the start of a field, or is the second of a doubled one."""
    odd = quotes[0::2]
    before = cells[odd[odd > 0] - 1]
    return bool(((before == delimiter) | (before == _LF) | (before == _QUOTE)).all())


def _blank_records(
    data: bytes, cells: npt.NDArray[np.uint8], stops: Offsets, delimiter: int
) -> tuple[npt.NDArray[np.bool_] | None, bool]:
    """Find the records that are no rows, and whether white space makes one of them blank."""
    starts = np.empty_like(stops)
    starts[0] = 0
    starts[1:] = stops[:-1]
    first = cells[starts]
    blank = first == _LF
    returns = np.flatnonzero(first == _CR)
    if returns.size:
        following = np.minimum(starts[returns] + 1, cells.size - 1)
        blank[returns] |= cells[following] == _LF
    suspects = np.flatnonzero(((first == _SPACE) | (first == _TAB)) & (first != delimiter))
    whitespace = False
    for index in suspects.tolist():
        if is_blank(data[starts[index] : stops[index]], delimiter):
            blank[index] = whitespace = True
    return (blank if blank.any() else None), whitespace


@lru_cache
def _strippable(delimiter: int) -> bytes:
    return bytes(byte for byte in b" \t\r\n" if byte != delimiter)


@lru_cache
def _patterns(delimiter: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    end = re.escape(bytes([delimiter])) + rb"\r\n"
    # possessive, so that an unclosed field is never read as a closed one
    return re.compile(rb'"[^"]*+(?:""[^"]*+)*+"[^' + end + rb"]*+"), re.compile(rb"[^" + end + rb"]*+")


def record_stop(data: bytes, position: int, delimiter: int) -> tuple[int, bool]:
    """Find the line end behind the record at a position; `len(data)` and False where a quote is never closed."""
    quoted, bare = _patterns(delimiter)
    while True:
        if data[position : position + 1] == b'"':
            match = quoted.match(data, position)
            if match is None:
                return len(data), False
        else:
            match = bare.match(data, position)
            assert match is not None  # it matches the empty text too
        position = match.end()
        if data[position : position + 1] != bytes([delimiter]):
            return position, True
        position += 1


def walk_records(data: bytes, position: int, delimiter: int, *, final: bool) -> Iterator[tuple[int, int, int]]:
    """Tokenize from a position on: (start, end of the text, offset behind the line end) of each record, blank ones too.

    Records that may go on behind the data are left out unless it is final.
    """
    line_end = re.compile(rb"[\r\n]") if b"\r" in data else re.compile(rb"\n")
    opening = bytes([delimiter, _QUOTE])
    size = len(data)
    while position < size:
        match = line_end.search(data, position)
        stop = match.start() if match else size
        if data.startswith(b'"', position) or data.find(opening, position, stop) >= 0:
            stop, _ = record_stop(data, position, delimiter)
        if not final and (stop == size or (stop == size - 1 and data[stop] == _CR)):
            return
        after = min(size, stop + (2 if data.startswith(b"\r\n", stop) else 1))
        yield position, stop, after
        position = after


def is_blank(record: bytes, delimiter: int) -> bool:
    """Tell whether a record, with or without its line end, is no row."""
    return not record.strip(_strippable(delimiter))


def _tokenized(data: bytes, cells: npt.NDArray[np.uint8], delimiter: int, start: int, *, final: bool) -> Block | None:
    strip = _strippable(delimiter)
    stops: list[int] = []
    position, size = 0, len(data)
    plain = True
    for begin, stop, position in walk_records(data, 0, delimiter, final=final):
        if data[begin:stop].strip(strip):
            stops.append(position)
            if stop == size:
                plain = plain and record_stop(data, begin, delimiter)[1]
        elif stop > begin:
            plain = False
    if not final:
        position = stops[-1] if stops else 0
    if position == 0:
        return None
    line_ends = np.flatnonzero(cells[:position] == _LF)
    returns = np.flatnonzero(cells[:position] == _CR)
    lone = returns[(returns + 1 >= size) | (cells[np.minimum(returns + 1, size - 1)] != _LF)]
    return Block(
        start=start,
        data=data[:position],
        row_stops=np.array(stops, dtype=np.int64) + start,
        line_stops=np.sort(np.concatenate([line_ends, lone])) + (1 + start),
        plain=plain,
    )
