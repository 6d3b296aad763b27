"""What was chosen for a job, and why: a short line for each choice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from runtime.memory import process_limit, size_text
from runtime.options import ACCESSES, Options
from runtime.plan import TARGET_S
from runtime.staffing import Staffing, spool_limit
from scoring.cells import CELL_BYTES, CELLS_PER_INPUT, MIN_CELL_ROWS, WIDE_CELL_BYTES, InputFile, row_limits
from scoring.files import InputSpec, is_compressed
from scoring.scan import Grid

__all__ = ["explained"]


def explained(
    options: Options,
    *,
    staffing: Staffing,
    grid: Grid,
    resumed: bool,
    threads: int,
    spec: InputSpec,
    files: Sequence[InputFile],
    spool: str,
) -> Iterator[str]:
    """Say what was chosen, a line each: what it is, a colon, what was chosen, and why.

    Args:
        options: of the job.
        staffing: its workers.
        grid: its grid.
        resumed: whether the grid is that of what is staged already.
        threads: native threads of each worker.
        spec: how its input is read.
        files: of the input.
        spool: folder of the spool.
    """
    yield f"CPUs: {_cpus(staffing)}"
    yield f"memory: {_memory(staffing)}"
    yield f"engine: {_engine(options)}"
    yield f"workers: {_workers(options, staffing)}"
    yield f"threads: {threads} a worker{_why_threads(options, threads)}"
    yield f"grid: {_grid(options, grid, resumed=resumed)}"
    yield f"mini-batch: {_mini_batch(options)}"
    yield f"spool: {_spool(options, spec, files, spool)}"
    for line in _credentials(options):
        yield f"credentials: {line}"


def _cpus(staffing: Staffing) -> str:
    cpus = staffing.cpus
    quota = f"a quota of {cpus.quota:g}" if cpus.quota is not None else "no quota"
    return f"{cpus.usable} (it may run on {cpus.affinity}; its cgroups set {quota})"


def _memory(staffing: Staffing) -> str:
    memory = staffing.memory
    text = "no limit of a cgroup"
    if memory is not None:
        free = max(0, memory.free_bytes())
        text = f"{size_text(memory.limit_bytes)}, of which {size_text(free)} may be used now ({memory.source})"
    if (limit := process_limit()) is not None:
        text += f"; {size_text(limit[0])} for each process ({limit[1]})"
    return text


def _engine(options: Options) -> str:
    if options.engine == "inline":
        return "inline, as --engine says: in this process"
    from runtime.forkserver import forks

    how = "workers are forked from one server that has imported the libraries"
    how = how if forks(options.engine) else "each worker is started by itself"
    return f"{options.engine}: {how}"


def _workers(options: Options, staffing: Staffing) -> str:
    count = staffing.workers
    if options.engine == "inline":
        return "1, for the engine is inline"
    if staffing.asked:
        source = "the deployment" if options.deployment and options.by_file else "--workers"
        return f"{count}, as {source} says; fewer when memory runs short"
    size = f"the model has {size_text(staffing.model_bytes)} on disk"
    if staffing.alone:
        return (
            f"{count} at most, one for each CPU; one starts alone, for memory may be too little for all of them: "
            f"{size}, a cell may take {size_text(staffing.allowance_bytes)}"
        )
    enough = f"; memory is enough for them: {size}" if staffing.memory is not None and count > 1 else ""
    return f"{count}, one for each CPU{enough}"


def _why_threads(options: Options, threads: int) -> str:
    if options.threads:
        return ", as --threads says"
    if options.by_file:
        return ": the CPUs are shared out among the workers"
    return ", so that the same call gives the same bytes and workers do not wait for each other" if threads == 1 else ""


def _grid(options: Options, grid: Grid, *, resumed: bool) -> str:
    if options.by_file:
        return "none: the scoring script reads whole files"
    if not grid.cell_rows:
        why = "--strict says" if options.strict else "--chunk-rows says" if options.chunk_rows == 0 else "images are"
        return f"one call of the model for each file, as {why}"
    rows = f"{grid.cell_rows:,} rows a call of the model"
    about = f"about {grid.estimated_rows:,} rows"
    if grid.bytes_per_row:
        about += f" of {grid.bytes_per_row:,.0f} bytes"
    if resumed:
        return f"{rows}, as in what is staged already, for {about}"
    if options.chunk_rows:
        return f"{rows}, as --chunk-rows says, for {about}"
    limits = row_limits(bytes_per_row=grid.bytes_per_row, estimated_rows=grid.estimated_rows)
    binding = min(limits, key=lambda name: limits[name])
    fewest = grid.estimated_rows < CELLS_PER_INPUT * MIN_CELL_ROWS
    reasons = {
        "most": "the most there are, for",
        "bytes": f"up to {size_text(WIDE_CELL_BYTES if grid.cell_rows <= MIN_CELL_ROWS else CELL_BYTES)} of",
        "share": "the least there are, for" if fewest else "a sixteenth of",
    }
    return f"{rows}, {reasons[binding]} {about}; the input alone decides, not the machine"


def _mini_batch(options: Options) -> str:
    files = options.files_per_mini_batch
    if files:
        return f"{files:,} file{'s' * (files > 1)}, as mini_batch_size says"
    if options.cells_per_mini_batch:
        calls = options.cells_per_mini_batch
        return f"{calls:,} call{'s' * (calls > 1)}, as --cells-per-mini-batch says"
    return f"1 call at first, then as many as take {TARGET_S:g} s, fewer near the end; this alters no byte"


def _spool(options: Options, spec: InputSpec, files: Sequence[InputFile], folder: str) -> str:
    packed = any(file.format == "csv" and is_compressed(file.name) for file in files)
    if not spec.is_remote and not packed and spec.dialect.direct:
        return "not used, for the files are read where they lie"
    why = "as --spool says" if options.spool_bytes else "half of what is free"
    what = "what is fetched" if spec.is_remote else "what is decompressed or decoded"
    return f"up to {size_text(spool_limit(options, folder))} for {what}, {why} ({os.path.abspath(folder)})"


def _credentials(options: Options) -> Iterator[str]:
    accesses = [access for name in ACCESSES if (access := getattr(options, name)) is not None]
    if not accesses:
        yield "none needed, for nothing lies on storage"
        return
    from runtime.credentials import told

    yield from dict.fromkeys(map(told, accesses))
