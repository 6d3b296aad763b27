"""The text of each value, written by itself: its neighbours never change it.

Arrow finds the same shortest digits of a float as Python, seven times faster, but lays some of them out otherwise: `1`,
`0.00001`, `1e-7` and `1e+10` for `1.0`, `1e-05`, `1e-07` and `10000000000.0`. Only those are rewritten here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api.extensions import ExtensionArray

__all__ = ["Column", "value_texts"]

Column: TypeAlias = "np.ndarray[Any, Any] | ExtensionArray | pa.Array | list[Any]"
Array: TypeAlias = "np.ndarray[Any, Any]"

# Offsets of 64 bits: as fast as those of 32, and no limit of 2 GiB.
TEXT = pa.large_string()

INTEGER_BITS: dict[str | None, int] = {"long": 63, "integer": 31}
FLOAT_TYPES: dict[str | None, Any] = {"double": np.float64, "float": np.float32}


def value_texts(column: Column, kind: str | None = None) -> pa.LargeStringArray:
    """Write each value of a column as text, a missing one as the empty text; nothing is quoted.

    A value is written by the kind that the model's signature names where that loses nothing.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # a NaN of the signalling sort, an integer beyond float32
        return pc.fill_null(_texts(column, kind), "")


def _texts(column: Any, kind: str | None) -> pa.LargeStringArray:
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return _of_arrow(column, kind)
    if isinstance(column, pd.Categorical):
        categories = value_texts(column.categories.array, kind)
        return categories.take(pa.array(column.codes, pa.int64(), mask=column.codes < 0))
    if isinstance(column, ExtensionArray):
        return _of_extension(column, kind)
    if isinstance(column, np.ndarray):
        return _of_numpy(column, kind)
    return _of_objects(list(column), kind)


def _of_numpy(values: Array, kind: str | None) -> pa.LargeStringArray:
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    match values.dtype.kind:
        case "f" if values.dtype.itemsize <= 8:
            return _floats(values, kind)
        case "i" | "u" | "b":
            return _of_arrow(pa.array(values), kind)
        case "M":
            return _datetimes(values)
        case "U":
            return _each_once(values, lambda distinct: _of_objects(distinct.tolist(), kind))
    return _of_objects(list(values), kind)


def _of_extension(column: Any, kind: str | None) -> pa.LargeStringArray:
    if isinstance(column.dtype, np.dtype | pd.SparseDtype):
        return _of_numpy(np.asarray(column), kind)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        local = np.asarray(column.tz_localize(None))
        return _datetimes(local, local - np.asarray(column.tz_convert("UTC").tz_localize(None)))
    masked = pd.arrays.BooleanArray | pd.arrays.FloatingArray | pd.arrays.IntegerArray
    if isinstance(column, masked | pd.arrays.ArrowExtensionArray | pd.arrays.StringArray):
        with suppress(UnicodeEncodeError):  # half of a surrogate pair, which Arrow cannot hold
            return _of_arrow(pa.array(column), kind)
    return _of_objects(list(column), kind)


def _of_arrow(array: Any, kind: str | None) -> pa.LargeStringArray:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    of = array.type
    if pa.types.is_string(of) or pa.types.is_large_string(of):
        return pc.cast(array, TEXT)
    if pa.types.is_integer(of):
        return _integers(array, kind)
    if pa.types.is_boolean(of):
        return pa.array(["False", "True"], TEXT).take(pc.cast(array, pa.int8()))
    if pa.types.is_floating(of):
        return _floats(array.to_numpy(zero_copy_only=False), kind)
    if pa.types.is_timestamp(of) and of.tz is None:
        return _datetimes(array.to_numpy(zero_copy_only=False))
    if pa.types.is_timestamp(of):
        return _texts(array.to_pandas().array, kind)
    if pa.types.is_dictionary(of):
        return _of_arrow(array.dictionary_decode(), kind)
    return _of_objects(array.to_pylist(), kind)


def _each_once(values: Array, write: Callable[[Array], pa.Array]) -> pa.Array:
    """Write each distinct value once: Arrow takes 50 ns to read a text of NumPy's, 15 to see that it is no new one."""
    width = pa.binary(values.dtype.itemsize)
    encoded = pa.FixedSizeBinaryArray.from_buffers(width, len(values), [None, pa.py_buffer(values)]).dictionary_encode()
    distinct = np.frombuffer(encoded.dictionary.buffers()[1], values.dtype, len(encoded.dictionary))
    return write(distinct).take(encoded.indices)


# Numbers


