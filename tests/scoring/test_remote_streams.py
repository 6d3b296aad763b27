"""Reading ahead: what is opened in order is there already, nothing is fetched twice, and memory is bounded."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InputError
from scoring.remote_streams import Piece, ReadAhead, tail_of


class Store:
    """Files in memory; it notes what is fetched of them, and may answer none before so many were asked for at once."""

    def __init__(self, sizes, *, together=1, broken=()):
        self.files = [bytes((index + at) % 251 for at in range(size)) for index, size in enumerate(sizes)]
        self.got = []
        self._together = together
        self._enough = threading.Event()
        self._broken = broken

    def get(self, file, start, stop):
        """Fetch a range."""
        self.got.append((file, start, stop))
        if len(self.got) >= self._together:
            self._enough.set()
        assert self._enough.wait(60), "they are asked for one after another"
        if (file, start) in self._broken:
            raise InputError(f"{file} changed")
        return self.files[file][start:stop]


@pytest.fixture
def reading():
    """Begin to read ahead; all of it ends with the test."""
    begun = []

    def begin(store, pieces, **options):
        begun.append(ReadAhead(store.get, pieces, **options))
        return begun[-1]

    yield begin
    for each in begun:
        each.close()


def read_all(stream, size_bytes=-1):
    """All bytes of a stream."""
    data = b"".join(iter(lambda: stream.read(size_bytes), b""))
    stream.close()
    return data


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8),
    st.integers(1, 16),
    st.integers(1, 60),
    st.sampled_from([-1, 1, 3, 50]),
    st.data(),
)
def test_pieces_are_read_whole_and_once(sizes, range_bytes, ahead_bytes, read_bytes, data):
    """Whatever the ranges and the bound, streams give the bytes of their pieces, each fetched once, kept ones too."""
    store = Store(sizes)
    pieces = [
        Piece(file, *sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size)))))
        for file, size in enumerate(sizes)
    ]
    ahead = ReadAhead(store.get, pieces, in_flight=3, range_bytes=range_bytes, ahead_bytes=ahead_bytes)
    looked = data.draw(st.lists(st.sampled_from(pieces), unique=True, max_size=3))
    for piece in looked:
        stream = ahead.open(piece, keep=True)
        assert (
            stream.read(read_bytes) == store.files[piece.file][piece.start : piece.stop][: stream.tell() - piece.start]
        )
        stream.close()
    for piece in pieces:
        assert read_all(ahead.open(piece), read_bytes) == store.files[piece.file][piece.start : piece.stop]
    ahead.close()
    assert sorted(store.got) == sorted(
        (piece.file, start, min(piece.stop, start + range_bytes))
        for piece in pieces
        for start in range(piece.start, piece.stop, range_bytes)
    )


def test_many_small_files_are_fetched_at_once(reading):
    """Files of one range each do not wait for one another."""
    store = Store([10] * 200, together=8)
    pieces = [Piece(file, 0, 10) for file in range(200)]
    ahead = reading(store, pieces, in_flight=16)
    assert [read_all(ahead.open(piece)) for piece in pieces] == store.files


def test_no_more_is_fetched_than_there_is_room_for(reading):
    """While nobody reads, the bytes asked for stay within the bound, and a range more."""
    store = Store([100] * 10)
    ahead = reading(store, [Piece(file, 0, 100) for file in range(10)], range_bytes=10, ahead_bytes=150)
    stream = ahead.open(Piece(0, 0, 100))
    for fetched in (15, 16):
        deadline = time.monotonic() + 60
        while len(store.got) < fetched and time.monotonic() < deadline:
            time.sleep(0.01)
        # one too many would come now
        time.sleep(0.1)
        assert len(store.got) == fetched
        stream.read()


def test_trouble_is_met_where_it_is_read(reading):
    """A range that cannot be fetched fails its own file, again when it is opened again, and no other."""
    store = Store([30, 30], broken={(0, 10)})
    pieces = [Piece(file, 0, 30) for file in range(2)]
    ahead = reading(store, pieces, range_bytes=10)
    for keep in (True, False):
        stream = ahead.open(pieces[0], keep=keep)
        assert stream.read() == store.files[0][:10]
        with pytest.raises(InputError, match="0 changed"):
            stream.read()
        stream.close()
    assert read_all(ahead.open(pieces[1])) == store.files[1]


def test_what_was_not_announced_is_fetched_all_the_same(reading):
    """A piece that nobody foresaw is read when it is opened, and does not disturb those that were."""
    store = Store([30, 30])
    pieces = [Piece(0, 0, 30), Piece(1, 0, 30)]
    ahead = reading(store, pieces, range_bytes=10)
    assert read_all(ahead.open(Piece(1, 5, 25))) == store.files[1][5:25]
    assert [read_all(ahead.open(piece)) for piece in pieces] == store.files


def test_a_stream_closed_early_asks_for_nothing_more(reading):
    """What is not wanted of a piece is not fetched, and makes room for the next."""
    store = Store([1000, 10])
    ahead = reading(store, [Piece(0, 0, 1000), Piece(1, 0, 10)], range_bytes=10, ahead_bytes=30)
    stream = ahead.open(Piece(0, 0, 1000))
    stream.read()
    stream.close()
    assert stream.read() == b""
    assert read_all(ahead.open(Piece(1, 0, 10))) == store.files[1]
    assert len(store.got) <= 6


@pytest.mark.parametrize("size", [0, 1, 2**21, 2**21 + 1, 10**9])
def test_tail_of_a_parquet_file(size):
    """Of a large file the end comes first, a small one in one go."""
    piece = tail_of(3, size)
    assert (piece.file, piece.stop) == (3, size)
    assert piece.start == (0 if size <= 2**21 else size - 2**16)
