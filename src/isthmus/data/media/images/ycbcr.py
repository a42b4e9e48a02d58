"""TIFF's uncompressed YCbCr, which Pillow before 13 takes for four bytes a pixel, and calls truncated."""

from __future__ import annotations

from typing import Any

from PIL import Image

PHOTOMETRIC, YCBCR = 262, 6
"""TIFF's tag PhotometricInterpretation, and its value for YCbCr."""


def loaded(image: Image.Image) -> Image.Image:
    """The image with its pixels, read as three bytes each where Pillow would look for a fourth."""
    tiles: Any = getattr(image, "tile", None)
    tags: Any = getattr(image, "tag_v2", {})
    if not tiles or tags.get(PHOTOMETRIC) != YCBCR or tiles[0].codec_name != "raw" or tiles[0].args[0] != "RGBX":
        image.load()
        return image
    image.tile = [tile._replace(args=("RGB", *tile.args[1:])) for tile in tiles]  # type: ignore[attr-defined]
    return Image.frombytes("YCbCr", image.size, image.tobytes()).convert("RGB")
