"""The receipt: the account of a job, written last."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from runtime.progress import FileCount, Progress
from runtime.record import JobRecord
from runtime.score_file import Published
from scoring.cells import InputFile
from scoring.files import Listing

__all__ = ["Receipt", "build_receipt", "header_line", "inputs_digest"]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """The account of a job.

    Attributes:
        content: all of it, as it stands in the file (plain JSON values).
    """

    content: dict[str, Any]

    @property
    def url(self) -> str:
        """Where the score file is."""
        return str(self.content["output"]["url"])

    @property
    def rows(self) -> dict[str, int]:
        """Rows read, scored, quarantined and given up, over all files; files where a script takes whole ones."""
        return dict(self.content["rows"])

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage, of the invocation that completed the job."""
        return dict(self.content["timings"])

    @property
    def causes(self) -> dict[str, int]:
        """Why rows were not scored, and how many for each reason."""
        return dict(self.content["causes"])


def inputs_digest(files: Sequence[InputFile]) -> str:
    """Digest the identities of all input files (sha256, hex)."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.identity.encode("utf-8", "surrogateescape") + b"\n")
    return whole.hexdigest()


def header_line(names: Sequence[str]) -> bytes:
    """Write the first line of a score file."""
    quoted = ('"' + name.replace('"', '""') + '"' if any(mark in name for mark in ',"\n\r') else name for name in names)
    return (",".join(quoted) + "\n").encode("utf-8", "backslashreplace")


def build_receipt(
    *,
    published: Published,
    progress: Progress,
    listing: Listing,
    record: JobRecord,
    model: str,
    columns: Sequence[str],
    parts: Sequence[tuple[str, int]],
    versions: dict[str, str],
    invocation: dict[str, Any],
    timings: dict[str, float],
    mismatches: Sequence[dict[str, str]] = (),
    unit: str = "rows",
    source: str = "",
) -> Receipt:
    """Put the account together."""
    appended: dict[str, Any] = {
        "fingerprint": record.fingerprint,
        "inputs": inputs_digest(listing.files),
        "offset": published.base_bytes,
        "length": (published.size_bytes or 0) - published.base_bytes,
        "rows": progress.scored,
    }
    if published.quarantine_range is not None:
        offset, length = published.quarantine_range
        appended["quarantine"] = {"offset": offset, "length": length}
    return Receipt(
        {
            "format": FORMAT,
            "status": "Completed",
            "fingerprint": record.fingerprint,
            "model": {"uri": model, "sha256": record.model},
            "settings": record.settings,
            "grid": {"cell_rows": record.cell_rows},
            "threads": record.threads,
            "output": {
                "url": published.url,
                "size_bytes": published.size_bytes,
                "crc32": f"{published.crc32:08x}" if published.size_bytes is not None else None,
                "sha256": published.sha256,
                "columns": list(columns),
                "quarantine": published.quarantine,
            },
            "input": source,
            "unit": unit,
            "failed_files": {name: progress.failure_of(name) for name in progress.failed_files}
            if progress.threshold is not None
            else {},
            "rows": {
                "read": progress.rows,
                "scored": progress.scored,
                "quarantined": progress.quarantined,
                "given_up": progress.given_up,
            },
            "causes": dict(progress.causes.most_common()),
            "appended": [*published.appended, appended],
            "files": [_file_account(file, progress.files.get(file.name, FileCount())) for file in listing.files],
            "skipped": dict(listing.skipped),
            "parts": dict(parts),
            "host": socket.gethostname(),
            "versions": {"scoreline": version("scoreline"), **versions},
            "mismatches": list(mismatches),
            "invocation": invocation,
            "timings": {name: round(seconds, 3) for name, seconds in timings.items()},
        }
    )


def _file_account(file: InputFile, count: FileCount) -> dict[str, Any]:
    account: dict[str, Any] = {
        "file": file.name,
        "size_bytes": file.size_bytes,
        "version": file.version,
        "read": count.read,
        "scored": count.scored,
        "quarantined": count.quarantined,
        "given_up": count.given_up,
    }
    if count.problem:
        account["problem"] = count.problem
    return account
