"""An output on storage, copied to this machine, whole and on disk, so that its receipt can be held against it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.account import find_output, read_account
from runtime.errors import OutputBusyError, OutputError, ScorelineError, UsageError
from runtime.options import ELSEWHERE
from runtime.publication import beside

if TYPE_CHECKING:
    from runtime.blob_container import BlobContainer
    from scoring.blob_access import BlobAccess

__all__ = ["FetchedOutput", "fetched", "is_elsewhere"]

RECEIPT = ".receipt.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedOutput:
    """A copy of an output.

    Attributes:
        path: what stands for it on this machine.
        folder: where its files are.
        url: of the folder on storage, without any secret.
    """

    path: str
    folder: str
    url: str

    def shown(self, value: Any) -> Any:
        """Write the address on storage where a text, or texts in a dict, name the copy."""
        if isinstance(value, dict):
            return {name: self.shown(each) for name, each in value.items()}
        return value.replace(self.folder, self.url) if isinstance(value, str) else value


def is_elsewhere(output: str) -> bool:
    """Tell whether an output lies on storage."""
    return ELSEWHERE.match(output) is not None


@contextmanager
def fetched(output: str) -> Iterator[FetchedOutput]:
    """Fetch receipt, score file and quarantine of an output, for as long as they are looked at.

    Raises:
        UsageError: nothing like an output is there, or no credential reaches it.
        OutputError: there is no receipt, or the output cannot be read.
        OutputBusyError: storage cannot be reached now.
    """
    from runtime.storage_fetch import path_in
    from runtime.uris import BlobPath, parse_uri

    access, address = _place(output)
    path = path_in(access, address)
    parsed = parse_uri(address)
    is_folder = isinstance(parsed, BlobPath) and parsed.is_folder
    with tempfile.TemporaryDirectory(prefix="scoreline-") as folder, _opened(access) as container:
        name = "" if is_folder else _file_name(container, path)
        above = path.rpartition("/")[0] if name else path
        copy = FetchedOutput(
            path=os.path.join(folder, name), folder=folder, url=access.url_of(above).rstrip("/")
        )  # fmt: skip
        _copy(container, above, name, folder)
        try:
            found = find_output(copy.path.rstrip("/"))
            if read_account(found).size_bytes is not None:
                _fetch(container, above, found.path.name, folder)
            _fetch(container, above, found.quarantine_path.name, folder)
        except ScorelineError as error:
            raise type(error)(copy.shown(str(error))) from None
        yield copy


def _place(output: str) -> tuple[BlobAccess, str]:
    """Find where an output is; to look at it, what may read is enough."""
    from runtime.located import known_names, locate
    from runtime.uris import AssetId, AssetName, PublicFile, parse_uri

    uri = parse_uri(output)
    if isinstance(uri, PublicFile | AssetName | AssetId):
        raise UsageError(f"{uri}: is no output of a job; name a folder or a score file on Azure storage, or on disk")
    found = locate(output, known_names({}, (os.getcwd(),)), "input")
    if "input_access" not in found:
        raise UsageError(f"{uri}: does not lie on Azure storage")
    return found["input_access"], found["input"]


@contextmanager
def _opened(access: BlobAccess) -> Iterator[BlobContainer]:
    from runtime.blob_container import BlobContainer, BlobError
    from runtime.redaction import quiet_loggers

    quiet_loggers()
    container = BlobContainer(access)
    try:
        yield container
    except BlobError as error:
        refused = OutputBusyError if error.later else OutputError
        raise refused(f"{error.filename}: cannot be read: {error.strerror}") from None
    finally:
        container.close()


def _file_name(container: BlobContainer, path: str) -> str:
    """Return the name of the score file or receipt that a path is of; empty where it is of a folder."""
    above, _, name = path.rpartition("/")
    receipt = beside(name)[0]
    found = container.version(path) if path else None
    if found is not None and not any(key.lower() == "hdi_isfolder" for key in found.metadata):
        return name
    # of a file that is missing
    return name if path and container.version(f"{above}/{receipt}" if above else receipt) is not None else ""


def _copy(container: BlobContainer, above: str, name: str, folder: str) -> None:
    """Fetch the receipts beside a score file, and make a folder where something is staged."""
    prefix = f"{above}/" if above else ""
    for path in container.names(f"{prefix}_"):
        each = path.removeprefix(prefix)
        if each.endswith(RECEIPT) and "/" not in each:
            _fetch(container, above, each, folder)
    staged = f".{name}.staging" if name else "."
    for path in container.names(prefix + staged):
        each = path.removeprefix(prefix).partition("/")[0]
        if each.endswith(".staging"):
            os.makedirs(os.path.join(folder, each), exist_ok=True)


def _fetch(container: BlobContainer, above: str, name: str, folder: str) -> None:
    """Fetch a file, if it is there."""
    from runtime.storage_fetch import fetch_folder

    path = f"{above}/{name}" if above else name
    if not os.path.exists(os.path.join(folder, name)) and container.version(path) is not None:
        fetch_folder(container.access, path, folder)
