"""Fetch a folder or file of Azure storage: ``python -m scoring.fetch_blobs`` takes its order from standard input.

The order is JSON: how the container is reached, the path in it, the folder to write to. What went wrong is the last
line of standard error; exit code 2 says that it will go wrong again, 75 that it may be tried later.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import quote

from scoring.blob_access import BlobAccess, object_store
from scoring.errors import InputBusyError, InputError, ScorelineError
from scoring.lifetime import die_with_parent
from scoring.remote_files import SAFE, Found, blob_path, find_blobs

if TYPE_CHECKING:
    from obstore.store import AzureStore

__all__ = ["fetch"]

AT_ONCE = 8
PIECE_BYTES = 8 * 2**20
REFUSED = 2
TRY_LATER = 75


def fetch(access: BlobAccess, path: str, target: str) -> int:
    """Fetch what is at a path into a folder, under its own name; return how many files it is.

    Raises:
        InputError: nothing is there, or it cannot be read or written.
        InputBusyError: storage does not answer.
    """
    url = access.url_of(quote(path, safe=SAFE))
    kind, found = find_blobs(access, url, input_type="")
    root = os.path.join(target, path.rpartition("/")[2] or access.container)
    store = object_store(access)
    # names with segments that are empty or dots, which would lead elsewhere, are refused by the listing
    places = {each.url: root if kind == "file" else os.path.join(root, each.name) for each in found}
    for folder in {os.path.dirname(place) for place in places.values()}:
        os.makedirs(folder, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda each: _fetch_one(access, store, each, places[each.url]), found))
    return len(found)


def _fetch_one(access: BlobAccess, store: AzureStore, blob: Found, place: str) -> None:
    import obstore
    import obstore.exceptions as failures

    try:
        with open(place, "xb") as file:
            file.writelines(obstore.get(store, blob_path(access, blob.url)).stream(min_chunk_size=PIECE_BYTES))
    except FileNotFoundError:
        raise InputError(f"{blob.url}: vanished after it was listed; run again when it rests") from None
    except failures.PermissionDeniedError:
        raise InputError(f"{blob.url}: may be listed, but not read") from None
    except failures.BaseError:
        raise InputBusyError(f"{blob.url}: storage does not answer; try again later") from None
    except OSError as error:
        raise InputError(f"{place}: cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    order = json.load(sys.stdin)
    die_with_parent(order["parent"])
    try:
        fetch(BlobAccess(**order["access"]), order["path"], order["target"])
    except ScorelineError as error:
        sys.stderr.write(f"{error}\n".replace("\n", " ").strip() + "\n")
        sys.exit(TRY_LATER if isinstance(error, InputBusyError) else REFUSED)
