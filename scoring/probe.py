"""Before anything is cut or grouped: does the model predict each row by itself?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.cells import TABLES, Cell
from scoring.columns import Column, prediction_columns
from scoring.errors import InputError, ModelLoadError
from scoring.readers import first_rows, read_cell, read_text
from scoring.scorer import Scorer
from scoring.specs import ColumnSpec, ReadPlan

INFERENCE_ROWS = 10_000
RELATIVE = 1e-6
RELATIVE_SINGLE = 1e-3
"""How far predictions may differ by rounding, in double and in single precision."""


def first_columns(scorer: Scorer, cell: Cell, plan: ReadPlan) -> tuple[ColumnSpec, ...]:
    """Find the columns of a model without a signature in the first file with rows; an image has none.

    Raises:
        InputError, ModelLoadError: they cannot be found.
    """
    first = next(part for part in cell.slices if part.rows)
    if first.format not in TABLES:
        return ()
    columns = scorer.columns(first.columns, None) or scorer.columns(
        first.columns, read_text(first, plan, INFERENCE_ROWS)
    )
    if columns is None:
        raise ModelLoadError("the model has no signature, and its columns cannot be told from the input")
    return columns


def objection_to_cutting(scorer: Scorer, cell: Cell, plan: ReadPlan, rows: int) -> str:
    """Score the first rows whole and in two parts, and say so if that makes a difference.

    What fails here is left for the scoring itself to report. An image is a row that nothing cuts or groups.
    """
    if cell.slices[0].format not in TABLES:
        return ""
    try:
        table = read_cell(first_rows(cell, rows, plan.dialect), plan).table
        if table is None or table.num_rows < rows // 2:
            # hardly any of them fit
            table = read_cell(cell, plan).table
    except InputError:
        return ""
    if table is None or table.num_rows < 2:
        return ""
    table = table.slice(0, rows)
    half = table.num_rows // 2
    try:
        whole = _predicted(scorer, table)
        parts = [_predicted(scorer, table.slice(0, half)), _predicted(scorer, table.slice(half))]
    except Exception:  # noqa: BLE001 (the model's own exceptions)
        return ""
    if all(whole.keys() == part.keys() for part in parts) and all(
        _alike(column, [part[name] for part in parts]) for name, column in whole.items()
    ):
        return ""
    return "predictions depend on which rows are scored together (or are random): use --chunk-rows 0"


def _predicted(scorer: Scorer, table: pa.Table) -> dict[str, Column]:
    return prediction_columns(scorer.predict(table), table.num_rows, classes=scorer.classes)


def _alike(whole: Column, halves: list[Column]) -> bool:
    """Compare a column with the same one predicted in two parts, but for rounding."""
    if all(isinstance(column, np.ndarray) and column.dtype.kind == "f" for column in (whole, *halves)):
        expected, found = np.asarray(whole), np.concatenate([np.asarray(half) for half in halves])
        relative = RELATIVE if expected.dtype.itemsize > 4 else RELATIVE_SINGLE
        scale = np.nanmax(np.abs(expected), initial=0.0, where=np.isfinite(expected))
        return bool(np.allclose(expected, found, rtol=relative, atol=relative * 1e-3 * scale, equal_nan=True))
    return all(map(_same, list(whole), [value for half in halves for value in half]))


def _same(one: Any, other: Any) -> bool:
    """Compare two values of any kind, floats inside them too, but for rounding."""
    if isinstance(one, np.generic | np.ndarray):
        one = one.tolist()
    if isinstance(other, np.generic | np.ndarray):
        other = other.tolist()
    if isinstance(one, float) or isinstance(other, float):
        numbers = isinstance(one, float | int) and isinstance(other, float | int)
        close = numbers and math.isclose(one, other, rel_tol=RELATIVE, abs_tol=RELATIVE * 1e-3)
        return close or str(one) == str(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return str(one) == str(other)
