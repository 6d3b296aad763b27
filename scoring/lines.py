"""Put a cell's scores together: row, kept columns, predictions, file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from scoring.columns import Column, csv_fields, csv_lines, quoted
from scoring.readers import CellInput
from scoring.specs import ReadPlan

__all__ = ["score_lines"]


def score_lines(
    read: CellInput, columns: Mapping[str, Column], kind: Callable[[str], str | None], plan: ReadPlan
) -> pa.Buffer:
    """Write the lines of a cell as the plan says: as CSV, as Azure ML writes them (contract 4.3), or as JSON.

    Args:
        read: the cell as read; its rows that fit were predicted for, in order.
        columns: the predictions, a value for each of these rows.
        kind: the type by which a column is written, where the signature names one.
        plan: the format, and how files are named.
    """
    names = [_shown(name, plan) for name, _ in read.counts]
    counts = [count for _, count in read.counts]
    if plan.output_format == "jsonl":
        from scoring.json_lines import json_fields, json_lines

        kept = {name: json_fields(text) for name, text in zip(plan.keep, read.keep, strict=True)}
        predictions = {name: json_fields(column, kind=kind(name)) for name, column in columns.items()}
        files = _repeated(json_fields(names), counts)
        return json_lines([("row", json_fields(read.rows)), *kept.items(), *predictions.items(), ("file", files)])
    fields = [csv_fields(column, kind=kind(name)) for name, column in columns.items()]
    texts = [quoted(text) for text in read.keep]
    files = _repeated(quoted(pa.array(names, pa.large_string())), counts)
    return csv_lines([pa.array(read.rows).cast(pa.large_string()), *texts, *fields, files])


def _repeated(texts: pa.Array, counts: list[int]) -> pa.Array | pa.Scalar:
    """Give each row the text of its file; one for all where there is one file."""
    if len(texts) == 1:
        return texts[0]
    return texts.take(pa.array(np.repeat(np.arange(len(texts)), counts)))


def _shown(name: str, plan: ReadPlan) -> str:
    """Name a file; one that is not UTF-8 with escapes."""
    if plan.file_names == "basename" or plan.output_format == "azureml":
        name = name.rpartition("/")[2]
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
