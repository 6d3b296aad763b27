"""Read the rows of a cell into the frame the model is called with; rows that do not fit go aside.

Arrow reads a whole cell at once. Only where it meets something odd (a value that is not of its type, a record with too
few fields) is the column in question read as text and judged by `scoring.fields`; only where its count of rows differs
from the scanner's are records tokenized one by one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from scoring.cells import Cell, Slice, SliceAccount, covered_digest, slice_digest
from scoring.errors import InputError
from scoring.fields import (
    ARROW_TYPES,
    FALSE,
    MISSING,
    REFUSES_BLANKS,
    TEXT_FIRST,
    TRUE,
    blank_reason,
    convert,
    nulled,
)  # fmt: skip
from scoring.rows import Dialect, split_fields
from scoring.scan_csv import is_blank, scan_blocks, walk_records
from scoring.specs import ColumnSpec, ReadPlan

TRAILING = "\0trailing"
"""Column name of the empty field that ends each record of some files."""
MAX_ARROW_BLOCK = 2**30

Rows = npt.NDArray[np.int64]


@dataclass(slots=True)
class CellInput:
    """A cell as read.

    Attributes:
        table: the rows that fit, typed, columns in the order wanted.
        image: the one row that an image is, where there is no table.
        rows: their numbers in their files.
        counts: per slice, its file and how many of its rows are in the table.
        keep: text of the columns to keep, a column each.
        quarantine: an entry for each row that does not fit, in order.
        causes: how often which cause met a row.
        accounts: one for each slice.
    """

    table: pa.Table | None = None
    rows: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    counts: list[tuple[str, int]] = field(default_factory=list)
    keep: list[pa.Array] = field(default_factory=list)
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    causes: Counter[str] = field(default_factory=Counter)
    accounts: list[SliceAccount] = field(default_factory=list)
    image: npt.NDArray[Any] | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """Slices that are read in one go: what precedes their records, and the records."""

    slices: tuple[Slice, ...]
    heads: tuple[bytes, ...]
    bodies: tuple[bytes, ...]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.slices)


Misfits = dict[int, list[tuple[str | None, str | None, str]]]
"""Row of a run -> its misfits as (column, value, reason)."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A run as read: the rows that fit, the text of the columns to keep, and the rest."""

    table: pa.Table
    keep: pa.Table | None
    misfits: Misfits


def read_cell(cell: Cell, plan: ReadPlan) -> CellInput:
    """Read the slices of a cell of tables, each from where it lies.

    Raises:
        InputError: a file is not what it was when it was scanned.
        OSError: a file cannot be read.
    """
    if cell.slices[0].format == "parquet":
        from scoring import parquet

        return parquet.read_cell(cell, plan)
    result = CellInput()
    outcomes: list[_Outcome] = []
    row_numbers: list[Rows] = []
    for run, accounts in _runs(cell.slices, plan, result):
        outcome = _read_run(run, plan)
        outcomes.append(outcome)
        bad = np.array(sorted(outcome.misfits), dtype=np.int64)
        _quarantine(run, outcome.misfits, plan, result)
        position = 0
        for part, account in zip(run.slices, accounts, strict=True):
            inside = bad[np.searchsorted(bad, position) : np.searchsorted(bad, position + part.rows)] - position
            result.accounts.append(replace(account, quarantined=len(inside)))
            result.counts.append((part.name, part.rows - len(inside)))
            numbers = np.arange(part.first_row, part.first_row + part.rows)
            row_numbers.append(np.delete(numbers, inside) if len(inside) else numbers)
            position += part.rows
    if outcomes:
        result.table = pa.concat_tables([outcome.table for outcome in outcomes])
        result.rows = row_numbers[0] if len(row_numbers) == 1 else np.concatenate(row_numbers)
        texts = [outcome.keep for outcome in outcomes if outcome.keep is not None]
        result.keep = [
            pa.chunked_array([chunk for text in texts for chunk in text[name].chunks], pa.string()).combine_chunks()
            for name in plan.keep
        ]
    # failed files are met before the runs around them are read
    place = {part.name: index for index, part in enumerate(cell.slices)}
    result.accounts.sort(key=lambda account: (place[account.name], account.start))
    result.quarantine.sort(key=lambda entry: (place[entry["file"]], -1 if entry["row"] is None else entry["row"]))
    return result


