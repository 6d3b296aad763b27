"""A file that is looked into before a job: on disk, or on storage, from where no more than that is fetched."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scoring.cells import InputFile
from scoring.errors import InputError
from scoring.files import HEAD_BYTES, DecodedStream, head_trouble
from scoring.rows import Dialect

if TYPE_CHECKING:
    from scoring.remote_files import BlobRanges, HttpRanges

__all__ = ["Fetched", "OnDisk"]

FOOTER_BYTES = 64 * 2**10
RANGE_BYTES = 8 * 2**20


class OnDisk:
    """A file on disk, as it is looked into."""

    ends_are_near = True

    def __init__(self, file: InputFile) -> None:
        self.file = file

    def stream(self, dialect: Dialect) -> DecodedStream:
        """Open it from its begin."""
        return DecodedStream(self.file, dialect)

    def read(self, start: int, stop: int) -> bytes:
        """Read some bytes of it."""
        with open(self.file.url, "rb") as source:
            source.seek(start)
            return source.read(stop - start)

    def with_footer(self, path: str) -> InputFile:  # noqa: ARG002 (one shape)
        """Return what a Parquet file's footer is read from: the file."""
        return self.file

    def fill(self, copy: InputFile, start: int, stop: int) -> None:
        """Do nothing: all is there."""


class Fetched:
    """A file that is fetched, as far as it is looked into."""

    def __init__(self, file: InputFile, ranges: BlobRanges | HttpRanges) -> None:
        self.file = file
        self._ranges = ranges

    def stream(self, dialect: Dialect) -> DecodedStream:
        """Fetch it from its begin, as far as it is read."""
        return DecodedStream(self.file, dialect, _Begin(self, dialect))

    def read(self, start: int, stop: int) -> bytes:
        """Fetch some bytes of it.

        Raises:
            InputError: it is not what it was when it was listed, or cannot be fetched now.
        """
        starts = range(start, min(stop, self.file.size_bytes), RANGE_BYTES)
        pieces = ((each, min(each + RANGE_BYTES, stop, self.file.size_bytes)) for each in starts)
        return b"".join(self._ranges.get(self.file, *piece) for piece in pieces)

    def with_footer(self, path: str) -> InputFile:
        """Make a copy of the same size that has only the footer of a Parquet file, and holes before it."""
        size_bytes = self.file.size_bytes
        start = max(0, size_bytes - FOOTER_BYTES)
        end = self.read(start, size_bytes)
        # its length stands in front of the magic at the end
        footer_bytes = int.from_bytes(end[-8:-4], "little") + 8
        if footer_bytes > len(end):
            start = max(0, size_bytes - footer_bytes)
            end = self.read(start, size_bytes)
        with open(path, "wb") as copy:
            copy.seek(start)
            copy.write(end)
        return replace(self.file, url=path)

    def fill(self, copy: InputFile, start: int, stop: int) -> None:
        """Fetch some bytes of the file into its copy."""
        with open(copy.url, "r+b") as opened:
            opened.seek(start)
            opened.write(self.read(start, stop))

    @property
    def ends_are_near(self) -> bool:
        """Whether its end can be fetched without what is before it."""
        return getattr(self._ranges, "ranged", True)


class _Begin:
    """The bytes of a file that is fetched, in order; the first of a CSV file must be text."""

    def __init__(self, source: Fetched, dialect: Dialect) -> None:
        self._source = source
        self._dialect = dialect
        self._position = 0

    def read(self, size_bytes: int = -1, /) -> bytes:
        """Fetch the next bytes.

        Raises:
            InputError: they are no text, or cannot be fetched.
        """
        stop = self._source.file.size_bytes if size_bytes < 0 else self._position + size_bytes
        data = self._source.read(self._position, stop)
        if not self._position and (trouble := head_trouble(self._source.file, data[:HEAD_BYTES], self._dialect)):
            raise InputError(trouble)
        self._position += len(data)
        return data

    def tell(self) -> int:
        """Return the offset of what is read next."""
        return self._position

    def close(self) -> None:
        """Fetch nothing more."""
