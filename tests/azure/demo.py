"""The demonstration on Blob storage: start Azurite, upload sample data and a sample model, score blob to blob.

    python -m tests.azure.demo [FOLDER]

What Azurite holds is kept in FOLDER, so that the commands shown at the end find it there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from runtime.demo import make_sample, tell_result
from scoring.blob_access import BlobAccess, container_client
from tests.azure.server import ACCOUNT, ALWAYS, KEY, NoAzuriteError, Server, find, start

CONTAINER = "demo"
USUAL_PORT = 10_000
"""Where Azurite listens by itself, and where `UseDevelopmentStorage=true` looks for it."""


def show(folder: Path, files: int, rows: int, tell: Callable[[str], None]) -> int:
    """Do it, and show the result and the commands to repeat it; return the exit code of the job."""
    held = folder / "azurite"
    main = find()
    failed = make_sample(folder, files, rows, tell)
    if failed:
        return failed
    shutil.rmtree(held, ignore_errors=True)
    held.mkdir()
    with start(held.resolve()) as server:
        tell(f"\nAzurite listens on 127.0.0.1:{server.port}")
        access = server.access(CONTAINER)
        uploaded = upload(access, folder, ("heart-model", "heart-data"))
        tell(f"uploaded {uploaded} files to {access.url_of('')}")
        failed = _score(server, tell)
        if failed:
            return failed
        with container_client(access) as client:
            scores = client.download_blob("scores/predictions.csv").readall()
            receipt = client.download_blob("scores/_predictions.receipt.json").readall()
        tell_result(
            f"{access.url_of('scores/predictions.csv')} begins:", scores.decode().splitlines(),
            f"{access.url_of('scores/_predictions.receipt.json')}:", receipt, tell,
        )  # fmt: skip
    tell("\nAzurite is stopped. To repeat it by hand, or with your own model and data:")
    for command in by_hand(main, held):
        tell(f"$ {command}")
    return 0


def upload(access: BlobAccess, folder: Path, names: tuple[str, ...]) -> int:
    """Make the container, and upload folders to it; return how many files that were."""
    paths = [path for name in names for path in sorted((folder / name).rglob("*")) if path.is_file()]
    with container_client(access) as client:
        client.create_container()
        for path in paths:
            with path.open("rb") as data:
                client.upload_blob(path.relative_to(folder).as_posix(), data)
    return len(paths)


def job(account_url: str) -> list[str]:
    """Return the options of the job: model, input and output lie on storage."""
    places = {"--model": "heart-model", "--input": "heart-data/", "--output": "scores/"}
    words = [word for option, path in places.items() for word in (option, f"{account_url}/{CONTAINER}/{path}")]
    return ["run", *words]


def _score(server: Server, tell: Callable[[str], None]) -> int:
    # the key goes by the environment, as that of a real account must
    text = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={server.url};"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AZURE_")}
    options = job(server.url)
    tell(f"\n$ scoreline {shlex.join(options)}")
    command = [sys.executable, "-P", "-m", "runtime.cli", *options]
    return subprocess.run(command, env=plain | {"AZURE_STORAGE_CONNECTION_STRING": text}, check=False).returncode


def by_hand(main: Path, held: Path) -> list[str]:
    """Return the commands that do the same without this module."""
    url = f"http://127.0.0.1:{USUAL_PORT}/{ACCOUNT}"
    read = f"import pandas; print(pandas.read_csv('az://{CONTAINER}/scores/predictions.csv'))"
    return [
        shlex.join(["node", _near(main), "--location", _near(held), *ALWAYS]) + " &",
        "export AZURE_STORAGE_CONNECTION_STRING=UseDevelopmentStorage=true",
        shlex.join([_near(Path(sys.executable).with_name("scoreline")), *job(url), "--restart"]),
        f'{shlex.quote(_near(Path(sys.executable)))} -c "{read}"',
        "kill %1",
    ]


def _near(path: Path) -> str:
    """Write a path as it is shortest from here."""
    absolute, here = Path(os.path.abspath(path)), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "scoreline-demo")
    try:
        sys.exit(show(place, 4, 5_000, partial(print, flush=True)))
    except NoAzuriteError as error:
        sys.exit(f"azurite-demo: {error}")
