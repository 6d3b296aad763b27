"""What storage would refuse in the middle of a job, asked for before it: real calls that change nothing.

A listing of one name, the properties of one blob; for an output also one block that is staged below the hidden staging
folder and never committed, which no reader and no lister sees, and the deletion of a blob that is not there.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from runtime.errors import InputError, OutputBusyError, OutputError
from runtime.redaction import masked, quiet_loggers
from runtime.storage_error import container_of, credential_of, storage_error
from runtime.storage_fetch import path_in
from scoring.blob_access import BlobAccess, container_client
from scoring.errors import InputBusyError

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

    from runtime.options import Options

__all__ = ["TO_READ", "TO_WRITE", "check_places", "check_readable", "check_signature", "check_writable"]

CONNECT_S = 5
READ_S = 10
PAUSE_S = 0.5
NO_BLOB = (None, "", "BlobNotFound", "PathNotFound")
PERMISSIONS = {"r": "read", "w": "write", "d": "delete", "l": "list"}
TO_READ = "r"
TO_READ_A_FOLDER = "rl"
TO_WRITE = "rwdl"
"""What a signature must permit, as its sp has it."""
Result = TypeVar("Result")
_MAGIC = re.compile(r"[*?\[]")


def check_places(options: Options) -> None:
    """Look at the input and the output of a job, as far as they lie on storage.

    Raises:
        InputError: see `check_readable`.
        OutputError: see `check_writable`.
    """
    if options.input_access is not None:
        path = path_in(options.input_access, options.input)
        segments = list(itertools.takewhile(lambda each: not _MAGIC.search(each), path.split("/")))
        plain = "/".join(segments)
        is_folder = plain != path or options.input.endswith("/") or options.input_type == "uri_folder"
        check_readable(options.input_access, f"{plain}/" if plain and is_folder else plain)
    if options.output_access is not None:
        folder = path_in(options.output_access, options.output_folder)
        check_writable(options.output_access, folder, options.output_name)


def check_readable(access: BlobAccess, prefix: str) -> None:
    """See whether an input can be listed and read; that it has something in it is seen by whoever lists it.

    Args:
        access: how the container is reached.
        prefix: path of a file, or of a folder with a slash at its end; empty for the whole container.

    Raises:
        InputError: it cannot; the sentence says why and what to do.
        InputBusyError: storage cannot be reached now.
    """
    folder = not prefix or prefix.endswith("/")
    check_signature(access, TO_READ_A_FOLDER if folder else TO_READ, output=False)
    with _client(access) as client:
        asking = _Asking(access=access, output=False)

        def look_at(name: str) -> bool:
            blob = client.get_blob_client(name)
            return asking.whether("read", lambda limits: blob.get_blob_properties(**limits))

        if not folder and look_at(prefix):
            return
        first = asking.answer("list", lambda limits: _first_name(client, prefix, limits))
        if first:
            look_at(first)


def check_writable(access: BlobAccess, folder: str, name: str) -> None:
    """See whether an output can be staged, published and cleared away.

    Args:
        access: how the container is reached.
        folder: path of the folder, without slash at its end; empty for the container itself.
        name: of the score file.

    Raises:
        OutputError: it cannot; the sentence says why and what to do.
        OutputBusyError: storage cannot be reached now.
    """
    check_signature(access, TO_WRITE, output=True)
    below = f"{folder}/" if folder else ""
    probe = f"{below}.{name}.staging/probe"
    with _client(access) as client:
        asking = _Asking(access=access, output=True)
        asking.answer("list", lambda limits: _first_name(client, f"{below}.{name}.staging/", limits))
        asking.whether("read", lambda limits: client.get_blob_client(below + name).get_blob_properties(**limits))
        blob = client.get_blob_client(probe)
        asking.answer("write to", lambda limits: blob.stage_block("probe", b"1", **limits))
        asking.whether("delete from", lambda limits: client.get_blob_client(f"{probe}.none").delete_blob(**limits))


def check_signature(access: BlobAccess, needed: str, *, output: bool) -> None:
    """Look at what a shared access signature says of itself; one of a stored policy says less, and is let pass.

    Raises:
        InputError: it ended, or does not permit what is needed; for an output an OutputError.
    """
    if access.kind != "sas":
        return
    said = dict(parse_qsl(access.secret))
    why = _wrong_time(said, dt.datetime.now(dt.UTC)) or _wrong_permission(said, needed, output=output)
    if why:
        refused = OutputError if output else InputError
        raise refused(f"{container_of(access)}: {credential_of(access)} {why}")


def _wrong_time(said: dict[str, str], now: dt.datetime) -> str:
    start, end = _time(said.get("st", "")), _time(said.get("se", ""))
    if end is not None and end <= now:
        return f"ended at {masked(said['se'])}; make a new one, which goes on where this job was"
    if start is not None and start > now + dt.timedelta(minutes=15):
        return f"begins only at {masked(said['st'])}; make one without a start, for clocks differ"
    return ""


def _wrong_permission(said: dict[str, str], needed: str, *, output: bool) -> str:
    permitted = said.get("sp")
    if permitted is not None and (missing := [letter for letter in needed if letter not in permitted]):
        words = " or ".join(PERMISSIONS[letter] for letter in missing)
        return f"does not permit to {words} (sp={masked(permitted)}); make one with sp={needed}"
    if said.get("sr") == "b" and (output or "l" in needed):
        what = "an output has files beside it" if output else "a folder has many"
        return f"is for one blob only (sr=b), but {what}; make one for the container"
    return ""


def _time(text: str) -> dt.datetime | None:
    """Read a time of a signature, which is UTC; none where it cannot be read."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)


def _client(access: BlobAccess) -> ContainerClient:
    quiet_loggers()
    return container_client(replace(access, patience=0))


def _first_name(client: ContainerClient, prefix: str, limits: dict[str, Any]) -> str:
    page = next(client.list_blob_names(name_starts_with=prefix or None, results_per_page=1, **limits).by_page(), ())
    return next(iter(page), "")


class _Asking:
    """Asks storage, and turns what it refuses into a sentence."""

    def __init__(self, *, access: BlobAccess, output: bool) -> None:
        self._access = access
        self._output = output

    def answer(self, doing: str, ask: Callable[[dict[str, Any]], Result]) -> Result:
        """Return the answer, asking twice where storage is busy or away for a moment."""
        from azure.core.exceptions import AzureError

        for last in (False, True):
            try:
                return ask({"connection_timeout": CONNECT_S, "read_timeout": READ_S})
            except AzureError as error:
                said = storage_error(error, self._access, doing=doing, output=self._output)
                if last or not isinstance(said, InputBusyError | OutputBusyError):
                    raise said from None
            time.sleep(PAUSE_S)
        raise AssertionError("the last time returns or raises")

    def whether(self, doing: str, ask: Callable[[dict[str, Any]], object]) -> bool:
        """Tell whether a blob is there: that it is not is an answer, unless its container is not there either."""
        from azure.core.exceptions import ResourceNotFoundError

        def there(limits: dict[str, Any]) -> bool:
            try:
                ask(limits)
            except ResourceNotFoundError as error:
                if getattr(error, "error_code", None) not in NO_BLOB:
                    raise
                return False
            return True

        return self.answer(doing, there)