def _integers(array: pa.Array, kind: str | None) -> pa.LargeStringArray:
    digits = pc.cast(array, TEXT)
    if kind not in FLOAT_TYPES:
        return digits
    values = pc.fill_null(array, 0).to_numpy()
    floats = values.astype(FLOAT_TYPES[kind])
    limits = np.iinfo(values.dtype)
    # Not above the largest integer, which as a float may be rounded up to one that is no integer of this width.
    inside = (floats >= float(limits.min)) & (floats < float(limits.max) + 1)
    exact = inside & (np.where(inside, floats, 0).astype(values.dtype) == values)
    return pc.if_else(pc.is_null(array), digits, pc.if_else(pa.array(exact), _floats(floats, None), digits))


def _floats(values: Array, kind: str | None) -> pa.LargeStringArray:
    if kind not in INTEGER_BITS:
        return _float_texts(values)
    wide = values.astype(np.float64)
    limit = 2.0 ** INTEGER_BITS[kind]
    whole = (np.trunc(wide) == wide) & (wide >= -limit) & (wide < limit)
    digits = pc.cast(pa.array(np.where(whole, wide, 0).astype(np.int64), mask=~whole), TEXT)
    rest = ~whole & ~np.isnan(wide)
    return _rewritten(digits, rest, lambda _: _float_texts(values[rest]))


def _float_texts(values: Array) -> pa.LargeStringArray:
    if values.dtype == np.float16:  # at most 65,536 of them, and Arrow has no short text for them
        return _each_once(values, lambda distinct: _of_objects(list(distinct), None))
    texts = pc.cast(pa.array(values, mask=np.isnan(values)), TEXT)
    size = np.abs(values)
    odd = (size < values.dtype.type(1e-4)) | (size >= values.dtype.type(1e10)) | (np.trunc(size) == size)
    return _rewritten(texts, odd, lambda some: _in_python_form(some, values[odd]))


def _in_python_form(texts: pa.LargeStringArray, values: Array) -> pa.LargeStringArray:
    # Compared in their own type, as the exponent of the shortest digits in that type is what counts.
    size = np.abs(values)
    large, huge, small, smaller, tiny = np.array([1e10, 1e16, 1e-4, 1e-6, 1e-9], values.dtype)
    low = (size >= smaller) & (size < small)
    texts = _rewritten(texts, (size < large) & (np.trunc(size) == size), lambda some: _joined(some, ".0"))
    texts = _rewritten(texts, low, lambda some: _scientific(some, values[low]))
    texts = _rewritten(texts, (size >= tiny) & (size < smaller), lambda some: pc.utf8_replace_slice(some, -1, -1, "0"))
    long = (size >= large) & (size < huge)
    return _rewritten(texts, long, lambda some: pa.array([repr(float(text)) for text in some.to_pylist()], TEXT))


def _scientific(texts: pa.LargeStringArray, values: Array) -> pa.LargeStringArray:
    """Turn `0.00001` into `1e-05`, `-0.0000012` into `-1.2e-06`."""
    digits = pc.utf8_replace_slice(pc.ascii_ltrim(texts, "-0."), 1, 1, ".")
    sign = pa.array(["", "-"], TEXT).take(pa.array((values < 0).astype(np.int8)))
    exponent = pa.array(["e-06", "e-05"], TEXT).take(
        pa.array((np.abs(values) >= values.dtype.type(1e-5)).astype(np.int8))
    )
    return _joined(sign, pc.ascii_rtrim(digits, "."), exponent)


def _rewritten(
    texts: pa.LargeStringArray, mask: Array, rewrite: Callable[[pa.LargeStringArray], pa.LargeStringArray]
) -> pa.LargeStringArray:
    """Replace the texts where the mask is set by what `rewrite` makes of them."""
    if mask.all():
        return rewrite(texts)
    if not mask.any():
        return texts
    where = pa.array(mask)
    some = rewrite(texts.filter(where))
    if len(some) * 300 > len(texts):
        return pc.replace_with_mask(texts, where, some)
    # A few among many: 0.1 ms where looking at all 131,072 takes 1.4.
    places = np.flatnonzero(mask).tolist()
    pieces = [texts[: places[0]]]
    for number, (place, following) in enumerate(zip(places, [*places[1:], len(texts)], strict=True)):
        pieces += [some[number : number + 1], texts[place + 1 : following]]
    return pa.concat_arrays(pieces)


def _joined(*parts: pa.LargeStringArray | str) -> pa.LargeStringArray:
    constants = (pa.scalar(part, TEXT) if isinstance(part, str) else part for part in (*parts, ""))
    return pc.binary_join_element_wise(*constants)


# Moments


