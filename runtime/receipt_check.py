"""Hold a receipt against the files it accounts for: every byte is read and every row counted again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runtime.account import KINDS, Account, find_output, read_account
from runtime.errors import ScorelineError, UsageError
from runtime.fetched_output import fetched, is_elsewhere
from runtime.findings import Findings, Notebook, Tell, number
from runtime.input_check import check_input, input_root
from runtime.quarantine_check import count_quarantine
from runtime.quarantine_check import differences as quarantine_differences
from runtime.recounting import Recount, checksums, conclude
from scoring.files import local_path

__all__ = ["check_receipt"]


def check_receipt(
    output: str | os.PathLike[str],
    *,
    input: str | os.PathLike[str] = "",  # noqa: A002 (named as for a run)
    recount_input: bool = False,
    tell: Tell | None = None,
) -> Findings:
    """Recount an output and compare it with its receipt.

    Args:
        output: the folder of a score file, the score file, or the receipt; on storage they are fetched first.
        input: where the input files are now; else they are looked for where the receipt says, if it does.
        recount_input: count their rows as well.
        tell: called with each finding as soon as it is known.

    Returns:
        each difference as an error, with both numbers; input files that are no longer the same as warnings.

    Raises:
        OutputError: there is no receipt, or none that can be read.
        UsageError: the input is to be counted, and nobody says where it is.
        ScorelineError: a file cannot be read, or its rows cannot be counted.
    """
    text = os.fspath(output)
    if not is_elsewhere(text):
        return _checked(local_path(text), os.fspath(input), tell, recount_input=recount_input)
    with fetched(text) as copy:
        told = None if tell is None else lambda kind, sentence: tell(kind, copy.shown(sentence))
        try:
            findings = _checked(copy.path, os.fspath(input), told, recount_input=recount_input)
        except ScorelineError as error:
            raise type(error)(copy.shown(str(error))) from None
        return Findings(
            errors=tuple(map(copy.shown, findings.errors)),
            warnings=tuple(map(copy.shown, findings.warnings)),
            checked=copy.shown(findings.checked),
        )


def _checked(path: str, given: str, tell: Tell | None, *, recount_input: bool) -> Findings:
    found = find_output(path)
    account = read_account(found)
    root = input_root(given, account)
    if recount_input and root is None:
        raise UsageError(f"--recount-input: the receipt {_unknown_input(account)}; give --input")
    notes = Notebook(tell)
    notes.checked |= {"receipt": str(found.receipt_path), "score_file": None, "files": len(account.files)}
    try:
        conclude(notes, list(_wrong_sums(account)), f"{_count(account)} read = scored + quarantined + given up")
        if account.size_bytes is None:
            notes.ok(f"the script wrote its output into {found.folder} by itself: there is no score file to count")
        else:
            _check_score_file(found.path, account, notes)
        _check_quarantine(found.quarantine_path, account, notes)
        if root is not None:
            check_input(root, account, notes, recount=recount_input)
    except OSError as error:
        raise ScorelineError(f"{error.filename or found.path}: cannot be read: {error.strerror}") from None
    return notes.findings()


def _unknown_input(account: Account) -> str:
    where = f"says that the input is {account.input}, and rows are counted on disk only" if account.input else ""
    return where or "does not say where the input is"


def _count(account: Account) -> str:
    """Say what was read."""
    files = number(len(account.files), "file")
    return files if account.by_script else f"{number(account.rows['read'], 'row')} of {files}"


def _wrong_sums(account: Account) -> Iterator[str]:
    """Say where the rows of a file, or of all, do not add up."""
    for name, rows in [*((file.name, file.rows) for file in account.files), ("all files", account.rows)]:
        parts = sum(rows[kind] for kind in KINDS)
        if rows["read"] != parts:
            all_parts = " + ".join(f"{rows[kind]:,} {text}" for kind, text in KINDS.items())
            yield f"{name}: the receipt says {rows['read']:,} read, and {all_parts} is {parts:,}"
    sums = {kind: sum(file.rows[kind] for file in account.files) for kind in ("read", *KINDS)}
    # a script may return too few results, and not say for which files (contract 2.3)
    unnamed = max(0, account.rows["given_up"] - sums["given_up"]) if account.by_script else 0
    sums["scored"] -= unnamed
    sums["given_up"] += unnamed
    for kind in ("read", *KINDS):
        if account.rows[kind] != sums[kind]:
            what = KINDS.get(kind, kind)
            yield f"all files: the receipt says {account.rows[kind]:,} {what}, and its files sum to {sums[kind]:,}"


def _wrong_ranges(account: Account) -> Iterator[str]:
    """Say where the ranges of the jobs do not lie one behind the other up to the end of the score file."""
    last = account.appended[-1]
    end = account.appended[0].offset
    for place, each in enumerate(account.appended, 1):
        if each.offset != end:
            yield f"appended: job {place} begins at byte {each.offset:,} and what is before it ends at byte {end:,}"
        end = each.stop
    if end != account.size_bytes:
        yield f"appended: job {len(account.appended)} ends at byte {end:,} and the score file at {account.size_bytes:,}"
    # where rows were appended, a line end may have been missing before them
    header_bytes = 0 if last.offset else len(account.header)
    if last.length - account.parts_bytes not in ((0, 1) if last.offset else (header_bytes,)):
        header = f" and its header {header_bytes:,}" if header_bytes else ""
        yield f"appended: the last job has {last.length:,} bytes, and its parts have {account.parts_bytes:,}{header}"
    if last.rows != account.rows["scored"]:
        yield f"appended: the last job has {last.rows:,} rows, and {account.rows['scored']:,} are scored in its files"


def _check_score_file(path: Path, account: Account, notes: Notebook) -> None:
    """Check size, checksums, header and rows of the score file, and where in it they were appended."""
    before = account.appended[0].offset
    foreign = f", behind {before:,} bytes that were there before" if before else ""
    jobs = number(len(account.appended), "job")
    conclude(notes, list(_wrong_ranges(account)), f"{jobs} wrote {path.name}, without a gap{foreign}")
    if not path.is_file():
        notes.error(f"{path.name} is not there, and the receipt says {account.size_bytes:,} bytes")
        return
    notes.checked["score_file"] = str(path)
    if account.by_script:
        _check_bytes(path, account, notes)
        notes.ok(f"the rows of {path.name} are the script's own: they are not counted against files")
        return
    question = {
        "path": str(path),
        "ranges": [(each.offset, each.stop) for each in account.appended],
        "output_format": account.output_format,
        "header": bool(account.header),
        "names": None if account.shown is None else list(account.shown),
    }
    with Recount({"scores": question}) as recount:
        _check_bytes(path, account, notes)
        answer = recount.answer()
    if "refused" in answer:
        notes.error(f"{path.name}: its rows cannot be counted: {answer['refused']}")
        return
    notes.checked["rows"] = sum(answer["rows"])
    conclude(
        notes,
        list(_wrong_rows(path.name, answer["rows"], account)),
        f"{path.name} has {number(sum(answer['rows']), 'row')}, as the receipt says",
    )
    if account.shown is not None:
        conclude(
            notes,
            list(_wrong_names(path.name, answer, account.shown)),
            f"{path.name} has as many rows of each file as the receipt says",
        )


def _check_bytes(path: Path, account: Account, notes: Notebook) -> None:
    size_bytes, crc, sha256 = checksums(path)
    notes.checked |= {"size_bytes": size_bytes, "crc32": crc, "sha256": sha256}
    for what, found, said in (
        (" bytes", f"{size_bytes:,}", f"{account.size_bytes:,}"),
        ("CRC-32 ", crc, account.crc32),
        ("SHA-256 ", sha256, account.sha256),
    ):
        if said is None:
            continue
        has = f"{path.name} has {found}{what}" if what == " bytes" else f"{path.name} has the {what}{found}"
        if found == said:
            notes.ok(f"{has}, as the receipt says")
        else:
            notes.error(f"{has}, and the receipt says {said}")
    if not account.header:
        return
    with open(path, "rb") as file:
        first = file.read(len(account.header))
    if first == account.header:
        notes.ok(f"{path.name} begins with the columns that the receipt names")
    else:
        shown = [line.decode("utf-8", "backslashreplace").removesuffix("\n") for line in (first, account.header)]
        notes.error(f"{path.name} begins with {shown[0]!r}, and the receipt says {shown[1]!r}")


def _wrong_rows(name: str, counted: Sequence[int], account: Account) -> Iterator[str]:
    for place, (rows, each) in enumerate(zip(counted, account.appended, strict=True), 1):
        if rows != each.rows:
            where = f" of job {place}" if len(account.appended) > 1 else ""
            yield f"{name} has {number(rows, 'row')}{where}, and the receipt says {each.rows:,}"


def _wrong_names(name: str, answer: dict[str, Any], shown: dict[str, int]) -> Iterator[str]:
    for file, rows in shown.items():
        if answer["names"][file] != rows:
            yield f"{name} has {number(answer['names'][file], 'row')} of {file}, and the receipt says {rows:,} scored"
    if answer["others"]:
        example = answer["example"]
        yield (
            f"{name} has {number(answer['others'], 'row')} of files that are not in the receipt, and should have 0: "
            f"{example!r} is the first"
        )


def _check_quarantine(path: Path, account: Account, notes: Notebook) -> None:
    """Check the lines of the quarantine against the rows that were not scored."""
    there = path.is_file()
    if there and not account.quarantine:
        notes.error(f"{path.name} is there, and the receipt says that there is none")
    elif not there and (account.quarantine or account.lost):
        notes.error(f"{path.name} is not there, and the receipt says {account.lost:,} quarantined or given up")
    if not there:
        if not account.quarantine and not account.lost:
            notes.ok("there is no quarantine, as the receipt says")
        return
    count = count_quarantine(path, account)
    notes.checked["quarantine_lines"] = count.lines
    earlier = f", behind {number(count.skipped, 'line')} of earlier jobs" if count.skipped else ""
    conclude(
        notes,
        list(quarantine_differences(path.name, count, account)),
        f"{path.name} has {count.quarantined:,} quarantined and {count.given_up:,} given up, "
        f"as the receipt says for each file{earlier}",
    )
