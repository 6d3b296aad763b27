"""Checksums of a whole from those of its parts."""

from __future__ import annotations

from functools import lru_cache

_POLYNOMIAL = 0xEDB88320


def crc32_combined(first: int, second: int, second_bytes: int) -> int:
    """Return the CRC-32 of two texts, one behind the other, from theirs and the length of the second."""
    return _multiplied(_shift(second_bytes), first) ^ second


def _multiplied(one: int, other: int) -> int:
    """Multiply two polynomials modulo the CRC's, bits reflected."""
    product = 0
    bit = 1 << 31
    while bit:
        if one & bit:
            product ^= other
        bit >>= 1
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return product


@lru_cache(maxsize=64)
def _power(exponent: int) -> int:
    """Return x to the power of 8 times 2 to the exponent."""
    if exponent == 0:
        return 1 << 23
    half = _power(exponent - 1)
    return _multiplied(half, half)


@lru_cache(maxsize=4096)
def _shift(length: int) -> int:
    """Return what moves a CRC by so many bytes."""
    result = 1 << 31
    exponent = 0
    while length:
        if length & 1:
            result = _multiplied(_power(exponent), result)
        length >>= 1
        exponent += 1
    return result
