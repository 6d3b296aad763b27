"""Fetch or send the files of a scoring script at once: ``python -m scoring.move_output``, for a driver that must not.

The order on standard input is JSON: the `OutputFolder`, what to do (send or fetch), and the parent. What went wrong is
the last line of standard error; exit code 2 says that it will go wrong again, 75 that it may be tried later.
"""

from __future__ import annotations

import json
import os
import sys

from scoring.blob_access import BlobAccess, container_client
from scoring.errors import ScorelineError, StorageError
from scoring.lifetime import die_with_parent
from scoring.output_files import MARK, OutputFiles, OutputFolder, told

__all__ = ["fetch", "main"]

AT_ONCE = 4
REFUSED = 2
TRY_LATER = 75


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
            raise told(f"{folder.access.url_of(folder.prefix + name)}: cannot be read", error) from None
        except OSError as error:
            raise StorageError(f"{target}: cannot be written: {error.strerror or error}") from None

    with container_client(folder.access) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            listed = client.list_blobs(name_starts_with=folder.prefix or None, include=["metadata"])
            ours = [blob.name for blob in listed if (blob.metadata or {}).get(MARK) == folder.mark]
        except AzureError as error:
            raise told(f"{folder.access.url_of(folder.prefix)}: cannot be listed", error) from None
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
