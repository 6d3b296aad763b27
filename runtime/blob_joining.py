"""What becomes of staged parts when their blob appears: blocks as they are, or joined, where there are too many.

A blob takes 50,000 blocks. A job that counts its mini-batches by files may have more parts than that: these are staged
as small blobs, and joined into blocks by the driver when it publishes. The name of such a blob ends in its size, so
that one listing tells all::

    parts/<key>.1234                  scores
    parts/<key>.quarantine.77         quarantine part
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Protocol

from runtime.blob_container import BlobContainer
from runtime.parts import QUARANTINE, PartKey

__all__ = ["JOINED_BYTES", "BlockParts", "SmallParts", "StagedParts", "small_name"]

JOINED_BYTES = 32 * 2**20
JOINED_BLOCKS = 20_000
"""Small parts are joined into so many blocks at most."""
_AT_ONCE = 8


class StagedParts(Protocol):
    """How parts of a blob are staged."""

    def sizes(self, path: str) -> dict[str, int]:
        """Return the sizes of all parts of a blob, by their keys."""
        ...

    def blocks(self, path: str, parts: Sequence[tuple[str, int]], prefix: str) -> list[str] | None:
        """Return the blocks that stand for parts, in order; None where a part is not as it was staged.

        Args:
            path: of the blob.
            parts: keys and sizes.
            prefix: of the ids of blocks that are made for it.
        """
        ...


class BlockParts:
    """Parts staged as blocks."""

    def __init__(self, container: BlobContainer) -> None:
        self._container = container

    def sizes(self, path: str) -> dict[str, int]:
        """See `StagedParts`."""
        return self._container.sizes(path)

    def blocks(self, path: str, parts: Sequence[tuple[str, int]], prefix: str) -> list[str] | None:  # noqa: ARG002
        """See `StagedParts`."""
        return [key for key, _ in parts]


class SmallParts:
    """Parts staged as small blobs.

    Args:
        container: where they are.
        folder: path of the parts.
        quarantine: path of the quarantine.
    """

    def __init__(self, container: BlobContainer, folder: str, quarantine: str) -> None:
        self._container = container
        self._folder = folder
        self._quarantine = quarantine

    def sizes(self, path: str) -> dict[str, int]:
        """See `StagedParts`."""
        wanted = self._kind(path)
        found = {}
        for name in self._container.names(self._folder):
            text, _, size = name.removeprefix(self._folder).rpartition(".")
            key, dot, kind = text.partition(".")
            if size.isdecimal() and dot + kind == wanted and PartKey.decode(key) is not None:
                found[key] = int(size)
        return found

    def blocks(self, path: str, parts: Sequence[tuple[str, int]], prefix: str) -> list[str] | None:
        """See `StagedParts`."""
        blocks: list[str] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for together in _together(parts):
                names = [f"{self._folder}{small_name(key, self._kind(path), size)}" for key, size in together]
                pieces = list(pool.map(self._container.read, names))
                for (key, size_bytes), data in zip(together, pieces, strict=True):
                    if data is None or len(data) != size_bytes:
                        return None
                    known = PartKey.decode(key)
                    if path != self._quarantine and (known is None or zlib.crc32(data) != known.crc):
                        return None
                block = f"{prefix}{len(blocks):0{64 - len(prefix)}}"
                joined = b"".join(piece for piece in pieces if piece)
                self._container.stage(path, block, BytesIO(joined), len(joined))
                blocks.append(block)
        return blocks

    def _kind(self, path: str) -> str:
        return QUARANTINE if path == self._quarantine else ""


def small_name(key: str, kind: str, size_bytes: int) -> str:
    """Name a part that is staged as a blob."""
    return f"{key}{kind}.{size_bytes}"


def _together(parts: Sequence[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    """Put parts together until they make a block."""
    most = max(JOINED_BYTES, -(-sum(size for _, size in parts) // JOINED_BLOCKS))
    together: list[tuple[str, int]] = []
    size_bytes = 0
    for part in parts:
        if together and size_bytes + part[1] > most:
            yield together
            together, size_bytes = [], 0
        together.append(part)
        size_bytes += part[1]
    if together:
        yield together
