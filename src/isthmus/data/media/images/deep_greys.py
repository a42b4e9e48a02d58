"""Grey images of more than 8 bits -> 8 bits, by the range that the file states, or by one inferred from its values."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from isthmus.data.media.remarks import Remark, remark

Array = np.ndarray[Any, Any]

_BITS, _PHOTOMETRIC, _MAX, _SMIN, _SMAX = 258, 262, 281, 340, 341
"""TIFF's tags BitsPerSample, PhotometricInterpretation, MaxSampleValue, SMinSampleValue and SMaxSampleValue."""


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow's conversion to RGB would clip this image's values at 255."""
    return image.mode.startswith("I") or image.mode == "F"


def stated_range(image: Image.Image) -> tuple[float, float] | None:
    """The least and largest value that a TIFF states; None if it states none, or for other formats."""
    tags: Any = getattr(image, "tag_v2", {})
    if _SMAX in tags or _MAX in tags:
        return _first(tags.get(_SMIN, 0)), _first(tags.get(_SMAX, tags.get(_MAX)))
    bits = int(_first(tags.get(_BITS, 16)))
    return (0, (1 << bits) - 1) if image.mode.startswith("I;16") and bits < 16 else None


def is_inverted(image: Image.Image) -> bool:
    """Whether a TIFF's zero is white, which Pillow only handles for 8 bits."""
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(_PHOTOMETRIC, 1) == 0)


def grey8(values: Array, stated: tuple[float, float] | None, where: object) -> Array:
    """(H, W) of any real type -> uint8.

    Args:
        values: integers or floats.
        stated: the range in the file.
        where: the file's name in a remark.

    Raises:
        ValueError: values aren't finite, or no range is stated and they fit no usual one.
    """
    if not np.isfinite(values).all():
        raise ValueError("it holds values that aren't finite")
    least, largest = float(values.min()), float(values.max())
    low, high = stated or (0.0, _assumed(least, largest, values.dtype, where))
    if not low < high:
        raise ValueError(f"it states the range {low:g} to {high:g}")
    shifted = np.clip(values.astype(np.float64), low, high) - low
    if values.dtype.kind == "f":
        return np.rint(shifted * (255 / (high - low))).astype(np.uint8)
    return np.floor(shifted * 256 / (high - low + 1)).astype(np.uint8)


def _assumed(least: float, largest: float, dtype: np.dtype[Any], where: object) -> float:
    """The upper end of the usual range from 0 that the values fit."""
    is_real = dtype.kind == "f"
    usual = (1.0, 255.0) if is_real else (255.0, 4095.0, 65535.0)
    high = next((end for end in usual if largest <= end), None)
    if least < 0 or high is None:
        raise ValueError(
            f"its values reach from {least:g} to {largest:g} and it states no range; expected 0 to "
            f"{' or '.join(f'{end:g}' for end in usual)}: scale them, or let a TIFF state SMin- and SMaxSampleValue"
        )
    if largest > 0 and high != (1.0 if is_real else 65535.0):
        remark(
            Remark.ASSUMED_RANGE,
            str(where),
            f"it states no range of its {dtype.name} values, which reach to {largest:g}: taken as 0 to {high:g}",
        )
    return high


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, tuple) else value)
