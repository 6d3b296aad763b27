"""A worker: it loads one model, then reads, scores, formats and stages one mini-batch after the other.

    wait for work ── read the slices ── one predict per cell ── format ── stage ── answer
         ▲                                                                          │
         └──────────────────────────────────────────────────────────────────────────┘

It never decides: whatever goes wrong crosses to the driver as text. At the end of its pipe it ends.
"""

from __future__ import annotations

import faulthandler
import glob
import io
import os
import sys
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, TextIO

from runtime.engines import (
    Event,
    Failed,
    LoadFailed,
    Probe,
    Probed,
    Ready,
    Score,
    Scored,
    Setup,
    Tried,
    Try,
    Work,
    died_of,
    number_of,
)
from runtime.errors import ModelUseError, ScorelineError
from runtime.memory import own_bytes
from runtime.parts import LocalParts, PartKey, Writer, account_bytes
from runtime.pieces import GivenUp, Piece, ScriptScore
from runtime.progress import other_columns
from runtime.redaction import quiet_loggers
from scoring.cells import SliceAccount, input_digest, name_digest
from scoring.errors import StorageError, may_pass
from scoring.lifetime import die_with_parent
from scoring.log_paths import stderr_path, stdout_path
from scoring.specs import ScriptSpec

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from scoring.script import Script
    from scoring.specs import ColumnSpec


_ABOVE = os.path.dirname(os.path.dirname(__file__))
_OURS = (os.path.join(_ABOVE, "runtime", ""), os.path.join(_ABOVE, "scoring", ""))


REASON_CHARS = 1_000
DETAIL_CHARS = 20_000
"""What a script raises may hold all of its data as text, and a reason stands in messages."""


class StagingError(Exception):
    """A part could not be staged.

    Attributes:
        may_pass: whether another try is worth it.
    """

    def __init__(self, error: OSError) -> None:
        where = error.filename or "the output"
        super().__init__(f"the scores cannot be staged at {where}: {error.strerror or error}")
        self.may_pass = may_pass(error)


