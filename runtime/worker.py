"""A worker: it loads one model, then reads, scores, formats and stages one mini-batch after the other.

    wait for work ── read the slices ── one predict per cell ── format ── stage ── answer
         ▲                                                                          │
         └──────────────────────────────────────────────────────────────────────────┘

It never decides: whatever goes wrong crosses to the driver as text. At the end of its pipe it ends.
"""

from __future__ import annotations

import sys
import time
import traceback
import zlib
from collections import Counter
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from runtime.engines import Event, Failed, LoadFailed, Probe, Probed, Ready, Score, Scored, Setup, Work
from runtime.errors import ModelUseError, ScorelineError
from runtime.parts import LocalParts, PartKey, PartWriter, account_bytes
from runtime.progress import other_columns
from scoring.cells import Cell, MiniBatch, SliceAccount, input_digest, name_digest

if TYPE_CHECKING:
    from scoring.specs import ColumnSpec


class StagingError(Exception):
    """A part could not be staged."""


class Worker:
    """One loaded model with its reading and staging.

    Raises:
        ModelLoadError: the model cannot be loaded, or not be used so.
    """

    def __init__(self, setup: Setup) -> None:
        from scoring import scorer

        self._setup = setup
        self._scorer = scorer.load(setup.scorer)
        self._plan = setup.plan
        columns = self._scorer.columns((), None)
        if columns is not None:
            self._use(columns)
        self._parts = LocalParts(setup.staging)

    def ready(self, number: int, seconds: float) -> Ready:
        """Say what was loaded."""
        return Ready(worker=number, columns=self._plan.columns, seconds=seconds, versions=_versions())

    def do(self, work: Work, number: int = 0) -> Event:
        """Do a piece of work; whatever the model raises becomes a `Failed`."""
        batch = work.batch.number if isinstance(work, Score) else -1
        try:
            if isinstance(work, Probe):
                return self._probe(work)
            if work.columns:
                self._use(work.columns)
            return self._score(work.batch)
        except StagingError as error:
            return Failed(number=batch, kind="storage", reason=str(error), worker=number)
        except ScorelineError as error:
            return Failed(number=batch, kind="error", reason=str(error), worker=number)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (the one place around a user's model)
            reason = f"{type(error).__name__}: {error}"
            return Failed(number=batch, kind="error", reason=reason, detail=traceback.format_exc(), worker=number)

    def _use(self, columns: tuple[ColumnSpec, ...]) -> None:
        if columns != self._plan.columns:
            from dataclasses import replace

            self._plan = replace(self._plan, columns=columns)

    def _probe(self, work: Probe) -> Probed:
        from scoring.probe import first_columns, objection_to_cutting

        if not self._plan.columns:
            self._use(first_columns(self._scorer, work.cell, self._plan))
        objection = objection_to_cutting(self._scorer, work.cell, self._plan, work.rows) if work.rows else ""
        return Probed(columns=self._plan.columns, objection=objection)

    def _score(self, batch: MiniBatch) -> Scored:
        began = time.perf_counter()
        try:
            writer = self._parts.begin()
        except OSError as error:
            raise StagingError(_staging_trouble(error)) from None
        try:
            return self._score_into(writer, batch, began)
        except BaseException:
            writer.abort()
            raise

    def _score_into(self, writer: PartWriter, batch: MiniBatch, began: float) -> Scored:
        crc = 0
        predict_s = 0.0
        names: tuple[str, ...] = ()
        accounts: list[SliceAccount] = []
        causes: Counter[str] = Counter()
        quarantine = bytearray()
        for cell in batch.cells:
            scored = _CellScore(self._scorer, self._plan, cell)
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
                raise StagingError(_staging_trouble(error)) from None
        account = b""
        if quarantine or len({each.name for each in accounts}) > 1:
            account = account_bytes(accounts, causes.items())
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
                raise StagingError(_staging_trouble(error)) from None
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
        )


class _CellScore:
    """One cell, read, predicted and formatted."""

    def __init__(self, scorer: Any, plan: Any, cell: Cell) -> None:
        from scoring.quarantine import quarantine_lines
        from scoring.readers import read_cell

        read = read_cell(cell, plan)
        self.accounts = read.accounts
        self.causes = read.causes
        self.quarantine = quarantine_lines(read.quarantine)
        self.names: tuple[str, ...] = ()
        self.lines: Any = b""
        self.predict_s = 0.0
        if read.table is not None and read.table.num_rows:
            from scoring.columns import prediction_columns
            from scoring.lines import score_lines

            began = time.perf_counter()
            predictions = scorer.predict(read.table)
            self.predict_s = time.perf_counter() - began
            columns = prediction_columns(predictions, read.table.num_rows, classes=scorer.classes)
            self.names = tuple(columns)
            self.lines = score_lines(read, columns, scorer.kind)


def _staging_trouble(error: OSError) -> str:
    return f"the scores cannot be staged at {error.filename or 'the output'}: {error.strerror or error}"


def _versions() -> tuple[tuple[str, str], ...]:
    names = ("mlflow", "sklearn", "numpy", "pandas", "pyarrow")
    return tuple((name, sys.modules[name].__version__) for name in names if name in sys.modules)


def load_failed(number: int, error: ScorelineError) -> LoadFailed:
    """Say why a worker did not load its model."""
    refused = isinstance(error, ModelUseError)
    return LoadFailed(worker=number, reason=str(error), detail=traceback.format_exc(), refused=refused)


def serve(connection: Connection, number: int) -> None:
    """Be a worker at the end of a pipe: first comes the `Setup`, then work, until the pipe ends."""
    try:
        setup = connection.recv()
        began = time.perf_counter()
        try:
            worker = Worker(setup)
        except ScorelineError as error:
            connection.send(load_failed(number, error))
            return
        connection.send(worker.ready(number, time.perf_counter() - began))
        while True:
            connection.send(worker.do(connection.recv(), number))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
