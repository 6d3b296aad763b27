"""The score file on disk: claimed by one driver, staged by many workers, published in one step.

Beside ``predictions.csv`` lies, while a job is not complete, the hidden folder ``.predictions.csv.staging``::

    lock           who holds the claim
    job.json       the job: fingerprint, settings, grid, threads, columns
    header         names of the output's columns
    parts/         the parts, see `runtime.parts`
    spool/         decoded input
    work/          working folders of scoring scripts, and their model
    publish.json   what is about to appear

Publishing: (1) publish.json, (2) the old receipt goes, (3) the quarantine appears or goes, (4) the score file appears,
(5) the receipt appears, (6) the folder goes. Killed anywhere between, the same command goes on at the first step whose
effect is missing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runtime.checksums import crc32_combined
from runtime.disk import copy_into, crc32, has_bytes, link_new, sha256, sync_folder, version
from runtime.errors import OutputBusyError, OutputError
from runtime.parts import ACCOUNT, QUARANTINE, PartKey
from scoring.lifetime import boot_id

__all__ = ["IfExists", "Published", "ScoreFile"]

IfExists = Literal["fail", "overwrite", "append"]
_LATER = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}


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
    """

    url: str
    size_bytes: int | None
    crc32: int
    sha256: str | None
    base_bytes: int
    appended: tuple[dict[str, Any], ...]
    quarantine: str | None


