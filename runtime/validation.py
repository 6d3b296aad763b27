"""Look at a job before it runs: refuse what a run refuses, look into the input, score one mini-batch, publish nothing.

options ── model ── input ── output ── probe ── sample ── score ── traps
              └── one worker loads meanwhile ──┘

Each step goes on as far as it can without those before it that failed. All that is written lies in a temporary folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Pipe
from typing import IO, Any

from runtime.checks import check_input, check_model, check_options, check_output, check_requirements, signed_columns
from runtime.errors import InputError, InterruptedJobError, ScorelineError, UsageError
from runtime.estimate import estimate, process_age_s
from runtime.findings import Findings, Notebook, Tell, causes_told, listed, number, sample_errors, sample_warnings
from runtime.forkserver import end_process, open_log, start_module, worker_environment
from runtime.hiring import read_plan, worker_threads
from runtime.memory import find_memory
from runtime.model import signature_names
from runtime.options import Options
from runtime.plan import Plan, Scanner, skipped_texts
from runtime.rehearsal import MOST_S
from runtime.staffing import staff
from runtime.target import ModelTarget, ScriptTarget
from runtime.traps import Measured, traps
from runtime.trial import Trial
from runtime.uris import LocalPath, parse_uri
from scoring.cells import TABLES, Cell, InputFile, MiniBatch
from scoring.files import InputSpec, Listing
from scoring.rows import Dialect
from scoring.sample import Order, Sampled
from scoring.scan import Begin, Grid, ScanEnd
from scoring.specs import ReadPlan

__all__ = ["validate"]

SAMPLED_FILES = 200
SCORED_ROWS = 10_000
REHEARSED_FROM_S = 1.0
"""Where the first mini-batch lets expect that a job scores for longer, workers try for how long."""


def validate(*, tell: Tell | None = None, values: bool = False, **options: Any) -> Findings:
    """Look at a job before it runs, and return what was found; nothing is left behind.

    Args:
        tell: called with each finding as soon as it is known: error, warning or ok, and a sentence.
        values: whether findings show values of the input.
        options: the options of ``scoreline validate``, which are those of ``scoreline run``.

    Raises:
        InterruptedJobError: a signal stopped it.
    """
    notes = Notebook(tell)
    began = time.monotonic() - process_age_s()
    with _signals(), ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="scoreline-validate-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        log = open_log(debug=bool(options.get("debug")))
        stack.callback(log.close)
        checked = check_options(options, notes)
        if checked is None:
            _look_for_input(options, log, notes)
        else:
            _Look(
                options=checked, notes=notes, folder=folder, log=log, stack=stack, values=values, began=began
            ).all()
    return notes.findings()


@contextmanager
def _signals() -> Iterator[None]:
    """Stop at SIGINT and SIGTERM, and clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    met: list[int] = []

    def stop(number: int, _: object) -> None:
        met.append(number)
        raise KeyboardInterrupt

    previous = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        if not met:
            raise
        name = signal.Signals(met[0]).name
        raise InterruptedJobError(f"stopped by {name}; nothing was written", met[0]) from None
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


