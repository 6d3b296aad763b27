"""What becomes of a mini-batch, piece by piece: the cells of a model, the files of a scoring script, or nothing."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from runtime.progress import NO_RESULT, UNNAMED
from scoring.cells import MiniBatch, Slice, SliceAccount, covered_digest
from scoring.quarantine import quarantine_lines

if TYPE_CHECKING:
    from scoring.script import Script

MARK = b"."
"""What stands for the scores of a mini-batch whose script writes its output itself (design.md section 7)."""


class Piece(Protocol):
    """What was made of some slices.

    Attributes:
        lines: score bytes.
        names: names of the output's columns; empty where there are none.
        accounts: one for each slice.
        causes: how often which cause met a row that was not scored.
        quarantine: lines of the quarantine.
        predict_s: seconds in the model or the script.
    """

    lines: Any
    names: tuple[str, ...]
    accounts: list[SliceAccount]
    causes: Counter[str]
    quarantine: bytes
    predict_s: float


class ScriptScore:
    """The files of a mini-batch as a scoring script scored them (contract 2.3).

    A result fewer than files is a failed file, which the script does not name; no result at all fails every file. Files
    that could not be fetched fail by themselves; the script does not see them.
    """

    def __init__(self, script: Script, batch: MiniBatch, *, marks: bool) -> None:
        began = time.perf_counter()
        owner = os.getpid()
        readable = [part for part in batch.slices if not part.problem]
        result = None
        try:
            if readable:
                result = script.run([part.url for part in readable], mini_batch_index=batch.number)
        finally:
            if os.getpid() != owner:
                # a child that the script forked and let return: to stage and to answer is its parent's
                os._exit(1)
        self.predict_s = time.perf_counter() - began
        if result is not None:
            # before the mini-batch counts as done
            script.send_output()
        self.names = result.columns if result is not None else ()
        items = result.items if result is not None else 0
        self.lines: Any = MARK if marks and items else result.lines if result is not None else b""
        files = len(readable)
        failed = max(0, files - items)
        nothing = failed == files
        self.accounts: list[SliceAccount] = [
            _account(part, given_up=part.rows if nothing else 0) for part in batch.slices
        ]
        self.causes: Counter[str] = Counter()
        entries = [_entry(part, part.problem) | {"rows": None} for part in batch.slices if part.problem]
        self.causes.update(f"{part.name}: {part.problem}" for part in batch.slices if part.problem)
        if nothing and readable:
            self.lines = b""
            entries += [_entry(part, NO_RESULT) for part in readable]
            self.causes[NO_RESULT] = files
        elif failed:
            names = f"{readable[0].name} to {readable[-1].name}"
            reason = f"run() returned {items} results for the {files} files {names}, and does not say for which"
            entries.append({"file": None, "row": None, "rows": failed, "reason": reason})
            self.causes[UNNAMED] = failed
        self.quarantine = quarantine_lines(entries)


class GivenUp:
    """A mini-batch whose attempts are used up: all of it goes to the quarantine."""

    def __init__(self, batch: MiniBatch, reason: str) -> None:
        self.names: tuple[str, ...] = ()
        self.lines: Any = b""
        self.predict_s = 0.0
        self.accounts: list[SliceAccount] = [_account(part, given_up=part.rows) for part in batch.slices]
        self.causes = Counter({reason: batch.rows})
        self.quarantine = quarantine_lines(_entry(part, reason) for part in batch.slices)


def _entry(part: Slice, reason: str) -> dict[str, Any]:
    # of a file that was cut the rows are named, of a whole one the file is enough
    row = part.first_row or None
    return {"file": part.name, "row": row, "rows": part.rows, "reason": reason}


def _account(part: Slice, *, given_up: int) -> SliceAccount:
    try:
        digest = covered_digest(part) if not part.problem else b""
    except OSError:
        digest = b""
    return SliceAccount(
        name=part.name, start=part.start, stop=part.stop, digest=digest, rows=part.rows, given_up=given_up,
        problem=part.problem,
    )  # fmt: skip
