"""Blobs that the torture reads and writes (`tests.torture`)."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from azure.storage.blob import generate_container_sas

from scoring.blob_access import BlobAccess, container_client
from tests.azure.azurite import ACCOUNT, KEY, running

__all__ = ["Blobs", "new_place"]


@dataclass(frozen=True, slots=True)
class Blobs:
    """A container of a real server."""

    access: BlobAccess
    name: str = "azurite"
    environ: dict[str, str] = field(default_factory=lambda: {"AZURE_STORAGE_KEY": KEY})

    def uri(self, path: str, rng: random.Random) -> str:
        """Give the address of a folder, signed anew, or without a signature: the environment has the key."""
        plain = self.access.url_of(f"{path}/")
        if rng.random() < 0.5:
            return plain
        expiry = f"{rng.randrange(2100, 2900)}-01-01T00:00:00Z"
        signature = generate_container_sas(
            ACCOUNT, self.access.container, account_key=KEY, permission="rwdl", expiry=expiry
        )
        return f"{plain}?{signature}"

    def put(self, source: Path, path: str) -> None:
        """Upload a folder."""
        with container_client(self.access) as client:
            for file in sorted(each for each in source.rglob("*") if each.is_file()):
                client.upload_blob(f"{path}/{file.relative_to(source)}", file.read_bytes())

    def take(self, path: str, target: Path) -> None:
        """Download and delete all that a job left; blocks that nobody will ever see are looked for as well.

        Raises:
            AssertionError: one is left of another place than where the job looked whether it may write.
        """
        target.mkdir()
        with container_client(self.access) as client:
            for name in list(client.list_blob_names(name_starts_with=path)):
                place = target / name.removeprefix(f"{path}/")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(client.download_blob(name).readall())
                client.delete_blob(name)
            unseen = {each.name for each in client.list_blobs(name_starts_with=path, include=["uncommittedblobs"])}
        left = {name.removeprefix(f"{path}/") for name in unseen} - {".predictions.csv.staging/probe"}
        assert left == set(), f"blocks that were never committed: {left}"


def new_place() -> Blobs:
    """Make a container; end the program where no server is installed."""
    try:
        return Blobs(running().new_container())
    except pytest.skip.Exception as error:
        sys.exit(str(error))
