"""What a scoring script writes into its output folder, sent to storage: the folder is local, the output is not.

Before a mini-batch counts as done, all files of the folder that are new or changed are sent, and those that are gone
are deleted there; once more when the script has shut down. All workers share the folder, and a log beside it that says
what was sent, so that nothing is sent twice. A file says in its metadata which job wrote it: one that goes on after a
kill, maybe on another machine, fetches its files first (`fetch`), for scripts may append to them.

As a process of its own (``python -m scoring.output_files``) this takes its order from standard input: JSON with the
`OutputFolder`, what to do (send or fetch), and the parent. What went wrong is the last line of standard error; exit
code 2 says that it will go wrong again, 75 that it may be tried later.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from scoring.blob_access import BlobAccess, container_client
from scoring.errors import PredictionError, ScorelineError, StorageError
from scoring.lifetime import die_with_parent

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContainerClient

__all__ = ["OutputFiles", "OutputFolder", "fetch"]

AT_ONCE = 4
BLOCK_BYTES = 8 * 2**20
MOST_BLOCKS = 40_000
TICK_NS = 10_000_000
"""A file written within the last tick of the kernel's clock may be written again without another time on it."""
MARK = "scoreline_job"
REFUSED = 2
TRY_LATER = 75
THROTTLED = 429

Seen = tuple[int, int, int]
"""Size, and times of the last change of content and of anything, by which a file is known to be the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFolder:
    """A local folder that a scoring script writes into, and where on storage its files belong.

    Attributes:
        path: of the folder, which is there.
        log: path of the log of what was sent, outside of the folder.
        access: how the container is reached.
        prefix: what the names of the blobs begin with: a path with a slash at its end, or nothing.
        taken: names in the folder that are the job's own, or begin so where they end with a slash.
        mark: of the job, in the metadata of its files.
    """

    path: str
    log: str
    access: BlobAccess = field(repr=False)
    prefix: str
    taken: tuple[str, ...]
    mark: str


class OutputFiles:
    """The files of a folder, as one process sends them."""

    def __init__(self, folder: OutputFolder) -> None:
        self._folder = folder
        self._known: dict[str, Seen | None] = {}
        self._read_to = 0
        self._opened: tuple[int, ContainerClient] | None = None

    def send(self) -> None:
        """Send what is new or changed since anybody looked last.

        Raises:
            PredictionError: a file has a name that it cannot have on storage.
            StorageError: storage refuses it or does not answer, or a file cannot be read.
        """
        from concurrent.futures import ThreadPoolExecutor

        with self._locked() as log:
            settled_ns = time.time_ns() - TICK_NS
            found = self._found()
            if not self._changed(found) and not self._gone(found):
                return
            if any(found[name][2] > settled_ns for name in self._changed(found)):
                time.sleep(TICK_NS / 1e9)
                settled_ns = time.time_ns() - TICK_NS
                found = self._found()
            changed = self._changed(found)
            for name in changed:
                self._check(name)
            self._client()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for name, sent in zip(changed, pool.map(self._send, changed), strict=True):
                    # one that others are writing just now is sent again
                    if sent and found[name][2] <= settled_ns:
                        self._note(log, name, found[name])
            for name in self._gone(found):
                self._ask(name, lambda blob: blob.delete_blob(), missing_ok=True)
                self._note(log, name, None)

    def left(self) -> bool:
        """Tell whether something is not sent yet."""
        with self._locked():
            found = self._found()
            return bool(self._changed(found) or self._gone(found))

    def note(self, name: str) -> None:
        """Note that a file is the same as on storage."""
        with self._locked() as log:
            self._note(log, name, _seen(os.path.join(self._folder.path, name)))

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        """Be the only one that looks, and know all that was sent: the lock ends with the process."""
        try:
            log = open(self._folder.log, "a+b")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise StorageError(f"{self._folder.log}: cannot be written: {error.strerror}") from None
        with log:
            fcntl.flock(log, fcntl.LOCK_EX)
            log.seek(self._read_to)
            for line in log:
                # whoever was killed may have left half a line
                if line.endswith(b"]\n"):
                    name, *seen = json.loads(line)
                    self._known[name] = (seen[0], seen[1], seen[2]) if seen else None
            self._read_to = log.tell()
            try:
                yield log
            finally:
                log.flush()

    def _note(self, log: IO[bytes], name: str, seen: Seen | None) -> None:
        self._known[name] = seen
        log.write(b"\n" + json.dumps([name, *(seen or ())]).encode() + b"\n")

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

    def _changed(self, found: dict[str, Seen]) -> list[str]:
        return sorted(name for name, seen in found.items() if self._known.get(name) != seen)

    def _gone(self, found: dict[str, Seen]) -> list[str]:
        return sorted(name for name, seen in self._known.items() if seen is not None and name not in found)

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
        return _told(f"{self._folder.access.url_of(self._folder.prefix + name)}: cannot be written", error)


def _told(what: str, error: Exception) -> StorageError:
    """Say what storage answered, in our words: the library's may hold an address with its query."""
    status, code = getattr(error, "status_code", None), getattr(error, "error_code", None)
    code = getattr(code, "value", code) or type(error).__name__
    said = f"storage answers {status} ({code})" if status else f"storage does not answer ({code})"
    return StorageError(f"{what}: {said}")


def _blocks(ids: list[str]) -> list[Any]:
    from azure.storage.blob import BlobBlock

    return [BlobBlock(each) for each in ids]


def _seen(path: str) -> Seen:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def fetch(folder: OutputFolder) -> int:
    """Fetch what the script of this job wrote before it was stopped; return how many files it is.

    Raises:
        StorageError: storage refuses it or does not answer, or the disk fails.
    """
    from concurrent.futures import ThreadPoolExecutor

    from azure.core.exceptions import AzureError

    files = OutputFiles(folder)

    def get(name: str) -> None:
        target = os.path.join(folder.path, name)
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "xb") as file:
                client.download_blob(folder.prefix + name, max_concurrency=1).readinto(file)
        except AzureError as error:
            raise _told(f"{folder.access.url_of(folder.prefix + name)}: cannot be read", error) from None
        except OSError as error:
            raise StorageError(f"{target}: cannot be written: {error.strerror or error}") from None

    with container_client(folder.access) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            listed = client.list_blobs(name_starts_with=folder.prefix or None, include=["metadata"])
            ours = [blob.name for blob in listed if (blob.metadata or {}).get(MARK) == folder.mark]
        except AzureError as error:
            raise _told(f"{folder.access.url_of(folder.prefix)}: cannot be listed", error) from None
        names = [name.removeprefix(folder.prefix) for name in ours]
        names = [name for name in names if not {"", ".", ".."} & set(name.split("/"))]
        list(pool.map(get, names))
    for name in names:
        files.note(name)
    return len(names)


def main() -> int:
    """Do what the order on standard input says."""
    order = json.load(sys.stdin)
    die_with_parent(order["parent"])
    given = order["folder"]
    folder = OutputFolder(**{**given, "access": BlobAccess(**given["access"]), "taken": tuple(given["taken"])})
    try:
        if order["do"] == "fetch":
            fetch(folder)
        else:
            OutputFiles(folder).send()
    except ScorelineError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return TRY_LATER if isinstance(error, StorageError) else REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