def _datetimes(local: Array, offsets: Array | None = None) -> pa.LargeStringArray:
    if np.datetime_data(local.dtype)[0] in ("ps", "fs", "as"):
        local = local.astype("M8[ns]")
    seconds = local.astype("M8[s]")
    texts = pc.cast(pa.array(seconds), TEXT)
    blank = np.isnat(local)
    fraction = np.where(blank, 0, (local - seconds).astype("m8[ns]").astype(np.int64))
    texts = _rewritten(texts, fraction != 0, lambda some: _joined(some, _decimals(fraction[fraction != 0])))
    if offsets is None:
        return texts
    distinct, places = np.unique(np.where(blank, 0, offsets.astype("m8[s]").astype(np.int64)), return_inverse=True)
    return _joined(texts, pa.array([_offset(int(offset_s)) for offset_s in distinct], TEXT).take(pa.array(places)))


def _decimals(fractions_ns: Array) -> pa.LargeStringArray:
    digits = pc.utf8_slice_codeunits(pc.cast(pa.array(fractions_ns + 10**9), TEXT), 1, 10)
    micros = pc.utf8_slice_codeunits(digits, 0, 6)
    return _joined(".", pc.if_else(pa.array(fractions_ns % 1000 == 0), micros, digits))


def _offset(offset_s: int) -> str:
    minutes, seconds = divmod(abs(offset_s), 60)
    text = f"{'-' if offset_s < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
    return f"{text}:{seconds:02}" if seconds else text


# Anything, one by one


def _of_objects(values: list[Any], kind: str | None) -> pa.LargeStringArray:
    with suppress(TypeError, ValueError):  # not text alone, or text that is no UTF-8
        return pa.array(values, TEXT, from_pandas=True)
    types = set(map(type, values)) - {type(None)}
    if types <= {float, np.float64}:
        return _floats(np.array(values, np.float64), kind)
    if types in ({bool}, {int}):
        with suppress(OverflowError, pa.ArrowInvalid):  # more than 64 bits
            return _of_arrow(pa.array(values), kind)
    texts = [_value_text(value, kind) for value in values]
    with suppress(UnicodeEncodeError):
        return pa.array(texts, TEXT)
    return pa.array([text.encode(errors="backslashreplace").decode() for text in texts], TEXT)


def _value_text(value: Any, kind: str | None) -> str:
    if isinstance(value, str):
        return str.__str__(value)  # of a subclass too, such as an enumeration
    if isinstance(value, list | tuple | dict) or _is_array(value):
        return str(_plain(value))
    if _is_missing(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, np.timedelta64):  # a kind of np.integer
        return str(value if np.datetime_data(value.dtype)[0] in ("Y", "M") else pd.Timedelta(value))
    if isinstance(value, int | np.integer):
        return _integer_text(int(value), kind)
    if isinstance(value, float | np.float32 | np.float16):
        return _float_text(value, kind)
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, np.datetime64):
        return str(_datetimes(np.array([value]))[0])
    return str(value)


def _is_missing(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_nan()  # pandas fails at one of the signalling sort
    return value is np.ma.masked or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _integer_text(value: int, kind: str | None) -> str:
    if kind in FLOAT_TYPES:
        with suppress(OverflowError):
            floating = FLOAT_TYPES[kind](value)
            if int(floating) == value:  # OverflowError again where it became infinite
                return _float_text(floating, None)
    return str(value)


def _float_text(value: Any, kind: str | None) -> str:
    if kind in INTEGER_BITS:
        limit = 2 ** INTEGER_BITS[kind]
        if -limit <= float(value) < limit and value == int(value):
            return str(int(value))
    # NumPy knows the digits for the width; so few digits, read as a double, come back as they are in Python's form.
    return repr(float(value if isinstance(value, float) else np.format_float_scientific(value, unique=True)))


def _plain(value: Any) -> Any:
    """Turn every NumPy value inside into a plain Python one."""
    match value:
        case list():
            return [_plain(item) for item in value]
        case tuple():
            return tuple(_plain(item) for item in value)
        case dict():
            return {_plain(key): _plain(item) for key, item in value.items()}
        case np.datetime64() | np.timedelta64():
            return value.astype(f"{value.dtype.kind}8[us]").item()  # item() of nanoseconds is an integer
        case np.generic():
            return value.item()
        case np.ma.MaskedArray():
            return _plain(value.tolist())
    if not _is_array(value):
        return value
    array = np.asarray(value)
    return [_plain(item) for item in array] if array.ndim else _plain(array[()])


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and not isinstance(value, np.generic) and value is not np.ma.masked