class Worker:
    """One loaded model with its reading and staging.

    Raises:
        ModelLoadError: the model cannot be loaded, or not be used so.
    """

    def __init__(self, setup: Setup, number: int = 0) -> None:
        self._setup = setup
        self._number = number
        self._plan = setup.plan
        self._parts = setup.staging
        self._script: Script | None = None
        if not isinstance(self._parts, LocalParts):
            # the model's code may log all it can, and signatures stand in addresses
            quiet_loggers()
        if isinstance(setup.scorer, ScriptSpec):
            from scoring.script import Script

            self._marks = setup.scorer.output_action == "summary_only"
            self._script = Script(setup.scorer, number)
            return
        from scoring import scorer

        self._scorer = scorer.load(setup.scorer)
        # a thread that a model runs would be missing in a fork; that of Arrow, which comes later, is made anew
        self._may_fork = sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1
        columns = self._scorer.columns((), None)
        if columns is not None:
            self._use(columns)

    def close(self) -> None:
        """Let a scoring script shut down: no more work comes."""
        if self._script is not None:
            self._script.shutdown()

    def ready(self, number: int, seconds: float) -> Ready:
        """Say what was loaded."""
        return Ready(
            worker=number,
            columns=self._plan.columns,
            seconds=seconds,
            versions=_versions(),
            own_bytes=own_bytes(),
        )

    def do(self, work: Work, number: int = 0) -> Event:
        """Do a piece of work; whatever the model raises becomes a `Failed`."""
        batch = number_of(work)
        try:
            if isinstance(work, Probe):
                return self._probe(work)
            if work.columns:
                self._use(work.columns)
            if isinstance(work, Score):
                return self._score(work)
            return self._try_apart(work, number) if work.apart and self._may_fork else self._try(work)
        except StagingError as error:
            return Failed(
                number=batch, kind="storage", reason=str(error), worker=number, may_pass=error.may_pass
            )
        except StorageError as error:
            return Failed(number=batch, kind="storage", reason=str(error), worker=number, may_pass=True)
        except ScorelineError as error:
            return Failed(number=batch, kind="error", reason=str(error), worker=number)
        except BaseException as error:
            # the one place around a user's code, which may raise anything; Ctrl-C is ours where there is no process
            if isinstance(error, KeyboardInterrupt) and self._script is None:
                raise
            reason, detail = self._concealed(_reason(error), _trace(error))
            reason = " ".join(reason.split())[:REASON_CHARS]
            return Failed(number=batch, kind="error", reason=reason, detail=_shortened(detail), worker=number)

    def _concealed(self, *texts: str) -> tuple[str, ...]:
        """Keep values of the deployment's environment variables out of texts that a script may have put them in."""
        scorer = self._setup.scorer
        if not isinstance(scorer, ScriptSpec):
            return texts
        from scoring.script import conceal

        return tuple(conceal(text, scorer.environment) for text in texts)

    def _use(self, columns: tuple[ColumnSpec, ...]) -> None:
        if columns != self._plan.columns:
            self._plan = replace(self._plan, columns=columns)

    def _probe(self, work: Probe) -> Probed:
        from scoring.probe import first_columns, objection_to_cutting

        if not self._plan.columns:
            self._use(first_columns(self._scorer, work.cell, self._plan))
        objection = objection_to_cutting(self._scorer, work.cell, self._plan, work.rows) if work.rows else ""
        return Probed(columns=self._plan.columns, objection=objection)

    def _try_apart(self, work: Try, number: int) -> Event:
        """Try rows in a fork of this process, which dies in its stead."""
        ours, theirs = Pipe(duplex=False)
        pid = os.fork()
        if not pid:
            try:
                die_with_parent(os.getppid())
                # what kills it is looked for: no need for its last words each time
                faulthandler.disable()
                theirs.send(self.do(replace(work, apart=False), number))
            finally:
                os._exit(0)
        theirs.close()
        try:
            with ours:
                event: Event = ours.recv()
        except EOFError:
            status = os.waitpid(pid, 0)[1]
            reason = f"the worker process died ({died_of(status)})"
            return Failed(number=work.number, kind="crashed", reason=reason, worker=number, apart=True)
        os.waitpid(pid, 0)
        return event

    def _try(self, work: Try) -> Tried:
        from scoring.isolate import try_rows

        found = try_rows(self._scorer, self._plan, work.cell, work.ranges)
        return Tried(
            number=work.number, rows=found.rows, sizes=found.sizes, nulls=found.nulls, worker=self._number
        )  # fmt: skip

    def _score(self, work: Score) -> Scored:
        time.sleep(work.wait_s)
        began = time.perf_counter()
        if self._script is not None:
            _plug_descriptors()
        try:
            writer = self._parts.begin()
        except OSError as error:
            raise StagingError(error) from None
        try:
            return self._score_into(writer, work, began)
        except BaseException:
            writer.abort()
            raise

    def _pieces(self, work: Score) -> Iterator[Piece]:
        """Score a mini-batch piece by piece: cell by cell, or whole where a script takes it."""
        if work.give_up:
            yield GivenUp(work.batch, work.give_up)
        elif self._script is not None:
            yield ScriptScore(self._script, work.batch, marks=self._marks)
        elif work.without or work.pieces or (self._setup.isolates and len(work.batch.cells) == 1):
            from scoring.isolate import score_without

            (cell,) = work.batch.cells
            yield score_without(self._scorer, self._plan, cell, work.without, work.pieces)
        else:
            from scoring.cell_score import cell_scores

            yield from cell_scores(self._scorer, self._plan, work.batch)

    def _score_into(self, writer: Writer, work: Score, began: float) -> Scored:
        batch = work.batch
        crc = 0
        predict_s = 0.0
        names: tuple[str, ...] = ()
        accounts: list[SliceAccount] = []
        causes: Counter[str] = Counter()
        quarantine = bytearray()
        for scored in self._pieces(work):
            predict_s += scored.predict_s
            if scored.names and names and scored.names != names:
                raise ScorelineError(other_columns(names, scored.names))
            names = names or scored.names
            accounts += scored.accounts
            causes += scored.causes
            quarantine += scored.quarantine
            crc = zlib.crc32(scored.lines, crc)
            try:
                writer.write(scored.lines)
            except OSError as error:
                raise StagingError(error) from None
        account = b""
        if quarantine or len({each.name for each in accounts}) > 1:
            account = account_bytes(accounts, causes.items(), bytes(quarantine))
        key = ""
        if writer.size_bytes or quarantine:
            first = batch.slices[0]
            key = PartKey(
                fingerprint=self._setup.fingerprint,
                name_digest=name_digest(first.name),
                start=first.start,
                length=batch.size_bytes,
                rows=batch.rows,
                lines=sum(part.lines for part in batch.slices),
                identity=batch.identity,
                input_digest=input_digest((each.name, each.start, each.stop, each.digest) for each in accounts),
                crc=crc,
                nonce=writer.nonce,
                quarantine=bool(quarantine),
                account=bool(account),
                unscored=not writer.size_bytes,
            ).encode()
            try:
                writer.commit(key, quarantine=bytes(quarantine), account=account)
            except OSError as error:
                raise StagingError(error) from None
        else:
            writer.abort()
        return Scored(
            number=batch.number,
            key=key,
            size_bytes=writer.size_bytes,
            columns=names,
            accounts=tuple(accounts),
            causes=tuple(causes.items()),
            seconds=time.perf_counter() - began,
            predict_s=predict_s,
            worker=self._number,
        )


