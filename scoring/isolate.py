"""Try some rows of a cell, and score it without those that are bad (design.md section 8).

Rows are named by their places in an order in which those with the same columns null stand together. Only rows that fit
are in it; the others were set aside when the cell was read, and stay so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api.extensions import ExtensionArray

from scoring.cell_score import CellScore, read_any
from scoring.cells import Cell, Slice
from scoring.columns import Column, prediction_columns
from scoring.errors import InputError, PredictionError
from scoring.fields import nulled
from scoring.readers import CellInput, fetch, give_up, locate
from scoring.text import value_texts

if TYPE_CHECKING:
    from scoring.scorer import Scorer
    from scoring.specs import ColumnSpec, ReadPlan

__all__ = ["MAX_CLASSES", "MIXED", "RowOrder", "Tried", "forget", "order_of", "score_without", "try_rows"]

MAX_CLASSES = 256
HELD_CELLS = 3
"""One may be tried while another fails, which was queued behind it."""
MIXED = -1
"""What stands for the columns that are null where these differ from row to row."""

Places: TypeAlias = npt.NDArray[np.int64]
Fits: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOrder:
    """The order in which rows are named.

    Attributes:
        places: the row of the table that is at each place.
        sizes: rows of each class, the one without nulls first, which may have none; then fewer nulls before more.
        nulls: the columns that are null in each class, a bit a column; `MIXED` for a last class of the rarest sets.
    """

    places: Places
    sizes: tuple[int, ...]
    nulls: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """Rows that were tried passed; what the cell has, in all.

    Attributes:
        rows: rows that fit.
        sizes: how many of them are in each class.
        nulls: which columns are null in it (`RowOrder`).
        predict_s: seconds in the model.
    """

    rows: int
    sizes: tuple[int, ...]
    nulls: tuple[int, ...]
    predict_s: float


def order_of(table: pa.Table | None, rows: int) -> RowOrder:
    """Put rows in an order by which of their columns are null (NaN too), otherwise as they are.

    Args:
        table: the rows; None for an image.
        rows: how many there are.
    """
    null = _nulls(table)
    some = np.zeros(rows, bool)
    for column in null.values():
        some |= column
    clean, others = np.flatnonzero(~some), np.flatnonzero(some)
    classes: list[tuple[int, Places]] = [(0, clean)]
    if len(others):
        columns = list(null)
        found, which, counts = np.unique(
            np.packbits(np.stack([null[column][others] for column in columns], axis=1), axis=1),
            axis=0, return_inverse=True, return_counts=True,
        )  # fmt: skip
        which = which.reshape(-1)
        frequent = np.argsort(-counts, kind="stable")
        if len(frequent) > MAX_CLASSES - 1:
            frequent = frequent[: MAX_CLASSES - 2]
        rank = np.full(len(counts), len(frequent))
        rank[frequent] = np.arange(len(frequent))
        ranks = rank[which]
        grouped = np.split(others[np.argsort(ranks, kind="stable")], np.cumsum(counts[frequent]))
        sets = np.unpackbits(found[frequent], axis=1, count=len(columns)).astype(bool)
        pure = [sum(1 << column for column, bit in zip(columns, bits, strict=True) if bit) for bits in sets.tolist()]
        classes += sorted(zip(pure, grouped[:-1], strict=True), key=lambda each: each[0].bit_count())
        if len(grouped[-1]):
            classes.append((MIXED, grouped[-1]))
    return RowOrder(
        places=np.concatenate([places for _, places in classes]),
        sizes=tuple(len(places) for _, places in classes),
        nulls=tuple(nulls for nulls, _ in classes),
    )


def try_rows(scorer: Scorer, plan: ReadPlan, cell: Cell, ranges: Sequence[tuple[int, int]] | None) -> Tried:
    """Score some rows of a cell in one call, in the order of the input, and keep nothing of it.

    Args:
        scorer: the model.
        plan: how the cell is read.
        cell: the cell.
        ranges: which rows, as (start, stop) in the order of `order_of`; none at all only read it; None: all.

    Raises:
        ScorelineError: the cell cannot be read, or what the model returned cannot be written.
        Exception: whatever the model raises.
    """
    held = _held(scorer, plan, cell)
    rows, predict_s = len(held.read.rows), 0.0
    if ranges is None or ranges:
        chosen = np.ones(rows, bool) if ranges is None else held.rows_in(ranges)
        predict_s = CellScore(scorer, held.plan, cell, _only(held.read, chosen)).predict_s
    return Tried(rows=rows, sizes=held.order.sizes, nulls=held.order.nulls, predict_s=predict_s)


def score_without(
    scorer: Scorer,
    plan: ReadPlan,
    cell: Cell,
    bad: Sequence[tuple[int, int, str]],
    pieces: Sequence[Sequence[tuple[int, int]]] = (),
) -> CellScore:
    """Score a cell without its bad rows, which go to the quarantine.

    A cell that fails is kept as read until `forget`, so that tries which follow need not read it again; this goes for
    the first attempt, too, where there are no bad rows yet.

    Args:
        scorer: the model.
        plan: how the cell is read.
        cell: the cell.
        bad: rows as (start, stop) in the order of `order_of`, each with the reason why they are not scored.
        pieces: the other rows, as sets of (start, stop), where the model takes only so many at once; empty: one call.

    Raises:
        ScorelineError: the cell cannot be read, or what the model returned cannot be written.
        Exception: whatever the model raises.
    """
    held = _held(scorer, plan, cell)
    reasons: dict[int, str] = {}
    for start, stop, reason in bad:
        reasons.update(dict.fromkeys(held.rows_between(start, stop).tolist(), reason))
    fits = np.ones(len(held.read.rows), bool)
    fits[list(reasons)] = False
    read = _only(held.read, fits)
    if reasons:
        _set_aside(held, cell, read, reasons)
    if pieces:
        numbers = np.cumsum(fits) - 1
        scorer = _InPieces(scorer, [numbers[held.rows_in(piece) & fits] for piece in pieces])
    score = CellScore(scorer, held.plan, cell, read)
    _HELD.pop((id(scorer), plan, cell), None)
    return score


def forget() -> None:
    """Let go of the cells that were tried last, which are kept for the next try."""
    _HELD.clear()


@dataclass
class _Held:
    """A cell as read, and the order of its rows."""

    read: CellInput
    plan: ReadPlan

    @cached_property
    def order(self) -> RowOrder:
        """The order of its rows, which nobody asks for where all is well."""
        return order_of(self.read.table, len(self.read.rows))

    def rows_in(self, ranges: Sequence[tuple[int, int]]) -> Fits:
        """Say of each row whether it is in these ranges."""
        chosen = np.zeros(len(self.read.rows), bool)
        for start, stop in ranges:
            chosen[self.rows_between(start, stop)] = True
        return chosen

    def rows_between(self, start: int, stop: int) -> Places:
        """Return the rows of the table at these places."""
        if stop > len(self.read.rows):
            name = self.read.accounts[0].name
            raise InputError(f"{name}: the file changed while it was scored; run again when it rests")
        return self.order.places[start:stop]


_HELD: dict[tuple[int, ReadPlan, Cell], _Held] = {}
"""The cells that were tried, or scored in vain, last: reading takes as long as a fast model, most tries are short."""


def _held(scorer: Scorer, plan: ReadPlan, cell: Cell) -> _Held:
    key = (id(scorer), plan, cell)
    held = _HELD.pop(key, None)
    if held is None:
        while len(_HELD) >= HELD_CELLS:
            del _HELD[next(iter(_HELD))]
        held = _Held(*read_any(scorer, plan, cell))
    # the last of them is the newest
    _HELD[key] = held
    return held


def _nulls(table: pa.Table | None) -> dict[int, Fits]:
    """Find the nulls of the columns that have some."""
    found: dict[int, Fits] = {}
    for place, column in enumerate(table.columns if table is not None else ()):
        if column.null_count or pa.types.is_floating(column.type):
            null = pc.is_null(column, nan_is_null=True).to_numpy()
            if null.any():
                found[place] = null
    return found


def _only(read: CellInput, fits: Fits) -> CellInput:
    """Return what was read with some of its rows only, to be changed without changing the other."""
    some = replace(
        read, quarantine=list(read.quarantine), causes=Counter(read.causes), accounts=list(read.accounts)
    )  # fmt: skip
    if not fits.all():
        kept = np.concatenate([[0], np.cumsum(fits)])
        stops = np.cumsum([0, *(count for _, count in read.counts)])
        mask = pa.array(fits)
        some.table = read.table.filter(mask) if read.table is not None else None
        some.rows = read.rows[fits]
        some.counts = [(name, int(n)) for (name, _), n in zip(read.counts, np.diff(kept[stops]), strict=True)]
        some.keep = [text.filter(mask) for text in read.keep]
    return some


def _set_aside(held: _Held, cell: Cell, read: CellInput, reasons: Mapping[int, str]) -> None:
    """Write an entry for each bad row, and count its cause."""
    if read.image is not None:
        (part,), (account,), (reason,) = cell.slices, read.accounts, reasons.values()
        read.accounts = []
        give_up(part, account, read, reason=reason, cause=reason)
        return
    first, bad = 0, np.array(sorted(reasons))
    readable = [place for place, account in enumerate(read.accounts) if _was_read(cell.slices[place], account.given_up)]
    for place, (_, count) in zip(readable, held.read.counts, strict=True):
        part, account = cell.slices[place], read.accounts[place]
        assert part.name == account.name, (part, account)
        rows = bad[np.searchsorted(bad, first) : np.searchsorted(bad, first + count)].tolist()
        first += count
        read.quarantine += _entries(held, part, rows, reasons)
        read.accounts[place] = replace(account, quarantined=account.quarantined + len(rows))
    read.causes.update(reasons.values())
    order = {part.name: place for place, part in enumerate(cell.slices)}
    read.quarantine.sort(key=lambda entry: (order[entry["file"]], -1 if entry["row"] is None else entry["row"]))


def _was_read(part: Slice, given_up: int) -> bool:
    return bool(part.rows) and not part.problem and not given_up


def _entries(held: _Held, part: Slice, rows: list[int], reasons: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    """Make the entries of rows of the table that are of one slice."""
    if not rows:
        return
    numbers = held.read.rows[rows].tolist()
    lines: list[int | None] = [None] * len(rows)
    if part.format == "csv":
        data = fetch(part)
        head, body = data[: part.skip_bytes], data[part.skip_bytes :]
        inside = [number - part.first_row for number in numbers]
        lines = [line for line, _ in locate(part, head, body, inside, held.plan.dialect)]
    values = _values(held.read.table, rows) if held.plan.quarantine_values else None
    for place, (row, number, line) in enumerate(zip(rows, numbers, lines, strict=True)):
        entry: dict[str, Any] = {"file": part.name, "row": number, "line": line}
        if values is not None:
            entry["values"] = {name: texts[place] for name, texts in values.items()}
        yield {**entry, "reason": reasons[row]}


def _values(table: pa.Table | None, rows: list[int]) -> dict[str, list[str | None]]:
    """Write what the model was given for some rows: text, or None where a value is missing."""
    assert table is not None
    texts: dict[str, list[str | None]] = {}
    for name, column in zip(table.column_names, table.take(pa.array(rows)).columns, strict=True):
        missing = pc.is_null(column, nan_is_null=True)
        text = value_texts(column.combine_chunks())
        texts[name] = nulled(text, missing).to_pylist()
    return texts


class _InPieces:
    """A model that is given the rows of a table in pieces, each in one call."""

    def __init__(self, scorer: Scorer, pieces: Sequence[Places]) -> None:
        self._scorer = scorer
        self._pieces = pieces
        self.classes = scorer.classes

    def columns(self, header: tuple[str, ...], sample: pa.Table | None) -> tuple[ColumnSpec, ...] | None:
        """Say which columns the model wants."""
        return self._scorer.columns(header, sample)

    def predict(self, rows: pa.Table | npt.NDArray[Any]) -> dict[str, Column]:
        """Predict for each piece, and put the answers together."""
        answers: list[dict[str, Column]] = []
        for piece in self._pieces:
            answer = self._scorer.predict(rows.take(pa.array(piece)))
            answers.append(prediction_columns(answer, len(piece), classes=self.classes))
            if answers[-1].keys() != answers[0].keys():
                raise PredictionError("the model returns other columns for other rows; one output cannot hold both")
        order = np.argsort(np.concatenate(self._pieces), kind="stable")
        return {name: _joined([answer[name] for answer in answers], order) for name in answers[0]}

    def kind(self, column: str) -> str | None:
        """Name the type by which an output column is written."""
        return self._scorer.kind(column)


def _joined(parts: list[Column], order: Places) -> Column:
    """Put the parts of a column together, and its values in an order."""
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    kinds = {array.dtype.kind for array in arrays}
    if len(arrays) == len(parts) and (len(kinds) == 1 or kinds <= set("iuf")):
        return np.concatenate(arrays)[order]
    if all(isinstance(part, ExtensionArray) for part in parts):
        return pd.concat([pd.Series(part) for part in parts], ignore_index=True).array.take(order)
    values = [value for part in parts for value in (part.to_pylist() if isinstance(part, pa.Array) else list(part))]
    return [values[place] for place in order]
