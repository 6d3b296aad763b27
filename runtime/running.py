"""A mark that lies beside what is staged while a driver lives: who finds it knows that the last one was killed.

Where memory has a limit, the kernel or Kubernetes may have killed the driver with its workers (cgroup v2:
``memory.oom.group``), before it could do anything about it. So the next run starts with fewer workers, unless memory is
known to have been ample.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace

from runtime.errors import OutputError
from runtime.memory import Memory, size_text
from runtime.output import Output

__all__ = ["RunningMark", "workers_after"]

AMPLE = 0.5
"""Memory had nothing to do with a death when no more than this share of its limit was ever in use."""

_LENGTH = 64
"""All marks have the same: a kill in the midst of one leaves it or the one before (`runtime.disk.write_over`)."""


@dataclass(slots=True, kw_only=True)
class RunningMark:
    """The mark of one driver.

    Attributes:
        output: claimed, where the mark lies.
        memory: the limits that bind this driver.
        workers: how many it has.
        peak: the share of the memory limit that the mark tells of.
        fewer: whether these are fewer than were asked for, because memory was too little before.
    """

    output: Output
    memory: Memory
    workers: int = 0
    peak: float = 0.0
    fewer: bool = False

    def left(self) -> RunningMark | None:
        """Return the mark that a killed driver left; None where the last one ended by itself."""
        try:
            mark = self.output.running()
            if mark is None:
                return None
            content = json.loads(mark)
            workers, peak, fewer = int(content["workers"]), float(content["peak"]), bool(content["fewer"])
            return replace(self, workers=workers, peak=peak, fewer=fewer)
        except (ValueError, KeyError, TypeError):
            # killed while the first was made, or an old one: all it says is that there was one
            return replace(self, workers=0, peak=1.0)

    def begin(self, workers: int, *, fewer: bool = False) -> None:
        """Leave the mark."""
        # a load takes what it takes before anybody can look
        self.workers, self.peak, self.fewer = workers, 1.0, fewer
        self._write()

    def see(self, workers: int, *, loaded: bool) -> None:
        """Note how many workers there are and how much memory was used, where that tells more than the mark does."""
        peak = self.memory.peak if loaded else 1.0
        if workers != self.workers or (peak > AMPLE) != (self.peak > AMPLE):
            self.fewer = self.fewer or workers < self.workers
            self.workers, self.peak = workers, peak
            self._write()

    def end(self) -> None:
        """Take the mark away: whoever comes next knows that this driver was not killed."""
        with suppress(OutputError):
            self.output.record_running(None)

    def _write(self) -> None:
        # a mark is not worth a job
        with suppress(OutputError):
            content = {"workers": self.workers, "peak": round(self.peak, 3), "fewer": self.fewer}
            self.output.record_running(json.dumps(content).ljust(_LENGTH).encode())


def workers_after(left: RunningMark, workers: int) -> tuple[int, str]:
    """Say with how many workers to start after a driver was killed, and the sentence about it; empty where all start.

    Args:
        left: the mark that it left.
        workers: how many there would be.
    """
    fewer = max(1, min(workers, (left.workers or workers) // 2))
    if left.peak <= AMPLE:
        # of which so many need not be too many
        fewer = min(workers, left.workers) if left.fewer else workers
    if fewer == workers:
        return workers, ""
    limit = size_text(left.memory.limit_bytes)
    return fewer, (
        f"the last run was killed, likely out of memory (limit {limit}): starting with {fewer} instead of {workers} "
        "workers"
    )
