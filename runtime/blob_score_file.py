"""The score file on Blob storage: claimed by one driver, staged by many workers, published by one commit.

Workers stage blocks straight at the score blob and at the quarantine (`runtime.blob_parts`): until they are committed,
readers and listers see nothing of them. Beside it lies, while a job is not complete, what a resume must read::

    .predictions.csv.staging/lock           the lease of the driver, and who it is
                             job.json       the job, and its epoch
                             header         names of the output's columns
                             parts/         account parts
                             publish.json   what is about to appear

Publishing is that of `runtime.score_file`, and goes on after a kill at the first step whose effect is missing: (1)
publish.json, (2) the old receipt goes, (3) the quarantine appears or goes, (4) the score file appears, (5) the receipt
appears, (6) the staging blobs go. Each of 2 to 5 changes the one version that was seen in step 1, or nothing: a driver
that was frozen meanwhile is refused by storage itself. A blob says in its metadata which publication made it; so a
commit whose answer was lost is told from that of another driver.

An epoch is a byte that begins the nonce of every key. Blocks cannot be deleted one by one: to discard them all is to
begin another epoch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from runtime.blob_claim import BlobClaim
from runtime.blob_container import BlobContainer, BlobError
from runtime.blob_joining import BlockParts, SmallParts, StagedParts
from runtime.blob_parts import BlobParts
from runtime.blob_publishing import BlobPaths, BlobPublishing, made_by
from runtime.errors import OutputBusyError, OutputError
from runtime.parts import ACCOUNT, KEY_LENGTH, PartKey
from runtime.publication import RUNNING, beside, read_object, receipt_bytes
from runtime.score_file import IfExists, Published
from runtime.scratch import Scratch
from scoring.blob_access import BlobAccess

__all__ = ["BlobScoreFile"]

MOST_PARTS = 20_000
"""More parts than these are staged as small blobs."""

_CLEARED = "scoreline_cleared"


class BlobScoreFile:
    """A score file in a container, and what belongs to it.

    Args:
        access: how the container is reached.
        folder: path below it; empty for the container itself.
        name: of the score file.

    Attributes:
        paths: of its blobs.
        url: of the score file, without any secret.
        notices: what a person should be told: nothing.
        spool: folder on this machine for decoded input, while it is claimed.
        work: folder on this machine for working folders of scripts, while it is claimed.
    """

    def __init__(self, access: BlobAccess, folder: str, name: str) -> None:
        above = folder.strip("/") + "/" if folder.strip("/") else ""
        receipt, quarantine = beside(name)
        self.access = access
        self.paths = BlobPaths(
            folder=above.rstrip("/"), score=above + name, receipt=above + receipt, quarantine=above + quarantine
        )
        self.url = access.url_of(self.paths.score)
        self.notices: tuple[str, ...] = ()
        self._staging = f"{above}.{name}.staging/"
        self._parts = f"{self._staging}parts/"
        self._scratch = Scratch()
        self.spool = self._scratch.spool
        self.work = self._scratch.work
        self._opened: BlobContainer | None = None
        self._claim: BlobClaim | None = None
        self._epoch: int | None = None
        self._small = False

    def expect(self, parts: int) -> None:
        """Say how many parts there may be, before the job is recorded: a blob takes no more than so many blocks.

        A job that is recorded already goes on as it began.
        """
        if self._epoch is None:
            self._small = parts > MOST_PARTS

    @property
    def staging(self) -> BlobParts:
        """Where workers stage, once the job is recorded."""
        assert self._epoch is not None, "the job is not recorded"
        return BlobParts(
            access=self.access, path=self.paths.score, quarantine=self.paths.quarantine, folder=self._parts,
            epoch=self._epoch, scratch=str(self._scratch.path), small=self._small,
        )  # fmt: skip

    @property
    def _container(self) -> BlobContainer:
        if self._opened is None:
            self._opened = BlobContainer(self.access)
        return self._opened

    def claim(self) -> None:
        """Become the one driver of this output.

        Raises:
            OutputBusyError: another driver holds it, or storage does not answer.
            OutputError: the container cannot be written.
        """
        with self._told(first=True):
            self._scratch.make()
            claim = BlobClaim(self._container, f"{self._staging}lock", self.url)
            try:
                claim.take()
                self._claim = claim
                for path in (self.paths.score, self.paths.quarantine):
                    self._clear_foreign(path)
            except BaseException:
                self.release()
                self._scratch.remove()
                self._reopen(None)
                raise

    def check_claim(self) -> None:
        """Stop a driver whose output another one has taken over, as far as the thread knows that renews the lease.

        Raises:
            OutputBusyError: this driver stood still, and another one took the output over.
        """
        if self._claim is not None:
            self._claim.check()

    def release(self) -> None:
        """Give up the claim; where no part is staged, all that was made for the job goes.

        Where storage stays away, the claim ends by itself.
        """
        claim, self._claim = self._claim, None
        if claim is None:
            return
        self._scratch.remove()
        # nobody waits for minutes to give something back
        self._reopen(BlobContainer(replace(self.access, patience=min(1, self.access.patience))))
        claim.container = self._container
        with suppress(BlobError, OutputError):
            if not claim.held:
                # what our workers staged after another driver took the output over may be nobody's by now
                claim.stop()
                claim.take()
            if not self._has_staged():
                self._remove_staging()
            claim.end()
        claim.stop()
        self._reopen(None)

    def discard(self) -> None:
        """Drop all that is staged: nothing of it counts or is seen any more.

        Blocks of the score file and the quarantine that were not committed are seen by nobody anyhow. Storage drops
        them with the next commit of their blob, or a week after the last of them was staged.
        """
        with self._told():
            self._hold()
            self._epoch = None
            for name in ("job.json", "header", "publish.json"):
                self._container.delete(self._staging + name)
            self._delete_all(self._container.names(self._parts))

    def forget(self, fingerprint: str) -> None:
        """Drop what is staged of a job that is complete: it was killed before it could do so itself."""
        if self.publishing(fingerprint):
            self.discard()

    def job(self) -> dict[str, Any] | None:
        """Return what is recorded of the job whose parts are staged."""
        content = self._read("job.json")
        if content is None:
            return None
        self._epoch, self._small = content["epoch"], content["small"]
        job: dict[str, Any] = content["job"]
        return job

    def record_job(self, job: dict[str, Any]) -> None:
        """Record the job before anything is staged for it."""
        with self._told():
            if self._epoch is None and self.job() is None:
                self._epoch = self._unused_epoch()
            record = {"epoch": self._epoch, "small": self._small, "job": job}
            self._write("job.json", json.dumps(record, indent=1).encode())

    def running(self) -> bytes | None:
        """Return the mark that the last driver left; None where it ended by itself."""
        with self._told():
            return self._container.read(self._staging + RUNNING)

    def record_running(self, mark: bytes | None) -> None:
        """Leave the mark of a driver that runs, or take it away."""
        with self._told():
            if mark is None:
                self._container.delete(self._staging + RUNNING)
            else:
                self._write(RUNNING, mark)

    def header(self) -> tuple[str, ...]:
        """Return the names of the output's columns, as far as they are known."""
        return tuple((self._read("header") or {}).get("columns", ()))

    def record_header(self, columns: Sequence[str]) -> None:
        """Stage the names of the output's columns."""
        with self._told():
            self._write("header", json.dumps({"columns": list(columns)}).encode())

    def receipt(self) -> dict[str, Any] | None:
        """Return the receipt, if the output is complete."""
        with self._told():
            return read_object(self.access.url_of(self.paths.receipt), self._container.read(self.paths.receipt))

    def size_bytes(self) -> int | None:
        """Return the size of the score file, or None where there is none."""
        with self._told():
            version = self._container.version(self.paths.score)
        return None if version is None else version.size_bytes

    def publishing(self, fingerprint: str) -> bool:
        """Tell whether this job was killed while it published."""
        planned = self._read("publish.json")
        return planned is not None and planned["fingerprint"] == fingerprint

    def staged(self, fingerprint: bytes) -> list[tuple[PartKey, str, int]]:
        """List the whole parts of a job: key, its text, and score bytes."""
        if self.job() is None:
            return []
        with self._told():
            scores = self._found(self.paths.score, "score")
            lost = self._found(self.paths.quarantine, "quarantine")
            found = []
            accounts: set[str] | None = None
            for text in sorted({*scores, *lost}):
                key = PartKey.decode(text)
                if key is None or key.fingerprint != fingerprint or key.nonce[0] != self._epoch:
                    continue
                if text not in (lost if key.unscored else scores) or (key.quarantine and text not in lost):
                    continue
                if key.account:
                    accounts = set(self._container.names(self._parts)) if accounts is None else accounts
                    if f"{self._parts}{text}{ACCOUNT}" not in accounts:
                        continue
                found.append((key, text, 0 if key.unscored else scores[text]))
        return found

    def account(self, key: str) -> bytes:
        """Read the account part of a key."""
        with self._told():
            data = self._container.read(f"{self._parts}{key}{ACCOUNT}")
        if data is None:
            raise OutputBusyError(f"{self.url}: a staged part was deleted; run again to score it anew")
        return data

    def publish(
        self,
        *,
        header: bytes,
        parts: Sequence[tuple[str, int]],
        mode: IfExists,
        fingerprint: str,
        score_file: bool = True,
    ) -> Published:
        """See `Output.publish`."""
        with self._told():
            self._hold()
            publishing = BlobPublishing(self._container, self.paths, self._staged_parts(), self._hold)
            planned = self._read("publish.json")
            if planned is None or not publishing.is_for(planned, parts, fingerprint):
                planned = publishing.plan(
                    header=header,
                    parts=parts,
                    mode=mode,
                    fingerprint=fingerprint,
                    old=planned if planned is not None and planned["fingerprint"] == fingerprint else None,
                    score_file=score_file,
                )
                self._write("publish.json", json.dumps(planned).encode())
            return publishing.carry_out(parts, planned, score_file=score_file)

    def finish(self, receipt: dict[str, Any]) -> None:
        """Write the receipt, drop what is staged, and release the claim.

        Raises:
            OutputBusyError: storage does not answer, or another driver took the output over.
        """
        data = receipt_bytes(receipt)
        with self._told():
            self._hold()
            # one that is there is ours, and its answer was lost, or another driver's
            if not self._container.write(self.paths.receipt, data, new=True) and data != self._container.read(
                self.paths.receipt
            ):
                raise OutputBusyError(f"{self.url}: another driver completed this output meanwhile")
        claim, self._claim = self._claim, None
        assert claim is not None
        # the output is complete, whatever becomes of the rest: the next claim clears it
        with suppress(BlobError):
            self._remove_staging()
            claim.end()
        claim.stop()
        self._scratch.remove()
        self._reopen(None)

    def _staged_parts(self) -> StagedParts:
        if self._small:
            return SmallParts(self._container, self._parts, self.paths.quarantine)
        return BlockParts(self._container)

    def _found(self, path: str, section: str) -> dict[str, int]:
        """Return the blocks that are staged: also those that appeared already, but were never told by a receipt."""
        if self._small:
            return self._staged_parts().sizes(path)
        committed, uncommitted = self._container.blocks(path)
        planned = self._read("publish.json")
        if planned is None or not committed or not made_by(planned, self._container.version(path)):
            return uncommitted
        return {**dict(committed[planned[section]["blocks"] :]), **uncommitted}

    def _has_staged(self) -> bool:
        if self.job() is None:
            return False
        if self._read("publish.json") is not None:
            return True
        if self._small:
            return bool(self._container.names(self._parts))
        blocks = [
            block for path in (self.paths.score, self.paths.quarantine) for block in self._container.blocks(path)[1]
        ]
        return any((key := PartKey.decode(block)) and key.nonce[0] == self._epoch for block in blocks)

    def _unused_epoch(self) -> int:
        used: set[int] = set()
        for path in (self.paths.score, self.paths.quarantine):
            committed, uncommitted = self._container.blocks(path)
            used |= {key.nonce[0] for block in [*dict(committed), *uncommitted] if (key := PartKey.decode(block))}
        left = [epoch for epoch in range(256) if epoch not in used]
        return left[os.urandom(1)[0] % len(left)] if left else os.urandom(1)[0]

    def _clear_foreign(self, path: str) -> None:
        """Clear what another program staged there and never committed, where it is in our way."""
        version = self._container.version(path)
        if version is not None and version.kind != "BlockBlob":
            raise OutputError(f"{self.access.url_of(path)} is no block blob; delete it, or choose another --output")
        if version is not None and _CLEARED in version.metadata and not version.size_bytes:
            # killed between the two steps below
            self._container.delete(path, etag=version.etag)
            version = None
        _, uncommitted = self._container.blocks(path)
        if all(len(block.encode()) == KEY_LENGTH for block in uncommitted):
            return
        if version is not None:
            raise OutputError(
                f"{self.access.url_of(path)} has blocks that another program staged and never committed; "
                "nothing can be staged beside them: copy or write the blob anew, or choose another --output"
            )
        etag = self._container.commit(path, (), over=None, metadata={_CLEARED: "1"})
        if etag:
            self._container.delete(path, etag=etag)

    def _remove_staging(self) -> None:
        # the parts before what explains them: what a kill leaves here is still understood
        self._delete_all(self._container.names(self._parts))
        for name in ("header", "publish.json", "job.json"):
            self._container.delete(self._staging + name)

    def _delete_all(self, paths: Iterable[str]) -> None:
        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(self._container.delete, paths):
                pass

    def _read(self, name: str) -> dict[str, Any] | None:
        with self._told():
            path = self._staging + name
            return read_object(self.access.url_of(path), self._container.read(path))

    def _write(self, name: str, data: bytes) -> None:
        self._hold()
        self._container.write(self._staging + name, data)

    def _hold(self) -> None:
        assert self._claim is not None, "the output is not claimed"
        self._claim.hold()

    def _reopen(self, container: BlobContainer | None) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened = container

    @contextmanager
    def _told(self, *, first: bool = False) -> Iterator[None]:
        """Say what storage did wrong.

        Args:
            first: whether nothing was asked before, so that a host nobody knows is a mistake.
        """
        try:
            yield
        except BlobError as error:
            text = f"{error.filename}: {error.strerror}"
            if error.later and not (first and error.unresolved):
                raise OutputBusyError(f"{text}; what is staged is kept, run again to go on") from None
            if not first and error.status in (401, 403):
                # it was let in before: a signature has ended, a role was taken away
                raise OutputBusyError(
                    f"{text}; what is staged is kept, run again with a credential that is let in to go on"
                ) from None
            raise OutputError(f"the output cannot be used: {text}") from None
        except OSError as error:
            raise OutputBusyError(
                f"{error.filename or self._scratch.path}: cannot be written: {error.strerror or error}; "
                "what is staged is kept, run again to go on"
            ) from None
