"""Tell what became of the input files of a receipt, and count their rows again."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

from runtime.account import Account, FileAccount
from runtime.errors import InputError, UsageError
from runtime.findings import Notebook, listed, number
from runtime.options import ELSEWHERE
from runtime.recounting import Recount, conclude
from scoring.files import local_path
from scoring.rows import Dialect

__all__ = ["check_input", "input_root"]


def input_root(given: str, account: Account) -> str | None:
    """Return the folder that the names of input files are below, if it is known and on disk.

    Raises:
        UsageError: what is given is not on disk.
    """
    path = ""
    if ELSEWHERE.match(given):
        raise UsageError("--input: input files are looked at on disk only; download them, or leave --input out")
    if given:
        path = local_path(given)
    elif account.input:
        with suppress(InputError):
            path = local_path(account.input)
    if os.path.isfile(path):
        return os.path.dirname(path)
    while glob.has_magic(path) and not os.path.isdir(path):
        path = os.path.dirname(path)
    return path or None


def check_input(root: str, account: Account, notes: Notebook, *, recount: bool) -> None:
    """Tell which input files are as they were, and count the rows of those of the same size."""
    missing: list[str] = []
    resized: list[str] = []
    touched: list[str] = []
    same: list[FileAccount] = []
    for file in account.files:
        try:
            status = os.stat(os.path.join(root, file.name))
        except OSError:
            missing.append(file.name)
            continue
        if status.st_size != file.size_bytes:
            resized.append(f"{file.name} ({status.st_size:,} bytes, and {file.size_bytes:,} were read)")
            continue
        same.append(file)
        if str(status.st_mtime_ns) != file.version:
            touched.append(file.name)
    unchanged = len(same) - len(touched)
    notes.checked["input"] = {
        "unchanged": unchanged,
        "touched": len(touched),
        "other_size": len(resized),
        "missing": len(missing),
    }
    if unchanged:
        notes.ok(f"{number(unchanged, 'input file')} of the size and time of then in {root}")
    if touched:
        notes.warning(f"{number(len(touched), 'input file')} written since, of the same size: {listed(touched)}")
    if resized:
        notes.warning(f"{number(len(resized), 'input file')} changed since: {listed(resized)}")
    if missing:
        notes.warning(f"{number(len(missing), 'input file')} not in {root} any more: {listed(missing)}")
    if recount and account.by_script:
        notes.ok("the script read whole files: they have no rows to count")
    elif recount and same:
        _recount_input(root, same, account, notes)


def _recount_input(root: str, files: Sequence[FileAccount], account: Account, notes: Notebook) -> None:
    settings = account.settings
    dialect = Dialect(
        delimiter=settings["delimiter"],
        encoding=settings["encoding"],
        header=settings["input_header"],
        columns=tuple(settings["input_columns"]),
    )
    paths = [os.path.join(root, file.name) for file in files]
    question = {"paths": paths, "input_format": settings["input_format"], "dialect": asdict(dialect)}
    with Recount({"inputs": question}) as recount:
        answer = recount.answer()
    if "refused" in answer:
        notes.error(f"the rows of the input cannot be counted: {answer['refused']}")
        return
    counted = answer["inputs"]
    notes.checked["input"]["rows"] = total = sum(counted)
    conclude(
        notes,
        [
            f"{file.name} has {number(rows, 'row')}, and the receipt says {file.rows['read']:,} read"
            for file, rows in zip(files, counted, strict=True)
            if rows != file.rows["read"]
        ],
        f"{number(len(files), 'input file')} with {number(total, 'row')}, as the receipt says",
    )
