"""What workers are told and where they come from, by the options of a job: for a run and for a trial alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from runtime.engines import DEFAULT_END_S, Engine, Setup
from runtime.forkserver import STORAGE_CLIENT, ForkServer, forks
from runtime.limits import usable_cpus
from runtime.memory import find_memory
from runtime.options import Options
from runtime.output import Output
from runtime.target import ModelTarget, ScriptTarget
from scoring.rows import Dialect
from scoring.specs import ColumnSpec, ReadPlan

__all__ = ["make_engine", "read_plan", "worker_setup", "worker_threads"]

SHUTDOWN_S = 30.0
"""How long the shutdown function of a scoring script may take."""


def worker_threads(options: Options, target: ModelTarget | ScriptTarget) -> int:
    """Say how many native threads each worker has: scripts share the CPUs, for they may run threads of their own."""
    if options.threads:
        return options.threads
    return max(1, usable_cpus() // (options.workers or usable_cpus())) if target.by_file else 1


def make_engine(
    options: Options,
    target: ModelTarget | ScriptTarget,
    *,
    workers: int,
    log: IO[bytes],
    server: ForkServer | None = None,
) -> Engine:
    """Make the engine; its fork server, where it has one, begins to import at once.

    Args:
        options: of the job.
        target: what scores.
        workers: how many.
        log: takes what workers print.
        server: one that was started for this job already.
    """
    if options.engine == "inline":
        from runtime.engines.inline import InlineEngine

        return InlineEngine()
    from runtime.engines.local import LocalEngine

    threads = worker_threads(options, target)
    if server is None and forks(options.engine):
        also = STORAGE_CLIENT if options.output_access is not None else ()
        server = ForkServer(target.preload, threads=threads, log=log, environment=dict(target.environment), also=also)
    return LocalEngine(workers, threads=threads, log=log, server=server, memory=find_memory())


def read_plan(options: Options, dialect: Dialect, *, columns: Sequence[ColumnSpec], values: bool) -> ReadPlan:
    """Say how files are read.

    Args:
        options: of the job.
        dialect: how CSV files are written.
        columns: what the model wants, as far as it is known.
        values: whether values go to the quarantine.
    """
    return ReadPlan(
        columns=tuple(columns),
        dialect=dialect,
        keep=options.keep,
        date_format=options.date_format,
        quarantine_values=values,
        strict=options.strict,
        output_format=options.output_format,
        file_names="basename" if options.strict or options.output_format == "azureml" else "path",
    )


def worker_setup(
    options: Options,
    target: ModelTarget | ScriptTarget,
    output: Output,
    *,
    plan: ReadPlan,
    threads: int,
    fingerprint: bytes,
    logs: str = "",
) -> Setup:
    """Say what every worker is told first.

    Args:
        options: of the job.
        target: what scores; its model is staged here, where a script loads it.
        output: claimed.
        plan: how files are read.
        threads: native threads of each worker.
        fingerprint: of the job, as much as a key holds.
        logs: folder of the logs; empty for none.

    Raises:
        OutputError: the model cannot be staged.
    """
    return Setup(
        scorer=target.scorer(options, threads=threads, work=str(output.work), logs=logs),
        plan=plan,
        staging=output.staging,
        fingerprint=fingerprint,
        logs=logs,
        load_attempts=2 if target.by_file else 1,
        isolates=options.isolates and not target.by_file,
        replaces_always=options.error_threshold is not None or options.isolates,
        load_timeout_s=options.init_timeout_s,
        first_call_s=options.task_overhead_s,
        end_s=SHUTDOWN_S if target.by_file else DEFAULT_END_S,
    )
