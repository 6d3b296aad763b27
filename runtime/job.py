"""A job from its options to its receipt.

open      start the workers and the scanner, refuse what cannot be, claim the output, find what is staged
dispatch  hand out mini-batches until every row is staged (`runtime.dispatch`)
publish   the quarantine and the score file appear, the receipt last (`runtime.score_file`)
"""

from __future__ import annotations

import glob
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

from runtime.disk import remove_below
from runtime.dispatch import Dispatch
from runtime.engines import Engine, Setup
from runtime.errors import InterruptedJobError, OutputError, ScorelineError, UsageError
from runtime.follow import Following, Report, named
from runtime.forkserver import ForkServer, open_log
from runtime.hiring import make_engine, read_plan, worker_setup, worker_threads
from runtime.limits import usable_cpus
from runtime.logs import JobLogs, default_logs
from runtime.model import signature_names
from runtime.options import Options
from runtime.output import Output, output_of
from runtime.parts import PartKey
from runtime.plan import Plan, Scanner, skipped_texts
from runtime.progress import MAX_ATTEMPTS, ErrorThreshold, Progress
from runtime.receipt import Receipt, build_receipt, header_line, inputs_digest
from runtime.record import JobRecord
from runtime.requirements import describe, mismatches
from runtime.running import RunningMark, workers_after
from runtime.script_output import send_rest
from runtime.staffing import Staffing, spool_limit, staff
from runtime.target import ModelTarget, ScriptTarget, find_target
from scoring.cells import Cell, name_digest
from scoring.files import InputSpec, Listing, local_path
from scoring.scan import Begin, Grid, ScanEnd, StagedCells, StagedCover

__all__ = ["Job", "Report", "asked_record", "refuse_output_in_input", "run", "run_limited"]


Watcher = Callable[[Report], None]
Notice = Callable[[str], None]


def run(
    *, watch: Watcher | None = None, notice: Notice | None = None, server: ForkServer | None = None, **options: Any
) -> Receipt:
    """Score an input with a model, and return the receipt.

    Args:
        watch: called now and then with a `Report`.
        notice: called with each sentence the person who started the job should read.
        server: a fork server that was started for this model and these threads already; the job stops it.
        options: the options of ``scoreline run``, with underscores: see `runtime.options.Options`.

    Raises:
        ScorelineError: one of `runtime.errors`, with a sentence that says what to do.
    """
    try:
        checked = Options.of(**options)
    except ScorelineError:
        if server is not None:
            server.stop()
        raise
    return Job(checked, watch=watch, notice=notice, server=server).run()


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
        kept = {"output": folder, "if_exists": "overwrite"}
        if options.get("deployment"):
            kept["logs"] = os.path.join(folder, "logs")
        receipt = run(watch=watch, notice=notice, **{**options, **kept})
        return Path(receipt.url).read_text("utf-8"), receipt


