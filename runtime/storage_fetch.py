"""A folder or file of Azure storage, fetched once to local disk: a model, or the code of a scoring script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from urllib.parse import unquote

from runtime.errors import UsageError
from runtime.redaction import masked
from scoring.blob_access import BlobAccess
from scoring.errors import InputBusyError

__all__ = ["fetch_folder", "path_in"]

MODEL_FILE = "MLmodel"
TRY_LATER = 75


def path_in(access: BlobAccess, url: str) -> str:
    """Return the decoded path of an address in its container."""
    return unquote(url.removeprefix(access.url_of("").rstrip("/"))).strip("/")


def fetch_folder(access: BlobAccess, path: str, target: str) -> str:
    """Fetch what is at a path, in a child process, and return where it is: in the folder, under its own name.

    What is secret goes to the child through a pipe. Of a path to an ``MLmodel`` file the whole folder is fetched.

    Args:
        access: how the container is reached.
        path: of a folder or of a blob, decoded, without slash at either end; empty for the whole container.
        target: an empty folder.

    Raises:
        UsageError: there is nothing, or it may not be read.
        InputBusyError: storage cannot be reached now.
    """
    folder, _, name = path.rpartition("/")
    if name == MODEL_FILE:
        path = folder
    order = {"access": asdict(access), "path": path, "target": target, "parent": os.getpid()}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "scoring.fetch_blobs"],
        input=json.dumps(order), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        reason = masked((done.stderr.strip().splitlines() or ["the process that fetches ended without a reason"])[-1])
        raise (InputBusyError if done.returncode == TRY_LATER else UsageError)(reason)
    return os.path.join(target, path.rpartition("/")[2] or access.container)
