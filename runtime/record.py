"""The record of a job: what is staged with its parts, so that a rerun knows whether they are its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from runtime.errors import ResumeError
from scoring.specs import ColumnSpec

__all__ = ["JobRecord"]

FORMAT = 1
VARIOUS = "various"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """What makes a job the same job, and what was chosen for it once.

    Attributes:
        model: digest of the model's content.
        settings: the settings that alter bytes.
        cell_rows: the grid; -1 while it is not chosen.
        threads: native threads of a worker.
        columns: what the model wants, once known.
        listing: digest of the input files, while all that is staged was made of the same; `VARIOUS` afterwards.
    """

    model: str
    settings: dict[str, Any]
    cell_rows: int = -1
    threads: int = 1
    columns: tuple[ColumnSpec, ...] = ()
    listing: str = ""

    @property
    def fingerprint(self) -> str:
        """Digest of the model and the settings; grid, threads and columns follow from these and the input."""
        return hashlib.sha256(json.dumps([FORMAT, self.model, self.settings], sort_keys=True).encode()).hexdigest()

    @property
    def fingerprint_bytes(self) -> bytes:
        """As much of the fingerprint as a key holds."""
        return bytes.fromhex(self.fingerprint)[:6]

    def with_columns(self, columns: Sequence[ColumnSpec]) -> JobRecord:
        """Return the record with the columns known."""
        return replace(self, columns=tuple(columns))

    def of_listing(self, digest: str) -> JobRecord:
        """Return the record of a job that goes on with these input files."""
        return replace(self, listing=digest if self.listing in ("", digest) else VARIOUS)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"format": FORMAT, "fingerprint": self.fingerprint, **asdict(self)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> JobRecord:
        """Read what `to_json` returned."""
        return cls(
            model=content["model"],
            settings=content["settings"],
            cell_rows=content["cell_rows"],
            threads=content["threads"],
            columns=tuple(ColumnSpec(**column) for column in content["columns"]),
            listing=content.get("listing", VARIOUS),
        )

    def resumed_as(self, asked: JobRecord, output: str) -> JobRecord:
        """Return this record, of staged parts, for a job that asks to go on with them.

        Args:
            asked: the job that is asked for.
            output: its output, for the message.

        Raises:
            ResumeError: it is another job; the message names what differs.
        """
        what = "the code, the model or an environment variable" if "scoring_script" in self.settings else "the model"
        changed = [f"{what} is another"] if self.model != asked.model else []
        changed += [
            f"--{name.replace('_', '-')} was {_shown(before)} and is {_shown(now)}"
            for name in sorted(self.settings.keys() | asked.settings.keys())
            if (before := self.settings.get(name)) != (now := asked.settings.get(name))
        ]
        if self.threads != asked.threads:
            changed.append(f"--threads was {self.threads} and is {asked.threads}")
        if changed:
            raise ResumeError(
                f"{output}: parts of another job are staged here ({'; '.join(changed)}): repeat that job to go on with "
                "it, choose another output, or use --restart to discard them"
            )
        return self


def _shown(value: Any) -> str:
    return "not given" if value in (None, [], "") else json.dumps(value, ensure_ascii=False)
