"""The output folder of a scoring script where the output lies on storage: a local one, whose files are sent there.

Workers send them before each mini-batch counts as done (`scoring.output_files`). The driver makes the folder, has the
files fetched that the same job wrote before it was stopped, and in the end has sent what workers could not send; bytes
pass through child processes only. What a script wrote when it shut down nobody writes again: where it cannot be sent,
it is kept beside the logs of the job, for when the job goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import asdict

from runtime.errors import OutputBusyError, OutputError
from runtime.options import Options
from runtime.publication import beside
from runtime.redaction import masked
from scoring.output_files import OutputFiles, OutputFolder
from scoring.specs import ScorerSpec, ScriptSpec

__all__ = ["open_folder", "send_rest"]

TRY_LATER = 75


def open_folder(options: Options, work: str) -> OutputFolder | None:
    """Make the folder of a job whose output is claimed; None where the output is a local folder itself.

    Raises:
        OutputError: the disk is full or fails, or storage refuses.
        OutputBusyError: storage does not answer.
    """
    access = options.output_access
    if access is None:
        return None
    from runtime.storage_fetch import path_in

    above = path_in(access, options.output_folder)
    prefix = f"{above}/" if above else ""
    name = options.output_name
    staging = f".{name}.staging/"
    folder, sent = os.path.join(work, "output"), os.path.join(work, "sent")
    try:
        os.mkdir(folder)
        os.mkdir(sent)
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be made: {error.strerror}") from None
    mark, is_new = _mark(options, f"{prefix}{staging}parts/script")
    opened = OutputFolder(
        path=folder, sent=sent, access=access, prefix=prefix, mark=mark,
        taken=(name, *beside(name), staging),
    )  # fmt: skip
    if not is_new:
        _do("fetch", opened)
        kept = _kept(options, opened)
        if os.path.isdir(kept):
            _copy(kept, folder)
    return opened


def send_rest(scorer: ScorerSpec | ScriptSpec, options: Options) -> None:
    """Send what no worker has sent, once all of them have ended.

    Raises:
        OutputError: a file has a name that it cannot have on storage.
        OutputBusyError: storage does not answer; the files are kept.
    """
    folder = scorer.output if isinstance(scorer, ScriptSpec) else None
    if folder is None:
        return
    changed, gone = OutputFiles(folder).left()
    kept = _kept(options, folder)
    if changed or gone:
        try:
            _do("send", folder)
        except OutputBusyError as error:
            _copy(folder.path, kept, only=changed)
            raise OutputBusyError(f"{error}; what the script wrote last is kept in {kept}") from None
    shutil.rmtree(kept, ignore_errors=True)


def _kept(options: Options, folder: OutputFolder) -> str:
    return os.path.join(options.job_folder, f"unsent-{folder.mark[:8]}")


def _copy(source: str, target: str, *, only: Sequence[str] | None = None) -> None:
    """Copy files from folder to folder: all, or those named."""
    try:
        if only is None:
            shutil.copytree(source, target, dirs_exist_ok=True)
        for name in only or ():
            path = os.path.join(target, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            shutil.copy2(os.path.join(source, name), path)
    except (OSError, shutil.Error) as error:
        raise OutputError(f"{target}: what the script wrote cannot be copied there: {error}") from None


def _mark(options: Options, path: str) -> tuple[str, bool]:
    """Return what marks the files of a job, and whether it is new: it is kept as long as what is staged."""
    from runtime.blob_container import BlobContainer, BlobError

    assert options.output_access is not None
    container = BlobContainer(options.output_access)
    try:
        known = container.read(path)
        if known is not None:
            return known.decode(), False
        mark = uuid.uuid4().hex
        container.write(path, mark.encode())
    except BlobError as error:
        raise OutputBusyError(
            f"{error.filename}: {error.strerror}; what is staged is kept, run again to go on"
        ) from None
    finally:
        container.close()
    return mark, True


def _do(what: str, folder: OutputFolder) -> None:
    """Have a child process fetch or send; what is secret goes to it through a pipe."""
    order = {"do": what, "folder": asdict(folder), "parent": os.getpid()}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "scoring.move_output"],
        input=json.dumps(order), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["the process that moves files of the script died"]
        if done.returncode == TRY_LATER:
            raise OutputBusyError(f"{masked(said[-1])}; what is staged is kept, run again to go on")
        raise OutputError(masked(said[-1]))