def first_rows(cell: Cell, rows: int, dialect: Dialect) -> Cell:
    """Return the first rows of a cell as a cell of its own."""
    slices: list[Slice] = []
    for part in cell.slices:
        if part.rows > rows:
            slices.append(replace(part, stop=_stop_of(part, rows, dialect), rows=rows))
            break
        slices.append(part)
        rows -= part.rows
        if not rows:
            break
    return Cell(slices=tuple(slices))


def _stop_of(part: Slice, rows: int, dialect: Dialect) -> int:
    """Find the byte behind the first rows of a slice; of row groups there is none before their end."""
    if part.format == "parquet":
        return part.stop
    stops = [
        stop
        for block in scan_blocks([fetch(part)[part.skip_bytes :]], delimiter=dialect.delimiter)
        for stop in block.row_stops[:rows].tolist()
    ]
    return int(part.start + part.skip_bytes + stops[rows - 1])


def read_text(part: Slice, plan: ReadPlan, rows: int) -> pa.Table:
    """Read the first rows of a slice as text, all columns, nothing missing and nothing judged.

    Those of Parquet files are of the types they have.
    """
    if part.format == "parquet":
        from scoring import parquet

        return parquet.read_sample(part, rows)
    delimiter = ord(plan.dialect.delimiter)
    body = fetch(part)[part.skip_bytes :]
    records: list[list[str]] = []
    for start, stop, _ in walk_records(body, 0, delimiter, final=True):
        if len(records) == rows:
            break
        if not is_blank(body[start:stop], delimiter):
            text = body[start:stop].decode(plan.dialect.stream_encoding, "backslashreplace")
            fields, _ = split_fields(text, plan.dialect.delimiter)
            if len(fields) == part.width:
                records.append(fields)
    columns = list(zip(*records, strict=True)) or [()] * len(part.columns)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(part.columns, columns, strict=False)})


def final_type(column: ColumnSpec) -> pa.DataType:
    """Return the type a column has when it is given to the model."""
    return {"float": pa.float32(), "binary": pa.binary()}.get(column.type, ARROW_TYPES[column.type])


def _runs(slices: Iterable[Slice], plan: ReadPlan, result: CellInput) -> Iterator[tuple[_Run, list[SliceAccount]]]:
    """Fetch the slices; give up those of failed files; put like neighbours together."""
    waiting: list[_Waiting] = []
    for part in slices:
        if part.problem:
            give_up_problem(part, result)
            continue
        data = fetch(part)
        account = slice_account(part, slice_digest(data))
        missing = missing_column(part, plan)
        if missing is not None and part.rows:
            cause = f"rows of files without column {missing!r}"
            give_up(part, account, result, reason=f"column {missing!r} is missing", cause=cause)
            continue
        if not part.rows:
            result.accounts.append(account)
            continue
        if waiting and not (_alike(waiting[-1][0], part)):
            yield _run_of(waiting)
            waiting = []
        body = data[part.skip_bytes :] if part.skip_bytes else data
        waiting.append((part, data[: part.skip_bytes], body, account))
    if waiting:
        yield _run_of(waiting)


def fetch(part: Slice) -> bytes:
    """Read the bytes of a slice.

    Raises:
        InputError: the file is shorter than it was.
    """
    with open(part.url, "rb", buffering=0) as source:
        source.seek(part.offset)
        wanted = part.stop - part.start
        data = source.read(wanted) or b""
        while len(data) < wanted and (more := source.read(wanted - len(data))):
            data += more
    if len(data) != wanted:
        raise InputError(f"{part.name}: the file became shorter while it was scored; run again when it rests")
    return data


def slice_account(part: Slice, digest: bytes, *, quarantined: int = 0) -> SliceAccount:
    """Begin the account of a slice that was read."""
    return SliceAccount(
        name=part.name, start=part.start, stop=part.stop, digest=digest, rows=part.rows, quarantined=quarantined
    )


def give_up(part: Slice, account: SliceAccount, result: CellInput, *, reason: str, cause: str) -> None:
    """Give up the rows of a slice whose file fails."""
    result.quarantine.append({"file": part.name, "row": None, "rows": part.rows, "reason": reason})
    result.causes[cause] += part.rows
    result.accounts.append(replace(account, given_up=part.rows))


def unread(cell: Cell, reason: str) -> CellInput:
    """Give up all rows of a cell that cannot be read by the model at hand."""
    result = CellInput()
    for part in cell.slices:
        if part.problem:
            give_up_problem(part, result)
        else:
            give_up(part, slice_account(part, covered_digest(part)), result, reason=reason, cause=reason)
    return result


