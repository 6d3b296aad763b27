"""How an output on Blob storage appears: planned once, then made so, step by step, over the versions that were seen.

What is planned is JSON. For the score file, and for the quarantine::

    base           etag of what is there; null for nothing
    offset         bytes of it that stay, before ours
    blocks         how many blocks these are
    copied_bytes   bytes of each, where they are staged anew; 0 where they stay as they are
    between        header, or the line end that is missing
"""

from __future__ import annotations

import hashlib
import uuid
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from runtime.blob_container import BlobContainer, BlobVersion
from runtime.blob_joining import StagedParts
from runtime.checksums import crc32_combined
from runtime.errors import OutputBusyError, OutputError
from runtime.parts import KEY_LENGTH
from runtime.publication import other_header, quarantined, read_object, sums, taken_meanwhile
from runtime.score_file import IfExists, Published

__all__ = ["BlobPaths", "BlobPublishing", "made_by"]

MOST_BLOCKS = 50_000
COPIED_BYTES = 32 * 2**20
COPIED_BLOCKS = 20_000
"""What is there already is copied in so many blocks at most, where it cannot be referred to."""

JOINED = 2**200
"""Blocks with numbers beyond are of parts."""

_PUBLICATION = "scoreline_publication"
_FINGERPRINT = "scoreline_fingerprint"
_CRC = "scoreline_crc32"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobPaths:
    """The blobs of an output, below their container."""

    folder: str
    score: str
    receipt: str
    quarantine: str


