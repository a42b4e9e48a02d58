"""Image files that Pillow refuses for what isn't the picture: large texts in a PNG, a JPEG without its end mark."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_XMP = b"XML:com.adobe.xmp\0\0"
"""How an uncompressed XMP packet begins, which may say how the picture is to be turned."""

_JPEG, _END = b"\xff\xd8\xff", b"\xff\xd9"
_FILLER = b"\x55\xaa\x33\x99" * 16


def repaired(data: bytes) -> bytes | None:
    """A file's bytes without what keeps its picture from being read; None where there is nothing of the kind."""
    if data.startswith(_PNG):
        return _without_texts(data)
    if data.startswith(_JPEG) and not data.rstrip(b"\0").endswith(_END):
        return _with_end(data)
    return None


def _without_texts(data: bytes) -> bytes | None:
    """A PNG without texts and colour profile, which Pillow unpacks up to a size, and refuses the file above it."""
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
    """A JPEG with its end mark, if that was all that lacked.

    Where some of the picture lacks too, what stands before the mark shows in it: two fillings make two pictures.
    """
    start = data.rstrip(b"\xff")
    pictures = []
    for filler in (b"", _FILLER):
        with Image.open(BytesIO(start + filler + _END), formats=["JPEG"]) as image:
            pictures.append(np.asarray(image))
    return start + _END if np.array_equal(pictures[0], pictures[1]) else None
