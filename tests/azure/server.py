"""Azurite as a process of ours: for the tests, the demonstration and the benchmark."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from scoring.blob_access import BlobAccess
from scoring.lifetime import die_with_parent

__all__ = ["ACCOUNT", "KEY", "NoAzuriteError", "Server", "find", "start"]

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, known to everybody."""
START_S = 60.0
MAIN = Path("dist/src/blob/main.js")
ALWAYS = ("--skipApiVersionCheck", "--disableTelemetry", "--silent")


class NoAzuriteError(Exception):
    """It is not installed, or does not start; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Azurite, running.

    Attributes:
        port: on which it listens, on 127.0.0.1.
        process: its process.
    """

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The address of its account."""
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

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

    def stop(self) -> None:
        """End it; what it keeps on disk is whole."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def find() -> Path:
    """Return the file that node runs.

    Raises:
        NoAzuriteError: it is not there, or node is not.
    """
    folder = Path(os.environ.get("SCORELINE_AZURITE") or Path(__file__).parent / "node_modules" / "azurite")
    found = [path for path in (folder / MAIN, folder / "node_modules" / "azurite" / MAIN) if path.exists()]
    if shutil.which("node") is None:
        raise NoAzuriteError("no node on the PATH: install Node.js 20 or later")
    if not found:
        raise NoAzuriteError(
            f"no Azurite at {folder}: run `npm ci` in tests/azure, or name its folder in SCORELINE_AZURITE"
        )
    return found[0]


def start(location: Path | None = None) -> Server:
    """Start it on a free port; it ends with whoever started it.

    Args:
        location: folder on disk for what it holds; otherwise that is in memory.

    Raises:
        NoAzuriteError: it is not installed, or does not start.
    """
    main = find()
    kept = ["--inMemoryPersistence"] if location is None else ["--location", str(location)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            ["node", main, "--blobHost", "127.0.0.1", "--blobPort", "0", *kept, *ALWAYS],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=tempfile.gettempdir(),
            preexec_fn=die_with_parent,  # noqa: PLW1509 (no thread runs yet that could hold a lock)
        )  # fmt: skip
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            log.seek(0)
            if match := re.search(r"successfully listens on http://\S+:(\d+)", log.read()):
                return Server(port=int(match[1]), process=process)
            time.sleep(0.05)
        process.kill()
        process.wait()
        log.seek(0)
        raise NoAzuriteError(f"Azurite does not start:\n{log.read()}")
