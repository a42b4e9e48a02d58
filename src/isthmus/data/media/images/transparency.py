"""Composes transparent images on white, for every format and colour mode."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]

_STEPS = {"L;2": 85, "L;4": 17}
"""Pillow scales greys of 2 and 4 bits by these factors, but not the grey value that marks transparency."""


def widen_key(image: Image.Image) -> None:
    """Converts a PNG's transparent colour to the bit depth of Pillow's pixels, before it is decoded."""
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:  # 16 bits, of which Pillow's pixels keep the upper 8
        image.info["transparency"] = tuple(part >> 8 for part in key)
    elif isinstance(key, int) and image.mode == "L":
        tiles: Any = getattr(image, "tile", None)
        image.info["transparency"] = key * _STEPS.get(tiles[0][3] if tiles else "", 1)


def on_white(image: Image.Image) -> Array:
    """A Pillow image of any mode -> (H, W, 3) uint8, alpha-composited on white."""
    if not image.has_transparency_data:
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    over = image.convert("RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB"))


def array_on_white(rgba: Array) -> Array:
    """(H, W, 4) uint8 -> (H, W, 3) uint8, as :func:`on_white`."""
    return on_white(Image.fromarray(rgba))
