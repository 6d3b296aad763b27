"""Records as text: split one into its fields, name the fields by a header."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_DIRECT = re.compile(
    r"utf-?8|ascii|us-ascii|latin-?1|iso-?8859-?\d+|(cp|windows-?)(125\d|437|85\d|866)|koi8-?[ru]|mac-?roman"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How the CSV files of a job are written.

    Attributes:
        delimiter: one ASCII character.
        encoding: a Python codec name.
        header: whether the first record names the columns.
        columns: the names where there is no header.
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    header: bool = True
    columns: tuple[str, ...] = ()

    @property
    def direct(self) -> bool:
        """Whether records can be found in the bytes as they are, without decoding them first."""
        return _DIRECT.fullmatch(self.encoding.lower().replace("_", "-")) is not None

    @property
    def stream_encoding(self) -> str:
        """The encoding of the bytes that slices point at."""
        return self.encoding if self.direct else "utf-8"


@lru_cache
def _patterns(delimiter: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    end = re.escape(delimiter)
    return re.compile(rf'"([^"]*+(?:""[^"]*+)*+)"([^{end}]*+)'), re.compile(f"[^{end}]*+")


def split_fields(record: str, delimiter: str) -> tuple[list[str], bool]:
    """Split a record, without its line end, into fields; the second value is False where a quote is never closed."""
    if '"' not in record:
        return record.split(delimiter), True
    quoted, bare = _patterns(delimiter)
    fields: list[str] = []
    position = 0
    while True:
        if record.startswith('"', position):
            match = quoted.match(record, position)
            if match is None:
                fields.append(record[position + 1 :].replace('""', '"'))
                return fields, False
            fields.append(match[1].replace('""', '"') + match[2])
        else:
            match = bare.match(record, position)
            assert match is not None  # it matches the empty text too
            fields.append(match[0])
        position = match.end() + 1
        if match.end() == len(record):
            return fields, True


def header_names(fields: Sequence[str]) -> tuple[str, ...]:
    """Name columns by a header; a name met again becomes ``name.1``, as in pandas."""
    names: list[str] = []
    taken = set(fields)
    seen: dict[str, int] = {}
    for field in fields:
        name = field
        if field in seen:
            while name in taken:
                name = f"{field}.{seen[field]}"
                seen[field] += 1
            taken.add(name)
        else:
            seen[field] = 1
        names.append(name)
    return tuple(names)
