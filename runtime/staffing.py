"""How many workers: one for each CPU, and no more than memory is enough for.

Where a limit might be too little for all, one worker starts alone. What it holds once the model is loaded, and what
a cell may take, say how many others fit. Nothing of this alters a byte: workers hold whole cells, whichever they are.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from runtime.limits import Cpus, find_cpus
from runtime.memory import Memory, process_limit, size_text
from runtime.options import Options
from scoring.cells import CELL_BYTES
from scoring.scan import Grid

__all__ = ["Staffing", "cell_allowance", "folder_bytes", "spool_limit", "staff"]

BASE_BYTES = 400 * 2**20
"""What the driver, the scanner and what workers share take: the imports of MLflow and of the model's library."""
MODEL_TIMES = 2
"""A model takes up to so many times its size on disk, as far as that is known before it is loaded."""
CELL_TIMES = 24
"""A cell takes up to so many times its bytes as text: the table, the frame, what the model makes of it, the scores."""
WIDE_TIMES = 8
"""Of what it has beyond the usual size, which only tables of very long rows have, up to so many times."""
CELL_LEAST_BYTES = 48 * 2**20
PROCESS_BYTES = 640 * 2**20
"""What a worker maps (not: uses) beside the model and a cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staffing:
    """The workers of a job.

    Attributes:
        workers: how many there shall be.
        asked: whether somebody asked for so many.
        alone: whether one of them starts alone, to tell how many fit.
        cpus: that may be used.
        memory: the limits; None where there are none.
        model_bytes: size of the model on disk.
        allowance_bytes: what a worker may take beside the model.
    """

    workers: int
    asked: bool
    alone: bool
    cpus: Cpus
    memory: Memory | None
    model_bytes: int
    allowance_bytes: int

    def fitting(self, own_bytes: int) -> tuple[int, str]:
        """Say how many workers fit, now that the first has loaded the model, and why; empty where all of them do.

        Args:
            own_bytes: what the first holds that it shares with nobody.
        """
        if self.memory is None:
            return self.workers, ""
        each = own_bytes + self.allowance_bytes
        fits = max(1, min(self.workers, 1 + (self.memory.free_bytes() - self.allowance_bytes) // each))
        if fits == self.workers:
            return fits, ""
        return fits, (
            f"memory is enough for {fits} of {self.workers} workers: each takes about {size_text(each)} "
            f"(limit {size_text(self.memory.limit_bytes)})"
        )

    @property
    def process_warning(self) -> str:
        """Say that a worker may want more than `ulimit` gives it, where that is so: fewer workers do not help."""
        limit = process_limit()
        wanted = PROCESS_BYTES + MODEL_TIMES * self.model_bytes + self.allowance_bytes
        if limit is None or limit[0] >= wanted:
            return ""
        return (
            f"warning: {limit[1]} lets each process have {size_text(limit[0])}, and a worker may want "
            f"{size_text(wanted)}: raise it (ulimit), or give a smaller --chunk-rows"
        )


def staff(options: Options, *, model_path: str, grid: Grid, memory: Memory | None) -> Staffing:
    """Choose the workers of a job by the CPUs, the memory limit, the size of the model and the grid.

    Args:
        options: of the job; a number of workers that is given there is obeyed.
        model_path: folder or file of the model; empty for none.
        grid: of the job.
        memory: the limits; None where there are none.
    """
    cpus = find_cpus()
    model_bytes = folder_bytes(model_path)
    allowance = cell_allowance(grid)
    workers = 1 if options.engine == "inline" else options.workers or cpus.usable
    tight = memory is not None and memory.free_bytes() < BASE_BYTES + workers * (MODEL_TIMES * model_bytes + allowance)
    return Staffing(
        workers=workers,
        asked=bool(options.workers),
        alone=tight and workers > 1 and not options.workers,
        cpus=cpus,
        memory=memory,
        model_bytes=model_bytes,
        allowance_bytes=allowance,
    )


def cell_allowance(grid: Grid) -> int:
    """Say how many bytes a cell may take in a worker."""
    text_bytes = grid.cell_rows * grid.bytes_per_row
    beyond = max(0.0, text_bytes - CELL_BYTES)
    return max(CELL_LEAST_BYTES, round(CELL_TIMES * (text_bytes - beyond) + WIDE_TIMES * beyond))


def folder_bytes(path: str) -> int:
    """Add up the files of a folder, or return the size of a file; 0 where there is neither."""
    paths = [path, *(os.path.join(root, name) for root, _, names in os.walk(path) for name in names)]
    return sum(os.path.getsize(each) for each in paths if os.path.isfile(each))


def spool_limit(options: Options, folder: str) -> int:
    """Say how many bytes may lie in the spool, which is in that folder."""
    return options.spool_bytes or shutil.disk_usage(folder).free // 2
