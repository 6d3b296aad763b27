"""Print what the driver takes for a mini-batch: the loop of a job with an engine that does nothing.

Usage: python -m benchmarks.driver INPUT.csv

Everything but the workers is what a job runs: the scanner in its process, the plan, the loop, the progress, whoever
follows. Each row of the input is a cell and a mini-batch, the engine says at once that it is staged, and it is not.
"""

import json
import sys
import tempfile
import time
from collections import deque
from multiprocessing.connection import Connection

import psutil

from runtime.dispatch import Dispatch
from runtime.engines import Event, Ready, Running, Score, Scored, Setup
from runtime.follow import Following, Report
from runtime.forkserver import open_log
from runtime.memory import Memory
from runtime.parts import KEY_LENGTH
from runtime.plan import Plan, Scanner
from runtime.progress import Progress, QuarantineLimit
from runtime.record import JobRecord
from runtime.score_file import ScoreFile
from scoring.cells import SliceAccount
from scoring.files import InputSpec, Listing
from scoring.scan import Begin
from scoring.specs import ColumnSpec

EARLY = 10_000
"""The memory at the end is compared with that after so many mini-batches."""
_WORKERS = 2


class NoEngine:
    """Says of every mini-batch that it is staged."""

    workers = _WORKERS
    memory: Memory | None = None

    def __init__(self) -> None:
        self._events: deque[Event] = deque()

    def start(self, setup: Setup) -> None:
        """See `Engine.start`."""

    def ready(self) -> None:
        """Have its worker ready."""
        self._events.append(Ready(worker=0, columns=(ColumnSpec(name="age", type="long"),), seconds=0.0, versions=()))

    def wanted(self) -> int:
        """See `Engine.wanted`: one that runs and one that is queued, for each worker."""
        return 2 * _WORKERS - len(self._events)

    def submit(self, work: object) -> None:
        """See `Engine.submit`."""
        assert isinstance(work, Score), work
        batch = work.batch
        accounts = tuple(
            SliceAccount(name=part.name, start=part.start, stop=part.stop, digest=b"", rows=part.rows)
            for part in batch.slices
        )
        self._events.append(
            Scored(
                number=batch.number,
                key=f"{batch.number:0{KEY_LENGTH}}",
                size_bytes=100,
                columns=("prediction",),
                accounts=accounts,
                causes=(),
                seconds=0.001,
                predict_s=0.001,
            )
        )

    def wait(self, timeout_s: float, also: Connection | None = None) -> list[Event]:
        """See `Engine.wait`."""
        if not self._events and also is not None:
            also.poll(timeout_s)
        events = [*self._events]
        self._events.clear()
        return events

    def running(self) -> list[Running]:
        """See `Engine.running`."""
        return []

    def close(self, grace_s: float = 0.0) -> None:
        """See `Engine.close`."""


def main(path: str) -> None:
    """Run the loop and print its seconds and the driver's memory."""
    memory: list[int] = []
    process = psutil.Process()

    def look(report: Report) -> None:
        if not memory and report.progress is not None and len(report.progress.parts) >= EARLY:
            memory.append(process.memory_info().rss)

    with tempfile.TemporaryDirectory() as folder, open_log(debug=False) as log:
        output = ScoreFile(folder, "scores.csv")
        output.claim()
        scanner = Scanner(InputSpec(url=path), log)
        listing = scanner.expect(Listing)
        grid = scanner.begin(Begin(cell_rows=1, spool=str(output.spool), spool_bytes=2**30))
        engine = NoEngine()
        engine.ready()
        following = Following(watch=look, notice=print, check=lambda: None)
        dispatch = Dispatch(
            engine=engine,
            scanner=scanner,
            plan=Plan(listing.files, workers=_WORKERS, cells_per_batch=1, estimated_cells=grid.estimated_rows),
            progress=Progress(limit=QuarantineLimit.parse(None)),
            output=output,
            record=JobRecord(model="none", settings={}, cell_rows=1),
            grid=grid,
            staged={},
            probing=False,
            observer=following,
        )
        following.begin(dispatch, listing.files, unit="rows")
        wall, cpu = time.perf_counter(), time.process_time()
        dispatch.run()
        wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
        memory.append(process.memory_info().rss)
        scanner.close()
        output.discard()
        output.release()
    figures = {"batches": len(dispatch.progress.parts), "wall_s": wall_s, "cpu_s": cpu_s, "memory_bytes": memory}
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
