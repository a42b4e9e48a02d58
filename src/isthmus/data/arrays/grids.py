"""Values on a plane, of arrays, tables and grey pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.arrays.npy import read_npy
from isthmus.data.errors import DataError
from isthmus.data.media.limits import MediaLimits, corrupt

Array = np.ndarray[Any, Any]
PICTURES = (".png", ".tif", ".tiff")
GREY = (".jpg", ".jpeg", ".webp", ".bmp")
"""Pictures that hold no more than 8 bits, whose values are shades and no measurements."""

_FIX = "save (height, width) finite numbers as .npy or .csv, or a grey picture as .png"


def read_grid(path: Path, limits: MediaLimits, unit: float | None = 1.0) -> Array:
    """A file -> (H, W) float32.

    Args:
        path: ``npy``, ``csv`` with one row of the grid a line, or a grey picture.
        limits: caps; ``pixels`` are places of the grid.
        unit: whole numbers of more than 8 bits are divided by it, and shades of 8 bits taken as they are where it is
            1; None: a picture of any depth gives its shades from 0 to 1, as grey.

    Raises:
        DataError: over a limit, or not a readable grid.
    """
    ending = path.suffix.lower()
    try:
        if ending == ".npy":
            values = read_npy(path, lambda shape, size: _check(path, limits, shape, size))
        elif ending == ".csv":
            values = np.atleast_2d(np.loadtxt(path, delimiter=",", dtype=np.float64, encoding="utf-8-sig"))
        elif ending in PICTURES or (ending in GREY and unit in (None, 1.0)):
            values = _picture(path, limits, unit is None)
        else:
            raise ValueError(f"the ending {path.suffix!r} is none of .npy, .csv, {', '.join(PICTURES)}")
        if values.dtype.kind not in "fiu" or values.ndim != 2 or not values.size:
            raise ValueError(f"found {values.shape} {values.dtype}")
        if not np.isfinite(values).all():
            raise ValueError("it holds values that aren't finite")
        if values.dtype.kind in "iu" and unit not in (None, 1.0):
            if values.dtype.itemsize == 1:
                raise ValueError("8 bits hold shades and no measurements")
            values = values / unit
    except DataError:
        raise
    except Exception as error:  # Pillow's and numpy's parsers raise whatever hostile bytes lead them to
        raise corrupt(path, "grid of values", error, _FIX) from error
    return values.astype(np.float32)


def _check(path: Path, limits: MediaLimits, shape: tuple[int, ...], size: int) -> None:
    limits.check(path, pixels=float(np.prod(shape)), bytes=size)


def _picture(path: Path, limits: MediaLimits, as_shades: bool) -> Array:
    from PIL import Image

    from isthmus.data.media.images.files import image_array, open_image

    with open_image(path, limits.pixels) as image:
        limits.check(path, pixels=image.width * image.height, bytes=4 * image.width * image.height)
        if as_shades:
            return np.asarray(Image.fromarray(image_array(image, path)).convert("L"), np.float32) / np.float32(255)
        if image.mode not in ("L", "I", "F") and not image.mode.startswith("I;16"):
            raise ValueError(f"it is a picture in mode {image.mode}, which holds colours and no grey values")
        return np.asarray(image)
