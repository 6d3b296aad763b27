"""What a receipt says, read back so that it can be held against the files it accounts for."""

from __future__ import annotations

import glob
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import OutputError
from runtime.findings import listed, number
from runtime.receipt import FORMAT, header_line
from runtime.score_file import ScoreFile

__all__ = ["KINDS", "Account", "Appended", "FileAccount", "find_output", "read_account"]

KINDS = {"scored": "scored", "quarantined": "quarantined", "given_up": "given up"}
"""What becomes of a row that was read, as the receipt names it and as a sentence does."""
_RECEIPT = ".receipt.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAccount:
    """What became of the rows of one input file.

    Attributes:
        rows: by kind, ``read`` among them.
    """

    name: str
    size_bytes: int
    version: str
    rows: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """Where the rows of one job are in the score file, its header before them, and how many.

    Attributes:
        lost: offset and length of its lines in the quarantine; None where the receipt does not say.
    """

    offset: int
    length: int
    rows: int
    lost: tuple[int, int] | None = None

    @property
    def stop(self) -> int:
        """The first byte behind them."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a receipt says.

    Attributes:
        input: where the input was; empty where the receipt does not say.
        size_bytes: of the score file; None where a script wrote its output itself.
        header: first line of the score file; empty where it has none.
        output_format: csv, azureml or jsonl.
        by_script: whether a scoring script wrote the rows; what is counted are files then.
        rows: what became of all rows.
        appended: the jobs that wrote the score file; the last of them is the one accounted for.
        parts_bytes: score bytes of the parts of that job.
        quarantine: whether there is one.
        shown: how rows show the name of their file -> rows scored; None where rows do not say it.
        settings: those of the job.
    """

    input: str
    size_bytes: int | None
    crc32: str | None
    sha256: str | None
    header: bytes
    output_format: str
    by_script: bool
    rows: dict[str, int]
    files: tuple[FileAccount, ...] = field(repr=False)
    appended: tuple[Appended, ...]
    parts_bytes: int
    quarantine: bool
    shown: dict[str, int] | None = field(repr=False)
    settings: dict[str, Any] = field(repr=False)

    @property
    def lost(self) -> int:
        """Rows that were not scored."""
        return self.rows["quarantined"] + self.rows["given_up"]


def find_output(path: str) -> ScoreFile:
    """Find the output that a folder, a score file or a receipt stands for.

    Raises:
        OutputError: there is no receipt, more than one, or that of another file.
    """
    folder, name = os.path.split(path)
    if os.path.isdir(path):
        receipts = sorted(glob.glob(f"_*{_RECEIPT}", root_dir=path))
        if len(receipts) > 1:
            names = listed(receipts)
            raise OutputError(f"{path}: has {number(len(receipts), 'receipt')} ({names}); name the score file instead")
        if not receipts:
            unfinished = bool(glob.glob(".*.staging", root_dir=path))
            raise OutputError(f"{path}: there is no receipt in it: {_why_none(unfinished=unfinished)}")
        return _beside(path, receipts[0])
    if name.startswith("_") and name.endswith(_RECEIPT) and os.path.exists(path):
        return _beside(folder, name)
    found = ScoreFile(folder, name)
    if found.receipt() is None:
        why = _why_none(unfinished=found.staging_folder.exists())
        raise OutputError(f"{path}: there is no receipt {found.receipt_path.name} beside it: {why}")
    named = _named(found)
    if named not in (None, name):
        raise OutputError(f"{path}: the receipt beside it is that of {named}")
    return found


def _why_none(*, unfinished: bool) -> str:
    return "its job is not complete, run the same command again" if unfinished else "no job was completed there"


def _beside(folder: str, receipt: str) -> ScoreFile:
    """Find the score file that a receipt names."""
    stem = receipt.removeprefix("_").removesuffix(_RECEIPT)
    found = ScoreFile(folder, f"{stem}.csv")
    named = _named(found)
    if named is None:
        return found
    if ScoreFile(folder, named).receipt_path != found.receipt_path:
        raise OutputError(f"{found.receipt_path}: is damaged: it says that it is of {named}")
    return ScoreFile(folder, named)


def _named(found: ScoreFile) -> str | None:
    """Return the name of the score file in a receipt; the folder may have moved since. None where it is of none."""
    output = (found.receipt() or {}).get("output")
    if not isinstance(output, dict) or output.get("size_bytes") is None:
        return None
    return os.path.basename(str(output.get("url")))


def read_account(found: ScoreFile) -> Account:
    """Read the receipt of an output.

    Raises:
        OutputError: it is none of this format.
    """
    content = found.receipt() or {}
    if content.get("format") != FORMAT:
        raise OutputError(
            f"{found.receipt_path}: is of format {content.get('format')!r}, and this Scoreline reads {FORMAT}"
        )
    try:
        return _account(content)
    except KeyError as error:
        raise OutputError(f"{found.receipt_path}: is damaged: {error} is missing in it") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise OutputError(f"{found.receipt_path}: is damaged: {error}") from None


def _account(content: dict[str, Any]) -> Account:
    output, settings = content["output"], content["settings"]
    output_format = settings.get("output_format", "csv")
    by_script = content["unit"] == "files"
    files = tuple(
        FileAccount(
            name=str(each["file"]),
            size_bytes=_count(each, "size_bytes"),
            version=str(each["version"]),
            rows={kind: _count(each, kind) for kind in ("read", *KINDS)},
        )
        for each in content["files"]
    )
    if output["size_bytes"] is not None and not content["appended"]:
        raise ValueError("appended names no job")
    shown: Counter[str] | None = None
    if not by_script and output["columns"][-1:] == ["file"]:
        shown = Counter()
        for file in files:
            short = settings.get("strict") or output_format == "azureml"
            shown[_shown(file.name.rpartition("/")[2] if short else file.name)] += file.rows["scored"]
    return Account(
        input=content["input"] if isinstance(content.get("input"), str) else "",
        size_bytes=None if output["size_bytes"] is None else _count(output, "size_bytes"),
        crc32=output["crc32"],
        sha256=output["sha256"],
        header=header_line(output["columns"]) if settings["output_header"] and output["columns"] else b"",
        output_format=output_format,
        by_script=by_script,
        rows={kind: _count(content["rows"], kind) for kind in ("read", *KINDS)},
        files=files,
        appended=tuple(
            Appended(**{name: _count(each, name) for name in ("offset", "length", "rows")}, lost=_lost_range(each))
            for each in content["appended"]
        ),
        parts_bytes=sum(_count(content["parts"], key) for key in content["parts"]),
        quarantine=output["quarantine"] is not None,
        shown=shown,
        settings=settings,
    )


def _lost_range(appended: dict[str, Any]) -> tuple[int, int] | None:
    lost = appended.get("quarantine")
    return None if lost is None else (_count(lost, "offset"), _count(lost, "length"))


def _count(content: dict[str, Any], name: str) -> int:
    value = content[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{name} is {value!r}, which is no count")
    return value


def _shown(name: str) -> str:
    """Write the name of a file as rows show it: one that is not UTF-8 with escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
