"""Killed or frozen at any moment on Blob storage: nothing half-written, and the bytes of a calm run on local disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobLeaseClient, BlobProperties

from scoring.blob_access import BlobAccess, container_client
from tests.azure.azurite import KEY, Azurite
from tests.azure.fault_proxy import DROPPED_AFTER, DROPPED_BEFORE, Fault, FaultProxy, Request
from tests.torture import run as torture

PATIENCE_S = 60.0
FOLDER = "a folder/score"
SCORE = f"{FOLDER}/predictions.csv"
STAGING = f"{FOLDER}/.predictions.csv.staging/"
LEFT = [f"{FOLDER}/_predictions.{name}" for name in ("quarantine.jsonl", "receipt.json")] + [SCORE]


@dataclass(frozen=True, slots=True)
class Calm:
    """A job, and what a calm run of it leaves on local disk.

    Attributes:
        arguments: but for the output.
        files: contents by the names of the blobs, without the receipt.
    """

    arguments: tuple[str, ...]
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def calm(heart_model: Path, heart_rows: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Run a job of many mini-batches in peace; some of its rows do not fit."""
    folder = tmp_path_factory.mktemp("calm")
    lines = heart_rows(20_000).read_text().splitlines()
    lines[7::3_000] = [line.replace(",", "x,", 1) for line in lines[7::3_000]]
    (folder / "in.csv").write_text("\n".join([*lines, ""]))
    arguments = ("--model", str(heart_model), "--input", str(folder / "in.csv"), "--chunk-rows", "2048",
                 "--cells-per-mini-batch", "1", "--workers", "2", "--max-quarantined", "100%")  # fmt: skip
    command = [sys.executable, "-m", "runtime.cli", "run", *arguments, "--output", str(folder / "score"), "--quiet"]
    subprocess.run(command, check=True)
    files = {f"{FOLDER}/{path.name}": path.read_bytes() for path in (folder / "score").iterdir()}
    del files[LEFT[1]]
    assert [*sorted([*files, LEFT[1]])] == LEFT
    return Calm(arguments, files)


@contextmanager
def driver(calm: Calm, access: BlobAccess) -> Iterator[subprocess.Popen[str]]:
    """Start the job; whatever becomes of it, nothing of it stays."""
    url = access.url_of(FOLDER).replace(" ", "%20")
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime.cli", "run", *calm.arguments, "--output", url],
        env={**os.environ, "AZURE_STORAGE_KEY": KEY}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            for each in psutil.Process(process.pid).children(recursive=True):
                each.kill()
        process.kill()
        process.communicate()


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait for something to become true while a job runs."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def blobs(access: BlobAccess, *, unseen: bool = False) -> dict[str, BlobProperties]:
    """List all blobs, those without a committed block too if asked."""
    with container_client(access) as client:
        include = ["metadata", "uncommittedblobs"] if unseen else ["metadata"]
        return {each.name: each for each in client.list_blobs(include=include)}


def staged(access: BlobAccess) -> int:
    """Count the parts that are staged."""
    with container_client(access) as client, suppress(AzureError):
        return len(client.get_blob_client(SCORE).get_block_list("uncommitted")[1])
    return 0


def check_complete(access: BlobAccess, calm: Calm, tmp_path: Path) -> None:
    """Check that all that is there are the bytes of the calm run, and a receipt that is true."""
    with container_client(access) as client:
        found = {name: client.download_blob(name).readall() for name in client.list_blob_names()}
    for name, data in found.items():
        path = tmp_path / "found" / name.removeprefix(f"{FOLDER}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert sorted(found) == LEFT
    assert {name: data for name, data in found.items() if name in calm.files} == calm.files
    check = [sys.executable, "-m", "runtime.cli", "receipt", "check", str(tmp_path / "found")]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def break_claim(access: BlobAccess) -> None:
    """Break the claim of a driver, as time does when it stands still."""
    with container_client(access) as client:
        BlobLeaseClient(client.get_blob_client(f"{STAGING}lock")).break_lease(0)


def test_random_kills_change_nothing_on_storage(azurite: Azurite) -> None:
    """Jobs killed at random, and run again, end with the bytes of calm runs on disk, and leave nothing behind."""
    del azurite
    tally = torture(runs=1, seed=20_261_123, most_s=60.0, store="azurite", kinds=("table",), rows=150_000)
    assert tally.runs > 0
    assert tally.kills.total() > 0


@dataclass(frozen=True, slots=True)
class Moment:
    """When a driver is frozen.

    Attributes:
        kind: of the request that it just makes.
        path: which blob it is about.
        count: how often it was made before.
        done: whether the server does it.
    """

    kind: str
    path: str
    count: int = 0
    done: bool = False


MOMENTS = {
    "while it scores": Moment("stage", SCORE, count=2, done=True),
    "before the scores appear": Moment("commit", SCORE),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_frozen_driver_wakes(azurite: Azurite, calm: Calm, tmp_path: Path, moment: Moment) -> None:
    """When its claim has ended another driver completes the job; it changes nothing, says so, and fails."""
    access = azurite.new_container()
    drivers: list[psutil.Process] = []
    met = 0
    frozen = threading.Event()

    def freeze(request: Request) -> Fault:
        nonlocal met
        if request.kind != moment.kind or quote(moment.path) not in request.target:
            return None
        met += 1
        if met != moment.count + 1:
            return None
        drivers[0].suspend()
        frozen.set()
        return DROPPED_AFTER if moment.done else DROPPED_BEFORE

    with FaultProxy(azurite.port, freeze) as proxy:
        through = azurite.access(access.container, port=proxy.port)
        with driver(calm, through) as first:
            drivers.append(psutil.Process(first.pid))
            until(frozen.is_set, first)
            if moment.kind == "stage":
                with driver(calm, access) as busy:
                    _, words = busy.communicate(timeout=PATIENCE_S)
                assert busy.returncode == 75
                assert f"another driver holds this output (process {first.pid} on " in words
                assert "which is stopped" in words
            break_claim(access)
            with driver(calm, access) as second:
                _, words = second.communicate(timeout=PATIENCE_S)
            assert second.returncode == 0, words
            before = blobs(access)
            drivers[0].resume()
            _, words = first.communicate(timeout=PATIENCE_S)
    assert first.returncode not in (0, -signal.SIGKILL), words
    assert words.splitlines()[-1].startswith("scoreline: ")
    assert "another" in words.splitlines()[-1], words
    now = blobs(access)
    assert {name: (each.etag, each.metadata) for name, each in now.items()} == {
        # its workers were not frozen: what they staged late they take along
        name: (each.etag, each.metadata) for name, each in before.items() if not name.startswith(f"{STAGING}parts/")
    }
    check_complete(access, calm, tmp_path)
