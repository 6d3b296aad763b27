"""What a scoring script writes into its output folder, sent to storage: the folder is local, the output is not.

Before a mini-batch counts as done, all files of the folder that are new or changed are sent, and those that are gone
are deleted there; once more when the script has shut down. All workers share the folder, and a log beside it that says
what was sent, so that nothing is sent twice; of one file only one worker at a time sends. A file says in its metadata
which job wrote it: one that goes on after a kill, maybe on another machine, fetches its files first
(`scoring.move_output`), for scripts may append to them.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scoring.blob_access import BlobAccess, container_client
from scoring.errors import PredictionError, StorageError

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContainerClient

__all__ = ["MARK", "OutputFiles", "OutputFolder", "told"]

AT_ONCE = 4
BLOCK_BYTES = 8 * 2**20
MOST_BLOCKS = 40_000
TICK_NS = 10_000_000
"""A file written within the last tick of the kernel's clock may be written again without another time on it."""
MARK = "scoreline_job"
THROTTLED = 429

LOCKS = 256
Seen = tuple[int, int, int]
"""Size, and times of the last change of content and of anything, by which a file is known to be the same."""
UNSETTLED: Seen = (-1, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFolder:
    """A local folder that a scoring script writes into, and where on storage its files belong.

    Attributes:
        path: of the folder, which is there.
        sent: path of a folder elsewhere, with the log of what was sent.
        access: how the container is reached.
        prefix: what the names of the blobs begin with: a path with a slash at its end, or nothing.
        taken: names in the folder that are the job's own, or begin so where they end with a slash.
        mark: of the job, in the metadata of its files.
    """

    path: str
    sent: str
    access: BlobAccess = field(repr=False)
    prefix: str
    taken: tuple[str, ...]
    mark: str


class OutputFiles:
    """The files of a folder, as one process sends them."""

    def __init__(self, folder: OutputFolder) -> None:
        self._folder = folder
        self._log = os.path.join(folder.sent, "log")
        self._known: dict[str, Seen | None] = {}
        self._read_to = 0
        self._reading = threading.Lock()
        self._opened: tuple[int, ContainerClient] | None = None

    def send(self) -> None:
        """Send what is new or changed since anybody looked last.

        Raises:
            PredictionError: a file has a name that it cannot have on storage.
            StorageError: storage refuses it or does not answer, or a file cannot be read.
        """
        from concurrent.futures import ThreadPoolExecutor

        changed, gone = self.left()
        for name in changed:
            self._check(name)
        if changed or gone:
            self._client()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(self._bring, [*changed, *gone]))

    def left(self) -> tuple[list[str], list[str]]:
        """Return the files that are not as they were sent, and those that were sent and are gone."""
        self._read_log()
        found = self._found()
        changed = sorted(name for name, seen in found.items() if self._known.get(name) != seen)
        return changed, sorted(name for name, seen in self._known.items() if seen is not None and name not in found)

    def note(self, name: str) -> None:
        """Note that a file is the same as on storage."""
        self._note(name, _seen(os.path.join(self._folder.path, name)))

    def _bring(self, name: str) -> None:
        """Make storage have one file as it is now."""
        path = os.path.join(self._folder.path, name)
        with self._locked(name):
            # another worker may have done it meanwhile
            self._read_log()
            settled_ns = time.time_ns() - TICK_NS
            seen = _seen(path)
            if seen is not None and seen[2] > settled_ns:
                time.sleep(TICK_NS / 1e9)
                settled_ns = time.time_ns() - TICK_NS
                seen = _seen(path)
            if seen == self._known.get(name):
                return
            if seen is None or not self._send(name):
                self._ask(name, lambda blob: blob.delete_blob(), missing_ok=True)
                self._note(name, None)
            else:
                # one that others are writing just now is sent again
                self._note(name, seen if seen[2] <= settled_ns else UNSETTLED)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Be the only one that sends a file: the lock ends with the process."""
        number = zlib.crc32(name.encode("utf-8", "surrogateescape")) % LOCKS
        try:
            lock = open(os.path.join(self._folder.sent, str(number)), "ab")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise StorageError(f"{error.filename}: cannot be written: {error.strerror}") from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read_log(self) -> None:
        """Learn what was sent since."""
        with self._reading:
            try:
                with open(self._log, "rb") as log:
                    log.seek(self._read_to)
                    data = log.read()
            except FileNotFoundError:
                return
            except OSError as error:
                raise StorageError(f"{self._log}: cannot be read: {error.strerror}") from None
            whole = data.rfind(b"\n") + 1
            for line in data[:whole].splitlines():
                # whoever was killed may have left half a line
                with suppress(ValueError):
                    name, *seen = json.loads(line)
                    self._known[name] = (seen[0], seen[1], seen[2]) if seen else None
            self._read_to += whole

    def _note(self, name: str, seen: Seen | None) -> None:
        line = b"\n" + json.dumps([name, *(seen or ())]).encode() + b"\n"
        try:
            with open(self._log, "ab", buffering=0) as log:
                log.write(line)
        except OSError as error:
            raise StorageError(f"{self._log}: cannot be written: {error.strerror}") from None

    def _found(self) -> dict[str, Seen]:
        """Look at the files of the folder."""
        found: dict[str, Seen] = {}
        folders = [""]
        while folders:
            above = folders.pop()
            try:
                entries = list(os.scandir(os.path.join(self._folder.path, above)))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(f"{error.filename}: cannot be listed: {error.strerror}") from None
            for entry in entries:
                name = above + entry.name
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(name + "/")
                    elif stat.S_ISREG((status := entry.stat()).st_mode):
                        found[name] = status.st_size, status.st_mtime_ns, status.st_ctime_ns
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise StorageError(f"{error.filename}: cannot be read: {error.strerror}") from None
        return found

    def _check(self, name: str) -> None:
        """Refuse a name that a file cannot have on storage.

        Raises:
            PredictionError: it cannot.
        """
        if any(name == taken or (taken.endswith("/") and name.startswith(taken)) for taken in self._folder.taken):
            raise PredictionError(
                f"the script wrote {name} into the output folder, and on storage that is a file of the job itself; "
                "let it choose another name"
            )
        try:
            name.encode()
        except UnicodeEncodeError:
            raise PredictionError(
                f"the script wrote {name!r} into the output folder, and names on storage are UTF-8; "
                "let it choose another name"
            ) from None

    def _send(self, name: str) -> bool:
        """Send a file; False where it is gone already."""
        metadata = {MARK: self._folder.mark}
        try:
            with open(os.path.join(self._folder.path, name), "rb") as file:
                size_bytes = os.fstat(file.fileno()).st_size
                block_bytes = max(BLOCK_BYTES, -(-size_bytes // MOST_BLOCKS))
                data = file.read(block_bytes)
                if len(data) < block_bytes:
                    self._ask(name, lambda blob: blob.upload_blob(data, overwrite=True, metadata=metadata))
                    return True
                # in blocks of our own: the library would hold 64 MiB of each file in memory
                nonce = os.urandom(8).hex()
                ids: list[str] = []
                while data:
                    ids.append(f"{nonce}{len(ids):08d}")
                    self._ask(name, lambda blob, data=data: blob.stage_block(ids[-1], data))  # type: ignore[misc]
                    data = file.read(block_bytes)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError(f"{error.filename or name}: cannot be read: {error.strerror}") from None
        self._ask(name, lambda blob: blob.commit_block_list(_blocks(ids), metadata=metadata))
        return True

    def _ask(self, name: str, call: Callable[[BlobClient], object], *, missing_ok: bool = False) -> None:
        """Ask storage for something; what it is throttling with 429 the library does not ask again itself.

        Raises:
            StorageError: it refuses, or does not answer.
        """
        from azure.core.exceptions import AzureError, ResourceNotFoundError

        tries = self._folder.access.patience
        while True:
            try:
                call(self._client().get_blob_client(self._folder.prefix + name))
            except ResourceNotFoundError as error:
                if missing_ok and getattr(error, "error_code", None) in (None, "BlobNotFound"):
                    return
                raise self._told(name, error) from None
            except AzureError as error:
                if tries <= 0 or getattr(error, "status_code", None) != THROTTLED:
                    raise self._told(name, error) from None
            else:
                return
            tries -= 1
            time.sleep(2.0 ** (self._folder.access.patience - tries - 1))

    def _client(self) -> ContainerClient:
        """Return the client of this process: one that came over a fork would share its connections."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), container_client(self._folder.access)
        return self._opened[1]

    def _told(self, name: str, error: Exception) -> StorageError:
        return told(f"{self._folder.access.url_of(self._folder.prefix + name)}: cannot be written", error)


def told(what: str, error: Exception) -> StorageError:
    """Say what storage answered, in our words: the library's may hold an address with its query."""
    status, code = getattr(error, "status_code", None), getattr(error, "error_code", None)
    code = getattr(code, "value", code) or type(error).__name__
    said = f"storage answers {status} ({code})" if status else f"storage does not answer ({code})"
    return StorageError(f"{what}: {said}")


def _blocks(ids: list[str]) -> list[Any]:
    from azure.storage.blob import BlobBlock

    return [BlobBlock(each) for each in ids]


def _seen(path: str) -> Seen | None:
    """Look at a file; None where there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns) if stat.S_ISREG(status.st_mode) else None
