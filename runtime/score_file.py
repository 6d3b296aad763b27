"""The score file on disk: claimed by one driver, staged by many workers, published in one step.

Beside ``predictions.csv`` lies, while a job is not complete, the hidden folder ``.predictions.csv.staging``::

    lock, claim    who holds the claim, see `runtime.claim`
    job.json       the job: fingerprint, settings, grid, threads, columns
    header         names of the output's columns
    parts/         the parts, see `runtime.parts`
    spool/         decoded input
    work/          working folders of scoring scripts, and their model
    publish.json   what is about to appear
    joined*        the quarantine, and then the score file, before they appear

Publishing: (1) publish.json, (2) the old receipt goes, (3) the quarantine appears or goes, (4) the score file appears,
(5) the receipt appears, (6) the folder goes. Killed anywhere between, the same command goes on at the first step whose
effect is missing.

What the file system lacks is done otherwise (`runtime.disk_abilities`). Where a file cannot be put over another in one
step, a copy of it is whole at any moment: a record has its copy ``*.new`` beside it while it is written, and what is
published is copied from ``joined*``, which a mark says until it is done (`runtime.disk.place`).
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runtime.checksums import crc32_combined
from runtime.claim import CLAIM, LOCK, Claim
from runtime.disk import (
    copy_into,
    crc32,
    create_new,
    finish_placing,
    has_bytes,
    place,
    sha256,
    sync,
    sync_folder,
    version,
    write_all,
    write_over,
)  # fmt: skip
from runtime.disk_abilities import REFUSED, DiskAbilities, find_abilities, lacks_text
from runtime.errors import OutputBusyError, OutputError
from runtime.parts import ACCOUNT, LONGEST_NAME, QUARANTINE, LocalParts, PartKey, is_unfinished, is_whole
from runtime.publication import RUNNING, beside, other_header, quarantined, receipt_bytes, sums, taken_meanwhile
from runtime.records import output_error, read_object, read_record, write_record

__all__ = ["IfExists", "Published", "ScoreFile"]

IfExists = Literal["fail", "overwrite", "append"]
JOINED = "joined"
JOINED_QUARANTINE = "joined-quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The score file as published.

    Attributes:
        url: where it is; the folder, where a script wrote its output itself.
        size_bytes: of the whole file; None where there is none.
        crc32: of the whole file.
        sha256: of the whole file, in hex; None where there is none.
        base_bytes: bytes of it that were there before.
        appended: entries of the receipt that was there, where rows were appended.
        quarantine: where the quarantine is, if there is one.
        quarantine_range: offset and length of what this job wrote into it; None where that is not known.
    """

    url: str
    size_bytes: int | None
    crc32: int
    sha256: str | None
    base_bytes: int
    appended: tuple[dict[str, Any], ...]
    quarantine: str | None
    quarantine_range: tuple[int, int] | None = None


