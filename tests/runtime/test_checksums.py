"""Checksums of a whole from those of its parts."""

from __future__ import annotations

import zlib
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.checksums import crc32_combined


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_crc_of_a_whole_follows_from_its_parts(parts: list[bytes]) -> None:
    """Combined one after the other, the parts' checksums give that of all bytes."""
    combined = reduce(lambda crc, part: crc32_combined(crc, zlib.crc32(part), len(part)), parts, 0)
    assert zlib.crc32(b"".join(parts)) == combined


@pytest.mark.parametrize("length", [0, 1, 255, 65_536, 2**20 + 3])
def test_crc_is_moved_by_long_parts(length: int) -> None:
    """The second part may be of any length."""
    first, second = b"row,prediction,file\n", bytes(length)
    assert zlib.crc32(first + second) == crc32_combined(zlib.crc32(first), zlib.crc32(second), length)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**50), min_size=2, max_size=2))
def test_crc_may_be_combined_in_any_grouping(first: int, second: int, lengths: list[int]) -> None:
    """Moving by two lengths is moving by their sum, even beyond what fits in memory."""
    one, other = lengths
    by_steps = crc32_combined(crc32_combined(first, 0, one), second, other)
    assert crc32_combined(first, second, one + other) == by_steps