def give_up_problem(part: Slice, result: CellInput) -> None:
    """Give up the rest of a file that cannot be read, of which nobody knows the rows."""
    named = f"'{part.name}'" in part.problem
    result.quarantine.append({"file": part.name, "row": None, "rows": None, "reason": part.problem})
    result.causes[part.problem if named else f"{part.name}: {part.problem}"] += 1
    result.accounts.append(replace(slice_account(part, slice_digest(b"")), problem=part.problem))


def missing_column(part: Slice, plan: ReadPlan) -> str | None:
    """Name a column that a file lacks: one the model needs, or one to keep."""
    names = set(part.columns)
    for column in plan.columns:
        if column.required and column.name not in names:
            return column.name
    return next((name for name in plan.keep if name not in names), None)


def _alike(one: Slice, other: Slice) -> bool:
    return one.plain and other.plain and one.columns == other.columns and one.width == other.width


_Waiting = tuple[Slice, bytes, bytes, SliceAccount]


def _run_of(waiting: Sequence[_Waiting]) -> tuple[_Run, list[SliceAccount]]:
    bodies = [body for _, _, body, _ in waiting]
    for index, body in enumerate(bodies[:-1]):
        if not body.endswith(b"\n"):
            bodies[index] = body + b"\n"
    slices = tuple(part for part, *_ in waiting)
    run = _Run(slices, tuple(head for _, head, *_ in waiting), tuple(bodies))
    return run, [account for *_, account in waiting]


def _read_run(run: _Run, plan: ReadPlan) -> _Outcome:
    if all(part.plain for part in run.slices):
        body = _as_utf8(run.bodies[0] if len(run.bodies) == 1 else b"".join(run.bodies), plan.dialect)
        outcome = _read_by_arrow(body, run, plan) if body is not None else None
        if outcome is not None:
            return outcome
    return _read_by_record(run, plan)


def _as_utf8(body: bytes, dialect: Dialect) -> bytes | None:
    """Give the bytes as UTF-8, or None where Arrow would not read them right."""
    if body.isascii():
        return body
    try:
        text = body.decode(dialect.stream_encoding)
    except UnicodeDecodeError:
        return None
    if text.startswith("\ufeff"):
        # Arrow skips a byte order mark, which behind the first bytes of a file is text
        return None
    return body if dialect.stream_encoding.lower().replace("_", "-") in ("utf-8", "utf8") else text.encode()


def _wanted(run: _Run, plan: ReadPlan) -> list[ColumnSpec]:
    present = set(run.slices[0].columns)
    return [column for column in plan.columns if column.name in present]


def _field_names(run: _Run) -> list[str]:
    first = run.slices[0]
    return [*first.columns, TRAILING] if first.width > len(first.columns) else [*first.columns]


_MARKED: set[tuple[str, ...]] = set()
"""Columns of the files in which this process met something that is no number; it only saves time."""


def _with_markers_missing(table: pa.Table) -> pa.Table:
    """Null the markers of missing values in columns of text."""
    for index, column in enumerate(table.schema):
        if column.type == pa.string():
            marked = pc.is_in(table.column(index), value_set=pa.array(MISSING))
            if pc.any(marked).as_py():
                table = table.set_column(index, column, nulled(table.column(index), marked))
    return table


_COLUMN_IN_ERROR = re.compile(r"In CSV column #(\d+)")