class BlobPublishing:
    """The publication of an output.

    Args:
        container: where it is.
        paths: of its blobs.
        staged: how its parts are staged.
        hold: makes sure that the output is still claimed.
    """

    def __init__(
        self, container: BlobContainer, paths: BlobPaths, staged: StagedParts, hold: Callable[[], None]
    ) -> None:
        self._container = container
        self._staged = staged
        self._paths = paths
        self._hold = hold

    def is_for(self, planned: dict[str, Any], parts: Sequence[tuple[str, int]], fingerprint: str) -> bool:
        """Tell whether this is what was planned: another input since a kill makes other parts."""
        return bool(planned["fingerprint"] == fingerprint and planned["parts"] == _digest(parts))

    def plan(
        self,
        *,
        header: bytes,
        parts: Sequence[tuple[str, int]],
        mode: IfExists,
        fingerprint: str,
        old: dict[str, Any] | None,
        score_file: bool,
    ) -> dict[str, Any]:
        """Plan what shall appear.

        Args:
            header: first line of a new file.
            parts: key and score bytes of each, in plan order.
            mode: what to do with what is there.
            fingerprint: of the job.
            old: what this job planned before it was killed, for other parts.
            score_file: whether there is one.

        Raises:
            OutputError: what is there may not be replaced, or has another header.
        """
        staged = sums(parts)
        target = self._container.version(self._paths.score) if score_file else None
        quarantine = self._container.version(self._paths.quarantine)
        receipt = self._container.version(self._paths.receipt)
        planned: dict[str, Any] = {
            "id": uuid.uuid4().hex, "fingerprint": fingerprint, "mode": mode, "parts": _digest(parts), "appended": [],
            "receipt_base": _etag(receipt),
            "score": {**_replacing(target), "between": header.decode(), "crc32": 0},
            "quarantine": _replacing(quarantine),
        }  # fmt: skip
        score = planned["score"]
        if old is not None and made_by(old, target):
            # our own, which no receipt speaks of: it is done again over what was there before it
            planned["appended"] = old["appended"]
            score |= _again(old["score"])
            score["between"] = score["between"] if score["offset"] else header.decode()
        elif target is not None and mode == "fail":
            raise taken_meanwhile(self._url(self._paths.score), changed=False)
        elif target is not None and mode == "append":
            previous = read_object(self._url(self._paths.receipt), self._container.read(self._paths.receipt))
            planned["appended"] = previous["appended"] if previous is not None else []
            score |= self._continuing(self._paths.score, target)
            score |= {"between": self._joint(header, target).decode(), "crc32": self._crc32(target)}
        if old is not None and made_by(old, quarantine):
            planned["quarantine"] |= _again(old["quarantine"])
        elif quarantine is not None and mode == "append" and score_file:
            planned["quarantine"] |= self._continuing(self._paths.quarantine, quarantine)
            if quarantine.size_bytes and not self._ends_line(self._paths.quarantine, quarantine):
                planned["quarantine"]["between"] = "\n"
        between = score["between"].encode()
        crc = zlib.crc32(between, score["crc32"])
        planned["size_bytes"] = score["offset"] + len(between) + staged[0]
        planned["crc32"] = crc32_combined(crc, staged[1], staged[0])
        return planned

    def carry_out(self, parts: Sequence[tuple[str, int]], planned: dict[str, Any], *, score_file: bool) -> Published:
        """Do what was planned, as far as it is not done: the old receipt goes, quarantine and score file appear.

        Args:
            parts: those it was planned for.
            planned: by `plan`, and recorded.
            score_file: whether there is one.

        Raises:
            OutputError: something else changed what is there.
            OutputBusyError: staged parts are gone, or another driver took the output over.
        """
        paths, score, quarantine = self._paths, planned["score"], planned["quarantine"]
        target = self._container.version(paths.score) if score_file else None
        appeared = made_by(planned, target)
        if score_file and not appeared and _etag(target) != score["base"]:
            raise taken_meanwhile(self._url(paths.score), changed=True)
        self._remove_receipt(planned)
        lost = self._publish_quarantine(quarantined(parts), planned)
        if score_file and not appeared:
            self._appear(parts, planned, target)
        return Published(
            url=self._url(paths.score if score_file else paths.folder),
            size_bytes=planned["size_bytes"] if score_file else None,
            crc32=planned["crc32"] if score_file else 0,
            sha256=None,
            base_bytes=score["offset"],
            appended=tuple(planned["appended"]),
            quarantine=self._url(paths.quarantine) if lost is not None else None,
            quarantine_range=(quarantine["offset"], (lost or 0) - quarantine["offset"]),
        )

    def _joint(self, header: bytes, target: BlobVersion) -> bytes:
        """Return what goes between the rows that are there and those to append."""
        first = b"".join(self._container.ranges(self._paths.score, target, 0, max(1, len(header))))
        if not first:
            return header
        if header and first != header:
            raise other_header(self._url(self._paths.score), header)
        return b"" if self._ends_line(self._paths.score, target) else b"\n"

    def _ends_line(self, path: str, version: BlobVersion) -> bool:
        return b"".join(self._container.ranges(path, version, version.size_bytes - 1)) == b"\n"

    def _crc32(self, target: BlobVersion) -> int:
        if _CRC in target.metadata and _PUBLICATION in target.metadata:
            size_bytes, _, crc = target.metadata[_CRC].partition("-")
            if size_bytes == str(target.size_bytes):
                return int(crc, 16)
        value = 0
        for data in self._container.ranges(self._paths.score, target):
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
        if etag is not None and not self._container.delete(self._paths.receipt, etag=etag):
            raise taken_meanwhile(self._url(self._paths.receipt), changed=True)

    def _publish_quarantine(self, keys: Sequence[str], planned: dict[str, Any]) -> int | None:
        """Make it appear or go; return its size, None where there is none."""
        path, plan = self._paths.quarantine, planned["quarantine"]
        now = self._container.version(path)
        if now is None and not keys:
            return None
        if now is not None and made_by(planned, now):
            return now.size_bytes
        if _etag(now) != plan["base"]:
            raise taken_meanwhile(self._url(path), changed=True)
        if now is not None and not keys and plan["offset"] == now.size_bytes:
            return now.size_bytes
        self._hold()
        if not keys and not plan["offset"]:
            if not self._container.delete(path, etag=plan["base"]):
                raise taken_meanwhile(self._url(path), changed=True)
            return None
        sizes = self._staged.sizes(path)
        if any(key not in sizes for key in keys):
            raise self._gone()
        plan = plan if keys else {**plan, "between": ""}
        before = self._before(path, now, plan, planned["id"])
        self._commit(path, before, [(key, sizes[key]) for key in keys], now, planned)
        return int(plan["offset"]) + len(plan["between"]) + sum(sizes[key] for key in keys)

    def _appear(self, parts: Sequence[tuple[str, int]], planned: dict[str, Any], target: BlobVersion | None) -> None:
        sizes = self._staged.sizes(self._paths.score)
        if any(size_bytes and sizes.get(key) != size_bytes for key, size_bytes in parts):
            raise self._gone()
        self._hold()
        before = self._before(self._paths.score, target, planned["score"], planned["id"])
        self._commit(self._paths.score, before, [part for part in parts if part[1]], target, planned)

    def _gone(self) -> OutputBusyError:
        return OutputBusyError(f"{self._url(self._paths.score)}: staged parts are gone; run again to score them anew")

    def _commit(
        self,
        path: str,
        before: Sequence[str],
        parts: Sequence[tuple[str, int]],
        base: BlobVersion | None,
        planned: dict[str, Any],
    ) -> None:
        from azure.storage.blob import ContentSettings

        ours = self._staged.blocks(path, parts, _block_id(planned["id"], JOINED)[:-8])
        if ours is None:
            raise self._gone()
        blocks = [*before, *ours]
        if len(blocks) > MOST_BLOCKS:
            raise OutputError(f"{self._url(path)} would have {len(blocks):,} blocks, and storage takes {MOST_BLOCKS:,}")

        metadata = {_PUBLICATION: planned["id"], _FINGERPRINT: planned["fingerprint"]}
        settings = ContentSettings(content_type="text/csv" if path.endswith(".csv") else None)
        if base is not None and planned["mode"] == "append":
            metadata = {**base.metadata, **metadata}
            settings = copy(base.settings) if base.settings is not None else settings
            # it is of the bytes before
            settings.content_md5 = None
        metadata.pop(_CRC, None)
        if path == self._paths.score:
            metadata[_CRC] = f"{planned['size_bytes']}-{planned['crc32']:08x}"
        made = self._container.commit(path, blocks, over=_etag(base), metadata=metadata, settings=settings)
        if made:
            return
        # refused: it may have been done already by a request whose answer was lost
        now = self._container.version(path)
        if made_by(planned, now):
            return
        if _etag(now) != _etag(base):
            raise taken_meanwhile(self._url(path), changed=base is not None)
        raise self._gone()

    def _url(self, path: str) -> str:
        return self._container.access.url_of(path)


def _digest(parts: Sequence[tuple[str, int]]) -> str:
    return hashlib.sha256("".join(key for key, _ in parts).encode()).hexdigest()


def _etag(version: BlobVersion | None) -> str | None:
    return None if version is None else version.etag


def _replacing(version: BlobVersion | None) -> dict[str, Any]:
    """Plan to put something in the place of what is there."""
    return {"base": _etag(version), "offset": 0, "blocks": 0, "copied_bytes": 0, "between": ""}


def _again(plan: dict[str, Any]) -> dict[str, Any]:
    """Plan to publish anew behind the same bytes, which are blocks of ours by now."""
    return {name: value for name, value in plan.items() if name not in ("base", "copied_bytes")}


def made_by(planned: dict[str, Any], version: BlobVersion | None) -> bool:
    """Tell whether a blob is what was planned, and not another driver's."""
    return version is not None and version.metadata.get(_PUBLICATION) == planned["id"]


def _block_id(publication: str, number: int) -> str:
    """Name a block that is no part: as long as the key of one, and never taken for it."""
    return urlsafe_b64encode(b"\0" + bytes.fromhex(publication) + number.to_bytes(31, "big")).decode()
