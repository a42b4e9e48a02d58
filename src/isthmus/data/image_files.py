"""Images to and from files, by Pillow."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from isthmus.data.limits import MediaLimits, corrupt
from isthmus.types import Media, Modality

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""Plain rasters only: Pillow would hand PostScript, for one, to an interpreter."""

_MEND = f"replace the file with one of {', '.join(FORMATS)}"


def read_image(path: Path, limits: MediaLimits) -> Media:
    """A file -> (H, W, 3) uint8, upright. Of an animation, the first frame.

    Raises:
        DataError: over a limit, or not a readable image.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns and refuses by a limit of its own; ours comes right after, from the same header.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        limits.check(path, pixels=float("inf"))
        raise AssertionError from error
    except UnidentifiedImageError as error:
        raise corrupt(path, "image", "its header is none of a known format", _MEND) from error
    except Exception as error:  # Pillow's parsers raise whatever a hostile header leads them to
        raise corrupt(path, "image", error, _MEND) from error
    with image:
        pixels = image.width * image.height
        limits.check(path, pixels=pixels, bytes=3 * pixels)
        try:
            array = image_array(image)
        except Exception as error:
            raise corrupt(path, "image", error, _MEND) from error
    return Media(Modality.IMAGE, array, source=str(path))


def image_array(image: Image.Image) -> np.ndarray[Any, Any]:
    """A Pillow image -> (H, W, 3) uint8, upright as its EXIF says; transparency is dropped, 16-bit greys are scaled."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16") or upright.mode == "I":
        # convert("RGB") would clip these at 255 and leave a white sheet.
        grey = np.clip(np.asarray(upright).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(upright.convert("RGB"))


def write_image(media: Media, path: Path) -> None:
    """Writes (H, W, 3) uint8 as PNG, without loss."""
    Image.fromarray(media.array).save(path, format="PNG")