def _versions() -> tuple[tuple[str, str], ...]:
    names = ("mlflow", "sklearn", "numpy", "pandas", "pyarrow")
    return tuple((name, sys.modules[name].__version__) for name in names if name in sys.modules)


def _text(error: BaseException) -> str:
    try:
        return "; ".join([str(error), *getattr(error, "__notes__", ())])
    except Exception:  # noqa: BLE001 (a text that cannot be made is no reason to lose the error)
        return "(its text cannot be shown)"


def _reason(error: BaseException) -> str:
    """Say what was raised."""
    text = _text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _trace(error: BaseException) -> str:
    """Write the traceback of a user's code, without what of ours called it."""
    first = error.__traceback__
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_OURS):
        first = first.tb_next
    if first is None and (hasattr(error, "__notes__") or isinstance(error, ModelUseError)):
        # raised by ourselves, and explained
        return ""
    return "".join(traceback.format_exception(type(error), error, first or error.__traceback__))


def _shortened(text: str) -> str:
    half = DETAIL_CHARS // 2
    return text if len(text) <= DETAIL_CHARS else f"{text[:half]}\n…\n{text[-half:]}"


def _plug_descriptors() -> None:
    """Open what a script has closed of its standard streams: the next file opened would take what it prints."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # it gets the lowest number that is free, which is this one
            os.open(os.devnull, os.O_RDWR)


def load_failed(number: int, error: BaseException, setup: Setup) -> LoadFailed:
    """Say why a worker did not load its model."""
    refused = isinstance(error, ModelUseError)
    cause = error.__cause__
    reason = str(error) if isinstance(error, ScorelineError) else _reason(error)
    detail = _trace(error if cause is None else cause)
    if isinstance(setup.scorer, ScriptSpec):
        from scoring.script import conceal

        reason, detail = (conceal(text, setup.scorer.environment) for text in (reason, detail))
    return LoadFailed(worker=number, reason=reason, detail=_shortened(detail), refused=refused)


def serve(connection: Connection, number: int) -> None:
    """Be a worker at the end of a pipe: first comes the `Setup`, then work, until the pipe ends, and the process too.

    Python's own exit is left out: it waits for threads of a script that never end, and fails where its streams do.
    """
    status = 1
    try:
        _serve(connection, number)
        status = 0
    finally:
        with suppress(Exception):
            if status:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _serve(connection: Connection, number: int) -> None:
    try:
        setup = connection.recv()
        began = time.perf_counter()
        try:
            if setup.logs:
                _keep_words(setup.logs, number)
            _choose_gpu(setup.slot)
            worker = Worker(setup, number)
        except (ScorelineError, KeyboardInterrupt) as error:
            # Ctrl-C does not come here: a script raised it
            connection.send(load_failed(number, error, setup))
            return
        connection.send(worker.ready(number, time.perf_counter() - began))
        try:
            while True:
                connection.send(worker.do(connection.recv(), number))
        finally:
            worker.close()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _choose_gpu(slot: int) -> None:
    """Give each worker a GPU of its own, and none to those beyond their number (contract 2.5)."""
    gpus = len(glob.glob("/dev/nvidia[0-9]*"))
    if gpus:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", str(slot) if slot < gpus else "")


def _keep_words(logs: str, number: int) -> None:
    """Write what this process prints to files of its own, from the first byte of a native library on (contract 2.6)."""
    for path, descriptor in ((stdout_path(logs, number), 1), (stderr_path(logs, number), 2)):
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError:
            # logs are not worth a job: what is printed goes where errors go
            continue
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = _forgiving(sys.stdout, 1), _forgiving(sys.stderr, 2)


class _Words(io.FileIO):
    """A stream of what is printed; what cannot be kept is dropped, for a file is worth more than what is said of it."""

    def write(self, data: Buffer, /) -> int:
        """Write it, or drop it where the disk of the logs is full."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _forgiving(stream: TextIO, descriptor: int) -> TextIO:
    """Return a stream like this one, to which nobody fails to print."""
    words = io.BufferedWriter(_Words(descriptor, "wb", closefd=False))
    return io.TextIOWrapper(words, encoding=stream.encoding, errors=stream.errors, line_buffering=True)
