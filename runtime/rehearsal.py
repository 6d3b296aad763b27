"""A rehearsal: all workers of a job score first cells of its input for a while, which tells what all of it will take.

Nothing is published, and nothing that is measured here is used by a run: what a run does never follows from a clock.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.engines import Engine, Failed, LoadFailed, Score, Scored
from runtime.memory import tree_bytes
from runtime.plan import Plan
from scoring.cells import Cell, InputFile
from scoring.specs import ColumnSpec

__all__ = ["LOOK_S", "MOST_S", "Pace", "Peak", "rehearse"]

AIMED_S = 1.5
"""So long all workers score at once, once each has made its first call, which takes longer."""
MOST_S = 20.0
"""Where cells take so long that this passes, what was seen by then must do."""
PATIENCE_S = 60.0
"""Where not one cell is scored by then, there is no pace."""
LOOK_S = 0.1
"""Memory is looked at so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What the workers of a job do, all of them at once.

    Attributes:
        workers: how many there are.
        rows: rows that were scored, the same ones perhaps several times.
        rows_s: rows that all of them score in a second.
        cell_s: seconds that one of them takes for a cell.
        first_s: seconds that its first cell took.
        row_bytes: score bytes of a row.
        peak_bytes: the most memory that was seen in use: of this process and all below it.
    """

    workers: int
    rows: int
    rows_s: float
    cell_s: float
    first_s: float
    row_bytes: float
    peak_bytes: int


class Peak:
    """The most memory that this process and all below it were seen to use.

    Attributes:
        seen_bytes: so much.
    """

    def __init__(self) -> None:
        self.seen_bytes = 0
        self._looked = 0.0

    def look(self) -> None:
        """Look, if it is time: what looks at a process slows it down."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            self.seen_bytes = max(self.seen_bytes, tree_bytes(os.getpid()))


def rehearse(
    engine: Engine, cells: Sequence[Cell], columns: tuple[ColumnSpec, ...], files: Sequence[InputFile], workers: int
) -> Pace | None:
    """Have workers score cells over and over; None where one fails, which a run would look into, or takes too long.

    Args:
        engine: started, with one worker or more.
        cells: the first of the job.
        columns: what the model wants.
        files: of the input.
        workers: how many there shall be.
    """
    engine.hire(workers)
    plan = Plan(tuple(files), workers=workers)
    peak = Peak()
    done: Counter[int] = Counter()
    timed: dict[int, list[Scored]] = {}
    first: list[Scored] = []
    began = warm = time.monotonic()
    sizes: dict[int, int] = {}
    while True:
        while engine.wanted() > 0:
            batch = plan.batch_of((cells[plan.taken % len(cells)],))
            sizes[batch.number] = batch.rows
            engine.submit(Score(batch=batch, columns=columns))
        for event in engine.wait(LOOK_S / 2):
            if isinstance(event, Failed) or (isinstance(event, LoadFailed) and not event.goes_on):
                return None
            if not isinstance(event, Scored):
                continue
            done[event.worker] += 1
            if done[event.worker] == 1:
                first.append(event)
                warm = time.monotonic()
            else:
                timed.setdefault(event.worker, []).append(event)
        peak.look()
        now = time.monotonic()
        if len(timed) >= engine.workers and now >= warm + AIMED_S:
            break
        if now >= began + MOST_S and first:
            break
        if now >= began + PATIENCE_S:
            return None
    each = list(timed.values()) or [[event] for event in first]
    scored = [event for events in each for event in events]
    paces = [sum(sizes[event.number] for event in events) / sum(event.seconds for event in events) for events in each]
    return Pace(
        workers=engine.workers,
        rows=sum(sizes[event.number] for event in {id(event): event for event in [*first, *scored]}.values()),
        # whoever has said nothing yet is as fast as the others
        rows_s=sum(paces) / len(paces) * engine.workers,
        cell_s=sum(event.seconds for event in scored) / len(scored),
        first_s=max(event.seconds for event in first),
        row_bytes=sum(event.size_bytes for event in scored) / max(1, sum(sizes[event.number] for event in scored)),
        peak_bytes=peak.seen_bytes,
    )
