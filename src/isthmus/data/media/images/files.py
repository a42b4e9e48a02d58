"""Images to and from files, by Pillow."""

from __future__ import annotations

import math
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from isthmus.data.errors import DataError
from isthmus.data.media.images.deep_greys import grey8, is_deep, is_inverted, stated_range
from isthmus.data.media.images.repairs import repaired
from isthmus.data.media.images.transparency import on_white, widen_key
from isthmus.data.media.images.ycbcr import loaded
from isthmus.data.media.limits import MediaLimits, corrupt
from isthmus.request import MARGIN, Request
from isthmus.types import Media, Modality

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""Plain rasters only: Pillow would hand PostScript, for one, to an interpreter."""

_FIX = f"replace the file with one of {', '.join(FORMATS)}"

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of ISO files that hold pictures as phones save them."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientations -> what turns a picture upright."""


def read_image(path: Path, limits: MediaLimits, request: Request | None = None) -> Media:
    """A file -> (H, W, 3) uint8, upright, on white where it is clear. Of several pictures, the first.

    Colours stay as they are stored: no profile is applied, as in what vision encoders were trained with. A JPEG with
    far more pixels than the request asks for is decoded at a half, a quarter or an eighth of its size.

    Raises:
        DataError: over a limit, or not a readable image.
    """
    try:
        array = _decoded(path, path, limits, request)
    except DataError:
        raise
    except Exception as error:  # Pillow's parsers raise whatever a hostile header leads them to
        try:
            whole = repaired(path.read_bytes())
            if whole is None:
                raise error
            array = _decoded(BytesIO(whole), path, limits, request)
        except DataError:
            raise
        except Exception as last:
            said = "its header is none of a known format" if isinstance(last, UnidentifiedImageError) else last
            raise corrupt(path, "image", said, _FIX) from last
    return Media(Modality.IMAGE, array, source=str(path))


def _decoded(source: Path | BytesIO, path: Path, limits: MediaLimits, request: Request | None) -> np.ndarray[Any, Any]:
    with warnings.catch_warnings():
        # Pillow warns of metadata that nobody reads.
        warnings.simplefilter("ignore")
        try:
            image = open_image(source, limits.pixels)
        except Image.DecompressionBombError as error:
            limits.check(path, pixels=float("inf"))
            raise AssertionError from error
        with image:
            if request is not None and request.side is not None:
                # Pillow takes the smallest of the scales that JPEG's transform has with at least so many pixels, and
                # leaves every other format as it is.
                scale = MARGIN * request.side / min(image.size)
                image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
            pixels = image.width * image.height
            limits.check(path, pixels=pixels, bytes=3 * pixels)
            return image_array(image, path)


def let_through(pixels: int) -> None:
    """Raises Pillow's own cap on pixels to the reader's where that is higher, or it would have no effect.

    It is never lowered again: other threads may be reading. The reader's own is checked from each header.
    """
    if Image.MAX_IMAGE_PIXELS is not None and pixels > 2 * Image.MAX_IMAGE_PIXELS:  # twice its cap is refused
        Image.MAX_IMAGE_PIXELS = pixels


def open_image(source: Path | BytesIO, pixels: int = 0) -> Image.Image:
    """A file or its bytes -> a Pillow image whose header is read. HEIC's decoder loads once a file needs it.

    Args:
        source: the file.
        pixels: the reader's cap, which it checks.

    Raises:
        DataError: HEIC, and its decoder isn't installed.
        Exception: whatever Pillow meets in a broken header.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(12)
    else:
        head = source.getbuffer()[:12].tobytes()
    formats = list(FORMATS)
    if head[4:8] == b"ftyp" and head[8:] in _HEIC:
        try:
            from pi_heif import register_heif_opener
        except ImportError as error:
            name = source if isinstance(source, Path) else "image"
            fix = "pip install 'isthmus[heic]'"
            raise corrupt(name, "image", "it is HEIC, whose decoder isn't installed", fix) from error
        register_heif_opener()
        formats.append("HEIF")
    let_through(pixels)
    with warnings.catch_warnings():
        # Pillow warns of large pictures by a limit of its own; the reader's comes right after, from the same header.
        warnings.simplefilter("ignore")
        return Image.open(source, formats=formats)


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 0 where a picture has none that can be read."""
    try:
        found = image.getexif().get(_ORIENTATION, 0)
    except Exception:  # whatever a broken EXIF block leads Pillow to: it says nothing then, and the picture is whole
        return 0
    return found if isinstance(found, int) else 0


def image_array(image: Image.Image, where: object = "image") -> np.ndarray[Any, Any]:
    """A Pillow image -> (H, W, 3) uint8, upright as its EXIF says, on white, deep greys scaled to 8 bits.

    Args:
        image: of any mode.
        where: names it in a remark.

    Raises:
        ValueError: a deep grey whose range is neither stated nor usual.
    """
    widen_key(image)
    stated, inverted = stated_range(image), is_inverted(image)
    whole = loaded(image)
    turn = _TURNS.get(orientation_of(image))
    upright = whole if turn is None else whole.transpose(turn)
    if not is_deep(upright):
        return on_white(upright)
    values = np.asarray(upright)
    grey = grey8(values, stated, where)
    if inverted:
        grey = 255 - grey
    if isinstance(key := upright.info.get("transparency"), int):
        grey = np.where(values == key, np.uint8(255), grey)
    return np.repeat(grey[..., None], 3, axis=2)


def write_image(media: Media, path: Path) -> None:
    """Writes (H, W, 3) uint8 as PNG, without loss."""
    Image.fromarray(media.array).save(path, format="PNG")