class ScoreFile:
    """A score file in a folder on disk, and what belongs to it.

    Args:
        folder: where the file shall be.
        name: its name.

    Attributes:
        abilities: what its file system can do, once it is claimed.
        notices: what a person should be told then.
    """

    def __init__(self, folder: str, name: str) -> None:
        self.folder = Path(folder)
        self.path = self.folder / name
        receipt, quarantine = beside(name)
        self.receipt_path = self.folder / receipt
        self.quarantine_path = self.folder / quarantine
        self.abilities = DiskAbilities()
        self.notices: tuple[str, ...] = ()
        self._claim: Claim | None = None
        self._made: list[Path] = []
        self._stage_in(f".{name}.staging")

    def _stage_in(self, name: str) -> None:
        self.staging_folder = self.folder / name
        self.parts = self.staging_folder / "parts"
        self.spool = self.staging_folder / "spool"
        self.work = self.staging_folder / "work"

    @property
    def url(self) -> str:
        """Where the score file is."""
        return str(self.path)

    def expect(self, parts: int) -> None:
        """Take any number of parts: a folder holds them all."""

    @property
    def staging(self) -> LocalParts:
        """Where workers stage."""
        return LocalParts(str(self.parts), self.abilities)

    def claim(self) -> None:
        """Become the one driver of this output, and learn what its file system can do.

        Raises:
            OutputBusyError: another driver holds it, or the disk fails.
            OutputError: the folder cannot be written.
        """
        try:
            above = [self.folder, *self.folder.parents]
            self._made = [folder for folder in above if not folder.exists()]
            hides = self._make_staging()
            claim = Claim(self.path, self.staging_folder)
            claim.take()
            self._claim = claim
            self.parts.mkdir(exist_ok=True)
            self.abilities = find_abilities(
                self.staging_folder,
                locks=claim.locked,
                hides=hides,
                longest_name=max(LONGEST_NAME, len(os.fsencode(self.quarantine_path.name))),
            )
            self.notices = tuple(text for text in (*claim.notices, lacks_text(self.abilities)) if text)
            for folder in (self.spool, self.work):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            self._clear_unfinished()
            finish_placing(self.staging_folder / JOINED_QUARANTINE, self.quarantine_path)
            finish_placing(self.staging_folder / JOINED, self.path)
        except OSError as error:
            raise output_error(self.folder, error) from None
        except OutputBusyError:
            raise
        except OutputError as error:
            raise OutputError(f"{self.path}: cannot be written: {error}") from None

    def _make_staging(self) -> bool:
        """Make the staging folder; False where its name may not begin with a dot."""
        try:
            self.staging_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            self._stage_in(f"_{self.path.name}.staging")
            try:
                self.staging_folder.mkdir(parents=True, exist_ok=True)
            except OSError:
                # it was not the dot
                raise error from None
            return False
        return True

    def check_claim(self) -> None:
        """Stop a driver whose output another one has taken over, as far as is known.

        Raises:
            OutputBusyError: this driver stood still, and another one took the output over.
        """
        if self._claim is not None and self._claim.lost:
            self._claim.check()

    def release(self) -> None:
        """Give up the claim; where no part is staged, all that was made for the job goes."""
        if self._claim is None:
            return
        nothing_staged = False
        # whoever removed the folder meanwhile wants nothing of it; whoever took it over, all that is in it
        with suppress(OSError, OutputBusyError):
            self._claim.check()
            for folder in (self.spool, self.work):
                shutil.rmtree(folder, ignore_errors=True)
            self._clear_unfinished()
            nothing_staged = not os.listdir(self.parts)
        if nothing_staged:
            self._remove_staging()
        else:
            self._claim.release()
        self._claim = None

    def _clear_unfinished(self) -> None:
        """Remove what workers were writing when they were killed."""
        for entry in os.scandir(self.parts):
            if is_unfinished(entry.name):
                os.unlink(entry)

    def _remove_staging(self) -> None:
        # the parts before the job that explains them: what a kill leaves here is still understood
        shutil.rmtree(self.parts, ignore_errors=True)
        with suppress(OSError):
            for entry in os.scandir(self.staging_folder):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry, ignore_errors=True)
                elif entry.name not in (LOCK, CLAIM):
                    with suppress(OSError):
                        os.unlink(entry)
        if self._claim is not None:
            self._claim.remove()
            self._claim = None
        with suppress(OSError):
            for folder in self._made:
                folder.rmdir()

    def discard(self) -> None:
        """Drop all that is staged.

        Raises:
            OutputBusyError: the disk fails, or another driver took the output over.
        """
        try:
            if self._claim is not None:
                self._claim.check()
            shutil.rmtree(self.parts)
            self.parts.mkdir()
            for entry in list(os.scandir(self.staging_folder)):
                if entry.name not in (LOCK, CLAIM) and not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry)
        except OSError as error:
            raise output_error(self.staging_folder, error) from None

    def forget(self, fingerprint: str) -> None:
        """Drop what is staged of a job that is complete: it was killed before it could do so itself."""
        if self.publishing(fingerprint):
            self.discard()

    def job(self) -> dict[str, Any] | None:
        """Return what is recorded of the job whose parts are staged."""
        return read_object(self.staging_folder / "job.json", self._spare("job.json"))

    def record_job(self, job: dict[str, Any]) -> None:
        """Record the job before anything is staged for it."""
        self._write(self.staging_folder / "job.json", json.dumps(job, indent=1).encode())

    def running(self) -> bytes | None:
        """Return the mark that the last driver left; None where it ended by itself."""
        try:
            return (self.staging_folder / RUNNING).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise output_error(self.staging_folder, error) from None

    def record_running(self, mark: bytes | None) -> None:
        """Leave the mark of a driver that runs, or take it away."""
        path = self.staging_folder / RUNNING
        try:
            # not made durable: the page cache outlives a kill
            path.unlink(missing_ok=True) if mark is None else write_over(path, mark)
        except OSError as error:
            raise output_error(path, error) from None

    def header(self) -> tuple[str, ...]:
        """Return the names of the output's columns, as far as they are known."""
        return tuple(read_record(self.staging_folder / "header", self._spare("header")) or ())

    def record_header(self, columns: Sequence[str]) -> None:
        """Stage the names of the output's columns."""
        self._write(self.staging_folder / "header", json.dumps(list(columns)).encode())

    def receipt(self) -> dict[str, Any] | None:
        """Return the receipt, if the output is complete."""
        # killed while it was written, there is none yet
        return None if self._spare(self.receipt_path.name).exists() else read_object(self.receipt_path)

    def size_bytes(self) -> int | None:
        """Return the size of the score file, or None where there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise output_error(self.path, error) from None

    def publishing(self, fingerprint: str) -> bool:
        """Tell whether this job was killed while it published."""
        planned = self._planned()
        return planned is not None and planned["fingerprint"] == fingerprint

    def _planned(self) -> dict[str, Any] | None:
        return read_object(self.staging_folder / "publish.json", self._spare("publish.json"))

    def staged(self, fingerprint: bytes) -> list[tuple[PartKey, str, int]]:
        """List the whole parts of a job: key, its text, and score bytes.

        Raises:
            OutputBusyError: the disk fails.
        """
        try:
            sizes = {entry.name: entry.stat().st_size for entry in os.scandir(self.parts)}
            found = []
            for name in sorted(sizes):
                text = name.removesuffix(QUARANTINE)
                key = PartKey.decode(text)
                if key is None or key.fingerprint != fingerprint or (name != text and not key.unscored):
                    continue
                # else the machine went down before the disk had it
                if is_whole(self.parts, text, key):
                    found.append((key, text, 0 if key.unscored else sizes[name]))
        except OSError as error:
            raise output_error(self.parts, error) from None
        return found

    def account(self, key: str) -> bytes:
        """Read the account part of a key.

        Raises:
            OutputBusyError: the disk fails.
        """
        try:
            return (self.parts / (key + ACCOUNT)).read_bytes()
        except OSError as error:
            raise output_error(self.parts, error) from None

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
        try:
            return self._publish(header, parts, mode, fingerprint) if score_file else self._publish_marks(parts)
        except OSError as error:
            raise output_error(self.path, error) from None

    def _publish(self, header: bytes, parts: Sequence[tuple[str, int]], mode: IfExists, fingerprint: str) -> Published:
        if self._claim is not None:
            self._claim.check()
        planned = self._planned()
        staged = [*sums(parts), *self._quarantine_sums(parts)]
        # another input since the kill makes other parts: what was planned for the old ones is void
        if planned is None or planned["fingerprint"] != fingerprint or planned["staged"] != staged:
            planned = self._plan_publish(header, staged, mode, fingerprint)
            self._write(self.staging_folder / "publish.json", json.dumps(planned).encode())
        base = planned["base"]
        unchanged = version(self.path) == base
        if not unchanged and not has_bytes(self.path, planned["size_bytes"], planned["crc32"]):
            raise taken_meanwhile(str(self.path), changed=True)
        self.receipt_path.unlink(missing_ok=True)
        self._publish_quarantine(parts, planned["quarantine"])
        if unchanged:
            pieces: list[Path | bytes] = [self.path] if planned["base_bytes"] else []
            pieces.append(bytes.fromhex(planned["between"]))
            pieces += [self.parts / key for key, size_bytes in parts if size_bytes]
            self._appear(self.path, pieces, replace=base is not None, size_bytes=planned["size_bytes"])
        offset = planned["quarantine"]["offset"]
        return Published(
            url=str(self.path),
            size_bytes=planned["size_bytes"],
            crc32=planned["crc32"],
            sha256=sha256(self.path),
            base_bytes=planned["base_bytes"],
            appended=tuple(planned["appended"]),
            quarantine=str(self.quarantine_path) if self.quarantine_path.exists() else None,
            quarantine_range=(offset, planned["quarantine"]["size_bytes"] - offset),
        )

    def _publish_marks(self, parts: Sequence[tuple[str, int]]) -> Published:
        """Publish the quarantine alone: the output is what a script wrote into the folder (contract 3.3)."""
        if self._claim is not None:
            self._claim.check()
        self.receipt_path.unlink(missing_ok=True)
        pieces = self._quarantine_parts(parts)
        if pieces:
            self._appear(self.quarantine_path, pieces, replace=True)
        else:
            self.quarantine_path.unlink(missing_ok=True)
        return Published(
            url=str(self.folder), size_bytes=None, crc32=0, sha256=None, base_bytes=0, appended=(),
            quarantine=str(self.quarantine_path) if pieces else None,
            quarantine_range=(0, sum(piece.stat().st_size for piece in pieces)),
        )  # fmt: skip

    def _quarantine_parts(self, parts: Sequence[tuple[str, int]]) -> list[Path]:
        return [self.parts / (key + QUARANTINE) for key in quarantined(parts)]

    def _quarantine_sums(self, parts: Sequence[tuple[str, int]]) -> tuple[int, int]:
        """Return size and CRC-32 of the quarantine parts, one behind the other."""
        size_bytes = crc = 0
        for path in self._quarantine_parts(parts):
            crc = crc32(path, crc)
            size_bytes += path.stat().st_size
        return size_bytes, crc

    def _plan_publish(self, header: bytes, staged: list[int], mode: IfExists, fingerprint: str) -> dict[str, Any]:
        base = version(self.path)
        size_bytes = crc = 0
        between = header
        previous = None
        if base is not None and mode == "fail":
            raise taken_meanwhile(str(self.path), changed=False)
        if base is not None and mode == "append":
            size_bytes, crc, between = base["size_bytes"], crc32(self.path), self._joint(header)
            previous = self.receipt()
        base_bytes = size_bytes
        crc = zlib.crc32(between, crc)
        size_bytes += len(between)
        staged_bytes, staged_crc, lost_bytes, lost_crc = staged
        return {
            "fingerprint": fingerprint, "mode": mode, "base": base, "base_bytes": base_bytes, "between": between.hex(),
            "staged": staged, "size_bytes": size_bytes + staged_bytes,
            "crc32": crc32_combined(crc, staged_crc, staged_bytes),
            "quarantine": self._plan_quarantine(lost_bytes, lost_crc, append=mode == "append"),
            "appended": previous["appended"] if previous is not None else [],
        }  # fmt: skip

    def _plan_quarantine(self, lost_bytes: int, lost_crc: int, *, append: bool) -> dict[str, Any]:
        """Say what the quarantine is and shall be.

        Args:
            lost_bytes: of the lines to be written.
            lost_crc: their CRC-32.
            append: whether the lines that are there stay.
        """
        base = version(self.quarantine_path)
        offset, crc = (base["size_bytes"], crc32(self.quarantine_path)) if append and base is not None else (0, 0)
        # other files of that name than ours may lack the end of their last line
        between = b"\n" if lost_bytes and offset and not _ends_line(self.quarantine_path) else b""
        return {
            "base": base, "offset": offset, "between": between.decode(),
            "size_bytes": offset + len(between) + lost_bytes,
            "crc32": crc32_combined(zlib.crc32(between, crc), lost_crc, lost_bytes),
        }  # fmt: skip

    def _joint(self, header: bytes) -> bytes:
        """Return what goes between the rows that are there and those to append."""
        with open(self.path, "rb") as base:
            first = base.read(max(1, len(header)))
            if not first:
                return header
            if header and first != header:
                raise other_header(str(self.path), header)
        return b"" if _ends_line(self.path) else b"\n"

    def _publish_quarantine(self, parts: Sequence[tuple[str, int]], planned: dict[str, Any]) -> None:
        offset, size_bytes = planned["offset"], planned["size_bytes"]
        if version(self.quarantine_path) != planned["base"]:
            there = self.quarantine_path.exists()
            if there if not size_bytes else not has_bytes(self.quarantine_path, size_bytes, planned["crc32"]):
                raise taken_meanwhile(str(self.quarantine_path), changed=True)
        elif not size_bytes:
            self.quarantine_path.unlink(missing_ok=True)
        elif size_bytes > offset:
            pieces: list[Path | bytes] = [self.quarantine_path] if offset else []
            pieces += [planned["between"].encode(), *self._quarantine_parts(parts)]
            self._appear(self.quarantine_path, pieces, replace=True, size_bytes=size_bytes)

    def _appear(self, path: Path, pieces: Iterable[Path | bytes], *, replace: bool, size_bytes: int = -1) -> None:
        whole = self.staging_folder / (JOINED if path == self.path else JOINED_QUARANTINE)
        whole.unlink(missing_ok=True)
        joined = create_new(whole)
        try:
            for piece in pieces:
                if isinstance(piece, bytes):
                    write_all(joined, piece)
                else:
                    copy_into(joined, piece)
            if size_bytes not in (-1, os.fstat(joined).st_size):
                raise OutputError(f"{path}: its parts changed after they were staged; run again to score them anew")
            sync(joined)
        finally:
            os.close(joined)
        try:
            place(whole, path, replace=replace, abilities=self.abilities)
        except FileExistsError:
            raise taken_meanwhile(str(path), changed=False) from None
        sync_folder(self.folder)

    def finish(self, receipt: dict[str, Any]) -> None:
        """Write the receipt, drop what is staged, and release the claim.

        Raises:
            OutputBusyError: the disk is full or fails.
        """
        try:
            self._write(self.receipt_path, receipt_bytes(receipt))
            sync_folder(self.folder)
        except OSError as error:
            raise output_error(self.receipt_path, error) from None
        self._remove_staging()

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_record(path, self._spare(path.name), data, replaces=self.abilities.replaces)
        except OSError as error:
            raise output_error(path, error) from None

    def _spare(self, name: str) -> Path:
        return self.staging_folder / f"{name}.new"


def _ends_line(path: Path) -> bool:
    """Tell whether a file that is not empty ends with a line end."""
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
