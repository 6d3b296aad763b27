"""Count the lines of a quarantine again, and compare them with the receipt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.account import Account
from runtime.findings import number

__all__ = ["QuarantineCount", "count_quarantine", "differences"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A line.

    Attributes:
        file: empty where a script did not say which.
        quarantined: rows that did not fit: one, or none.
        given_up: rows of a file that failed.
        unknown: whether rows failed that nobody could count.
    """

    file: str
    quarantined: int
    given_up: int
    unknown: bool = False


@dataclass(slots=True)
class QuarantineCount:
    """What the lines of the last job say.

    Attributes:
        size_bytes: of the whole file.
        skipped: lines of earlier jobs before them.
        by_file: for each file of the receipt, what its lines sum to.
        unnamed: files given up of which a script did not say which they are.
        strangers: rows of files that the receipt does not name.
        damaged: lines that are none of a quarantine, and `first_damaged` the number of the first.
        torn: whether the file ends in the middle of a line.
    """

    lines: int = 0
    size_bytes: int = 0
    skipped: int = 0
    quarantined: int = 0
    given_up: int = 0
    by_file: dict[str, _Entry] = field(default_factory=dict)
    unnamed: int = 0
    strangers: int = 0
    damaged: int = 0
    first_damaged: int = 0
    torn: bool = False

    def add(self, entry: _Entry) -> None:
        """Count a line."""
        self.quarantined += entry.quarantined
        self.given_up += entry.given_up
        before = self.by_file.get(entry.file)
        if not entry.file:
            self.unnamed += entry.given_up
        elif before is None:
            self.strangers += entry.quarantined + entry.given_up
        else:
            self.by_file[entry.file] = _Entry(
                file=entry.file,
                quarantined=before.quarantined + entry.quarantined,
                given_up=before.given_up + entry.given_up,
                unknown=before.unknown or entry.unknown,
            )


def count_quarantine(path: Path, account: Account) -> QuarantineCount:
    """Count the lines of a quarantine; of one that jobs appended to, those of the last.

    Raises:
        OSError: it cannot be read.
    """
    lost = account.appended[-1].lost if account.appended else None
    if lost is not None:
        return _counted(path, account, offset=lost[0])
    # the output of a remote store may not say where; then what is more than the last job left is of those before it
    whole = _counted(path, account)
    if len(account.appended) <= 1 and not any(each.offset for each in account.appended):
        return whole
    quarantined, given_up = account.rows["quarantined"], account.rows["given_up"]
    return _counted(path, account, quarantined=whole.quarantined - quarantined, given_up=whole.given_up - given_up)


def _counted(
    path: Path, account: Account, *, offset: int = 0, quarantined: int = 0, given_up: int = 0
) -> QuarantineCount:
    """Count the lines from a byte on, behind those of so many rows."""
    count = QuarantineCount()
    count.by_file = {each.name: _Entry(file=each.name, quarantined=0, given_up=0) for each in account.files}
    line = b"\n"
    position = 0
    with open(path, "rb") as file:
        for line in file:
            count.lines += 1
            position += len(line)
            # a line that begins before is of another job, and so is an end that it lacked
            before = position - len(line) < offset or (position <= offset + 1 and line == b"\n")
            entry = None if before else _entry(line)
            if before:
                count.skipped = count.lines
            elif entry is None:
                count.first_damaged = count.first_damaged or count.lines
                count.damaged += 1
            elif quarantined > 0 or given_up > 0:
                quarantined -= entry.quarantined
                given_up -= entry.given_up
                count.skipped = count.lines
            else:
                count.add(entry)
    count.size_bytes = position
    count.torn = not line.endswith(b"\n")
    return count


def _entry(line: bytes) -> _Entry | None:
    """Read a line; None where it is none of a quarantine."""
    try:
        entry: dict[str, Any] = json.loads(line)
        file = str(entry["file"] or "")
        if "rows" in entry:
            rows = entry["rows"]
            return _Entry(file=file, quarantined=0, given_up=int(rows or 0), unknown=rows is None)
        return _Entry(file=file, quarantined=1, given_up=0) if isinstance(entry["row"], int) else None
    except (ValueError, KeyError, TypeError):
        return None


def differences(name: str, count: QuarantineCount, account: Account) -> Iterator[str]:
    """Say where a quarantine is not as the receipt says, a sentence each.

    Args:
        name: of the quarantine.
        count: of its lines.
        account: what the receipt says.
    """
    yield from _wrong_ranges(name, count, account)
    if count.damaged:
        first = f"line {count.first_damaged:,} is the first"
        yield f"{name} has {number(count.damaged, 'line')} that cannot be read, and should have 0: {first}"
    if count.torn:
        yield f"{name} ends in the middle of line {count.lines:,}"
    for file in account.files:
        found, said = count.by_file[file.name], file.rows
        if found.quarantined != said["quarantined"]:
            yield (
                f"{name} has {number(found.quarantined, 'row')} of {file.name}, "
                f"and the receipt says {said['quarantined']:,} quarantined"
            )
        # where the end of a file could not be read its line does not say how many rows were
        more, fewer = found.given_up > said["given_up"], found.given_up < said["given_up"]
        if more or (fewer and not found.unknown):
            yield (
                f"{name} gives up {number(found.given_up, 'row')} of {file.name}, "
                f"and the receipt says {said['given_up']:,} given up"
            )
    unnamed = max(0, account.rows["given_up"] - sum(file.rows["given_up"] for file in account.files))
    if count.unnamed != unnamed:
        yield f"{name} gives up {number(count.unnamed, 'file')} without a name, and the receipt says {unnamed:,}"
    if count.strangers:
        yield f"{name} has {number(count.strangers, 'row')} of files that are not in the receipt, and should have 0"


def _wrong_ranges(name: str, count: QuarantineCount, account: Account) -> Iterator[str]:
    """Say where the ranges of the jobs do not lie one behind the other up to the end of the quarantine."""
    end: int | None = None
    for place, each in enumerate(account.appended, 1):
        if each.lost is None:
            continue
        offset, length = each.lost
        if end is not None and offset != end:
            yield f"{name}: job {place} begins at byte {offset:,} and what is before it ends at byte {end:,}"
        end = offset + length
    if end is not None and end != count.size_bytes:
        yield f"{name} has {count.size_bytes:,} bytes, and the receipt says {end:,}"