class Job:
    """One invocation: a model, an input, an output, options."""

    def __init__(
        self,
        options: Options,
        *,
        watch: Watcher | None = None,
        notice: Notice | None = None,
        server: ForkServer | None = None,
    ) -> None:
        self._options = options
        self._server = server
        self._watch = watch or (lambda _: None)
        self._notice = notice or (lambda _: None)
        self._began = time.monotonic()
        self._signal = 0
        self._signed = True
        self._mismatches: list[dict[str, str]] = []
        # before anything runs a signal stops at once, afterwards where the loop looks
        self._signals_wait = False
        self._following = Following(watch=self._watch, notice=self._notice, check=self._check)

    def run(self) -> Receipt:
        """Do it.

        Raises:
            ScorelineError: see `run`.
        """
        with ExitStack() as stack, self._signals():
            try:
                receipt = self._open_and_run(stack)
            except (InterruptedJobError, KeyboardInterrupt) as error:
                self._following.finished("Canceled", [str(error)])
                raise
            except ScorelineError as error:
                self._following.finished("Failed", [str(error)])
                raise
            self._following.finished("Completed", [])
            return receipt

    def _open_and_run(self, stack: ExitStack) -> Receipt:
        options = self._options
        for text in options.notices:
            self._notice(text)
        output = output_of(options)
        # last of all: no worker stages when the claim is gone
        stack.callback(output.release)
        log = self._server.log if self._server is not None else open_log(debug=options.debug)
        stack.callback(log.close)
        if self._server is not None:
            stack.callback(self._server.stop)
        target = find_target(options, stack, self._notice)
        # workers and scanner start while this process goes on reading
        engine = make_engine(options, target, workers=options.workers or usable_cpus(), log=log, server=self._server)
        stack.callback(engine.close)
        mlmodel = target.mlmodel()
        self._signed = target.by_file or bool(mlmodel.get("signature"))
        spec = options.input_spec(signature_names(mlmodel))
        scanner = Scanner(spec, log)
        stack.callback(scanner.close)
        refuse_places(output, spec, options)
        asked = asked_record(options, target)
        self._tell_mismatches(target, mlmodel)
        listing = scanner.expect(Listing)
        output.claim()
        if not options.job_name_given:
            self._notice(f"job {options.job_name}: to resume it, repeat the command with --job-name {options.job_name}")
        for text in (*output.notices, *skipped_texts(listing)):
            self._notice(text)
        complete = self._complete(output, asked, listing, lambda: Scanner(spec, log))
        if complete is not None:
            return complete
        self._open_logs(target, listing, engine)
        record, steady = self._resumed(output, asked, listing)
        # killed before the columns were named: what is staged cannot be published without them
        named = not (target.by_file and (options.output_format != "csv" or options.output_action != "append_row"))
        staged = output.staged(record.fingerprint_bytes) if output.header() or not named else []
        recorded = record.cell_rows >= 0 > options.grid
        grid = scanner.begin(replace(self._begin(output, record.cell_rows, staged), steady=steady))
        record = replace(record, cell_rows=grid.cell_rows)
        plan = self._plan(grid, listing, engine, by_file=target.by_file)
        output.expect(plan.most_batches)
        output.record_job(record.to_json())
        staffing = staff(options, model_path=target.path, grid=grid, memory=engine.memory)
        self._explain(
            staffing=staffing,
            grid=grid,
            resumed=recorded,
            threads=worker_threads(options, target),
            spec=spec,
            files=listing.files,
            spool=str(output.spool),
        )
        later = self._begin_with(engine, output, staffing, stack)
        engine.start(setup := self._setup(record, target, spec, output))
        dispatch = Dispatch(
            engine=engine,
            scanner=scanner,
            plan=plan,
            progress=self._progress(output),
            output=output,
            record=record,
            grid=grid,
            staged={key: size_bytes for _, key, size_bytes in staged},
            probing=options.grid < 0,
            by_file=target.by_file,
            empty_allowed=options.output_action == "summary_only",
            files_per_timeout=0 if options.files_per_mini_batch else options.mini_batch_size,
            timeout_s=options.timeout_s,
            stall_s=options.stall_s,
            observer=self._following,
            staffing=later,
        )
        self._following.begin(dispatch, listing.files, unit="files" if target.by_file else "rows")
        if staged:
            self._notice(resuming_text(staged, grid.estimated_rows))
        self._signals_wait = True
        self._score(dispatch)
        for text in told_changes(dispatch, listing):
            self._notice(text)
        if target.by_file:
            # what its shutdown function writes belongs to the output
            engine.close()
            send_rest(setup.scorer, options)
        return self._publish(output, dispatch, listing, target)

    def _plan(self, grid: Grid, listing: Listing, engine: Engine, *, by_file: bool) -> Plan:
        return Plan(
            listing.files,
            workers=engine.workers,
            cells_per_batch=self._options.files_per_mini_batch or self._options.cells_per_mini_batch,
            estimated_cells=grid.estimated_rows // grid.cell_rows if grid.cell_rows else len(listing.files),
            by_folder=by_file,
        )

    def _explain(self, **chosen: Any) -> None:
        """Say what was chosen (see `runtime.explain.explained`), if somebody asked."""
        if self._options.explain:
            from runtime.explain import explained

            for text in explained(self._options, **chosen):
                self._notice(text)

    def _begin_with(self, engine: Engine, output: Output, staffing: Staffing, stack: ExitStack) -> Staffing | None:
        """Settle with how many workers the engine starts; return how others are chosen later, None for no others."""
        mark = self._mark(output, engine)
        if mark is not None:
            stack.callback(mark.end)
        if staffing.process_warning:
            self._notice(staffing.process_warning)
        if not staffing.alone or engine.workers == 1:
            return None
        later, engine.workers = replace(staffing, workers=engine.workers), 1
        return later

    def _mark(self, output: Output, engine: Engine) -> RunningMark | None:
        """Leave a mark that a killed driver leaves behind, and start with fewer workers where one did."""
        if engine.memory is None:
            return None
        mark = RunningMark(output=output, memory=engine.memory)
        left = mark.left()
        text = ""
        if left is not None:
            engine.workers, text = workers_after(left, engine.workers)
        if text:
            self._notice(text)
        mark.begin(engine.workers, fewer=bool(text))
        self._following.mark = mark
        return mark

    @property
    def _report(self) -> Report:
        return self._following.report

    def _progress(self, output: Output) -> Progress:
        options = self._options
        threshold = None if options.error_threshold is None else ErrorThreshold(files=options.error_threshold)
        # a deployment's threshold alone decides, unless a limit is given
        limit = options.quarantine_limit if threshold is None or options.max_quarantined is not None else None
        attempts = MAX_ATTEMPTS if options.max_retries is None else options.max_retries + 1
        return Progress(
            limit=limit,
            threshold=threshold,
            isolates=options.isolates,
            max_attempts=attempts,
            columns=output.header(),
        )

    def _open_logs(self, target: ModelTarget | ScriptTarget, listing: Listing, engine: Engine) -> None:
        options = self._options
        folder = options.logs
        if not folder and options.deployment:
            folder = default_logs(options.job_folder, os.environ)
        if not folder:
            return
        logs = JobLogs.at(folder, notice=self._notice)
        logs.began(
            [
                f"deployment: {options.deployment}" if options.deployment else f"model: {target.uri}",
                f"input: {options.input} ({len(listing.files):,} files)",
                f"output: {options.output_folder}",
                f"workers: {engine.workers}",
            ]
        )
        self._following.logs = logs

    def _tell_mismatches(self, target: ModelTarget | ScriptTarget, mlmodel: dict[str, Any]) -> None:
        """Say once where the model was saved with other versions than run here."""
        if not target.path or not os.path.isdir(target.path):
            return
        found = mismatches(target.path, mlmodel)
        self._mismatches = [asdict(each) for each in found]
        if found and self._options.on_mismatch == "fail":
            raise UsageError(f"{describe(found)}; --on-mismatch warn scores all the same")
        if found:
            self._notice(describe(found))

    def _score(self, dispatch: Dispatch) -> None:
        """Score until nothing is left, and let the workers go."""
        grace_s = self._options.grace_s
        try:
            dispatch.run()
        except InterruptedJobError:
            # what runs may end, and is staged; a second signal ends that too
            self._notice(f"stopping: what runs has {grace_s:g} s to end; a second signal stops at once")
            with suppress(KeyboardInterrupt):
                dispatch.engine.close(grace_s=grace_s)
            raise
        except ScorelineError:
            self._hint_at_types(dispatch.progress)
            dispatch.engine.close()
            if not dispatch.progress.scored and not dispatch.staged:
                # parts without a score would only stand in the way of other options
                dispatch.output.discard()
            raise
        self._hint_at_types(dispatch.progress)
        if not dispatch.by_file:
            # they give back their memory while this process publishes; a script's shutdown function may still write
            dispatch.engine.dismiss()

    def _hint_at_types(self, progress: Progress) -> None:
        if progress.quarantined and not self._signed:
            self._notice(
                "the model has no signature: columns have the types of their first rows; "
                "add one, or give --types column=type"
            )

    def _check(self) -> None:
        if self._signal:
            self._stop_for_signal()

    def _stop_for_signal(self) -> NoReturn:
        name = signal.Signals(self._signal).name
        raise InterruptedJobError(
            f"stopped by {name}; what is staged is kept, the same command goes on from there", self._signal
        )

    def _setup(
        self, record: JobRecord, target: ModelTarget | ScriptTarget, spec: InputSpec, output: Output
    ) -> Setup:
        options, logs = self._options, self._following.logs
        keep = options.quarantine_values == "keep"
        return worker_setup(
            options,
            target,
            output,
            plan=read_plan(options, spec.dialect, columns=record.columns, values=keep),
            threads=record.threads or worker_threads(options, target),
            fingerprint=record.fingerprint_bytes,
            logs=logs.folder if logs is not None else "",
        )

    def _complete(
        self, output: Output, asked: JobRecord, listing: Listing, second: Callable[[], Scanner]
    ) -> Receipt | None:
        """Return the receipt of this very job, if it is complete; refuse an output that is there and not ours.

        Args:
            output: claimed.
            asked: the job.
            listing: its input.
            second: starts another scanner, for files that only have other times than those the receipt names.
        """
        options = self._options
        if options.restart:
            output.discard()
            return None
        # what a script writes by itself may have any name
        size_bytes = output.size_bytes() if options.output_action == "append_row" else None
        receipt = output.receipt()
        if receipt is not None and receipt["output"]["size_bytes"] == size_bytes:
            inputs = inputs_digest(listing.files)
            known = [each["inputs"] for each in receipt["appended"] if each["fingerprint"] == asked.fingerprint]
            if inputs in known or (known and self._only_touched(output, receipt, listing, second)):
                output.forget(asked.fingerprint)
                self._notice(f"already complete, nothing to do: {output.url} (--restart scores again)")
                return Receipt(receipt)
        if size_bytes is not None and options.if_exists == "fail" and not output.publishing(asked.fingerprint):
            ours = receipt is not None and receipt["fingerprint"] == asked.fingerprint
            whose = "was made from other input files" if ours else "another job wrote it"
            raise OutputError(
                f"{output.url} exists already: {whose}; choose another --output or --job-name, "
                "or say --if-exists overwrite or append"
            )
        return None

    def _only_touched(
        self, output: Output, receipt: dict[str, Any], listing: Listing, second: Callable[[], Scanner]
    ) -> bool:
        """Tell whether the files are those of a receipt but for their times: every byte is read again."""
        if [(each["file"], each["size_bytes"]) for each in receipt["files"]] != [
            (file.name, file.size_bytes) for file in listing.files
        ]:
            return False
        keys = [(key, text, 0) for text in receipt["parts"] if (key := PartKey.decode(text)) is not None]
        scanner = second()
        try:
            scanner.expect(Listing)
            scanner.begin(self._begin(output, receipt["grid"]["cell_rows"], keys))
            while not isinstance(message := scanner.receive(), ScanEnd):
                if isinstance(message, Cell) and message.rows:
                    return False
                assert isinstance(message, Cell | StagedCells), message
                cells = message.cells if isinstance(message, StagedCells) else (message,)
                remove_below(output.spool, (part.url for cell in cells for part in cell.slices))
        finally:
            scanner.close()
        return True

    def _resumed(self, output: Output, asked: JobRecord, listing: Listing) -> tuple[JobRecord, bool]:
        """Return the record of the parts that are staged, if they are this job's, else the one asked for.

        And whether all that is staged was made of this very listing: with others, some small files may have been scored
        together that no longer are.
        """
        digest = inputs_digest(listing.files)
        content = output.job()
        if content is None:
            output.discard()
            return asked.of_listing(digest), True
        record = JobRecord.from_json(content).resumed_as(asked, output.url)
        return record.of_listing(digest), record.listing == digest

    def _begin(self, output: Output, cell_rows: int, staged: list[tuple[PartKey, str, int]]) -> Begin:
        options = self._options
        covers = [
            StagedCover(
                key=text,
                name_digest=key.name_digest,
                start=key.start,
                length=key.length,
                rows=key.rows,
                identity=key.identity,
                input_digest=key.input_digest,
                lines=key.lines,
            )
            for key, text, _ in staged
        ]
        return Begin(
            cell_rows=cell_rows,
            staged=tuple(covers),
            limit_rows=options.limit,
            spool=str(output.spool),
            spool_bytes=spool_limit(options, str(output.spool)),
            # a mini-batch of so many files; and whether there is a second cell is asked before the first is scored
            spool_cells=max(options.files_per_mini_batch, 2),
        )

    def _publish(
        self, output: Output, dispatch: Dispatch, listing: Listing, target: ModelTarget | ScriptTarget
    ) -> Receipt:
        options, progress, record = self._options, dispatch.progress, dispatch.record
        publishing = time.monotonic()
        self._report.stage = "publishing"
        self._following.tick()
        parts = [part for number in sorted(progress.parts, key=progress.place) if (part := progress.parts[number])[0]]
        columns = [*progress.columns] if target.by_file else ["row", *options.keep, *progress.columns, "file"]
        published = output.publish(
            header=header_line(columns) if options.output_header and columns else b"",
            parts=parts,
            mode="overwrite" if options.restart else options.if_exists,
            fingerprint=record.fingerprint,
            score_file=options.output_action == "append_row",
        )
        now = time.monotonic()
        scoring = self._report.scoring_since or publishing
        receipt = build_receipt(
            published=published,
            progress=progress,
            listing=listing,
            record=record,
            model=target.uri,
            columns=columns,
            parts=parts,
            versions=self._following.versions,
            mismatches=self._mismatches,
            source=options.input if "://" in options.input else os.path.abspath(options.input),
            unit=self._report.unit,
            invocation={
                "workers": self._report.workers,
                "mini_batches": len(parts),
                "resumed": dispatch.resumed,
                "resumed_rows": dispatch.resumed_rows,
                "attempts": progress.attempts,
                "retries": progress.retries,
                "worker_deaths": progress.deaths.total(),
                "death_causes": dict(progress.deaths),
                "probes": dispatch.probes,
                "in_pieces": progress.in_pieces,
            },
            timings={
                "start_s": scoring - self._began,
                "scoring_s": publishing - scoring,
                "predict_s": dispatch.predict_s,
                "publish_s": now - publishing,
                "total_s": now - self._began,
            },
        )
        output.finish(receipt.content)
        return receipt

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Note SIGINT and SIGTERM; the second of them stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, _: object) -> None:
            if self._signal:
                raise KeyboardInterrupt
            self._signal = number
            if not self._signals_wait:
                self._stop_for_signal()

        previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def asked_record(options: Options, target: ModelTarget | ScriptTarget) -> JobRecord:
    """Return the record of the job that is asked for."""
    return JobRecord(
        model=target.digest(),
        settings=options.settings(),
        cell_rows=options.grid,
        threads=options.threads or (0 if target.by_file else 1),
    )


