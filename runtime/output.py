"""The seam between a job and where its scores go: a disk, or a container on Azure storage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from runtime.options import Options
from runtime.parts import PartKey, PartStore
from runtime.score_file import IfExists, Published, ScoreFile

__all__ = ["Output", "output_of"]


class Output(Protocol):
    """A score file and what belongs to it: claimed by one driver, staged by workers, published in one step.

    `runtime.score_file.ScoreFile` describes each method; all stores answer alike (``tests/score_contract.py``).
    """

    spool: Path
    work: Path
    notices: tuple[str, ...]

    @property
    def url(self) -> str:
        """Where the score file is, without any secret."""
        ...

    def expect(self, parts: int) -> None:
        """Say how many parts there may be, before the job is recorded."""
        ...

    @property
    def staging(self) -> PartStore:
        """Where workers stage, once the job is recorded: plain data."""
        ...

    def claim(self) -> None:
        """Become the one driver of this output."""
        ...

    def check_claim(self) -> None:
        """Stop a driver whose output another one has taken over, as far as is known without waiting for storage.

        Raises:
            OutputBusyError: this driver stood still, and another one holds or held the output since.
        """
        ...

    def release(self) -> None:
        """Give up the claim."""
        ...

    def discard(self) -> None:
        """Drop all that is staged."""
        ...

    def forget(self, fingerprint: str) -> None:
        """Drop what is staged of a job that is complete."""
        ...

    def job(self) -> dict[str, Any] | None:
        """Return what is recorded of the job whose parts are staged."""
        ...

    def record_job(self, job: dict[str, Any]) -> None:
        """Record the job before anything is staged for it."""
        ...

    def running(self) -> bytes | None:
        """Return the mark that the last driver left; None where it ended by itself."""
        ...

    def record_running(self, mark: bytes | None) -> None:
        """Leave the mark of a driver that runs, or take it away."""
        ...

    def header(self) -> tuple[str, ...]:
        """Return the names of the output's columns, as far as they are known."""
        ...

    def record_header(self, columns: Sequence[str]) -> None:
        """Stage the names of the output's columns."""
        ...

    def receipt(self) -> dict[str, Any] | None:
        """Return the receipt, if the output is complete."""
        ...

    def size_bytes(self) -> int | None:
        """Return the size of the score file, or None where there is none."""
        ...

    def publishing(self, fingerprint: str) -> bool:
        """Tell whether this job was killed while it published."""
        ...

    def staged(self, fingerprint: bytes) -> list[tuple[PartKey, str, int]]:
        """List the whole parts of a job."""
        ...

    def account(self, key: str) -> bytes:
        """Read the account part of a key."""
        ...

    def publish(
        self,
        *,
        header: bytes,
        parts: Sequence[tuple[str, int]],
        mode: IfExists,
        fingerprint: str,
        score_file: bool = True,
    ) -> Published:
        """Make the quarantine and the score file appear, each whole or not at all; `finish` writes the receipt.

        Args:
            header: the first line, empty for none; left out where rows are appended to a file that has it.
            parts: key and score bytes of each part, in plan order.
            mode: what to do with a file that is there already.
            fingerprint: of the job.
            score_file: whether there is one; else the parts are marks of what a script wrote itself.

        Raises:
            OutputError: the file that is there may not be replaced, or has another header.
            OutputBusyError: the disk is full or fails, storage does not answer, or another driver took the output over.
        """
        ...

    def finish(self, receipt: dict[str, Any]) -> None:
        """Write the receipt, drop what is staged, and release the claim."""
        ...


def output_of(options: Options) -> Output:
    """Return the output of a job, which nothing was done with yet."""
    access = options.output_access
    if access is None:
        return ScoreFile(options.output_folder, options.output_name)
    from runtime.blob_score_file import BlobScoreFile
    from runtime.redaction import quiet_loggers
    from runtime.storage_fetch import path_in

    quiet_loggers()
    return BlobScoreFile(access, path_in(access, options.output_folder), options.output_name)
