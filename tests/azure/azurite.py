"""Azurite, a real server of Blob storage: started once by each process of a test run, and stopped with it."""

from __future__ import annotations

import atexit
import functools
import os
import uuid
from types import SimpleNamespace

import pytest

from scoring.blob_access import BlobAccess, container_client
from tests.azure.server import ACCOUNT, KEY, NoAzuriteError, Server, start

__all__ = ["ACCOUNT", "KEY", "Azurite", "azurite", "running", "soon"]


class Azurite(Server):
    """A server of tests."""

    __slots__ = ()

    def new_container(self, *, patience: int = 3) -> BlobAccess:
        """Make an empty container, and say how it is reached."""
        access = self.access(f"t{uuid.uuid4().hex[:12]}", patience=patience)
        with container_client(access) as client:
            client.create_container()
        return access


@functools.cache
def running() -> Azurite:
    """Return the server of this process; skip the test where it is not installed, unless this is CI."""
    try:
        server = start()
    except NoAzuriteError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    atexit.register(server.stop)
    return Azurite(port=server.port, process=server.process)


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
