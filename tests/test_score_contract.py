"""The contract of outputs, for each store."""

from __future__ import annotations

import os
import pickle
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from runtime.blob_score_file import BlobScoreFile
from runtime.errors import OutputBusyError
from runtime.parts import LocalParts
from runtime.score_file import ScoreFile
from runtime.store_parts import open_store
from runtime.store_score_file import StoreScoreFile
from scoring.blob_access import BlobAccess, container_client
from tests.azure.azurite import Azurite, azurite, soon
from tests.azure.fault_proxy import CUT, DROPPED_AFTER, DROPPED_BEFORE, Delay, Fault, FaultProxy, Request, Status
from tests.score_contract import *  # noqa: F403 (the suite)
from tests.score_contract import NAME, Place
from tests.thorough import THOROUGH, usual

__all__ = ["azurite", "soon"]

# Azure's library leaves a connection on which an answer was cut off to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")

CHANGES = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """A folder on disk."""

    folder: Path
    stride: int = 3

    def output(self) -> ScoreFile:
        """Return the output."""
        return ScoreFile(str(self.folder), NAME)

    def writer(self, output: ScoreFile) -> Any:
        """Begin a part."""
        return LocalParts(str(output.parts), output.abilities).begin()

    def put(self, name: str, data: bytes) -> None:
        """Write a file."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_bytes(data)

    def get(self, name: str) -> bytes | None:
        """Read a file."""
        path = self.folder / name
        return path.read_bytes() if path.exists() else None

    def names(self) -> set[str]:
        """List the folder."""
        return set(os.listdir(self.folder)) if self.folder.exists() else set()

    def watch(self, change: Callable[[str], None]) -> None:
        """Tell what is opened to write, moved or deleted."""

        def look(event: str, arguments: tuple[Any, ...]) -> None:
            wrote = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGES or wrote:
                change(f"{event} {arguments[0]}")

        sys.addaudithook(look)

    def last_words(self) -> bytes:
        """Nothing: the disk has it."""
        return b""

    def listen(self, words: bytes) -> None:
        """Nothing was left."""


@dataclass(frozen=True, slots=True)
class BlobPlace:
    """A folder in a container.

    Attributes:
        access: by which the output is reached.
        direct: how the test looks at it.
        stride: see `Place`.
        parts: how many are expected.
    """

    access: BlobAccess
    direct: BlobAccess
    stride: int = 1
    parts: int = 1

    def output(self) -> BlobScoreFile:
        """Return the output."""
        output = BlobScoreFile(self.access, "to/score", NAME)
        output.expect(self.parts)
        return output

    def writer(self, output: BlobScoreFile) -> Any:
        """Begin a part."""
        return output.staging.begin()

    def put(self, name: str, data: bytes) -> None:
        """Write a blob."""
        with container_client(self.direct) as client:
            client.upload_blob(f"to/score/{name}", data, overwrite=True)

    def get(self, name: str) -> bytes | None:
        """Read a blob."""
        with container_client(self.direct) as client:
            blob = client.get_blob_client(f"to/score/{name}")
            return blob.download_blob().readall() if blob.exists() else None

    def names(self) -> set[str]:
        """List the container."""
        with container_client(self.direct) as client:
            names = list(client.list_blob_names())
        assert all(name.startswith("to/score/") for name in names)
        return {name.split("/")[2] for name in names}

    def watch(self, change: Callable[[str], None]) -> None:
        """Tell what is sent to change something."""

        def look(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "http.client.send" and arguments[1][:4] in (b"PUT ", b"DELE", b"POST"):
                change(bytes(arguments[1]).split(b"\r\n")[0].decode())

        sys.addaudithook(look)

    def last_words(self) -> bytes:
        """Nothing: the server has it."""
        return b""

    def listen(self, words: bytes) -> None:
        """Nothing was left."""


@dataclass(frozen=True, slots=True)
class MemoryPlace:
    """A folder of fsspec's store in memory, which is each process's own."""

    folder: str
    stride: int = 1

    def output(self) -> StoreScoreFile:
        """Return the output."""
        return StoreScoreFile("memory", self.folder, NAME)

    def writer(self, output: StoreScoreFile) -> Any:
        """Begin a part."""
        return output.staging.begin()

    def put(self, name: str, data: bytes) -> None:
        """Write an object."""
        open_store("memory").pipe_file(f"{self.folder}/{name}", data)

    def get(self, name: str) -> bytes | None:
        """Read an object."""
        store = open_store("memory")
        path = f"{self.folder}/{name}"
        return store.cat_file(path) if store.exists(path) else None

    def names(self) -> set[str]:
        """List the folder."""
        found = open_store("memory").find(self.folder)
        return {name.removeprefix(self.folder + "/").split("/")[0] for name in found}

    def watch(self, change: Callable[[str], None]) -> None:
        """Tell what is written or deleted."""
        commit, delete = MemoryFile.commit, MemoryFileSystem.rm_file

        def watched_commit(file: MemoryFile) -> None:
            change(f"write {file.path}")
            commit(file)

        def watched_delete(store: MemoryFileSystem, path: str) -> None:
            change(f"delete {path}")
            delete(store, path)

        MemoryFile.commit, MemoryFileSystem.rm_file = watched_commit, watched_delete

    def last_words(self) -> bytes:
        """Return all that is in memory."""
        return pickle.dumps({path: file.getvalue() for path, file in MemoryFileSystem.store.items()})

    def listen(self, words: bytes) -> None:
        """Take all that was in memory."""
        MemoryFileSystem.store.clear()
        for path, data in pickle.loads(words).items():
            open_store("memory").pipe_file(path, data)


FAULTS = (DROPPED_AFTER, Status(code=500), DROPPED_BEFORE, Status(code=503, retry_after_s=0), CUT, Delay(seconds=0.05))


def every_third(request: Request) -> Fault:
    """Let every third request meet the next fault."""
    return FAULTS[request.number // 3 % len(FAULTS)] if request.number % 3 == 0 else None


@dataclass(frozen=True, slots=True)
class Server:
    """A server of blobs.

    Attributes:
        azurite: it.
        port: of the proxy before it; 0 for none.
        parts: how many are expected.
    """

    azurite: Azurite
    port: int = 0
    parts: int = 1


PLACES = ("disk", "memory", "azurite", "azurite with small parts", "azurite with faults")


# each fault of each request has its tests in tests/azure/test_blob_faults.py
@pytest.fixture(params=usual(PLACES, seldom=["azurite with faults"]), scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server | str]:
    """Return the server of the place, if it has one: started before a test, it is not the test's."""
    if "azurite" not in request.param:
        yield request.param
        return
    started: Azurite = request.getfixturevalue("azurite")
    if "faults" not in request.param:
        yield Server(started, parts=1_000_000 if "small" in request.param else 1)
        return
    with FaultProxy(started.port, every_third) as proxy:
        yield Server(started, proxy.port)
    # a process may have had but one of these tests
    assert len(proxy.requests) < 3 * len(FAULTS) + 3 or {fault for _, fault in proxy.requests} >= {None, *FAULTS}