def _read_by_arrow(body: bytes, run: _Run, plan: ReadPlan) -> _Outcome | None:
    """Read with Arrow; None where it does not see the scanner's rows."""
    wanted, names = _wanted(run, plan), _field_names(run)
    as_text = {column.name for column in wanted if column.type in TEXT_FIRST}
    if any(part.odd_numbers for part in run.slices):
        as_text.update(column.name for column in wanted)
    ragged: list[tuple[int, int]] = []

    def note_ragged(row: Any) -> str:
        ragged.append((row.number - 1, row.actual_columns))
        return "skip"

    def read(types: dict[str, pa.DataType], markers: Sequence[str]) -> pa.Table:
        ragged.clear()
        missing = bool(markers)
        return pacsv.read_csv(
            pa.BufferReader(body),
            read_options=pacsv.ReadOptions(
                use_threads=False, column_names=names, block_size=min(len(body) + 1, MAX_ARROW_BLOCK)
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=plan.dialect.delimiter, newlines_in_values=b'"' in body, invalid_row_handler=note_ragged
            ),
            convert_options=pacsv.ConvertOptions(
                check_utf8=False,
                column_types=types,
                include_columns=list(types),
                null_values=list(markers),
                true_values=list(TRUE),
                false_values=list(FALSE),
                strings_can_be_null=missing,
                quoted_strings_can_be_null=missing,
            ),
        )

    raw = [*plan.keep, *names[len(run.slices[0].columns) :]]
    keep = read(dict.fromkeys(raw, pa.string()), ()) if raw else None
    table: pa.Table | None = None
    # looking for twenty markers in each field takes a fifth of the reading, and few files have another than blank
    markers = MISSING if tuple(names) in _MARKED else ("",)
    while table is None:
        types = {column.name: pa.string() if column.name in as_text else ARROW_TYPES[column.type] for column in wanted}
        try:
            table = read(types or {names[0]: pa.string()}, markers)
        except pa.ArrowInvalid as error:
            if markers is not MISSING:
                markers = MISSING
                _MARKED.add(tuple(names))
                continue
            match = _COLUMN_IN_ERROR.search(str(error))
            name = names[int(match[1])] if match and int(match[1]) < len(names) else None
            if name is None or name in as_text:
                return None
            as_text.add(name)
    if table.num_rows + len(ragged) != run.rows:
        return None
    if markers is not MISSING:
        table = _with_markers_missing(table)
    misfits: Misfits = {row: [(None, None, _ragged_reason(fields, run))] for row, fields in ragged}
    positions = np.arange(run.rows)
    if ragged:
        positions = np.delete(positions, [row for row, _ in ragged])
    return _judge(table, keep, positions, misfits, run=run, plan=plan, as_text=as_text)


def _ragged_reason(fields: int, run: _Run) -> str:
    first = run.slices[0]
    return f"{fields} fields where the header has {len(first.columns) if fields == first.width else first.width}"


_BAD_BYTE = re.compile("[\udc80-\udcff]")


def _read_by_record(run: _Run, plan: ReadPlan) -> _Outcome:
    """Tokenize the records one by one: slow, and right whatever stands in them."""
    wanted, names = _wanted(run, plan), _field_names(run)
    delimiter = plan.dialect.delimiter
    raw = [*plan.keep, *names[len(run.slices[0].columns) :]]
    places = [names.index(name) for name in [*(column.name for column in wanted), *raw]]
    records: list[list[str]] = []
    positions: list[int] = []
    misfits: Misfits = {}
    row = 0
    for body in run.bodies:
        for start, stop, _ in walk_records(body, 0, ord(delimiter), final=True):
            record = body[start:stop]
            if is_blank(record, ord(delimiter)):
                continue
            text = record.decode(plan.dialect.stream_encoding, "surrogateescape")
            fields, closed = split_fields(text, delimiter)
            reason = ""
            if not closed:
                reason = "quote is never closed"
            elif len(fields) != len(names) or (names[-1] == TRAILING and fields[-1]):
                reason = _ragged_reason(len(fields), run)
            elif not text.isascii() and _BAD_BYTE.search(text):
                reason = f"not valid {plan.dialect.encoding}"
            if reason:
                misfits[row] = [(None, None, reason)]
            else:
                records.append([fields[place] for place in places])
                positions.append(row)
            row += 1
    if row != run.rows:
        raise InputError(f"{run.slices[0].name}: the file changed while it was scored; run again when it rests")
    columns = [pa.array(values, pa.string()) for values in zip(*records, strict=True)] if records else []
    columns = columns or [pa.array([], pa.string()) for _ in places]
    missing = pa.array(MISSING)
    table = pa.table(
        {
            column.name: nulled(text, pc.is_in(text, value_set=missing))
            for column, text in zip(wanted, columns, strict=False)
        }
    )
    keep = pa.table(dict(zip(raw, columns[len(wanted) :], strict=True))) if raw else None
    as_text = {column.name for column in wanted}
    return _judge(table, keep, np.array(positions, dtype=np.int64), misfits, run=run, plan=plan, as_text=as_text)


