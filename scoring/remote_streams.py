"""Read remote files as streams, ranges and files ahead: the scanner never waits for a round trip, only for bytes.

What will be read is known before: the pieces, in order. As many ranges of them as fit into a bound are asked for at
once; each is fetched once. A piece that was only looked at, to choose the grid, is kept for the scan.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

__all__ = ["Piece", "ReadAhead", "RemoteStream", "tail_of"]

RANGE_BYTES = 2 * 2**20
AHEAD_BYTES = 16 * 2**20
"""So many bytes are asked for and not read yet, at the most; what is fetched lies in memory until it is read."""
AHEAD_RANGES = 64
FOOTER_BYTES = 64 * 2**10
"""As much is fetched of a large Parquet file's end first: its footer is hardly ever longer."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive bytes of one file of the listing."""

    file: int
    start: int
    stop: int


def tail_of(index: int, size_bytes: int) -> Piece:
    """Return the end of a Parquet file, which is read before what is in front of it; of a small file that is all."""
    return Piece(index, 0 if size_bytes <= RANGE_BYTES else size_bytes - FOOTER_BYTES, size_bytes)


Get = Callable[[int, int, int], bytes]
"""Fetches a range: of which file, from, to."""


class RemoteStream:
    """The bytes of a piece; it is read like a raw file."""

    def __init__(self, ahead: ReadAhead, piece: Piece, *, keep: bool = False) -> None:
        self.piece = piece
        self.keep = keep
        self._ahead = ahead
        self._asked_to = piece.start
        self._ranges: deque[tuple[int, Future[bytes]]] = deque()
        self._seen: list[bytes] = []
        self._rest = memoryview(b"")
        self._position = piece.start

    @property
    def asked(self) -> bool:
        """Whether all of it is asked for."""
        return self._asked_to >= self.piece.stop

    def ask(self) -> None:
        """Ask for the next range."""
        stop = min(self.piece.stop, self._asked_to + self._ahead.range_bytes)
        self._ranges.append((stop - self._asked_to, self._ahead.submit(self.piece.file, self._asked_to, stop)))
        self._asked_to = stop

    def read(self, size_bytes: int = -1) -> bytes:
        """Read the next bytes, up to so many; none at the end.

        Raises:
            InputError: the file is not what it was when it was listed.
            InputBusyError: storage does not answer.
        """
        if not self._rest:
            if not self._ranges and self.asked:
                return b""
            if not self._ranges:
                self.ask()
            size, future = self._ranges.popleft()
            try:
                data = future.result()
            except Exception:
                # whoever reads on, or opens it again, meets the same
                self._ranges.appendleft((0, future))
                raise
            finally:
                self._ahead.taken(size)
            if self.keep:
                self._seen.append(data)
            if 0 <= size_bytes < len(data):
                self._rest = memoryview(data)
            else:
                self._position += len(data)
                return data
        taken = bytes(self._rest[:size_bytes] if size_bytes >= 0 else self._rest)
        self._rest = self._rest[len(taken) :]
        self._position += len(taken)
        return taken

    def read_exactly(self, size_bytes: int) -> Iterator[bytes]:
        """Read so many bytes, a chunk at a time."""
        while size_bytes > 0 and (data := self.read(size_bytes)):
            size_bytes -= len(data)
            yield data

    def tell(self) -> int:
        """Return the offset in the file of what is read next."""
        return self._position

    def close(self) -> None:
        """Stop reading; what was kept begins anew."""
        if self.keep:
            for data in reversed(self._seen):
                done: Future[bytes] = Future()
                done.set_result(data)
                self._ranges.appendleft((0, done))
            self.keep, self._seen, self._rest, self._position = False, [], memoryview(b""), self.piece.start
            self._ahead.put_back(self)
            return
        self._asked_to, self._rest = self.piece.stop, memoryview(b"")
        while self._ranges:
            size, future = self._ranges.popleft()
            future.cancel()
            self._ahead.taken(size)


class ReadAhead:
    """Reads pieces in the order they are announced in, ahead of whoever opens them.

    Args:
        get: fetches a range; it is called in several threads at once.
        pieces: what will be opened, in order; another piece can be opened too, but is not begun ahead.
        in_flight: how many ranges are fetched at once.
    """

    def __init__(
        self,
        get: Get,
        pieces: Iterable[Piece],
        *,
        in_flight: int = 16,
        range_bytes: int = RANGE_BYTES,
        ahead_bytes: int = AHEAD_BYTES,
    ) -> None:
        self.range_bytes = range_bytes
        self._get = get
        self._pieces = iter(pieces)
        self._ahead_bytes = ahead_bytes
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="read")
        self._begun: dict[Piece, RemoteStream] = {}
        self._kept: dict[Piece, RemoteStream] = {}
        self._filling: RemoteStream | None = None
        self._opened: set[Piece] = set()
        self._bytes = 0
        self._ranges = 0

    def open(self, piece: Piece, *, keep: bool = False) -> RemoteStream:
        """Open a piece.

        Args:
            piece: which.
            keep: whether it is only looked at, and will be opened again.
        """
        self._fill()
        stream = self._begun.pop(piece, None) or self._kept.pop(piece, None)
        if stream is None:
            self._opened.add(piece)
            stream = RemoteStream(self, piece)
        stream.keep = keep
        return stream

    def put_back(self, stream: RemoteStream) -> None:
        """Keep a stream for when it is opened again."""
        self._opened.discard(stream.piece)
        self._kept[stream.piece] = stream

    def submit(self, file: int, start: int, stop: int) -> Future[bytes]:
        """Ask for a range."""
        self._bytes += stop - start
        self._ranges += 1
        return self._pool.submit(self._get, file, start, stop)

    def taken(self, size_bytes: int) -> None:
        """Note that a range was read or dropped, and ask for more."""
        if size_bytes:
            self._bytes -= size_bytes
            self._ranges -= 1
            self._fill()

    def _fill(self) -> None:
        while self._bytes < self._ahead_bytes and self._ranges < AHEAD_RANGES:
            if self._filling is None or self._filling.asked:
                piece = next(self._pieces, None)
                if piece is None:
                    return
                if piece in self._opened:
                    continue
                kept = self._kept.pop(piece, None)
                self._filling = self._begun[piece] = kept if kept is not None else RemoteStream(self, piece)
            else:
                self._filling.ask()

    def close(self) -> None:
        """Fetch nothing more."""
        self._pieces = iter(())
        self._pool.shutdown(wait=False, cancel_futures=True)
