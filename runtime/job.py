"""A job from its options to its receipt.

open     refuse what cannot be, start the engine and the scanner, claim the output
score    hand out mini-batches until every row is staged
publish  the score file and the quarantine appear, and the receipt last
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from runtime.engines import Engine, Event, Failed, LoadFailed, Probe, Probed, Ready, Returned, Score, Scored, Setup
from runtime.errors import (
    InterruptedJobError,
    ModelLoadError,
    OutputError,
    ResumeError,
    ScorelineError,
    UsageError,
)
from runtime.limits import usable_cpus
from runtime.model import ModelFolder, fetch_model, find_model, is_remote, model_digest, read_mlmodel
from runtime.options import Options
from runtime.parts import PartKey, read_account
from runtime.plan import Plan, Scanner, StagedRun
from runtime.progress import Progress
from runtime.receipt import Receipt, build_receipt, inputs_digest
from runtime.score_file import ScoreFile
from scoring.cells import Cell, InputFile, SliceAccount
from scoring.files import InputSpec, Listing
from scoring.scan import Begin, Grid, StagedCover
from scoring.specs import ColumnSpec, ReadPlan, ScorerSpec

__all__ = ["Job", "Report", "run", "run_limited"]

POLL_S = 0.5
PROBE_ROWS = 1_000
PROBE_SHARE = 32
"""The probe looks at no more than one row in so many of the input."""
GRACE_S = 20.0


@dataclass(slots=True)
class Report:
    """What a watcher may know of a running job.

    Attributes:
        stage: loading, scoring, publishing.
        progress: outcomes so far.
        files: input files.
        bytes_total: bytes of input, as stored.
        estimated_rows: rows the input is thought to have; exact once it is scanned.
        workers: how many.
        scoring_since: when the first worker was ready (`time.monotonic`).
        resumed_rows: rows that an earlier run staged.
    """

    stage: str = "loading"
    progress: Progress | None = None
    files: int = 0
    bytes_total: int = 0
    estimated_rows: int = 0
    workers: int = 0
    scoring_since: float = 0.0
    resumed_rows: int = 0


Watcher = Callable[[Report], None]
Notice = Callable[[str], None]


def run(
    *,
    watch: Watcher | None = None,
    notice: Notice | None = None,
    **options: Any,
) -> Receipt:
    """Score an input with a model, and return the receipt.

    Args:
        watch: called now and then with a `Report`.
        notice: called with each sentence the person who started the job should read.
        options: the options of `scoreline run`, with underscores: see `runtime.options.Options`.

    Raises:
        ScorelineError: one of `runtime.errors`, with a sentence that says what to do.
    """
    return Job(Options.of(**options), watch=watch or (lambda _: None), notice=notice or (lambda _: None)).run()


def run_limited(*, watch: Watcher | None = None, notice: Notice | None = None, **options: Any) -> tuple[str, Receipt]:
    """Score the first rows only: return the lines of the score file, and leave nothing behind.

    Args:
        watch: see `run`.
        notice: see `run`.
        options: see `run`; `limit` says how many rows.

    Raises:
        ScorelineError: see `run`.
    """
    with tempfile.TemporaryDirectory(prefix="scoreline-") as folder:
        options = {**options, "output": folder, "if_exists": "overwrite"}
        receipt = run(watch=watch, notice=notice, **options)
        return Path(receipt.url).read_text("utf-8"), receipt


@dataclass(slots=True)
class _Timings:
    began: float = field(default_factory=time.monotonic)
    scoring: float = 0.0
    publishing: float = 0.0
    predict_s: float = 0.0


class Job:
    """One invocation: a model, an input, an output, options."""

    def __init__(self, options: Options, *, watch: Watcher, notice: Notice) -> None:
        self._options = options
        self._watch = watch
        self._notice = notice
        self.report = Report()
        self._timings = _Timings()
        self._signal = 0
        self._versions: dict[str, str] = {}

    def run(self) -> Receipt:
        """Do it."""
        with ExitStack() as stack, self._signals():
            return self._run(stack)

    def _run(self, stack: ExitStack) -> Receipt:
        options = self._options
        log = self._open_log(stack)
        model = self._model(stack)
        # both processes work while this one goes on reading options
        engine = self._engine(stack, model, log)
        mlmodel = read_mlmodel(model.path)
        spec = options.input_spec(signature_names(mlmodel))
        scanner = Scanner(spec, log)
        stack.callback(scanner.close)
        output = ScoreFile(options.output_folder, options.output_file_name)
        _refuse_output_in_input(output, spec)
        digest = model_digest(model.path)
        settings = options.settings()
        fingerprint = _fingerprint(digest, settings)
        output.claim()
        stack.callback(output.release)
        listing = scanner.expect(Listing)
        self._tell_skipped(listing)
        complete = self._already_complete(output, fingerprint, listing.files)
        if complete is not None:
            return complete
        job = self._resumed(output, digest, settings, fingerprint)
        staged = output.staged(bytes.fromhex(fingerprint)[:6])
        grid = scanner.begin(self._begin(output, job, staged))
        if job is None:
            job = self._record(output, digest, settings, fingerprint, grid)
        workers = engine.workers
        plan = Plan(
            listing.files,
            workers=workers,
            cells_per_batch=options.cells_per_mini_batch,
            estimated_cells=grid.estimated_rows // grid.cell_rows if grid.cell_rows else len(listing.files),
        )
        scorer = ScorerSpec(
            model_path=model.path,
            method=options.method,
            params=options.params,
            types=options.types,
            threads=job["threads"],
        )
        read_plan = ReadPlan(
            columns=tuple(ColumnSpec(**column) for column in job.get("columns", ())),
            dialect=spec.dialect,
            keep=options.keep,
            date_format=options.date_format,
            quarantine_values=options.quarantine_values in ("keep", True),
        )
        engine.start(
            Setup(scorer=scorer, plan=read_plan, staging=str(output.parts), fingerprint=bytes.fromhex(fingerprint)[:6])
        )
        progress = Progress(limit=options.quarantine_limit, columns=output.header())
        self.report.progress = progress
        self.report.files = len(listing.files)
        self.report.bytes_total = sum(file.size_bytes for file in listing.files)
        self.report.estimated_rows = grid.estimated_rows
        self.report.workers = workers
        sizes = {text: size_bytes for _, text, size_bytes in staged}
        scoring = _Scoring(self, engine, scanner, plan, progress, output, job, grid, sizes)
        scoring.run()
        engine.close()
        return self._publish(output, progress, listing, job, model, plan, scoring)

    def _open_log(self, stack: ExitStack) -> IO[bytes]:
        """Open what takes the words of workers: it has no name, so that no kill leaves it behind."""
        if self._options.debug:
            return stack.enter_context(open(2, "wb", closefd=False))
        return stack.enter_context(tempfile.TemporaryFile(prefix="scoreline-"))

    def _model(self, stack: ExitStack) -> ModelFolder:
        if not is_remote(self._options.model):
            return find_model(self._options.model)
        folder = tempfile.mkdtemp(prefix="scoreline-model-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self._notice(f"fetching {self._options.model}")
        return fetch_model(self._options.model, folder)

    def _engine(self, stack: ExitStack, model: ModelFolder, log: IO[bytes]) -> Engine:
        options = self._options
        engine: Engine
        if options.engine == "inline":
            from runtime.engines.inline import InlineEngine

            engine = InlineEngine()
        else:
            from runtime.engines.local import LocalEngine

            engine = LocalEngine(
                options.workers or usable_cpus(),
                model_path=model.path,
                threads=options.threads or 1,
                log=log,
                method=None if options.engine == "local" else options.engine,
                timeout_s=options.timeout_s,
            )
        stack.callback(engine.close)
        return engine

    def _tell_skipped(self, listing: Listing) -> None:
        hints = {"nested": " (--recursive takes them)", "hidden": " (names starting with _ or .)"}
        for reason, count in listing.skipped:
            self._notice(f"skipped {count:,} {reason} file{'s' if count != 1 else ''}{hints.get(reason, '')}")

    def _already_complete(self, output: ScoreFile, fingerprint: str, files: tuple[InputFile, ...]) -> Receipt | None:
        """Return the receipt of this very job, if it is complete; refuse an output that is there and not ours."""
        options = self._options
        receipt = output.receipt()
        exists = output.path.exists()
        if options.restart:
            output.discard()
            return None
        if receipt is not None and exists and output.path.stat().st_size == receipt["output"]["size_bytes"]:
            mine = inputs_digest(files)
            if any(entry["fingerprint"] == fingerprint and entry["inputs"] == mine for entry in receipt["appended"]):
                self._notice(f"already complete, nothing to do: {output.path} (--restart scores again)")
                return Receipt(receipt)
        if exists and options.if_exists == "fail" and (output.staging / "publish.json").exists() is False:
            whose = (
                "another job wrote it"
                if receipt is None or receipt["fingerprint"] != fingerprint
                else ("it was made from other input files")
            )
            raise OutputError(
                f"{output.path} exists already, and {whose}: choose another --output or --job-name, "
                "or say --if-exists overwrite or append"
            )
        return None

    def _resumed(
        self, output: ScoreFile, digest: str, settings: dict[str, Any], fingerprint: str
    ) -> dict[str, Any] | None:
        """Return the job whose parts are staged, if it is this one.

        Raises:
            ResumeError: it is another; the message names what differs.
        """
        job = output.job()
        if job is None:
            output.discard()
            return None
        if job["fingerprint"] == fingerprint:
            if self._options.threads_given and job["threads"] != self._options.threads:
                raise ResumeError(
                    f"{output.path}: what is staged was scored with --threads {job['threads']}: "
                    "use the same again, or --restart to discard it"
                )
            return job
        changed = [
            f"--{name.replace('_', '-')} was {job['settings'].get(name)!r} and is {settings.get(name)!r}"
            for name in sorted(job["settings"].keys() | settings.keys())
            if job["settings"].get(name) != settings.get(name)
        ]
        if job["model"] != digest:
            changed.insert(0, "the model is another")
        raise ResumeError(
            f"{output.path}: parts of another job are staged here ({'; '.join(changed) or 'by another version'}): "
            "repeat that job to go on with it, choose another output, or use --restart to discard them"
        )

    def _begin(self, output: ScoreFile, job: dict[str, Any] | None, staged: list[tuple[PartKey, str, int]]) -> Begin:
        options = self._options
        cell_rows = job["cell_rows"] if job is not None else -1 if options.chunk_rows is None else options.chunk_rows
        return Begin(
            cell_rows=cell_rows,
            staged=tuple(
                StagedCover(
                    key=text, name_digest=key.name_digest, start=key.start, length=key.length, rows=key.rows,
                    identity=key.identity, input_digest=key.input_digest,
                )
                for key, text, _ in staged
            ),
            limit_rows=options.limit,
            spool=str(output.spool),
            spool_bytes=options.spool_bytes or shutil.disk_usage(output.spool).free // 2,
        )  # fmt: skip

    def _record(
        self, output: ScoreFile, digest: str, settings: dict[str, Any], fingerprint: str, grid: Grid
    ) -> dict[str, Any]:
        job = {
            "format": 1,
            "fingerprint": fingerprint,
            "model": digest,
            "settings": settings,
            "cell_rows": grid.cell_rows,
            "threads": self._options.threads or 1,
        }
        output.record_job(job)
        return job

    def began_scoring(self, ready: Ready) -> None:
        """Note that the first worker is ready."""
        if not self._timings.scoring:
            self._timings.scoring = self.report.scoring_since = time.monotonic()
            self.report.stage = "scoring"
            self._versions = dict(ready.versions)

    def tick(self, estimated_rows: int | None = None) -> None:
        """Let the watcher look, and stop the job if a signal came."""
        if estimated_rows is not None:
            self.report.estimated_rows = estimated_rows
        self._watch(self.report)
        if self._signal:
            name = signal.Signals(self._signal).name
            raise InterruptedJobError(
                f"stopped by {name}; what is staged is kept, the same command goes on from there", self._signal
            )

    def learned(self, seconds: float) -> None:
        """Count time spent in the model."""
        self._timings.predict_s += seconds

    def notice(self, text: str) -> None:
        """Tell the person who started the job."""
        self._notice(text)

    @property
    def options(self) -> Options:
        """The options of the job."""
        return self._options

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, _: object) -> None:
            if self._signal:
                raise KeyboardInterrupt
            self._signal = number

        previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _publish(
        self,
        output: ScoreFile,
        progress: Progress,
        listing: Listing,
        job: dict[str, Any],
        model: ModelFolder,
        plan: Plan,
        scoring: _Scoring,
    ) -> Receipt:
        options = self._options
        self._timings.publishing = time.monotonic()
        self.report.stage = "publishing"
        self.tick()
        parts = [progress.parts[number] for number in sorted(progress.parts) if progress.parts[number][0]]
        header = header_line(["row", *options.keep, *progress.columns, "file"]) if options.output_header else b""
        previous = output.receipt() if options.if_exists == "append" else None
        published = output.publish(
            header=header,
            parts=parts,
            mode="overwrite" if options.restart else options.if_exists,
            fingerprint=job["fingerprint"],
        )
        now = time.monotonic()
        began = self._timings.began
        scoring_since = self._timings.scoring or self._timings.publishing
        receipt = build_receipt(
            published=published,
            progress=progress,
            files=listing.files,
            skipped=dict(listing.skipped),
            job=job,
            model=model.uri,
            columns=["row", *options.keep, *progress.columns, "file"],
            parts=parts,
            previous=previous,
            versions=self._versions,
            invocation={
                "workers": self.report.workers,
                "mini_batches": len(parts),
                "resumed": scoring.resumed,
                "attempts": progress.attempts,
                "retries": progress.retries,
                "worker_deaths": progress.deaths,
            },
            timings={
                "start_s": round(scoring_since - began, 3),
                "scoring_s": round(self._timings.publishing - scoring_since, 3),
                "predict_s": round(self._timings.predict_s, 3),
                "publish_s": round(now - self._timings.publishing, 3),
                "total_s": round(now - began, 3),
            },
            quarantine=str(output.quarantine_path) if output.quarantine_path.exists() else None,
        )
        output.finish(receipt.content)
        return receipt


class _Scoring:
    """The loop that hands out work until every row of the input is staged."""

    def __init__(
        self,
        job: Job,
        engine: Engine,
        scanner: Scanner,
        plan: Plan,
        progress: Progress,
        output: ScoreFile,
        record: dict[str, Any],
        grid: Grid,
        staged: dict[str, int],
    ) -> None:
        self._job = job
        self._engine = engine
        self._scanner = scanner
        self._plan = plan
        self._progress = progress
        self._output = output
        self._record = record
        self._grid = grid
        self._staged = staged
        self._columns: tuple[ColumnSpec, ...] = ()
        self._probe: str = "unknown"
        self._first: Cell | None = None
        self._cells = 0
        self.resumed = 0

    def run(self) -> None:
        """Score until nothing is left.

        Raises:
            ScorelineError: the job must stop; what is staged is kept.
        """
        try:
            while not (self._plan.exhausted and self._progress.idle):
                self._listen()
                self._hand_out()
                self._job.tick(self._plan.rows if self._plan.complete else None)
                self._stop_if_needed()
        except InterruptedJobError:
            self._drain()
            raise
        if self._plan.rows == 0 and not self._progress.files:
            raise UsageError("the input has no rows to score")
        self._progress.check_limit(self._plan.rows)
        self._stop_if_needed()
        if not self._progress.scored:
            raise ScorelineError(f"no row could be scored: {self._progress.main_cause()}; nothing was published")
        if self.resumed:
            self._job.notice(f"resumed: {self.resumed:,} mini-batches were scored already")

    def _listen(self) -> None:
        scanning = self._plan.wants_cells
        timeout_s = POLL_S
        if scanning and self._scanner.pipe.poll():
            timeout_s = 0.0
        for event in self._engine.wait(timeout_s, self._scanner.pipe if scanning else None):
            self._take(event)
        while self._plan.wants_cells and self._scanner.pipe.poll():
            message = self._scanner.receive()
            assert not isinstance(message, Grid | Listing), message
            self._plan.add(message)
            if isinstance(message, Cell) and self._first is None and message.rows:
                self._first = message
            if isinstance(message, Cell):
                self._cells += 1

    def _take(self, event: Event) -> None:
        progress = self._progress
        match event:
            case Ready():
                self._job.began_scoring(event)
                self._columns = self._columns or event.columns
            case LoadFailed():
                raise ModelLoadError(
                    event.reason + (f"\n{event.detail}" if event.detail and "died" in event.reason else "")
                )
            case Probed():
                self._probed(event)
            case Scored():
                batch = progress.scored_batch(event)
                self._plan.learn(len(batch.cells), event.seconds)
                self._job.learned(event.predict_s)
                self._header()
                self._output.remove_spooled(part.url for part in batch.slices)
                progress.check_limit(self._plan.rows if self._plan.complete else None)
            case Failed(number=-1):
                # the probe: what it met, the scoring will meet and report
                self._probe = "done"
            case Failed():
                progress.failed(event)
            case Returned():
                progress.returned(event)

    def _header(self) -> None:
        if self._progress.columns and not self._output.header():
            self._output.record_header(self._progress.columns)

    def _probed(self, event: Probed) -> None:
        self._probe = "done"
        self._columns = event.columns
        if event.objection:
            # other workers may have staged something meanwhile
            self._engine.close()
            self._output.discard()
            raise UsageError(event.objection)
        if not self._record.get("columns"):
            self._record["columns"] = [
                {"name": column.name, "type": column.type, "required": column.required} for column in event.columns
            ]
            self._output.record_job(self._record)

    def _hand_out(self) -> None:
        if self._probe == "unknown":
            self._start_probe()
        # where the signature names the columns, other workers need not wait for the probe
        while (self._probe == "done" or (self._probe == "running" and self._columns)) and self._progress.error is None:
            staged = self._plan.next_staged()
            if staged is not None:
                self._adopt(staged)
                continue
            if self._engine.wanted() <= 0:
                return
            batch = self._progress.again() or self._plan.next()
            if batch is None:
                return
            self._progress.started(batch)
            self._engine.submit(Score(batch=batch, columns=self._columns))

    def _start_probe(self) -> None:
        """Find the columns, and whether rows may be cut and grouped, before anything is scored."""
        if self._engine.wanted() <= 0:
            return
        known = bool(self._columns) or bool(self._record.get("columns"))
        if self._first is None:
            if self._plan.complete:
                self._probe = "done"
            elif self._plan.has_staged:
                # what is staged was probed when it was scored
                self._probe = "done"
            return
        rows = self._probe_rows()
        if rows is None:
            return
        if known and not rows:
            self._probe = "done"
            return
        self._probe = "running"
        self._engine.submit(Probe(cell=self._first, rows=rows))

    def _probe_rows(self) -> int | None:
        """Say how many rows to probe; None while it is not known whether anything is cut or grouped."""
        if self._job.options.chunk_rows is not None or self._staged or not self._first:
            return 0
        alone = len(self._first.slices) == 1
        if alone and self._cells < 2:
            if not self._plan.complete:
                return None
            return 0
        return max(16, min(PROBE_ROWS, self._grid.estimated_rows // PROBE_SHARE))

    def _adopt(self, staged: StagedRun) -> None:
        """Count what an earlier run staged."""
        key = PartKey.decode(staged.key)
        assert key is not None
        causes: Sequence[tuple[str, int]] = ()
        if key.account:
            accounts, causes = read_account(self._output.account(staged.key))
        else:
            accounts = tuple(
                SliceAccount(name=part.name, start=part.start, stop=part.stop, digest=b"", rows=part.rows)
                for cell in staged.cells
                for part in cell.slices
            )
        self.resumed += 1
        self._job.report.resumed_rows += key.rows
        self._progress.staged(staged.number, staged.key, self._staged[staged.key], accounts, causes)
        self._output.remove_spooled(part.url for cell in staged.cells for part in cell.slices)

    def _stop_if_needed(self) -> None:
        if self._progress.error is not None:
            raise self._progress.error

    def _drain(self) -> None:
        """Give running mini-batches a grace time, so that their work is staged too."""
        with suppress(KeyboardInterrupt):
            self._engine.close(grace_s=self._job.options.grace_s)


def signature_names(mlmodel: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the inputs in the signature of an ``MLmodel`` file, in order; none where it names none."""
    import json

    try:
        inputs = json.loads((mlmodel.get("signature") or {}).get("inputs") or "[]")
        return tuple(column["name"] for column in inputs)
    except (ValueError, KeyError, TypeError):
        return ()


def header_line(names: Sequence[str]) -> bytes:
    """Write the first line of the score file."""
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(names)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _fingerprint(digest: str, settings: dict[str, Any]) -> str:
    import hashlib
    import json

    return hashlib.sha256(json.dumps([1, digest, settings], sort_keys=True).encode()).hexdigest()


def _refuse_output_in_input(output: ScoreFile, spec: InputSpec) -> None:
    """Refuse to write where the next run would read."""
    from scoring.files import local_path

    root = Path(local_path(spec.url))
    folder = output.folder.absolute()
    inside = root.is_dir() and (folder == root or (root in folder.parents and spec.recursive))
    if inside:
        raise OutputError(
            f"{output.folder} lies inside the input {spec.url}, so that its files would be scored too; choose another --output"
        )