def resuming_text(staged: Sequence[tuple[PartKey, str, int]], estimated_rows: int) -> str:
    """Say how much is staged already: mini-batches of the size that these have, and of rows that are estimated."""
    count, rows = len(staged), sum(key.rows for key, _, _ in staged)
    in_all = max(count, round(count * estimated_rows / max(rows, 1)))
    return f"resuming: {count:,} of about {in_all:,} mini-batches {'are' if count > 1 else 'is'} already scored"


def told_changes(dispatch: Dispatch, listing: Listing) -> list[str]:
    """Name the files whose staged parts could not be used again."""
    used = {key for key, _ in dispatch.progress.parts.values()}
    covered = {_cover(key) for key in used}
    names = {name_digest(file.name): file.name for file in listing.files}
    # a worker that died before it could say so may have staged the same twice
    unused = [text for text in dispatch.staged if text not in used and _cover(text) not in covered]
    left = [key for text in unused if (key := PartKey.decode(text)) is not None]
    changed = sorted({names[key.name_digest] for key in left if key.name_digest in names})
    gone = sum(key.name_digest not in names for key in left)
    told = []
    if changed:
        told.append(f"changed since it was scored, and scored again: {named(changed)}")
    if gone:
        told.append(f"{gone:,} staged mini-batch{'es' * (gone > 1)} of files that are gone: left out")
    return told


