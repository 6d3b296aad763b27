"""Cut a Parquet file at its row groups; the scanner imports this, and Arrow with it, where there is such a file.

Keys, digests and progress count bytes, so that a slice does too: it begins where its first row group does, and the
first of a file at 0, the last ends at the file's end. Its rows say which row groups those are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.cells import InputFile, Slice
from scoring.errors import InputBusyError, InputError
from scoring.patient_files import patiently
from scoring.remote_streams import Piece, tail_of

if TYPE_CHECKING:
    from scoring.remote_streams import ReadAhead, RemoteStream
    from scoring.slices import Spool

__all__ = ["Fetched", "RowGroups", "damage", "measure"]

_LENGTH_BYTES = 8
"""The last bytes of a file: length of the footer in front of them, and the magic."""


class Fetched:
    """A Parquet file that is fetched: its end first, then what slices cover, each into a file of its own with holes.

    Offsets stay those of the file, so that a slice is read as from the whole one.

    Args:
        index: of the file in the listing.
        file: the file.
        reads: where its bytes come from.
        spool: where slices are kept.
    """

    def __init__(self, index: int, file: InputFile, reads: ReadAhead, spool: Spool) -> None:
        self._index = index
        self._file = file
        self._reads = reads
        self._spool = spool
        self._tail = b""
        self._tail_start = 0
        self._footer_start = 0
        self._body: RemoteStream | None = None

    def end(self, *, keep: bool = False) -> pa.BufferReader:
        """Fetch the end, with the whole footer, and give it as what Arrow reads a footer from.

        Args:
            keep: whether the end is only looked at, and will be fetched by another.

        Raises:
            InputError: the file is not what it was when it was listed.
        """
        piece = tail_of(self._index, self._file.size_bytes)
        self._tail, self._tail_start = self._fetch(piece, keep=keep), piece.start
        footer_bytes = int.from_bytes(self._tail[-_LENGTH_BYTES:-4], "little") + _LENGTH_BYTES
        self._footer_start = max(0, self._file.size_bytes - footer_bytes)
        if self._footer_start < self._tail_start:
            more = Piece(self._index, self._footer_start, self._tail_start)
            self._tail, self._tail_start = self._fetch(more) + self._tail, more.start
        return pa.BufferReader(self._tail)

    def _fetch(self, piece: Piece, *, keep: bool = False) -> bytes:
        stream = self._reads.open(piece, keep=keep)
        try:
            return b"".join(iter(stream.read, b""))
        finally:
            stream.close()

    def begin(self, start: int, stop: int) -> None:
        """Begin to fetch what lies between; `copy` goes through it in order."""
        tail = tail_of(self._index, self._file.size_bytes)
        self._body = self._reads.open(Piece(self._index, start, min(stop, tail.start))) if start < tail.start else None

    def copy(self, start: int, stop: int) -> str:
        """Keep what a slice covers, and the footer: return where.

        Raises:
            InputError: the file is not what it was when it was listed.
            InputBusyError: the disk fails.
        """
        from scoring.slices import drop, spool_error

        sink = self._spool.open()
        try:
            try:
                sink.seek(start)
                if self._body is not None:
                    for data in self._body.read_exactly(stop - self._body.tell()):
                        sink.write(data)
                begin = max(start, self._tail_start)
                if begin < stop:
                    sink.seek(begin)
                    sink.write(self._tail[begin - self._tail_start : stop - self._tail_start])
                sink.seek(max(self._footer_start, self._tail_start))
                sink.write(self._tail[max(0, self._footer_start - self._tail_start) :])
                sink.close()
            except OSError as error:
                raise spool_error(error) from None
        except InputError:
            drop(sink)
            raise
        self._spool.hold_sparse(sink.name, stop - start + len(self._tail))
        return sink.name

    def close(self) -> None:
        """Fetch nothing more."""
        if self._body is not None:
            self._body.close()


def measure(file: InputFile, fetched: Fetched | None = None) -> tuple[int, int]:
    """Return the rows of a file and the bytes they have in memory, as the footer says; none of a damaged one."""
    try:
        source = file.url if fetched is None else fetched.end(keep=True)
        with patiently(lambda: pq.ParquetFile(source), file.url) as opened:
            metadata = opened.metadata
            return metadata.num_rows, sum(group.total_byte_size for group in _groups(metadata))
    except InputBusyError:
        raise
    except (OSError, pa.ArrowException, InputError):
        # the scan meets it again, and says so
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
        piece: only slices that begin in it are wanted; without, all are.
        fetched: the file, if it is fetched.
    """

    def __init__(
        self,
        index: int,
        file: InputFile,
        cut_rows: int,
        *,
        limit_rows: int = 0,
        piece: Piece | None = None,
        fetched: Fetched | None = None,
    ) -> None:
        self.cut_rows = cut_rows
        self._piece = piece or Piece(index, 0, file.size_bytes)
        self._fetched = fetched
        self._index = index
        self._file = file
        self._limit_rows = limit_rows

    def slices(self) -> Iterator[Slice]:
        """Read the footer and yield the slices; a file that cannot be read is one slice with the problem."""
        found = self._groups()
        if isinstance(found, str):
            yield self._slice(0, self._file.size_bytes, problem=found)
            return
        wanted = (part for part in self._cut(*found) if self._piece.start <= part.start < self._piece.stop)
        yield from wanted if self._fetched is None else self._copied(self._fetched, wanted)

    def _groups(self) -> tuple[tuple[str, ...], list[tuple[int, int, int]]] | str:
        """Read the footer: names of the columns; rows, first byte and the one behind the last of each row group."""
        try:
            source = self._file.url if self._fetched is None else self._fetched.end()
            with patiently(lambda: pq.ParquetFile(source), self._file.url) as opened:
                names = tuple(opened.schema_arrow.names)
                groups = [(group.num_rows, *_range(group)) for group in _groups(opened.metadata) if group.num_rows]
        except (OSError, pa.ArrowException) as error:
            return damage(error)
        except InputBusyError:
            raise
        except InputError as error:
            return str(error)
        twice = next((name for name in names if names.count(name) > 1), None)
        return (names, groups) if twice is None else f"two of its columns are named {twice!r}"

    def _copied(self, fetched: Fetched, wanted: Iterator[Slice]) -> Iterator[Slice]:
        position = self._piece.start
        try:
            fetched.begin(position, self._piece.stop)
            for part in wanted:
                yield replace(part, url=fetched.copy(part.start, part.stop))
                position = part.stop
        except InputBusyError:
            raise
        except InputError as error:
            yield self._slice(position, self._file.size_bytes, problem=str(error))
        finally:
            fetched.close()

    def _cut(self, columns: tuple[str, ...], groups: list[tuple[int, int, int]]) -> Iterator[Slice]:
        # where row groups do not lie one behind the other, ranges of bytes cannot stand for them
        ordered = all(before[1] < after[1] and before[2] <= after[1] for before, after in pairwise(groups))
        limit_rows = self._limit_rows or sum(rows for rows, _, _ in groups)
        start = first_row = rows = 0
        for group_rows, offset, _ in groups:
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


def _range(group: pq.RowGroupMetaData) -> tuple[int, int]:
    """Return where a row group begins, with its first page, which may be a dictionary, and where it ends."""
    chunks = [group.column(number) for number in range(group.num_columns)]
    starts = [(chunk.dictionary_page_offset or chunk.data_page_offset) for chunk in chunks]
    ends = [start + chunk.total_compressed_size for start, chunk in zip(starts, chunks, strict=True)]
    return min(starts, default=0), max(ends, default=0)
