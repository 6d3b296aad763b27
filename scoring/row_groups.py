"""Cut a Parquet file at its row groups; the scanner imports this, and Arrow with it, where there is such a file.

Keys, digests and progress count bytes, so that a slice does too: it begins where its first row group does, and the
first of a file at 0, the last ends at the file's end. Its rows say which row groups those are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.cells import InputFile, Slice

__all__ = ["RowGroups", "damage", "measure"]


def measure(file: InputFile) -> tuple[int, int]:
    """Return the rows of a file and the bytes they have in memory, as the footer says; none of a damaged one."""
    try:
        with pq.ParquetFile(file.url) as opened:
            metadata = opened.metadata
            return metadata.num_rows, sum(group.total_byte_size for group in _groups(metadata))
    except (OSError, pa.ArrowException):
        return 0, 0


def damage(error: Exception) -> str:
    """Say why Arrow does not read a file."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {error.strerror or error}"
    text = (str(error).splitlines() or [""])[0]
    return f"cannot be read as Parquet: {text.rstrip('.')}"


class RowGroups:
    """Cuts one file as `scoring.slices.Cutter` does: `slices` yields whole row groups, at least one each time.

    Args:
        index: of the file in the listing.
        file: the file.
        cut_rows: rows of the next slice where row groups allow; 0: all there are. It may be changed between two.
        limit_rows: rows of the last slice are left out behind so many; 0: none.
    """

    def __init__(self, index: int, file: InputFile, cut_rows: int, *, limit_rows: int = 0) -> None:
        self.cut_rows = cut_rows
        self._index = index
        self._file = file
        self._limit_rows = limit_rows

    def slices(self) -> Iterator[Slice]:
        """Read the footer and yield the slices; a file that cannot be read is one slice with the problem."""
        try:
            with pq.ParquetFile(self._file.url) as opened:
                names = tuple(opened.schema_arrow.names)
                groups = [(group.num_rows, _offset(group)) for group in _groups(opened.metadata) if group.num_rows]
        except (OSError, pa.ArrowException) as error:
            yield self._slice(0, self._file.size_bytes, problem=damage(error))
            return
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            yield self._slice(0, self._file.size_bytes, problem=f"two of its columns are named {twice!r}")
            return
        yield from self._cut(names, groups)

    def _cut(self, columns: tuple[str, ...], groups: list[tuple[int, int]]) -> Iterator[Slice]:
        # where row groups do not lie one behind the other, ranges of bytes cannot stand for them
        ordered = all(before < after for (_, before), (_, after) in pairwise(groups))
        limit_rows = self._limit_rows or sum(rows for rows, _ in groups)
        start = first_row = rows = 0
        for group_rows, offset in groups:
            if ordered and self.cut_rows and rows and rows + group_rows > self.cut_rows:
                yield self._slice(start, offset, columns, first_row=first_row, rows=rows)
                start, first_row, rows = offset, first_row + rows, 0
            rows = min(rows + group_rows, limit_rows - first_row)
        yield self._slice(start, self._file.size_bytes, columns, first_row=first_row, rows=rows)

    def _slice(
        self,
        start: int,
        stop: int,
        columns: tuple[str, ...] = (),
        *,
        first_row: int = 0,
        rows: int = 0,
        problem: str = "",
    ) -> Slice:
        return Slice(
            file=self._index,
            name=self._file.name,
            url=self._file.url,
            offset=start,
            start=start,
            stop=stop,
            first_row=first_row,
            rows=rows,
            columns=columns,
            problem=problem,
            format="parquet",
        )


def _groups(metadata: pq.FileMetaData) -> Iterator[pq.RowGroupMetaData]:
    return (metadata.row_group(number) for number in range(metadata.num_row_groups))


def _offset(group: pq.RowGroupMetaData) -> int:
    """Return where a row group begins: its first page, which may be a dictionary."""
    chunks = (group.column(number) for number in range(group.num_columns))
    return min((chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks), default=0)