def _cover(text: str) -> tuple[bytes, int, int] | None:
    key = PartKey.decode(text)
    return (key.name_digest, key.start, key.length) if key is not None else None


def refuse_places(output: Output, spec: InputSpec, options: Options) -> None:
    """Refuse an input or an output that cannot be, before anything is listed.

    Raises:
        InputError: the input cannot be read.
        OutputError: the output cannot be written, or would be an input.
    """
    refuse_output_in_input(output, spec)
    if options.output_access is not None or options.input_access is not None:
        from runtime.storage_check import check_places

        check_places(options)


def refuse_output_in_input(output: Output, spec: InputSpec) -> None:
    """Refuse to write where this or the next run reads.

    Raises:
        OutputError: the score file would be an input.
    """
    if spec.is_remote != ("://" in output.url):
        return
    if spec.is_remote:
        inside = _is_below(unquote(output.url), unquote(spec.url), recursive=spec.recursive)
    else:
        root, written = Path(local_path(spec.url)), Path(output.url)
        if root.is_dir():
            inside = written.parent == root or (root in written.parents and spec.recursive)
        elif root.exists():
            inside = written.exists() and os.path.samefile(root, written)
        else:
            inside = glob.has_magic(str(root)) and fnmatchcase(output.url, str(root))
    if inside:
        raise OutputError(
            f"{output.url} lies inside the input {spec.url}, so that it would be scored too; choose another --output"
        )


def _is_below(written: str, root: str, *, recursive: bool) -> bool:
    """Tell whether an address is an input, or lies where inputs are looked for."""
    below = written.removeprefix(root.rstrip("/") + "/")
    if below != written:
        return recursive or "/" not in below
    return written == root or fnmatchcase(written, root)
