"""A trial: one worker loads what scores, and scores one mini-batch that nobody publishes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import IO

from runtime.dispatch import POLL_S, probe_rows, probe_timeout_s
from runtime.engines import Engine, Failed, LoadFailed, Probe, Probed, Ready, Returned, Score, Scored
from runtime.findings import Notebook, listed, number
from runtime.hiring import make_engine, worker_setup, worker_threads
from runtime.options import Options
from runtime.progress import cause_text
from runtime.rehearsal import LOOK_S, Pace, Peak, rehearse
from runtime.score_file import ScoreFile
from runtime.target import ModelTarget, ScriptTarget
from scoring.cells import TABLES, Cell, InputFile, MiniBatch
from scoring.scan import Grid
from scoring.specs import ColumnSpec, ReadPlan

__all__ = ["Trial"]


@dataclass(kw_only=True)
class Trial:
    """One worker, asked one thing after the other.

    Attributes:
        options: of the job.
        target: what scores.
        plan: how files are read.
        folder: temporary, for all that is written.
        log: takes what the worker prints.
        notes: where findings go.
        columns: what the model wants, once known.
        ready_at: when the worker was ready (`time.monotonic`); 0 before.
        own_bytes: what it then held that it shares with nobody.
        scored: the answer to the first mini-batch, if it was scored.
        peak: the most memory that was seen in use.
    """

    options: Options
    target: ModelTarget | ScriptTarget
    plan: ReadPlan
    folder: str
    log: IO[bytes]
    notes: Notebook
    columns: tuple[ColumnSpec, ...] = ()
    ready_at: float = field(default=0.0, init=False)
    own_bytes: int = field(default=0, init=False)
    scored: Scored | None = field(default=None, init=False)
    peak: Peak = field(default_factory=Peak, init=False)
    _engine: Engine | None = field(default=None, init=False)
    _alive: bool = field(default=False, init=False)
    _tried: int = field(default=0, init=False)

    def start(self, stack: ExitStack) -> None:
        """Start the worker; it loads while others do other things.

        Raises:
            OutputError: the model cannot be staged.
        """
        options = self.options
        output = ScoreFile(os.path.join(self.folder, "score"), "predictions.csv")
        engine = make_engine(options, self.target, workers=1, log=self.log)
        stack.callback(engine.close)
        output.claim()
        stack.callback(output.release)
        here = replace(options, output=str(output.folder), output_access=None)
        threads = worker_threads(options, self.target)
        engine.start(
            worker_setup(here, self.target, output, plan=self.plan, threads=threads, fingerprint=bytes(6))
        )
        self._engine = engine

    def load(self) -> bool:
        """Wait until the worker has loaded; False where it cannot."""
        engine = self._engine
        while engine is not None and not self._alive:
            for event in engine.wait(POLL_S):
                if isinstance(event, LoadFailed) and not event.goes_on:
                    self.notes.error(event.told)
                    return False
                if isinstance(event, Ready):
                    self._alive = True
                    self.ready_at, self.own_bytes = time.monotonic(), event.own_bytes
                    self.columns = event.columns
                    self.notes.checked |= {"load_s": round(event.seconds, 3), "versions": dict(event.versions)}
                    what = "scoring script" if self.target.by_file else "model"
                    self.notes.ok(f"the {what} loads, in {event.seconds:.2f} s")
        return self._alive

    def probe(self, batch: MiniBatch, grid: Grid, files: int) -> None:
        """Find the columns, where only the input tells them, and whether rows may be cut and grouped."""
        if not self._alive or self.target.by_file:
            return
        first = next(cell for cell in batch.cells if cell.rows)
        several = len(first.slices) > 1 or files > 1 or grid.estimated_rows > grid.cell_rows
        rows = 0
        if self.options.grid < 0 and several:
            rows = probe_rows(grid)
        if first.slices[0].format not in TABLES or (self.columns and not rows):
            return
        event = self._ask(Probe(cell=first, rows=rows, timeout_s=probe_timeout_s(self.options.timeout_s)))
        if isinstance(event, Probed):
            self.columns = event.columns
            if event.objection:
                self.notes.error(event.objection)
            else:
                self._tried = min(rows, first.rows)
        elif isinstance(event, Failed) and not self.columns:
            # otherwise what the probe met, the scoring meets again
            self.notes.error(event.reason)
            self._alive = False

    def score(self, batch: MiniBatch, told: frozenset[str]) -> float | None:
        """Score a mini-batch, say what came of it, and return the seconds in the model or the script.

        Args:
            batch: the first of the job.
            told: causes that need not be told again.
        """
        if not self._alive:
            return None
        options = self.options
        event = self._ask(Score(batch=batch, columns=self.columns, timeout_s=options.timeout_s))
        what = listed([part.name for part in batch.slices]) if options.by_file else batch.describe()
        if isinstance(event, Failed):
            self.notes.error(f"{what}: {event.reason}{_place(event, options.code)}")
        if not isinstance(event, Scored):
            return None
        for cause, count in event.causes:
            if cause not in told:
                self.notes.error(f"{what}: {cause_text(cause, count)}")
        self.scored = event
        unit = "file" if options.by_file else "row"
        lost = sum(each.quarantined + each.given_up for each in event.accounts)
        done = batch.rows - lost
        self.notes.checked |= {"scored": what, f"{unit}s_scored": done, "score_s": round(event.predict_s, 3)}
        if done > 1 and self._tried > 1:
            # the probe passes over what the model raises, which then is met here
            self.notes.checked["rows_probed"] = self._tried
            self.notes.ok(f"rows score alike together and apart ({number(self._tried, 'row')} tried)")
        if done > 0:
            count_text = f"{done:,} of {number(batch.rows, unit)}" if lost else number(done, unit)
            self.notes.ok(f"scored {count_text} ({what}), in {event.predict_s:.2f} s")
        return event.predict_s

    def pace(self, batch: MiniBatch, cells: Sequence[Cell], files: Sequence[InputFile], workers: int) -> Pace | None:
        """Say what so many workers do at once; None where nothing was scored.

        Args:
            batch: the mini-batch that was scored.
            cells: the first of the job, for all of them to score for a while; none to go by that mini-batch alone.
            files: of the input.
            workers: how many.
        """
        if self.scored is None or self._engine is None:
            return None
        rehearsed = rehearse(self._engine, cells, self.columns, files, workers) if cells else None
        if rehearsed is not None:
            return rehearsed
        seconds = max(self.scored.seconds, 1e-6)
        return Pace(
            workers=workers,
            rows=batch.rows,
            rows_s=batch.rows / seconds * workers,
            cell_s=seconds,
            first_s=seconds,
            row_bytes=self.scored.size_bytes / max(1, batch.rows),
            # the others hold a copy of the model each
            peak_bytes=self.peak.seen_bytes + (workers - 1) * self.own_bytes,
        )

    def _ask(self, work: Probe | Score) -> Probed | Scored | Failed | LoadFailed:
        """Have the worker do something, and wait for the answer."""
        engine = self._engine
        assert engine is not None
        waiting = True
        while True:
            if waiting and engine.wanted() > 0:
                engine.submit(work)
                waiting = False
            self.peak.look()
            for event in engine.wait(LOOK_S / 2):
                self.peak.look()
                if isinstance(event, LoadFailed):
                    if event.goes_on:
                        continue
                    self.notes.error(event.told)
                    self._alive = False
                if isinstance(event, Probed | Scored | Failed | LoadFailed):
                    return event
                # it died before it began: another one does it
                waiting = waiting or isinstance(event, Returned)


def _place(event: Failed, code: str) -> str:
    """Name the last line of the script's code that was running."""
    places = re.findall(r'File "([^"\n]+)", line (\d+)', event.detail) if code else []
    inside = [(file, line) for file, line in places if file.startswith(os.path.join(code, ""))]
    return f" ({os.path.relpath(inside[-1][0], code)}:{inside[-1][1]})" if inside else ""
