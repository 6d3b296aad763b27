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
import uuid
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import replace
from io import BytesIO
from typing import Any

from runtime.blob_claim import BlobClaim
from runtime.blob_container import BlobContainer, BlobError, BlobVersion
from runtime.blob_parts import BlobParts
from runtime.checksums import crc32_combined
from runtime.errors import OutputBusyError, OutputError
from runtime.parts import ACCOUNT, KEY_LENGTH, PartKey
from runtime.publication import beside, other_header, quarantined, read_object, receipt_bytes, sums, taken_meanwhile
from runtime.score_file import IfExists, Published
from runtime.scratch import Scratch
from scoring.blob_access import BlobAccess

__all__ = ["BlobScoreFile"]

MOST_BLOCKS = 50_000
COPIED_BYTES = 32 * 2**20
COPIED_BLOCKS = 20_000
"""What is there already is copied in so many blocks at most, where it cannot be referred to."""

_PUBLICATION = "scoreline_publication"
_FINGERPRINT = "scoreline_fingerprint"
_CRC = "scoreline_crc32"
_CLEARED = "scoreline_cleared"


class BlobScoreFile:
    """A score file in a container, and what belongs to it.

    Args:
        access: how the container is reached.
        folder: path below it; empty for the container itself.
        name: of the score file.

    Attributes:
        url: of the score file, without any secret.
        spool: folder on this machine for decoded input, while it is claimed.
        work: folder on this machine for working folders of scripts, while it is claimed.
    """

    def __init__(self, access: BlobAccess, folder: str, name: str) -> None:
        above = folder.strip("/") + "/" if folder.strip("/") else ""
        receipt, quarantine = beside(name)
        self.access = access
        self.folder = above.rstrip("/")
        self.name = name
        self.path = above + name
        self.receipt_path = above + receipt
        self.quarantine_path = above + quarantine
        self.url = access.url_of(self.path)
        self._staging = f"{above}.{name}.staging/"
        self._parts = f"{self._staging}parts/"
        self._scratch = Scratch()
        self.spool = self._scratch.spool
        self.work = self._scratch.work
        self._opened: BlobContainer | None = None
        self._claim: BlobClaim | None = None
        self._epoch: int | None = None

    @property
    def staging(self) -> BlobParts:
        """Where workers stage, once the job is recorded."""
        assert self._epoch is not None, "the job is not recorded"
        return BlobParts(
            access=self.access, path=self.path, quarantine=self.quarantine_path, folder=self._parts,
            epoch=self._epoch, scratch=str(self._scratch.path),
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
                for path in (self.path, self.quarantine_path):
                    self._clear_foreign(path)
            except BaseException:
                self.release()
                self._scratch.remove()
                self._reopen(None)
                raise

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
            if claim.held and not self._has_staged():
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
        self._epoch = content["epoch"]
        job: dict[str, Any] = content["job"]
        return job

    def record_job(self, job: dict[str, Any]) -> None:
        """Record the job before anything is staged for it."""
        with self._told():
            if self._epoch is None and self.job() is None:
                self._epoch = self._unused_epoch()
            self._write("job.json", json.dumps({"epoch": self._epoch, "job": job}, indent=1).encode())

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
            return read_object(self.access.url_of(self.receipt_path), self._container.read(self.receipt_path))

    def size_bytes(self) -> int | None:
        """Return the size of the score file, or None where there is none."""
        with self._told():
            version = self._container.version(self.path)
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
            scores = self._found(self.path, "score")
            lost = self._found(self.quarantine_path, "quarantine")
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

    def remove_spooled(self, urls: Iterable[str]) -> None:
        """Make room in the spool."""
        for url in urls:
            if url.startswith(str(self.spool)):
                with suppress(FileNotFoundError):
                    os.unlink(url)

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
            OutputBusyError: storage does not answer, or another driver took the output over.
        """
        with self._told():
            target = self._container.version(self.path) if score_file else None
            planned = self._read("publish.json")
            # another input since the kill makes other parts: what was planned for the old ones is void
            if planned is None or planned["fingerprint"] != fingerprint or planned["staged"] != [*sums(parts)]:
                planned = self._plan(
                    header=header,
                    staged=sums(parts),
                    # a script's own files are there already, and its quarantine is all of it
                    mode=mode if score_file else "overwrite",
                    fingerprint=fingerprint,
                    target=target,
                    old=planned if planned is not None and planned["fingerprint"] == fingerprint else None,
                )
                self._write("publish.json", json.dumps(planned).encode())
            score, quarantine = planned["score"], planned["quarantine"]
            appeared = _made_by(planned, target)
            if score_file and not appeared and _etag(target) != score["base"]:
                raise taken_meanwhile(self.url, changed=True)
            self._remove_receipt(planned)
            lost = self._publish_quarantine(quarantined(parts), planned)
            if score_file and not appeared:
                self._appear(parts, planned, target)
        return Published(
            url=self.url if score_file else self.access.url_of(self.folder),
            size_bytes=planned["size_bytes"] if score_file else None,
            crc32=planned["crc32"] if score_file else 0,
            sha256=None,
            base_bytes=score["offset"],
            appended=tuple(planned["appended"]),
            quarantine=self.access.url_of(self.quarantine_path) if lost is not None else None,
            quarantine_range=(quarantine["offset"], (lost or 0) - quarantine["offset"]),
        )

    def finish(self, receipt: dict[str, Any]) -> None:
        """Write the receipt, drop what is staged, and release the claim.

        Raises:
            OutputBusyError: storage does not answer, or another driver took the output over.
        """
        data = receipt_bytes(receipt)
        with self._told():
            self._hold()
            # one that is there is ours, and its answer was lost, or another driver's
            if not self._container.write(self.receipt_path, data, new=True) and data != self._container.read(
                self.receipt_path
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

    def _plan(
        self,
        *,
        header: bytes,
        staged: tuple[int, int],
        mode: IfExists,
        fingerprint: str,
        target: BlobVersion | None,
        old: dict[str, Any] | None,
    ) -> dict[str, Any]:
        quarantine = self._container.version(self.quarantine_path)
        receipt = self._container.version(self.receipt_path)
        planned: dict[str, Any] = {
            "id": uuid.uuid4().hex, "fingerprint": fingerprint, "mode": mode, "staged": [*staged], "appended": [],
            "receipt_base": _etag(receipt),
            "score": {**_replacing(target), "between": header.decode(), "crc32": 0},
            "quarantine": _replacing(quarantine),
        }  # fmt: skip
        score = planned["score"]
        if old is not None and _made_by(old, target):
            # our own, which no receipt speaks of: it is done again over what was there before it
            planned["appended"] = old["appended"]
            score |= _again(old["score"])
            score["between"] = score["between"] if score["offset"] else header.decode()
        elif target is not None and mode == "fail":
            raise taken_meanwhile(self.url, changed=False)
        elif target is not None and mode == "append":
            previous = self.receipt()
            planned["appended"] = previous["appended"] if previous is not None else []
            score |= self._continuing(self.path, target)
            score |= {"between": self._joint(header, target).decode(), "crc32": self._crc32(target)}
        if old is not None and _made_by(old, quarantine):
            planned["quarantine"] |= _again(old["quarantine"])
        elif quarantine is not None and mode == "append":
            planned["quarantine"] |= self._continuing(self.quarantine_path, quarantine)
            if quarantine.size_bytes and not self._ends_line(self.quarantine_path, quarantine):
                planned["quarantine"]["between"] = "\n"
        between = score["between"].encode()
        crc = zlib.crc32(between, score["crc32"])
        planned["size_bytes"] = score["offset"] + len(between) + staged[0]
        planned["crc32"] = crc32_combined(crc, staged[1], staged[0])
        return planned

    def _joint(self, header: bytes, target: BlobVersion) -> bytes:
        """Return what goes between the rows that are there and those to append."""
        first = b"".join(self._container.ranges(self.path, target, 0, max(1, len(header))))
        if not first:
            return header
        if header and first != header:
            raise other_header(self.url, header)
        return b"" if self._ends_line(self.path, target) else b"\n"

    def _ends_line(self, path: str, version: BlobVersion) -> bool:
        return b"".join(self._container.ranges(path, version, version.size_bytes - 1)) == b"\n"

    def _crc32(self, target: BlobVersion) -> int:
        if _CRC in target.metadata and _PUBLICATION in target.metadata:
            size_bytes, _, crc = target.metadata[_CRC].partition("-")
            if size_bytes == str(target.size_bytes):
                return int(crc, 16)
        value = 0
        for data in self._container.ranges(self.path, target):
            value = zlib.crc32(data, value)
        return value

    def _continuing(self, path: str, version: BlobVersion) -> dict[str, Any]:
        """Say by which blocks what is there stays, and of how many bytes each, where they must be copied."""
        committed, _ = self._container.blocks(path)
        ours = committed and all(len(block) == KEY_LENGTH for block, _ in committed)
        if not version.size_bytes or (ours and len(committed) <= MOST_BLOCKS // 2):
            return {"offset": version.size_bytes, "blocks": len(committed)}
        # made in one request, or of blocks that cannot stand beside ours: all ids of a blob have one length
        each = max(COPIED_BYTES, -(-version.size_bytes // COPIED_BLOCKS))
        return {"offset": version.size_bytes, "blocks": -(-version.size_bytes // each), "copied_bytes": each}

    def _before(self, path: str, version: BlobVersion | None, plan: dict[str, Any], publication: str) -> list[str]:
        """Return the blocks that come before ours: those of what is there, staged anew where they must be."""
        ids: list[str] = []
        if version is not None and plan["copied_bytes"]:
            pieces = self._container.ranges(path, version, at_once=plan["copied_bytes"])
            for data in pieces:
                ids.append(_block_id(publication, len(ids) + 1))
                self._container.stage(path, ids[-1], BytesIO(data), len(data))
        elif plan["blocks"]:
            ids = [block for block, _ in self._container.blocks(path)[0][: plan["blocks"]]]
        if plan["between"]:
            between = plan["between"].encode()
            ids.append(_block_id(publication, 0))
            self._container.stage(path, ids[-1], BytesIO(between), len(between))
        return ids

    def _remove_receipt(self, planned: dict[str, Any]) -> None:
        self._hold()
        etag = planned["receipt_base"]
        if etag is not None and not self._container.delete(self.receipt_path, etag=etag):
            raise taken_meanwhile(self.access.url_of(self.receipt_path), changed=True)

    def _publish_quarantine(self, keys: Sequence[str], planned: dict[str, Any]) -> int | None:
        """Make it appear or go; return its size, None where there is none."""
        path, plan = self.quarantine_path, planned["quarantine"]
        now = self._container.version(path)
        if now is None and not keys:
            return None
        if now is not None and _made_by(planned, now):
            return now.size_bytes
        if _etag(now) != plan["base"]:
            raise taken_meanwhile(self.access.url_of(path), changed=True)
        if now is not None and not keys and plan["offset"] == now.size_bytes:
            return now.size_bytes
        self._hold()
        if not keys and not plan["offset"]:
            if not self._container.delete(path, etag=plan["base"]):
                raise taken_meanwhile(self.access.url_of(path), changed=True)
            return None
        sizes = self._container.sizes(path)
        if any(key not in sizes for key in keys):
            raise self._gone()
        plan = plan if keys else {**plan, "between": ""}
        self._commit(path, [*self._before(path, now, plan, planned["id"]), *keys], now, planned)
        return int(plan["offset"]) + len(plan["between"]) + sum(sizes[key] for key in keys)

    def _appear(self, parts: Sequence[tuple[str, int]], planned: dict[str, Any], target: BlobVersion | None) -> None:
        sizes = self._container.sizes(self.path)
        if any(size_bytes and sizes.get(key) != size_bytes for key, size_bytes in parts):
            raise self._gone()
        self._hold()
        blocks = self._before(self.path, target, planned["score"], planned["id"])
        blocks += [key for key, size_bytes in parts if size_bytes]
        if len(blocks) > MOST_BLOCKS:
            raise OutputError(f"{self.url} would have {len(blocks):,} parts, and storage takes {MOST_BLOCKS:,}")
        self._commit(self.path, blocks, target, planned)

    def _gone(self) -> OutputBusyError:
        return OutputBusyError(f"{self.url}: staged parts are gone; run again to score them anew")

    def _commit(self, path: str, blocks: Sequence[str], base: BlobVersion | None, planned: dict[str, Any]) -> None:
        from azure.storage.blob import ContentSettings

        metadata = {_PUBLICATION: planned["id"], _FINGERPRINT: planned["fingerprint"]}
        settings = ContentSettings(content_type="text/csv" if path.endswith(".csv") else None)
        if base is not None and planned["mode"] == "append":
            metadata = {**base.metadata, **metadata}
            settings = copy(base.settings) if base.settings is not None else settings
            # it is of the bytes before
            settings.content_md5 = None
        metadata.pop(_CRC, None)
        if path == self.path:
            metadata[_CRC] = f"{planned['size_bytes']}-{planned['crc32']:08x}"
        made = self._container.commit(path, blocks, over=_etag(base), metadata=metadata, settings=settings)
        if made:
            return
        # refused: it may have been done already by a request whose answer was lost
        now = self._container.version(path)
        if _made_by(planned, now):
            return
        if _etag(now) != _etag(base):
            raise taken_meanwhile(self.access.url_of(path), changed=base is not None)
        raise self._gone()

    def _found(self, path: str, section: str) -> dict[str, int]:
        """Return the blocks that are staged: also those that appeared already, but were never told by a receipt."""
        committed, uncommitted = self._container.blocks(path)
        planned = self._read("publish.json")
        if planned is None or not committed or not _made_by(planned, self._container.version(path)):
            return uncommitted
        return {**dict(committed[planned[section]["blocks"] :]), **uncommitted}

    def _has_staged(self) -> bool:
        if self.job() is None:
            return False
        if self._read("publish.json") is not None:
            return True
        blocks = [block for path in (self.path, self.quarantine_path) for block in self._container.blocks(path)[1]]
        return any((key := PartKey.decode(block)) and key.nonce[0] == self._epoch for block in blocks)

    def _unused_epoch(self) -> int:
        used: set[int] = set()
        for path in (self.path, self.quarantine_path):
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
        # the job last: what a kill leaves here is still understood
        names = [name for name in self._container.names(self._staging) if name != f"{self._staging}lock"]
        job = f"{self._staging}job.json"
        self._delete_all(name for name in names if name != job)
        self._container.delete(job)

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
            raise OutputError(f"the output cannot be used: {text}") from None
        except OSError as error:
            raise OutputBusyError(
                f"{error.filename or self._scratch.path}: cannot be written: {error.strerror or error}; "
                "what is staged is kept, run again to go on"
            ) from None


def _etag(version: BlobVersion | None) -> str | None:
    return None if version is None else version.etag


def _replacing(version: BlobVersion | None) -> dict[str, Any]:
    """Plan to put something in the place of what is there."""
    return {"base": _etag(version), "offset": 0, "blocks": 0, "copied_bytes": 0, "between": ""}


def _again(plan: dict[str, Any]) -> dict[str, Any]:
    """Plan to publish anew behind the same bytes, which are blocks of ours by now."""
    return {name: value for name, value in plan.items() if name not in ("base", "copied_bytes")}


def _made_by(planned: dict[str, Any], version: BlobVersion | None) -> bool:
    return version is not None and version.metadata.get(_PUBLICATION) == planned["id"]


def _block_id(publication: str, number: int) -> str:
    """Name a block that is no part: as long as the key of one, and never taken for it."""
    return urlsafe_b64encode(b"\0" + bytes.fromhex(publication) + number.to_bytes(31, "big")).decode()