def _judge(
    table: pa.Table,
    keep: pa.Table | None,
    positions: Rows,
    misfits: Misfits,
    *,
    run: _Run,
    plan: ReadPlan,
    as_text: set[str],
) -> _Outcome:
    """Convert what was read as text, note every misfit, and leave the rows that fit.

    Args:
        table: the columns wanted, those in `as_text` still as text.
        keep: text of other columns of the same rows.
        positions: the row of the run that each row of the table is.
        misfits: what is known to misfit; more is added.
        run: what was read.
        plan: how.
        as_text: names of the columns to convert.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    for column in _wanted(run, plan):
        values, blank = table[column.name], blank_reason(column.type)
        if column.name in as_text:
            text = values.combine_chunks()
            values, reasons = convert(text, column.type, plan.date_format)
            for index, reason in sorted(reasons.items()):
                value = None if reason == blank else text[index].as_py()
                misfits.setdefault(int(positions[index]), []).append((column.name, value, reason))
        elif column.type in REFUSES_BLANKS and values.null_count:
            for index in np.flatnonzero(pc.is_null(values).to_numpy()).tolist():
                misfits.setdefault(int(positions[index]), []).append((column.name, None, blank))
        if column.type in ("float", "binary"):
            values = values.cast(final_type(column))
        columns[column.name] = values
    if keep is not None and TRAILING in keep.column_names:
        full = np.flatnonzero(pc.not_equal(keep[TRAILING], "").to_numpy())
        for index in full.tolist():
            misfits[int(positions[index])] = [(None, None, _ragged_reason(run.slices[0].width, run))]
    judged = pa.table(columns) if columns else table.select([])
    if misfits and table.num_rows:
        bad = np.fromiter(misfits, dtype=np.int64, count=len(misfits))
        fits = pa.array(~np.isin(positions, bad))
        judged = judged.filter(fits)
        keep = keep.filter(fits) if keep is not None else None
    return _Outcome(judged, keep, misfits)


def _quarantine(run: _Run, misfits: Misfits, plan: ReadPlan, result: CellInput) -> None:
    """Write an entry for each row that does not fit, and count its cause."""
    if not misfits:
        return
    rows = sorted(misfits)
    position = 0
    for part, head, body in zip(run.slices, run.heads, run.bodies, strict=True):
        inside = [row - position for row in rows[bisect_left(rows, position) : bisect_left(rows, position + part.rows)]]
        for row, (line, text) in zip(inside, locate(part, head, body, inside, plan.dialect), strict=True):
            note_misfits(part, row, misfits[row + position], plan, result, line=line, text=text)
        position += part.rows


def note_misfits(
    part: Slice,
    row: int,
    found: Sequence[tuple[str | None, str | None, str]],
    plan: ReadPlan,
    result: CellInput,
    *,
    line: int | None = None,
    text: str = "",
) -> None:
    """Write the entry of a row that does not fit, and count its cause.

    Args:
        part: the slice.
        row: the row in it.
        found: its misfits, the first of which is named, as (column, value, reason).
        plan: whether values are shown.
        result: what is added to.
        line: the physical line it begins on, where there are lines.
        text: of the whole record, shown where no column is to blame.
    """
    column, value, reason = found[0]
    entry: dict[str, Any] = {
        "file": part.name, "row": part.first_row + row, "line": line,
        "column": column, "value": text if column is None else value, "reason": reason,
    }  # fmt: skip
    if len(found) > 1:
        entry["more"] = [{"column": other, "value": value, "reason": reason} for other, value, reason in found[1:]]
    if not plan.quarantine_values:
        _omit_values(entry)
    result.quarantine.append(entry)
    result.causes[f"{column}: {reason}" if column is not None else reason] += 1


def _omit_values(entry: dict[str, Any]) -> None:
    del entry["value"]
    for other in entry.get("more", ()):
        del other["value"]


def locate(part: Slice, head: bytes, body: bytes, rows: Sequence[int], dialect: Dialect) -> Iterator[tuple[int, str]]:
    """Find the physical line and the text of rows of a slice, given in order."""
    if not rows:
        return
    delimiter = ord(dialect.delimiter)
    blocks = list(scan_blocks([body], delimiter=dialect.delimiter))
    row_stops = np.concatenate([block.row_stops for block in blocks])
    line_stops = np.concatenate([block.line_stops for block in blocks])
    before = part.first_line + sum(len(block.line_stops) for block in scan_blocks([head], delimiter=dialect.delimiter))
    for row in rows:
        begin = int(row_stops[row - 1]) if row else 0
        piece = body[begin : int(row_stops[row])]
        for start, stop, _ in walk_records(piece, 0, delimiter, final=True):
            if not is_blank(piece[start:stop], delimiter):
                line = before + int(np.searchsorted(line_stops, begin + start, side="right"))
                yield line, piece[start:stop].decode(dialect.stream_encoding, "backslashreplace")
                break
