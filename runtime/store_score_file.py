"""The score file on any store that fsspec knows: a plain way that needs nothing but whole objects.

Beside ``predictions.csv`` lies, while a job is not complete, ``.predictions.csv.staging`` with the same as on disk
(`runtime.score_file`), the claim among it. Publishing has the same steps, and goes on after a kill at the first step
whose effect is missing; what appeared is known by size and CRC-32.

These stores know no condition: the claim is a file, and is looked at again before each step. That keeps a driver that
was frozen away, unless it wakes in the moment of a step. So: one driver at a time. The score file passes through the
driver, for few stores can join objects by themselves; on Blob storage it does not (`runtime.blob_score_file`).
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO, Any

from runtime.checksums import crc32_combined
from runtime.errors import OutputBusyError, OutputError
from runtime.holder import described, is_dead, this_process
from runtime.parts import ACCOUNT, QUARANTINE, PartKey
from runtime.publication import (
    RUNNING,
    beside,
    other_header,
    quarantined,
    read_object,
    receipt_bytes,
    sums,
    taken_meanwhile,
)
from runtime.score_file import IfExists, Published
from runtime.scratch import Scratch
from runtime.store_parts import StoreParts, open_store, part_of, put

__all__ = ["StoreScoreFile"]

_COPY_BYTES = 8 * 2**20
LOOK_S = 5.0
"""How often the claim is looked at while mini-batches are scored."""


class StoreScoreFile:
    """A score file in a folder of a store, and what belongs to it.

    Args:
        protocol: of the store, as fsspec names it.
        folder: path in it.
        name: of the score file.
        options: of the store, as fsspec takes them; never shown.

    Attributes:
        url: of the score file.
        spool: folder on this machine for decoded input, while it is claimed.
        work: folder on this machine for working folders of scripts, while it is claimed.
    """

    def __init__(self, protocol: str, folder: str, name: str, options: tuple[tuple[str, str], ...] = ()) -> None:
        receipt, quarantine = beside(name)
        folder = folder.rstrip("/")
        self.path = f"{folder}/{name}"
        self.folder = folder
        self.receipt_path = f"{folder}/{receipt}"
        self.quarantine_path = f"{folder}/{quarantine}"
        self.url = self._url(protocol, self.path)
        self._protocol = protocol
        self._options = options
        self._staging = f"{folder}/.{name}.staging"
        self._parts = f"{self._staging}/parts"
        self._scratch = Scratch()
        self.spool = self._scratch.spool
        self.work = self._scratch.work
        self._store = open_store(protocol, options)
        self._mine = b""
        self._looks_again = 0.0

    @staticmethod
    def _url(protocol: str, path: str) -> str:
        return f"{protocol}://{path.lstrip('/') if protocol != 'file' else path}"

    def expect(self, parts: int) -> None:
        """Take any number of parts: a folder holds them all."""

    @property
    def staging(self) -> StoreParts:
        """Where workers stage."""
        return StoreParts(
            protocol=self._protocol, options=self._options, folder=self._parts, scratch=str(self._scratch.path)
        )

    def claim(self) -> None:
        """Become the one driver of this output.

        Raises:
            OutputBusyError: another driver holds it, or its process died on another machine.
            OutputError: the folder cannot be written.
        """
        with self._told():
            self._scratch.make()
            try:
                self._take()
            except BaseException:
                self._mine = b""
                self._scratch.remove()
                raise

    def _take(self) -> None:
        lock = f"{self._staging}/lock"
        holder = self._read(lock)
        if holder is not None and not is_dead(_process(holder)):
            raise OutputBusyError(
                f"{self.url}: another driver holds this output ({described(_process(holder))}); "
                f"if it is gone, delete {self._url(self._protocol, lock)}"
            )
        self._store.makedirs(self._parts, exist_ok=True)
        self._mine = os.urandom(8).hex().encode() + b" " + this_process()
        self._store.pipe_file(lock, self._mine)
        # two may have seen none: the last one has it
        self._hold()

    def check_claim(self) -> None:
        """Stop a driver whose output another one has taken over; storage is asked every few seconds.

        Raises:
            OutputBusyError: this driver stood still, and another one took the output over.
        """
        now = time.monotonic()
        if self._mine and now >= self._looks_again:
            self._looks_again = now + LOOK_S
            with suppress(OSError):
                self._hold()

    def release(self) -> None:
        """Give up the claim; where no part is staged, all that was made for the job goes."""
        if not self._mine:
            return
        self._scratch.remove()
        with suppress(OSError, OutputError):
            self._hold()
            if any(part_of(name, size) for name, size in self._sizes().items()):
                self._store.rm_file(f"{self._staging}/lock")
            else:
                self._remove_staging()
        self._mine = b""

    def discard(self) -> None:
        """Drop all that is staged."""
        with self._told():
            self._hold()
            for name in ("job.json", "header", "publish.json"):
                self._delete(f"{self._staging}/{name}")
            for name in self._sizes():
                self._delete(f"{self._parts}/{name}")

    def forget(self, fingerprint: str) -> None:
        """Drop what is staged of a job that is complete: it was killed before it could do so itself."""
        if self.publishing(fingerprint):
            self.discard()

    def job(self) -> dict[str, Any] | None:
        """Return what is recorded of the job whose parts are staged."""
        return self._record("job.json")

    def record_job(self, job: dict[str, Any]) -> None:
        """Record the job before anything is staged for it."""
        with self._told():
            self._write(f"{self._staging}/job.json", json.dumps(job, indent=1).encode())

    def running(self) -> bytes | None:
        """Return the mark that the last driver left; None where it ended by itself."""
        with self._told():
            return self._read(f"{self._staging}/{RUNNING}")

    def record_running(self, mark: bytes | None) -> None:
        """Leave the mark of a driver that runs, or take it away."""
        with self._told():
            path = f"{self._staging}/{RUNNING}"
            self._delete(path) if mark is None else self._write(path, mark)

    def header(self) -> tuple[str, ...]:
        """Return the names of the output's columns, as far as they are known."""
        return tuple((self._record("header") or {}).get("columns", ()))

    def record_header(self, columns: Sequence[str]) -> None:
        """Stage the names of the output's columns."""
        with self._told():
            self._write(f"{self._staging}/header", json.dumps({"columns": list(columns)}).encode())

    def receipt(self) -> dict[str, Any] | None:
        """Return the receipt, if the output is complete."""
        with self._told():
            return read_object(self._url(self._protocol, self.receipt_path), self._read(self.receipt_path))

    def size_bytes(self) -> int | None:
        """Return the size of the score file, or None where there is none."""
        with self._told():
            return self._size(self.path)

    def publishing(self, fingerprint: str) -> bool:
        """Tell whether this job was killed while it published."""
        planned = self._record("publish.json")
        return planned is not None and planned["fingerprint"] == fingerprint

    def staged(self, fingerprint: bytes) -> list[tuple[PartKey, str, int]]:
        """List the whole parts of a job: key, its text, and score bytes."""
        with self._told():
            sizes = self._sizes()
        there = {part: sizes[name] for name in sizes if (part := part_of(name, sizes[name])) is not None}
        found = []
        for text in sorted({text for text, _ in there}):
            key = PartKey.decode(text)
            assert key is not None, text
            needed = [QUARANTINE] * key.quarantine + [ACCOUNT] * key.account + [""] * (not key.unscored)
            if key.fingerprint == fingerprint and needed and all((text, kind) in there for kind in needed):
                found.append((key, text, there.get((text, ""), 0)))
        return found

    def account(self, key: str) -> bytes:
        """Read the account part of a key."""
        with self._told():
            for data in self._pieces([(key, ACCOUNT)]):
                return data
        raise OutputBusyError(f"{self.url}: a staged part was deleted; run again to score it anew")

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
            keys = [key for key, _ in parts]
            planned = self._record("publish.json")
            if planned is None or planned["fingerprint"] != fingerprint or planned["keys"] != keys:
                old = planned if planned is not None and planned["fingerprint"] == fingerprint else {}
                planned = self._plan(header, parts, mode if score_file else "overwrite", old, score_file=score_file)
                planned |= {"fingerprint": fingerprint, "keys": keys}
                self._write(f"{self._staging}/publish.json", json.dumps(planned).encode())
            score, quarantine = planned["score"], planned["quarantine"]
            if score_file and not self._is(self.path, score["base"]) and not self._is(self.path, score["new"]):
                raise taken_meanwhile(self.url, changed=True)
            self._hold()
            self._delete(self.receipt_path)
            self._appear(self.quarantine_path, quarantine, [(key, QUARANTINE) for key in quarantined(parts)])
            if score_file:
                self._appear(self.path, score, [(key, "") for key, size_bytes in parts if size_bytes])
        offset, (lost_bytes, _) = quarantine["kept"][0], quarantine["new"] or (0, 0)
        return Published(
            url=self.url if score_file else self._url(self._protocol, self.folder),
            size_bytes=score["new"][0] if score_file else None,
            crc32=score["new"][1] if score_file else 0,
            sha256=None,
            base_bytes=score["kept"][0],
            appended=tuple(planned["appended"]),
            quarantine=self._url(self._protocol, self.quarantine_path) if quarantine["new"] else None,
            quarantine_range=(offset, lost_bytes - offset),
        )

    def finish(self, receipt: dict[str, Any]) -> None:
        """Write the receipt, drop what is staged, and release the claim.

        Raises:
            OutputBusyError: the store fails, or another driver took the output over.
        """
        with self._told():
            self._write(self.receipt_path, receipt_bytes(receipt))
        with suppress(OSError):
            self._remove_staging()
        self._mine = b""
        self._scratch.remove()

    def _plan(
        self,
        header: bytes,
        parts: Sequence[tuple[str, int]],
        mode: IfExists,
        old: dict[str, Any],
        *,
        score_file: bool,
    ) -> dict[str, Any]:
        score = self._plan_file(self.path if score_file else "", old.get("score"), append=mode == "append")
        appended = []
        if score["ours"]:
            appended = old["appended"]
        elif score["base"] is None or mode == "overwrite":
            score["between"] = header.decode()
        elif mode == "fail":
            raise taken_meanwhile(self.url, changed=False)
        else:
            score["between"] = self._joint(header).decode()
            appended = (self.receipt() or {}).get("appended", [])
        score["new"] = _added(score, *sums(parts))
        lost = self._plan_file(self.quarantine_path, old.get("quarantine"), append=mode == "append")
        keys = quarantined(parts)
        if keys and lost["kept"][0] and not lost["ours"] and self._last(self.quarantine_path) != b"\n":
            lost["between"] = "\n"
        size_bytes = crc = 0
        for data in self._pieces([(key, QUARANTINE) for key in keys]):
            size_bytes, crc = size_bytes + len(data), zlib.crc32(data, crc)
        if keys:
            lost["new"] = _added(lost, size_bytes, crc)
        elif lost["kept"][0]:
            lost |= {"new": lost["kept"], "between": ""}
        return {"score": score, "quarantine": lost, "appended": appended}

    def _plan_file(self, path: str, old: dict[str, Any] | None, *, append: bool) -> dict[str, Any]:
        """Say what is there, and what of it stays."""
        base = self._sums(path) if path else None
        if old is not None and base is not None and old["new"] == [*base] != old["base"]:
            # our own, which no receipt speaks of: it is done again over what was there before it
            return {"base": base, "kept": old["kept"], "between": old["between"], "new": None, "ours": True}
        kept = base if append and base is not None else (0, 0)
        return {"base": base, "kept": kept, "between": "", "new": None, "ours": False}

    def _joint(self, header: bytes) -> bytes:
        """Return what goes between the rows that are there and those to append."""
        first = self._store.cat_file(self.path, 0, max(1, len(header)))
        if not first:
            return header
        if header and first != header:
            raise other_header(self.url, header)
        return b"" if self._last(self.path) == b"\n" else b"\n"

    def _last(self, path: str) -> bytes:
        size_bytes = self._size(path) or 0
        return bytes(self._store.cat_file(path, size_bytes - 1, size_bytes))

    def _appear(self, path: str, plan: dict[str, Any], pieces: Sequence[tuple[str, str]]) -> None:
        """Make a file of what stays of it and of parts, or delete it."""
        new = plan["new"]
        if self._is(path, new):
            return
        if not self._is(path, plan["base"]):
            raise taken_meanwhile(self._url(self._protocol, path), changed=True)
        if new is None:
            self._hold()
            self._delete(path)
            return
        with TemporaryFile(dir=self._scratch.path) as joined:
            left = plan["kept"][0]
            if left:
                with self._store.open(path, "rb") as source:
                    while data := source.read(min(left, _COPY_BYTES)):
                        left -= joined.write(data)
            joined.write(plan["between"].encode())
            for data in self._pieces(pieces):
                joined.write(data)
            if [joined.tell(), _crc32(joined)] != [*new]:
                raise OutputBusyError(f"{self.url}: staged parts are gone or changed; run again to score them anew")
            self._hold()
            put(self._store, path, joined)

    def _pieces(self, pieces: Sequence[tuple[str, str]]) -> Iterator[bytes]:
        """Read parts, of which one that is not there has no bytes."""
        names = {part_of(name, size_bytes): name for name, size_bytes in self._sizes().items()} if pieces else {}
        for piece in pieces:
            if piece in names:
                yield bytes(self._store.cat_file(f"{self._parts}/{names[piece]}"))

    def _sums(self, path: str) -> tuple[int, int] | None:
        """Return size and CRC-32 of an object, None where there is none."""
        if self._size(path) is None:
            return None
        size_bytes = crc = 0
        with self._store.open(path, "rb") as source:
            while data := source.read(_COPY_BYTES):
                size_bytes += len(data)
                crc = zlib.crc32(data, crc)
        return size_bytes, crc

    def _is(self, path: str, expected: Sequence[int] | None) -> bool:
        if expected is None or self._size(path) != expected[0]:
            return expected is None and self._size(path) is None
        return self._sums(path) == tuple(expected)

    def _size(self, path: str) -> int | None:
        self._store.invalidate_cache()
        try:
            info = self._store.info(path)
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def _sizes(self) -> dict[str, int]:
        """List the parts, whole or not."""
        self._store.invalidate_cache()
        try:
            found = self._store.ls(self._parts, detail=True)
        except FileNotFoundError:
            return {}
        return {each["name"].rstrip("/").rpartition("/")[2]: each["size"] for each in found if each["type"] == "file"}

    def _record(self, name: str) -> dict[str, Any] | None:
        with self._told():
            path = f"{self._staging}/{name}"
            return read_object(self._url(self._protocol, path), self._read(path))

    def _read(self, path: str) -> bytes | None:
        try:
            return bytes(self._store.cat_file(path))
        except FileNotFoundError:
            return None

    def _write(self, path: str, data: bytes) -> None:
        self._hold()
        self._store.pipe_file(path, data)

    def _delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._store.rm_file(path)

    def _hold(self) -> None:
        """Make sure that the output is still claimed."""
        assert self._mine, "the output is not claimed"
        if self._read(f"{self._staging}/lock") != self._mine:
            raise OutputBusyError(f"{self.url}: another driver took this output over; nothing was changed")

    def _remove_staging(self) -> None:
        # the job before the lock, the parts before the job: what a kill leaves here is still understood
        for name in self._sizes():
            self._delete(f"{self._parts}/{name}")
        for name in ("header", "publish.json", "job.json", "lock"):
            self._delete(f"{self._staging}/{name}")
        for folder in (self._parts, self._staging):
            # many stores have no folders
            with suppress(OSError):
                self._store.rmdir(folder)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what the store did wrong."""
        try:
            yield
        except (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise OutputError(f"{self.url}: cannot be written: {error.strerror or error}") from None
        except OSError as error:
            raise OutputBusyError(
                f"{self.url}: cannot be written: {error.strerror or error}; what is staged is kept, run again to go on"
            ) from None


def _added(plan: dict[str, Any], size_bytes: int, crc: int) -> tuple[int, int]:
    """Return size and CRC-32 of what stays, what comes between, and what is added."""
    between = plan["between"].encode()
    kept_bytes, kept_crc = plan["kept"]
    crc = crc32_combined(zlib.crc32(between, kept_crc), crc, size_bytes)
    return kept_bytes + len(between) + size_bytes, crc


def _process(lock: bytes) -> bytes:
    return lock.partition(b" ")[2]


def _crc32(file: IO[bytes]) -> int:
    crc = 0
    file.seek(0)
    while data := file.read(_COPY_BYTES):
        crc = zlib.crc32(data, crc)
    return crc
