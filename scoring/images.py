"""Images as arrays: decode one, and shape it as the tensor of a signature (contract 4.2)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scoring.cells import Cell, slice_digest
from scoring.errors import InputError
from scoring.readers import CellInput, fetch, give_up, give_up_problem, slice_account

__all__ = ["as_tensor", "decode", "read_image"]

Image = npt.NDArray[Any]

_PLAIN_MODES = {
    "1": "L", "P": "RGB", "PA": "RGBA", "LA": "RGBA", "La": "RGBA", "RGBa": "RGBA", "RGBX": "RGB",
    "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB",
}  # fmt: skip
"""Modes of Pillow whose numbers mean nothing without more, and what they are converted to; others stay."""


def read_image(cell: Cell) -> CellInput:
    """Read the one image of a cell; one that is damaged fails alone.

    Raises:
        InputError: the file became shorter.
        OSError: it cannot be read.
    """
    result = CellInput()
    (part,) = cell.slices
    if part.problem:
        give_up_problem(part, result)
        return result
    data = fetch(part)
    account = slice_account(part, slice_digest(data))
    try:
        result.image = decode(data)
    except InputError as error:
        give_up(part, account, result, reason=str(error), cause="images that cannot be read")
        return result
    result.rows = np.zeros(1, np.int64)
    result.counts = [(part.name, 1)]
    result.accounts.append(account)
    return result


def decode(data: bytes) -> Image:
    """Decode the first frame of an image: height x width, and x 3 or 4 where it has colours.

    Raises:
        InputError: it is no image, or damaged.
    """
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(data)) as opened:
            mode = _PLAIN_MODES.get(opened.mode)
            return np.array(opened if mode is None else opened.convert(mode))
    except MemoryError:
        raise
    except PIL.UnidentifiedImageError:
        # its own words hold an address in memory
        raise InputError("cannot be read as an image: no format is recognised") from None
    except Exception as error:  # noqa: BLE001 (what a damaged file makes the decoders raise is anybody's guess)
        raise InputError(f"cannot be read as an image: {str(error) or type(error).__name__}") from None


def as_tensor(image: Image, shape: Sequence[int], dtype: Any) -> Image:
    """Shape one image as a tensor that holds it alone, -1 standing for any number.

    The axis of images is put before it, that of colours behind a grey one; a table of pixels, as models of columns want
    it, is the image in one row.

    Raises:
        InputError: it has another shape, or values that the type cannot hold.
    """
    if len(shape) == 2 and shape[0] in (-1, 1) and shape[1] in (-1, image.size):
        return _cast(image.reshape(1, -1), dtype)
    grey = (image[..., np.newaxis], image[np.newaxis, ..., np.newaxis]) if image.ndim == 2 else ()
    for candidate in (image, image[np.newaxis], *grey):
        if _matches(candidate.shape, shape):
            return _cast(candidate, dtype)
    wanted = " x ".join(map(str, shape))
    found = " x ".join(map(str, image.shape))
    raise InputError(f"an image of {found} does not fit the signature's tensor of {wanted}")


def _matches(found: Sequence[int], shape: Sequence[int]) -> bool:
    return len(found) == len(shape) and all(wanted in (-1, size) for size, wanted in zip(found, shape, strict=True))


def _cast(image: Image, dtype: Any) -> Image:
    dtype = np.dtype(dtype)
    if dtype.kind not in "biuf":
        raise InputError(f"an image has no values of type {dtype}, which the signature wants")
    with np.errstate(invalid="ignore"):
        cast = image.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(cast, image):
        raise InputError(f"values of the image ({image.dtype}) do not fit the type {dtype} of the tensor")
    return cast
