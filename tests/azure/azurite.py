"""Azurite, a real server of Blob storage: started once by each process of a test run, and stopped with it."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from scoring.blob_access import BlobAccess, container_client
from scoring.lifetime import die_with_parent

ACCOUNT = "devstoreaccount1"
# Azurite's own, known to everybody
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
START_S = 30.0
MAIN = Path("dist/src/blob/main.js")


@dataclass(frozen=True, slots=True, kw_only=True)
class Azurite:
    """A server that runs.

    Attributes:
        port: on which it listens, on 127.0.0.1.
    """

    port: int

    def access(self, container: str, *, port: int = 0, patience: int = 3) -> BlobAccess:
        """Say how a container is reached.

        Args:
            container: its name.
            port: of a proxy that stands before the server.
            patience: retries of a request.
        """
        return BlobAccess(
            account_url=f"http://127.0.0.1:{port or self.port}/{ACCOUNT}", container=container, kind="account_key",
            source="the test", secret=KEY, patience=patience,
        )  # fmt: skip

    def new_container(self, *, patience: int = 3) -> BlobAccess:
        """Make an empty container, and say how it is reached."""
        access = self.access(f"t{uuid.uuid4().hex[:12]}", patience=patience)
        with container_client(access) as client:
            client.create_container()
        return access


@functools.cache
def running() -> Azurite:
    """Return the server of this process; skip the test where it is not installed, unless this is CI."""
    folder = Path(os.environ.get("SCORELINE_AZURITE") or Path(__file__).parent / "node_modules" / "azurite")
    found = [path for path in (folder / MAIN, folder / "node_modules" / "azurite" / MAIN) if path.exists()]
    if not found or shutil.which("node") is None:
        why = f"no Azurite at {folder}: run `npm ci` in tests/azure, or name its folder in SCORELINE_AZURITE"
        if os.environ.get("CI") == "true":
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            ["node", found[0], "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence",
             "--skipApiVersionCheck", "--disableTelemetry", "--silent"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=tempfile.gettempdir(),
            preexec_fn=die_with_parent,  # noqa: PLW1509 (no thread runs yet that could hold a lock)
        )  # fmt: skip
        atexit.register(_stop, server)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and server.poll() is None:
            log.seek(0)
            text = log.read()
            if match := re.search(r"successfully listens on http://\S+:(\d+)", text):
                return Azurite(port=int(match[1]))
            time.sleep(0.05)
        log.seek(0)
        pytest.fail(f"Azurite does not start:\n{log.read()}", pytrace=False)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def azurite() -> Azurite:
    """Return Azurite, running."""
    return running()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have requests tried again at once: the pauses between are the library's."""
    from azure.storage.blob import ExponentialRetry, _download

    monkeypatch.setattr(_download, "time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr(ExponentialRetry, "get_backoff_time", lambda *_: 0.02)
