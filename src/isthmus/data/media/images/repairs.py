"""Repairs files whose image is intact but which Pillow refuses: PNGs with large texts, JPEGs without an end marker."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_XMP = b"XML:com.adobe.xmp\0\0"
"""The beginning of an uncompressed XMP packet, which may hold the image's orientation."""

_JPEG, _END = b"\xff\xd8\xff", b"\xff\xd9"
_FILLER = b"\x55\xaa\x33\x99" * 16


def repaired(data: bytes) -> bytes | None:
    """A repaired copy of a file's bytes; None if there is nothing to repair."""
    if data.startswith(_PNG):
        return _without_texts(data)
    if data.startswith(_JPEG) and not data.rstrip(b"\0").endswith(_END):
        return _with_end(data)
    return None


def _without_texts(data: bytes) -> bytes | None:
    """A PNG without texts and colour profile: Pillow decompresses them, and refuses the file if they are too large."""
    kept, at = [_PNG], len(_PNG)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4].ljust(4, b"\xff"))
        chunk = data[at : at + length + 12]
        if chunk[4:8] not in _TEXTS or (chunk[4:8] == b"iTXt" and chunk[8:].startswith(_XMP)):
            kept.append(chunk)
        at += len(chunk)
    whole = b"".join(kept)
    return whole if len(whole) < len(data) else None


def _with_end(data: bytes) -> bytes | None:
    """A JPEG with its end marker, if nothing else is missing.

    If image data is missing too, bytes before the marker change the image: two fillings are compared to detect this.
    """
    start = data.rstrip(b"\xff")
    pictures = []
    for filler in (b"", _FILLER):
        with Image.open(BytesIO(start + filler + _END), formats=["JPEG"]) as image:
            pictures.append(np.asarray(image))
    return start + _END if np.array_equal(pictures[0], pictures[1]) else None
