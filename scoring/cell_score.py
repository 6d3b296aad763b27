"""A cell, read, predicted and written: tables and images, and strictly where a bad row costs its file.

Strictly is Azure ML's way (contract 4.2): `predict` is called once for each file, a file of which anything goes wrong
gives no rows, and a mini-batch fails when all its files did.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scoring.cells import TABLES, Cell, MiniBatch
from scoring.columns import Column, prediction_columns
from scoring.errors import InputError, ModelLoadError, StorageError, may_pass
from scoring.lines import score_lines
from scoring.quarantine import quarantine_lines
from scoring.readers import CellInput, give_up, read_cell, unread

if TYPE_CHECKING:
    from scoring.scorer import Scorer
    from scoring.specs import ReadPlan

__all__ = ["CellScore", "cell_scores", "read_any"]

_AZURE = "Error processing input file: "
_NUMBERS = {
    "not a long": "invalid literal for int() with base 10: ",
    "not an integer": "invalid literal for int() with base 10: ",
    "not a double": "could not convert string to float: ",
    "not a float": "could not convert string to float: ",
}
"""What Python says of a text that is no number, and Azure ML's log with it."""


def cell_scores(scorer: Scorer, plan: ReadPlan, batch: MiniBatch) -> Iterator[CellScore]:
    """Score the cells of a mini-batch one by one, and write to stderr which files failed as a whole, as Azure ML does.

    Raises:
        ValueError: behind the last of them, where the plan is strict and every file failed (contract 4.2).
    """
    failed: list[str] = []
    for cell in batch.cells:
        score = CellScore(scorer, plan, cell)
        if score.failed:
            failed.append(score.failed)
            sys.stderr.write(f"ERROR:azureml:{score.failed}\n{score.detail}")
        yield score
    if plan.strict and failed and len(failed) == len(batch.cells):
        error = ValueError("No objects to concatenate")
        for text in dict.fromkeys(failed):
            error.add_note(text)
        raise error


def read_any(scorer: Scorer, plan: ReadPlan, cell: Cell) -> tuple[CellInput, ReadPlan]:
    """Read a cell of whatever format, and say by which plan: only the cell may tell its columns.

    Raises:
        InputError: a file is not what it was when it was scanned.
        StorageError: a file cannot be read, which may pass.
        OSError: a file cannot be read.
    """
    try:
        return _read_any(scorer, plan, cell)
    except OSError as error:
        if may_pass(error):
            where = error.filename or cell.slices[0].url
            raise StorageError(f"{where}: cannot be read: {error.strerror or error}") from error
        raise


def _read_any(scorer: Scorer, plan: ReadPlan, cell: Cell) -> tuple[CellInput, ReadPlan]:
    if cell.slices[0].format == "image":
        from scoring.images import read_image

        return read_image(cell), plan
    if not plan.columns and cell.rows and cell.slices[0].format in TABLES:
        # the first file of the input was an image, which has no columns to tell
        from scoring.probe import first_columns

        try:
            plan = replace(plan, columns=first_columns(scorer, cell, plan))
        except (InputError, ModelLoadError) as error:
            return unread(cell, str(error)), plan
    return read_cell(cell, plan), plan


class CellScore:
    """One cell, read, predicted and written; or some rows of it, where these were read before.

    Attributes:
        accounts: what became of the rows of each slice.
        causes: how often which cause met a row that was not scored.
        quarantine: lines of the quarantine.
        names: of the columns predicted; empty where no row was scored.
        lines: score bytes.
        predict_s: seconds in the model.
        failed: why the file failed as a whole, in the words of Azure ML; empty where it did not.
        detail: the traceback, where the model raised it.

    Raises:
        ScorelineError: the cell cannot be read, or what the model returned cannot be written.
        Exception: whatever the model raises, where the plan is not strict.
    """

    def __init__(self, scorer: Scorer, plan: ReadPlan, cell: Cell, read: CellInput | None = None) -> None:
        self.names: tuple[str, ...] = ()
        self.lines: Any = b""
        self.predict_s = 0.0
        self.failed = next((part.problem for part in cell.slices if part.problem.startswith(_AZURE)), "")
        self.detail = ""
        self._scorer = scorer
        assert not plan.strict or len({part.file for part in cell.slices}) == 1, cell  # the grid is 0
        if read is None:
            read, plan = read_any(scorer, plan, cell)
        if plan.strict and read.quarantine:
            _fail(read, self._failure(read, _misfit(read.quarantine[0])))
        elif len(read.rows):
            self._score(read, plan, cell)
        self.accounts = read.accounts
        self.causes = read.causes
        self.quarantine = quarantine_lines(read.quarantine)

    def _score(self, read: CellInput, plan: ReadPlan, cell: Cell) -> None:
        """Predict for what was read, and write the lines."""
        try:
            columns = self._predicted(read)
            self.lines = score_lines(read, columns, self._scorer.kind, plan)
            self.names = tuple(columns)
        except MemoryError:
            raise
        except InputError as error:
            # of an image that the model does not take
            if plan.strict:
                _fail(read, self._failure(read, str(error)))
            else:
                _give_up_image(read, cell, str(error))
        except (Exception, SystemExit) as error:
            if not plan.strict:
                raise
            self.detail = traceback.format_exc()
            _fail(read, self._failure(read, str(error) or type(error).__name__))

    def _predicted(self, read: CellInput) -> Mapping[str, Column]:
        began = time.perf_counter()
        rows = read.table if read.image is None else read.image
        predictions = self._scorer.predict(rows)
        self.predict_s = time.perf_counter() - began
        return prediction_columns(predictions, len(read.rows), classes=self._scorer.classes)

    def _failure(self, read: CellInput, text: str) -> str:
        """Say that a file failed, in the words of Azure ML (contract 4.2)."""
        if not text.startswith(_AZURE):
            text = f"{_AZURE}'{read.accounts[0].name}'. Exception: {text}"
        self.failed = text
        return text


def _fail(read: CellInput, reason: str) -> None:
    """Give up all that was read of a file."""
    known = not any(account.problem for account in read.accounts)
    rows = sum(account.rows for account in read.accounts)
    read.accounts = [replace(account, quarantined=0, given_up=account.rows) for account in read.accounts]
    read.quarantine = [{"file": read.accounts[0].name, "row": None, "rows": rows if known else None, "reason": reason}]
    read.causes = Counter({reason: max(rows, 1)})


def _give_up_image(read: CellInput, cell: Cell, reason: str) -> None:
    (part,), (account,) = cell.slices, read.accounts
    read.accounts = []
    give_up(part, account, read, reason=reason, cause=reason)


def _misfit(entry: dict[str, Any]) -> str:
    """Say what is wrong with a row, or with a whole file."""
    reason, column, value = str(entry["reason"]), entry.get("column"), entry.get("value")
    if entry["row"] is None:
        return reason
    if value is not None and reason in _NUMBERS:
        reason = f"{_NUMBERS[reason]}{value!r}"
    return f"{reason} (row {entry['row']}" + (f", column {column!r})" if column is not None else ")")