class ScoreFile:
    """A score file in a folder on disk, and what belongs to it.

    Args:
        folder: where the file shall be.
        name: its name.
    """

    def __init__(self, folder: str, name: str) -> None:
        self.folder = Path(folder)
        self.path = self.folder / name
        stem = name.rsplit(".", 1)[0] if "." in name[1:] else name
        self.receipt_path = self.folder / f"_{stem}.receipt.json"
        self.quarantine_path = self.folder / f"_{stem}.quarantine.jsonl"
        self.staging = self.folder / f".{name}.staging"
        self.parts = self.staging / "parts"
        self.spool = self.staging / "spool"
        self.work = self.staging / "work"
        self._lock: int | None = None
        self._made: list[Path] = []

    def claim(self) -> None:
        """Become the one driver of this output.

        Raises:
            OutputBusyError: another driver holds it.
            OutputError: the folder cannot be written.
        """
        try:
            above = [self.folder, *self.folder.parents]
            self._made = [folder for folder in above if not folder.exists()]
            while True:
                self.staging.mkdir(parents=True, exist_ok=True)
                lock = os.open(self.staging / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # a driver that ended may have removed the file between
                    same = os.path.samestat(os.fstat(lock), os.stat(self.staging / "lock"))
                except BlockingIOError:
                    holder = os.pread(lock, 4096, 0).decode("utf-8", "replace")
                    os.close(lock)
                    raise OutputBusyError(
                        f"{self.path}: another driver holds this output ({_holder(holder)})"
                    ) from None
                except FileNotFoundError:
                    same = False
                if same:
                    break
                os.close(lock)
            os.ftruncate(lock, 0)
            os.pwrite(
                lock, json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "boot": boot_id()}).encode(), 0
            )
            self._lock = lock
            self.parts.mkdir(exist_ok=True)
            for folder in (self.spool, self.work):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            self._clear_unfinished()
        except OSError as error:
            raise _output_error(self.folder, error) from None

    def release(self) -> None:
        """Give up the claim; where no part is staged, all that was made for the job goes."""
        if self._lock is None:
            return
        for folder in (self.spool, self.work):
            shutil.rmtree(folder, ignore_errors=True)
        # whoever removed the folder meanwhile wants nothing of it
        with suppress(FileNotFoundError):
            self._clear_unfinished()
            if not os.listdir(self.parts):
                self._remove_staging()
        os.close(self._lock)
        self._lock = None

    def _clear_unfinished(self) -> None:
        """Remove what workers were writing when they were killed."""
        for entry in os.scandir(self.parts):
            if entry.name.startswith("."):
                os.unlink(entry)

    def _remove_staging(self) -> None:
        # the parts before the job that explains them: what a kill leaves here is still understood
        shutil.rmtree(self.parts, ignore_errors=True)
        shutil.rmtree(self.staging, ignore_errors=True)
        with suppress(OSError):
            for folder in self._made:
                folder.rmdir()

    def discard(self) -> None:
        """Drop all that is staged."""
        shutil.rmtree(self.parts)
        self.parts.mkdir()
        for name in ("job.json", "header", "publish.json"):
            (self.staging / name).unlink(missing_ok=True)

    def forget(self, fingerprint: str) -> None:
        """Drop what is staged of a job that is complete: it was killed before it could do so itself."""
        if self.publishing(fingerprint):
            self.discard()

    def job(self) -> dict[str, Any] | None:
        """Return what is recorded of the job whose parts are staged."""
        return _read_object(self.staging / "job.json")

    def record_job(self, job: dict[str, Any]) -> None:
        """Record the job before anything is staged for it."""
        self._write(self.staging / "job.json", json.dumps(job, indent=1).encode())

    def header(self) -> tuple[str, ...]:
        """Return the names of the output's columns, as far as they are known."""
        return tuple(_read_json(self.staging / "header") or ())

    def record_header(self, columns: Sequence[str]) -> None:
        """Stage the names of the output's columns."""
        self._write(self.staging / "header", json.dumps(list(columns)).encode())

    def receipt(self) -> dict[str, Any] | None:
        """Return the receipt, if the output is complete."""
        return _read_object(self.receipt_path)

    def size_bytes(self) -> int | None:
        """Return the size of the score file, or None where there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _output_error(self.path, error) from None

    def publishing(self, fingerprint: str) -> bool:
        """Tell whether this job was killed while it published."""
        planned = _read_object(self.staging / "publish.json")
        return planned is not None and planned["fingerprint"] == fingerprint

    def staged(self, fingerprint: bytes) -> list[tuple[PartKey, str, int]]:
        """List the whole parts of a job: key, its text, and score bytes."""
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(self.parts)}
        found = []
        for name in sorted(sizes):
            text = name.removesuffix(QUARANTINE)
            key = PartKey.decode(text)
            if key is None or key.fingerprint != fingerprint or (name != text and not key.unscored):
                continue
            if key.quarantine and text + QUARANTINE not in sizes:
                continue
            if key.account and text + ACCOUNT not in sizes:
                continue
            if not key.unscored and crc32(self.parts / text) != key.crc:
                # the machine went down before the disk had it
                continue
            found.append((key, text, 0 if key.unscored else sizes[name]))
        return found

    def account(self, key: str) -> bytes:
        """Read the account part of a key."""
        return (self.parts / (key + ACCOUNT)).read_bytes()

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
            OutputBusyError: the disk is full or fails.
        """
        try:
            return self._publish(header, parts, mode, fingerprint) if score_file else self._publish_marks(parts)
        except OSError as error:
            raise _output_error(self.path, error) from None

    def _publish(self, header: bytes, parts: Sequence[tuple[str, int]], mode: IfExists, fingerprint: str) -> Published:
        planned = _read_object(self.staging / "publish.json")
        staged = _sums(parts)
        # another input since the kill makes other parts: what was planned for the old ones is void
        if planned is None or planned["fingerprint"] != fingerprint or planned["staged"] != [*staged]:
            planned = self._plan_publish(header, parts, mode, fingerprint)
            self._write(self.staging / "publish.json", json.dumps(planned).encode())
        base = planned["base"]
        unchanged = _is_version(self.path, base)
        if not unchanged and not has_bytes(self.path, planned["size_bytes"], planned["crc32"]):
            raise OutputError(f"{self.path} was changed by something else while this job ran; nothing was published")
        self.receipt_path.unlink(missing_ok=True)
        self._publish_quarantine(parts, planned)
        if unchanged:
            pieces: list[Path | bytes] = [self.path] if planned["base_bytes"] else []
            pieces.append(bytes.fromhex(planned["between"]))
            pieces += [self.parts / key for key, size_bytes in parts if size_bytes]
            self._appear(self.path, pieces, replace=base is not None, size_bytes=planned["size_bytes"])
        return Published(
            url=str(self.path),
            size_bytes=planned["size_bytes"],
            crc32=planned["crc32"],
            sha256=sha256(self.path),
            base_bytes=planned["base_bytes"],
            appended=tuple(planned["appended"]),
            quarantine=str(self.quarantine_path) if self.quarantine_path.exists() else None,
        )

    def _publish_marks(self, parts: Sequence[tuple[str, int]]) -> Published:
        """Publish the quarantine alone: the output is what a script wrote into the folder (contract 3.3)."""
        self.receipt_path.unlink(missing_ok=True)
        keys = [key for key, _ in parts if (decoded := PartKey.decode(key)) and decoded.quarantine]
        if keys:
            self._appear(self.quarantine_path, (self.parts / (key + QUARANTINE) for key in keys), replace=True)
        else:
            self.quarantine_path.unlink(missing_ok=True)
        return Published(
            url=str(self.folder), size_bytes=None, crc32=0, sha256=None, base_bytes=0, appended=(),
            quarantine=str(self.quarantine_path) if keys else None,
        )  # fmt: skip

    def _plan_publish(
        self, header: bytes, parts: Sequence[tuple[str, int]], mode: IfExists, fingerprint: str
    ) -> dict[str, Any]:
        base = version(self.path)
        size_bytes = crc = 0
        between = header
        previous = None
        if base is not None and mode == "fail":
            raise OutputError(f"{self.path} exists by now; nothing was published (see --if-exists)")
        if base is not None and mode == "append":
            size_bytes, crc, between = base["size_bytes"], crc32(self.path), self._joint(header)
            previous = self.receipt()
        base_bytes = size_bytes
        crc = zlib.crc32(between, crc)
        size_bytes += len(between)
        staged_bytes, staged_crc = _sums(parts)
        return {
            "fingerprint": fingerprint, "mode": mode, "base": base, "base_bytes": base_bytes, "between": between.hex(),
            "staged": [staged_bytes, staged_crc], "size_bytes": size_bytes + staged_bytes,
            "crc32": crc32_combined(crc, staged_crc, staged_bytes),
            "quarantine_base": version(self.quarantine_path),
            "appended": previous["appended"] if previous is not None else [],
        }  # fmt: skip

    def _joint(self, header: bytes) -> bytes:
        """Return what goes between the rows that are there and those to append."""
        with open(self.path, "rb") as base:
            first = base.read(max(1, len(header)))
            if not first:
                return header
            if header and first != header:
                raise OutputError(
                    f"{self.path} has another header than the rows to append ({header.decode().strip()}); "
                    "append them to another file, or use --if-exists overwrite"
                )
            base.seek(-1, os.SEEK_END)
            return b"" if base.read(1) == b"\n" else b"\n"

    def _publish_quarantine(self, parts: Sequence[tuple[str, int]], planned: dict[str, Any]) -> None:
        keys = [key for key, _ in parts if (decoded := PartKey.decode(key)) and decoded.quarantine]
        before = planned["quarantine_base"]
        appended = planned["mode"] == "append" and before is not None
        if not _is_version(self.quarantine_path, before):
            return
        if keys:
            pieces: list[Path | bytes] = [self.quarantine_path] if appended else []
            self._appear(
                self.quarantine_path, [*pieces, *(self.parts / (key + QUARANTINE) for key in keys)], replace=True
            )
        elif not appended:
            self.quarantine_path.unlink(missing_ok=True)

    def _appear(self, path: Path, pieces: Iterable[Path | bytes], *, replace: bool, size_bytes: int = -1) -> None:
        temporary = self.staging / "joined"
        with open(temporary, "wb") as joined:
            for piece in pieces:
                if isinstance(piece, bytes):
                    joined.write(piece)
                else:
                    joined.flush()
                    copy_into(joined.fileno(), piece)
            joined.flush()
            if size_bytes not in (-1, os.fstat(joined.fileno()).st_size):
                raise OutputError(f"{path}: its parts changed after they were staged; run again to score them anew")
            os.fsync(joined.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            try:
                link_new(temporary, path)
            except FileExistsError:
                raise OutputError(f"{path} exists by now; nothing was published (see --if-exists)") from None
        sync_folder(self.folder)

    def finish(self, receipt: dict[str, Any]) -> None:
        """Write the receipt, drop what is staged, and release the claim.

        Raises:
            OutputBusyError: the disk is full or fails.
        """
        try:
            self._write(
                self.receipt_path,
                # what stands for a file name that is no text becomes an escape of JSON
                (json.dumps(receipt, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"),
            )
            sync_folder(self.folder)
        except OSError as error:
            raise _output_error(self.receipt_path, error) from None
        self._remove_staging()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write(self, path: Path, data: bytes) -> None:
        try:
            descriptor, name = tempfile.mkstemp(dir=self.staging, prefix=".new-")
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except OSError as error:
            raise _output_error(path, error) from None


def _sums(parts: Sequence[tuple[str, int]]) -> tuple[int, int]:
    """Return size and CRC-32 of all parts, one behind the other."""
    size_bytes = crc = 0
    for text, part_bytes in parts:
        key = PartKey.decode(text)
        if key is not None and part_bytes:
            crc = crc32_combined(crc, key.crc, part_bytes)
            size_bytes += part_bytes
    return size_bytes, crc


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _holder(text: str) -> str:
    try:
        content = json.loads(text)
        pid, host = content["pid"], content["host"]
    except (ValueError, KeyError, TypeError):
        return "its name is not known"
    state = ""
    if host == socket.gethostname():
        with suppress(OSError, IndexError):
            stopped = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
            state = ", which is stopped" if stopped else ""
    return f"process {pid} on {host}{state}"


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    if error.errno in _LATER:
        return OutputBusyError(f"{path}: cannot be written: {reason}; what is staged is kept, run again to go on")
    return OutputError(f"{path}: cannot be written: {reason}")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise OutputError(f"{path}: is damaged; move it away, or use --restart") from None
    except OSError as error:
        raise _output_error(path, error) from None


def _read_object(path: Path) -> dict[str, Any] | None:
    content = _read_json(path)
    if content is not None and not isinstance(content, dict):
        raise OutputError(f"{path}: is damaged; move it away, or use --restart")
    return content


def _is_version(path: Path, expected: dict[str, Any] | None) -> bool:
    return version(path) == expected