@pytest.fixture
def new_place(server: Server | str, tmp_path: Path, soon: None) -> Callable[[], Place]:  # noqa: ARG001
    """Return a function that makes an empty place."""
    numbers = iter(range(1_000_000))
    if isinstance(server, str):
        if server == "memory":
            # the folder of a test that is over may be had again, and what is in memory is still there
            return lambda: MemoryPlace(f"/{tmp_path.name}-{uuid.uuid4().hex}/{next(numbers)}")
        return lambda: DiskPlace(tmp_path / str(next(numbers)))

    def new() -> Place:
        direct = server.azurite.new_container()
        access = server.azurite.access(direct.container, port=server.port)
        # a request that failed is sent again, which makes many steps of one
        stride = 1 if THOROUGH else 14 if server.port else 8 if server.parts > 1 else 5
        return BlobPlace(access, direct, stride=stride, parts=server.parts)

    return new


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    """Return an empty place."""
    return new_place()


def test_store_looks_at_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver whose lock is another's by now is stopped, though it writes nothing just then."""
    monkeypatch.setattr("runtime.store_score_file.LOOK_S", 0.0)
    output = StoreScoreFile("memory", "/to/score", NAME)
    output.claim()
    output.check_claim()
    lock = f"/to/score/.{NAME}.staging/lock"
    open_store("memory", ()).pipe_file(lock, b"another driver")
    with pytest.raises(OutputBusyError, match="another driver took this output over"):
        output.check_claim()
    output.release()
    assert open_store("memory", ()).cat_file(lock) == b"another driver"
    open_store("memory", ()).rm("/to", recursive=True)
