"""Records of a job on disk, JSON each: whoever reads one has the old or the new, whole."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from runtime.disk import write_new
from runtime.errors import OutputBusyError, OutputError

__all__ = ["output_error", "read_object", "read_record", "write_record"]

_LATER = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}


def output_error(path: Path, error: OSError) -> OutputError:
    """Say that an output cannot be written or read, and whether it may be later."""
    reason = error.strerror or str(error)
    if error.errno in _LATER:
        return OutputBusyError(f"{path}: cannot be written: {reason}; what is staged is kept, run again to go on")
    if error.errno == errno.ENAMETOOLONG:
        reason += "; choose a shorter --output-file-name or --output"
    return OutputError(f"{path}: cannot be written: {reason}")


def write_record(path: Path, spare: Path, data: bytes, *, replaces: bool) -> None:
    """Write a record, an object or a list: no part of its text is one.

    Args:
        path: the record.
        spare: what it is called while it is written.
        data: its text.
        replaces: whether it can take the place of the old one in one step; otherwise it is written a second time.

    Raises:
        OSError: it cannot be written.
    """
    spare.unlink(missing_ok=True)
    write_new(spare, [data])
    if replaces:
        os.replace(spare, path)
        return
    path.unlink(missing_ok=True)
    write_new(path, [data])
    spare.unlink()


def read_record(path: Path, spare: Path | None = None) -> Any:
    """Read a record; None where there is none.

    Args:
        path: the record.
        spare: what it is called while it is written, and read where the record itself is torn.

    Raises:
        OutputError: it is damaged, or cannot be read.
    """
    try:
        content = _read(path)
    except ValueError:
        if spare is None or not spare.exists():
            raise _damaged(path) from None
        content = None
    if content is None and spare is not None:
        try:
            return _read(spare)
        except ValueError:
            # killed before there was one
            return None
    return content


def read_object(path: Path, spare: Path | None = None) -> dict[str, Any] | None:
    """Read a record that is an object; see `read_record`."""
    content = read_record(path, spare)
    if content is not None and not isinstance(content, dict):
        raise _damaged(path)
    return content


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise output_error(path, error) from None


def _damaged(path: Path) -> OutputError:
    return OutputError(f"{path}: is damaged; move it away, or use --restart")
