"""What a job will take: an estimate of its wall time and its memory, from what a look at it has measured."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtime.memory import size_text
from runtime.rehearsal import Pace

__all__ = ["Estimate", "estimate", "process_age_s"]

SCANNED_BYTES_S = 300e6
"""What the scanner cuts in a second of a CPU that a worker then does not have."""
PUBLISHED_BYTES_S = 600e6
"""What is joined into the score file in a second."""
END_S = 0.15
"""What the end of workers and of the driver takes."""
USUAL_AGE_S = 0.3
"""How old a driver is when it begins."""
MOST_AGE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a job will take, if the machine is as busy as now, and all rows are like the first.

    Attributes:
        start_s: until the first worker is ready.
        scoring_s: from then until everything is scored.
        publish_s: from then until the score file is there.
        peak_bytes: memory of all its processes together, what they share counted once; 0 where that is not known.
        workers: how many it has.
        unit: what was looked at: rows or files.
        looked_at: how many of them were scored for this.
    """

    start_s: float
    scoring_s: float
    publish_s: float
    peak_bytes: int
    workers: int
    unit: str
    looked_at: int

    @property
    def wall_s(self) -> float:
        """Seconds of the whole command."""
        return self.start_s + self.scoring_s + self.publish_s

    @property
    def text(self) -> str:
        """Say it to a person, with what it rests on."""
        workers = f"{self.workers} worker{'s' * (self.workers > 1)}"
        memory = f" and {size_text(self.peak_bytes)} of memory" if self.peak_bytes else ""
        looked_at = f"the {self.looked_at:,} {self.unit if self.looked_at != 1 else self.unit.removesuffix('s')} tried"
        return (
            f"a run will take about {_seconds(self.wall_s)} (start {_seconds(self.start_s)}, scoring "
            f"{_seconds(self.scoring_s)}, publishing {_seconds(self.publish_s)}){memory}, with {workers}: "
            f"an estimate, if the machine is as busy as now and all is like {looked_at}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        values = {"wall_s": self.wall_s, **asdict(self)}
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}


def estimate(
    pace: Pace, *, start_s: float, rows: int, cell_rows: int, input_bytes: float, cpus: int, unit: str, looked_at: int
) -> Estimate:
    """Estimate what a job takes.

    Args:
        pace: of its workers.
        start_s: what the start takes.
        rows: that the job has; files, where a script takes whole ones.
        cell_rows: of the grid; 0: a file each.
        input_bytes: that are scanned, decoded.
        cpus: that the job may use.
        unit: rows or files.
        looked_at: how many of them were scored for the pace.
    """
    cells = max(1.0, rows / cell_rows) if cell_rows else float(pace.workers)
    # a job of fewer cells than workers leaves some of them idle
    busy = min(pace.workers, cells)
    scoring_s = max(0.0, pace.first_s - pace.cell_s) + rows / (pace.rows_s * busy / pace.workers)
    # the last cells end one after the other
    scoring_s += pace.cell_s / 2 if cells > busy > 1 else 0.0
    if pace.workers >= cpus:
        # one CPU imports at the start, and the scanner has another
        early_s = max(0.0, start_s - USUAL_AGE_S) if cpus > 1 else 0.0
        scoring_s += max(0.0, input_bytes / SCANNED_BYTES_S - early_s) / cpus
    return Estimate(
        start_s=start_s,
        scoring_s=scoring_s,
        publish_s=END_S + rows * pace.row_bytes / PUBLISHED_BYTES_S,
        peak_bytes=pace.peak_bytes,
        workers=pace.workers,
        unit=unit,
        looked_at=looked_at,
    )


def process_age_s() -> float:
    """Say how long this process has been there, if that is what a command takes before its work begins."""
    try:
        stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
        started_s = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - started_s
    except (OSError, ValueError, IndexError, AttributeError):
        return USUAL_AGE_S
    return age_s if 0.0 <= age_s < MOST_AGE_S else USUAL_AGE_S


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
