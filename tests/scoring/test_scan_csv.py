"""Where records end: any bytes, in chunks of any size, against the reference."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import scan_csv
from scoring.reference import Column, records
from scoring.scan_csv import ScanError, is_blank, scan_blocks, walk_records
from tests.csv_texts import chunked, csv_files, examples

COLUMNS = [Column(name="n", type="long"), Column(name="s", type="string"), Column(name="x", type="double")]
ODD_BYTES = st.text(alphabet='a1,;"\t \r\n\xe9\0', max_size=40).map(lambda text: text.encode("latin-1"))


@st.composite
def chunks(draw):
    """A delimiter, and bytes in chunks: files as they come, and rubbish."""
    delimiter = draw(st.sampled_from(",;\t |"))
    files = csv_files(COLUMNS, delimiter=delimiter, max_files=1).map(lambda some: some[0][1] if some else b"")
    return delimiter, draw(draw(st.sampled_from([files, ODD_BYTES])).flatmap(chunked))


def line_stops(text):
    """Find the offsets behind all line ends."""
    return [match.end() for match in re.finditer("\r\n|\r|\n", text)]


def row_stops(text, delimiter):
    """Find the offsets behind all rows, their line ends included, as the reference sees them."""
    line_starts = [0, *line_stops(text)]
    ends = [line_starts[record.line - 1] + len(record.text) for record in records(text, delimiter)]
    return [re.compile("\r\n|\r|\n|").match(text, end).end() for end in ends]


def joined(arrays):
    """Put offsets of all blocks together."""
    return [int(place) for array in arrays for place in array]


@examples(400)
@given(chunks(), st.integers(0, 5))
def test_scan_blocks_equal_the_records_of_the_reference(drawn, start):
    """Blocks cover the bytes in order, whole records each, and tell every row and line as the reference does."""
    delimiter, pieces = drawn
    data = b"".join(pieces)
    text = data.decode("latin-1")
    blocks = list(scan_blocks(pieces, delimiter=delimiter, start=start))
    assert b"".join(block.data for block in blocks) == data
    assert [block.start for block in blocks] == [
        start + sum(len(before.data) for before in blocks[:number]) for number in range(len(blocks))
    ]
    assert [place + start for place in row_stops(text, delimiter)] == joined(block.row_stops for block in blocks)
    assert [place + start for place in line_stops(text)] == joined(block.line_stops for block in blocks)
    for block in blocks[:-1]:
        assert block.row_stops[-1] == block.start + len(block.data)


@examples(200)
@given(chunks())
def test_walk_records_equal_the_records_of_the_reference(drawn):
    """The tokenizer finds the same records one by one, blank ones too."""
    delimiter, pieces = drawn
    data = b"".join(pieces)
    found = list(walk_records(data, 0, ord(delimiter), final=True))
    assert [after for _, _, after in found][-1:] == ([len(data)] if data else [])
    assert [start for start, _, _ in found[1:]] == [after for _, _, after in found[:-1]]
    rows = [data[start:stop] for start, stop, _ in found if not is_blank(data[start:stop], ord(delimiter))]
    assert [row.decode("latin-1") for row in rows] == [
        record.text for record in records(data.decode("latin-1"), delimiter)
    ]
    unfinished = list(walk_records(data, 0, ord(delimiter), final=False))
    assert found[: len(unfinished)] == unfinished
    assert len(found) - len(unfinished) <= 1


PLAIN = {
    "nothing odd": (b"a,b\n1,2\n", True),
    "carriage returns and line feeds": (b"a,b\r\n1,2\r\n", True),
    "quoted": (b'a,"b"\n"1\n,""",2\n', True),
    "empty lines": (b"a,b\n\n1,2\r\n\r\n", True),
    "no last line end": (b"a,b\n1,2", True),
    "stray quote": (b'a,b\n5" pipe,2\n', True),
    "lone carriage return": (b"a,b\r1,2\n", True),
    "line of white space": (b"a,b\n \t\n1,2\n", False),
    "quote never closed": (b'a,b\n1,"2\n', False),
}


@pytest.mark.parametrize(("data", "plain"), PLAIN.values(), ids=PLAIN.keys())
def test_scan_blocks_says_where_arrow_sees_the_same_records(data, plain):
    """A block where Arrow would see other records is not plain."""
    assert all(block.plain for block in scan_blocks([data], delimiter=",")) == plain


def test_scan_blocks_gives_a_block_as_soon_as_it_has_a_row():
    """A record that goes on is kept back; blank lines wait for the row behind them."""
    blocks = list(scan_blocks([b"a\nb", b"\n\n", b"\n", b"c\nd"], delimiter=","))
    assert [block.data for block in blocks] == [b"a\n", b"b\n", b"\n\nc\n", b"d"]
    assert [(block.row_stops.dtype, block.line_stops.dtype) for block in blocks] == [(np.int64, np.int64)] * 4


def test_scan_blocks_refuses_an_endless_record(monkeypatch):
    """A record of more than the most is an error that says where it begins; rows before it are given."""
    monkeypatch.setattr(scan_csv, "MAX_RECORD_BYTES", 2**20)
    blocks = scan_blocks([b'a\n"b\n', *[b"c\n" * 2**17] * 9], delimiter=",")
    assert next(blocks).data == b"a\n"
    with pytest.raises(ScanError, match=r"^a record of more than 1 MiB begins at byte 2: probably a quote is opened"):
        next(blocks)
