"""Count rows again, of a score file or of input files, in a process of its own beside the driver.

The question is one JSON object on standard input, the answer one on standard output; `main` has their forms. Everything
is streamed: memory does not grow with the files.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from scoring.cells import TABLES, InputFile
from scoring.errors import InputError
from scoring.files import InputSpec, list_inputs, unreadable
from scoring.lifetime import die_with_parent
from scoring.rows import Dialect, split_fields
from scoring.scan_csv import BLOCK_BYTES, MAX_RECORD_BYTES, Block, ScanError, scan_blocks
from scoring.slices import Cutter, Spool, WholeFile

if TYPE_CHECKING:
    from scoring.row_groups import RowGroups

__all__ = ["NameCounter", "input_rows", "main", "score_rows"]

WINDOW_ROWS = 64
SHOWN_CHARACTERS = 60
_FILE_KEY = b', "file": '


class NameCounter:
    """Counts the rows of each file by the last field of their lines.

    Rows of a file lie together, so that one search for the end of the first line counts all of a run.

    Args:
        names: of the files, as the lines show them.
        output_format: csv, azureml or jsonl.

    Attributes:
        counts: rows by name.
        others: rows of files that are none of these.
        example: the first such name, or the beginning of it.
    """

    def __init__(self, names: Iterable[str], output_format: str) -> None:
        self.counts = dict.fromkeys(names, 0)
        self.others = 0
        self.example = ""
        self._ending = _json_ending if output_format == "jsonl" else _csv_ending

    def add(self, block: Block, first: int) -> None:
        """Count the rows of a block from one of them on."""
        stops = block.row_stops - block.start
        # no line ends inside quotes, no blank lines: what ends like a row is one
        plain = len(block.line_stops) == len(stops)
        row = first
        while row < len(stops):
            begin = int(stops[row - 1]) if row else 0
            name, ending = self._ending(block.data[begin : int(stops[row])])
            rows = _run_rows(block.data, stops, row, ending, plain=plain) if ending else 1
            if name in self.counts:
                self.counts[name] += rows
            else:
                self.example = self.example if self.others else name[:SHOWN_CHARACTERS]
                self.others += rows
            row += rows


def _run_rows(data: bytes, stops: Any, row: int, ending: bytes, *, plain: bool) -> int:
    """Count the rows from one on that end like it, without a gap."""
    if not plain:
        rows = 1
        while row + rows < len(stops) and data.endswith(ending, int(stops[row + rows - 1]), int(stops[row + rows])):
            rows += 1
        return rows
    begin = int(stops[row - 1]) if row else 0
    window = WINDOW_ROWS
    while True:
        window = min(window, len(stops) - row)
        rows = data.count(ending, begin, int(stops[row + window - 1]))
        if rows < window or row + window == len(stops):
            break
        window *= 2
    if rows == window or data.count(ending, begin, int(stops[row + rows - 1])) == rows:
        return rows
    return 1


def _csv_ending(record: bytes) -> tuple[str, bytes]:
    """Return the last field of a record, and how the bytes of every record with this field end (none: nobody knows)."""
    text = record.rstrip(b"\r\n")
    line_end = record[len(text) :]
    if b'"' not in text:
        _, comma, field = text.rpartition(b",")
        return _name(field), comma + field + line_end if comma and line_end else b""
    field = split_fields(text.decode("latin-1"), ",")[0][-1].encode("latin-1")
    for written in (field, b'"' + field.replace(b'"', b'""') + b'"'):
        if line_end and record.endswith(b"," + written + line_end):
            return _name(field), b"," + written + line_end
    return _name(field), b""


def _json_ending(record: bytes) -> tuple[str, bytes]:
    """Do the same for a line of JSON, whose last key names the file."""
    # inside a text the quotes of what looks like the key have a backslash before them
    position = record.rfind(_FILE_KEY)
    if position >= 0:
        try:
            name = json.loads(record[position + len(_FILE_KEY) :].rstrip().removesuffix(b"}"))
        except ValueError:
            name = None
        if isinstance(name, str):
            return name, record[position:] if record.endswith(b"}\n") else b""
    return _name(record.rstrip()), b""


def _name(field: bytes) -> str:
    return field.decode("utf-8", "backslashreplace")


def score_rows(
    path: str,
    ranges: Sequence[tuple[int, int]],
    *,
    output_format: str,
    header: bool,
    names: Sequence[str] | None,
) -> dict[str, Any]:
    """Count the rows of a score file.

    Args:
        path: of it.
        ranges: first byte of each job's rows, and the one behind the last; the last goes on to the end of the file.
        output_format: csv, azureml or jsonl.
        header: whether the file begins with a header.
        names: of the files whose rows shall be told apart in the last range, as the lines show them.

    Returns:
        ``rows`` by range; ``names``: rows by name, ``others`` and ``example``: see `NameCounter`.

    Raises:
        ScanError: a range cannot be cut into rows.
        OSError: the file cannot be read.
    """
    counts: list[int] = []
    counter = NameCounter(names or (), output_format)
    with open(path, "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        for number, (start, end) in enumerate(ranges, 1):
            stop = end if number < len(ranges) else size_bytes
            chunks = _chunks(file, start, stop)
            lines = output_format == "jsonl"
            blocks = _line_blocks(chunks, start) if lines else scan_blocks(chunks, delimiter=",", start=start)
            skipped = int(header and start == 0)
            rows = 0
            for block in blocks:
                first = min(skipped, len(block.row_stops))
                skipped -= first
                rows += len(block.row_stops) - first
                if names is not None and number == len(ranges):
                    counter.add(block, first)
            counts.append(rows)
    return {"rows": counts, "names": counter.counts, "others": counter.others, "example": counter.example}


def _chunks(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    file.seek(start)
    while start < stop and (data := file.read(min(BLOCK_BYTES, stop - start))):
        start += len(data)
        yield data


def _line_blocks(chunks: Iterable[bytes], start: int) -> Iterator[Block]:
    """Cut a stream into blocks of whole lines; a blank one is no row."""
    tail = b""
    for chunk in chunks:
        data = tail + chunk if tail else chunk
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) > MAX_RECORD_BYTES:
            raise ScanError(f"a line of more than {MAX_RECORD_BYTES // 2**20} MiB begins at byte {start:,}")
        if whole:
            yield _line_block(data[:whole], start)
        tail = data[whole:]
        start += whole
    if tail:
        yield _line_block(tail, start)


def _line_block(data: bytes, start: int) -> Block:
    stops = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    if not data.endswith(b"\n"):
        stops = np.append(stops, len(data))
    rows = stops[np.diff(stops, prepend=0) > 1]
    return Block(start=start, data=data, row_stops=rows + start, line_stops=stops + start, plain=True)


def input_rows(path: str, *, input_format: str, dialect: Dialect) -> int:
    """Count the rows of an input file that the scanner of a job finds; what of it cannot be read has none.

    Args:
        path: of it.
        input_format: see `scoring.files.InputSpec`.
        dialect: how it is written.
    """
    spec = InputSpec(url=path, input_format=input_format, dialect=dialect, unknown="fail")
    try:
        (file,) = list_inputs(spec).files
    except InputError:
        return 0
    problem = file.problem or unreadable(file, dialect)
    return sum(part.rows for part in _cutter(replace(file, problem=problem), dialect).slices())


def _cutter(file: InputFile, dialect: Dialect) -> Cutter | RowGroups | WholeFile:
    if file.problem or file.format not in TABLES:
        return WholeFile(0, file)
    if file.format == "parquet":
        from scoring.row_groups import RowGroups

        return RowGroups(0, file, 0)
    return Cutter(0, file, dialect, _NoSpool("", 0), 0)


class _NoSpool(Spool):
    """A spool that keeps nothing: rows are only counted."""

    def open(self) -> BinaryIO:
        """Begin a slice."""
        return open(os.devnull, "wb")

    def hold(self, path: str) -> None:
        """Forget it."""


def main() -> None:
    """Answer one question.

    ``{"scores": {path, ranges, output_format, header, names}}``: the arguments and the result of `score_rows`.
    ``{"inputs": {paths, input_format, dialect}}``: ``{"inputs": [rows of each]}``, see `input_rows`.
    What cannot be read is told as ``{"refused": why}``.
    """
    question = json.load(sys.stdin)
    try:
        if "scores" in question:
            answer = score_rows(**question["scores"])
        else:
            asked = question["inputs"]
            dialect = Dialect(**{**asked["dialect"], "columns": tuple(asked["dialect"]["columns"])})
            rows = [input_rows(path, input_format=asked["input_format"], dialect=dialect) for path in asked["paths"]]
            answer = {"inputs": rows}
    except ScanError as error:
        answer = {"refused": str(error)}
    except OSError as error:
        answer = {"refused": f"cannot be read: {error.strerror}"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    die_with_parent()
    main()