def _look_for_input(given: dict[str, Any], log: IO[bytes], notes: Notebook) -> None:
    """See whether there is any input, where the options cannot be."""
    try:
        uri = parse_uri(os.fspath(given.get("input") or ""))
    except ScorelineError:
        return
    if not isinstance(uri, LocalPath):
        return
    scanner = Scanner(InputSpec(url=uri.path, kind="files", unknown="fail", recursive=True), log)
    try:
        scanner.expect(Listing)
    except InputError as error:
        notes.error(str(error))
    finally:
        scanner.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One look at a job whose options can be."""

    options: Options
    notes: Notebook
    folder: str
    log: IO[bytes]
    stack: ExitStack
    values: bool
    began: float

    def all(self) -> None:
        """Look at everything."""
        target = check_model(self.options, self.stack, self.notes)
        spec = self._input_spec(target)
        trial = self._started(target, spec)
        if target is not None:
            check_requirements(self.options, target, self.notes)
        scanner, listing = None, None
        if spec is not None and check_input(self.options, self.notes):
            scanner, listing = self._listed(spec)
        check_output(self.options, target, spec, listing, self.notes)
        if trial is not None and not trial.load():
            trial = None
        files = listing.files if listing is not None else ()
        measured = None
        if spec is not None and scanner is not None and listing is not None:
            measured = self._look_at_rows(spec, scanner, files, target, trial)
        for text in traps(self.options, files, measured):
            self.notes.warning(text)

    def _input_spec(self, target: ModelTarget | ScriptTarget | None) -> InputSpec | None:
        try:
            return self.options.input_spec(signature_names(target.mlmodel()) if target is not None else ())
        except UsageError as error:
            if target is not None:
                self.notes.error(str(error))
            return None

    def _started(self, target: ModelTarget | ScriptTarget | None, spec: InputSpec | None) -> Trial | None:
        """Start the worker, so that it loads while the input is looked at."""
        if target is None:
            return None
        dialect = spec.dialect if spec is not None else Dialect()
        plan = read_plan(self.options, dialect, columns=(), values=self.values)
        trial = Trial(
            options=self.options, target=target, plan=plan, folder=self.folder, log=self.log, notes=self.notes
        )
        try:
            trial.start(self.stack)
        except ScorelineError as error:
            self.notes.error(str(error))
            return None
        return trial

    def _listed(self, spec: InputSpec) -> tuple[Scanner | None, Listing | None]:
        """List the input as a run does; where that refuses all for the sake of some files, go on with the others."""
        scanner = Scanner(spec, self.log)
        self.stack.callback(scanner.close)
        try:
            listing = scanner.expect(Listing)
        except InputError as error:
            self.notes.error(str(error))
            return (None, None) if spec.unknown == "fail" else self._listed(replace(spec, unknown="fail"))
        self.notes.checked |= {"files": len(listing.files), "skipped": dict(listing.skipped)}
        for text in skipped_texts(listing):
            self.notes.warning(text)
        empty = [file.name for file in listing.files if not file.size_bytes]
        if empty:
            self.notes.warning(f"{listed(empty)} {'is' if len(empty) == 1 else 'are'} empty")
        return scanner, listing

    def _look_at_rows(
        self,
        spec: InputSpec,
        scanner: Scanner,
        files: Sequence[InputFile],
        target: ModelTarget | ScriptTarget | None,
        trial: Trial | None,
    ) -> Measured | None:
        """Look into the files, and score the first mini-batch, if there is a worker that can."""
        grid, batch = self._first_batch(scanner, files)
        if target is not None:
            self._explain(spec, files, target, grid)
        if trial is not None and batch is not None:
            trial.probe(batch, grid, len(files))
        columns = trial.columns if trial is not None else signed_columns(self.options, target)
        plan = read_plan(self.options, spec.dialect, columns=columns, values=self.values)
        samples = self._sampled(plan, spec, files)
        if trial is None or batch is None:
            return None
        seconds = trial.score(batch, causes_told(samples))
        if seconds is None:
            return None
        self._estimate(trial, spec, files, grid, batch)
        return Measured(batch=batch, seconds=seconds, grid=grid)

    def _estimate(
        self, trial: Trial, spec: InputSpec, files: Sequence[InputFile], grid: Grid, batch: MiniBatch
    ) -> None:
        """Estimate what the job takes, by the first mini-batch, or where that is not little by a rehearsal."""
        options = self.options
        staffing = staff(options, model_path=trial.target.path, grid=grid, memory=find_memory())
        workers = staffing.fitting(trial.own_bytes)[0] if staffing.alone else staffing.workers
        pace = trial.pace(batch, (), files, workers)
        if pace is None:
            return
        input_bytes = sum(file.size_bytes for file in files)
        rows = grid.estimated_rows
        if batch.slices[0].format not in TABLES:
            # by the bytes of the first, for a file need not be like another
            rows = round(batch.rows * input_bytes / batch.size_bytes) if batch.size_bytes else len(files)
        elif options.limit:
            rows = min(rows, options.limit)
        cell_s = grid.cell_rows * workers / pace.rows_s
        if rows > REHEARSED_FROM_S * pace.rows_s and 0 < cell_s < MOST_S and options.engine != "inline":
            self.notes.ok(f"trying {workers} worker{'s' * (workers > 1)} at once, for an estimate")
            cells = self._first_cells(spec, grid, rows, workers)
            pace = trial.pace(batch, cells, files, workers) or pace
        found = estimate(
            pace,
            start_s=trial.ready_at - self.began,
            rows=rows,
            cell_rows=grid.cell_rows,
            input_bytes=rows * grid.bytes_per_row,
            cpus=staffing.cpus.usable,
            unit="files" if options.by_file else "rows",
            looked_at=pace.rows,
        )
        self.notes.checked["estimate"] = found.to_json()
        self.notes.ok(found.text)

    def _first_cells(self, spec: InputSpec, grid: Grid, rows: int, workers: int) -> list[Cell]:
        """Cut as many whole cells as workers have at once, and one; none where the input cannot be read any more."""
        spool = os.path.join(self.folder, "rehearsed")
        os.mkdir(spool)
        cells: list[Cell] = []
        scanner = Scanner(spec, self.log)
        self.stack.callback(scanner.close)
        try:
            scanner.expect(Listing)
            begin = Begin(
                cell_rows=grid.cell_rows,
                limit_rows=min(rows, (workers + 1) * grid.cell_rows),
                spool=spool,
                # nobody makes room there
                spool_bytes=sys.maxsize,
            )
            scanner.begin(begin)
            while not isinstance(message := scanner.receive(), ScanEnd):
                if isinstance(message, Cell) and message.rows:
                    cells.append(message)
        except InputError:
            return []
        return cells

    def _explain(
        self, spec: InputSpec, files: Sequence[InputFile], target: ModelTarget | ScriptTarget, grid: Grid
    ) -> None:
        """Say what a run would choose, if somebody asked."""
        options = self.options
        if not options.explain:
            return
        from runtime.explain import explained

        lines = explained(
            options,
            staffing=staff(options, model_path=target.path, grid=grid, memory=find_memory()),
            grid=grid,
            resumed=False,
            threads=worker_threads(options, target),
            spec=spec,
            files=files,
            spool=_nearest(options.output_folder) if options.output_access is None else self.folder,
        )
        self.notes.checked["chosen"] = dict(text.split(": ", 1) for text in lines)
        for name, text in self.notes.checked["chosen"].items():
            self.notes.ok(f"{name}: {text}")

    def _first_batch(self, scanner: Scanner, files: Sequence[InputFile]) -> tuple[Grid, MiniBatch | None]:
        """Plan as a run does, to the first mini-batch with something in it; of rows not more than enough."""
        options = self.options
        spool = os.path.join(self.folder, "spool")
        os.mkdir(spool)
        begin = Begin(
            cell_rows=options.grid,
            limit_rows=0 if options.by_file else min(options.limit or SCORED_ROWS, SCORED_ROWS),
            spool=spool,
            # nobody makes room there
            spool_bytes=sys.maxsize,
        )
        grid = Grid(cell_rows=0, estimated_rows=0)
        plan = Plan(
            tuple(files), workers=1, cells_per_batch=options.files_per_mini_batch or 1, by_folder=options.by_file
        )
        try:
            grid = scanner.begin(begin)
            while not plan.exhausted:
                batch = plan.next()
                if batch is not None and batch.rows:
                    return grid, batch
                if batch is None:
                    message = scanner.receive()
                    assert not isinstance(message, Grid | Listing), message
                    plan.add(message)
        except InputError as error:
            self.notes.error(str(error))
            return grid, None
        if not any(file.problem for file in files):
            self.notes.error("the input has no rows to score")
        return grid, None

    def _sampled(self, plan: ReadPlan, spec: InputSpec, files: Sequence[InputFile]) -> list[Sampled]:
        """Have a process look into the files, or into some of very many."""
        chosen = _spread([file for file in files if not file.problem], SAMPLED_FILES)
        samples: list[Sampled] = []
        ours, theirs = Pipe()
        with ours:
            with theirs:
                environment = worker_environment(1)
                process = start_module("scoring.sample", theirs.fileno(), environment=environment, log=self.log)
            try:
                ours.send(Order(files=tuple(chosen), plan=plan, folder=self.folder, input=spec))
                samples += (ours.recv() for _ in chosen)
            except (EOFError, OSError):
                self.notes.error("the process that looks into files ended unexpectedly; --debug shows what it said")
            finally:
                end_process(process, 0.0)
        problems = [Sampled(name=each.name, problem=each.problem) for each in files if each.problem]
        for text in sample_errors([*self._not_told(files), *samples], self.options.keep):
            self.notes.error(text)
        for text in sample_warnings(samples):
            self.notes.warning(text)
        rows = 0 if self.options.by_file else sum(each.rows for each in samples)
        self.notes.checked |= {"files_sampled": len(samples), "rows_sampled": rows}
        of = f"{len(samples):,} of {number(len(files), 'file')}"
        self.notes.ok(f"looked into {of}" + ("" if self.options.by_file else f", at {number(rows, 'row')}"))
        return [*problems, *samples]

    def _not_told(self, files: Sequence[InputFile]) -> list[Sampled]:
        """Give the files that cannot be read, but for those that the refusal of the input named."""
        if self.options.deployment:
            return [Sampled(name=each.name, problem=each.problem) for each in files if each.problem]
        # in the words of that refusal, which names one file by its path and stands for all that have no reader
        bad = [each for each in files if each.problem and each.format != "unknown"]
        return [Sampled(name=each.url, problem=each.problem) for each in bad]


def _spread(files: list[InputFile], most: int) -> list[InputFile]:
    """Choose so many of the files, evenly, the first and the last among them."""
    if len(files) <= most:
        return files
    return [files[place * (len(files) - 1) // (most - 1)] for place in range(most)]


def _nearest(folder: str) -> str:
    """Find the folder that is there, of one that need not be, and of those above it."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder
