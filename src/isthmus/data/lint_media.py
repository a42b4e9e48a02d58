"""What lint says of one medium: its measures, and what is readable but likely not what was meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np

from isthmus.data.media.stored import StoredFile
from isthmus.modalities import CLIP
from isthmus.request import Request
from isthmus.types import Media

SIDES = re.compile(r"\b(left|right|above|below|upper|lower|top|bottom|upside|clockwise)\b", re.IGNORECASE)
"""Words that say where in a picture something is."""

SHORTEST = 0.025
"""Seconds of audio below which it is a finding: a frame of speech takes as long."""

FEWEST = 8
"""Points below which a cloud is a finding."""


def _spread(count: int, rate: float) -> list[int]:
    """The numbers of at most sixteen frames, evenly from the first to the last."""
    return sorted({round(place) for place in np.linspace(0, count - 1, 16)})


LOOK = {CLIP.name: Request(frames=_spread)}
"""What is decoded of a medium of such a kind: some frames of a film, so that one of any length is read."""

Measures = Iterator[tuple[str, float]]
"""A medium's sizes and ranges, by name."""
Doubts = Iterator[tuple[str, str]]
"""What may be wrong with a medium that can be read: (kind of finding, what was found)."""


def raster(media: Media) -> Measures:
    """Of a picture."""
    yield f"{media.modality} pixels", media.array.shape[0] * media.array.shape[1]
    yield f"{media.modality} brightness", float(media.array.mean())


def clip(media: Media) -> Measures:
    """Of a film."""
    assert media.rate is not None, "a clip has a rate"
    yield f"{media.modality} frames", media.frame_count
    yield f"{media.modality} seconds", media.frame_count / media.rate
    yield f"{media.modality} frames a second", media.rate


def signal(media: Media) -> Measures:
    """Of a recording."""
    assert media.rate is not None, "a signal has a rate"
    yield f"{media.modality} seconds", len(media.array) / media.rate
    yield f"{media.modality} peak", float(np.abs(media.array).max())


def cloud(media: Media) -> Measures:
    """Of points."""
    yield f"{media.modality} points", len(media.array)
    yield f"{media.modality} extent", float(np.ptp(media.array[:, :3], axis=0).max())


def grid(media: Media) -> Measures:
    """Of values on a plane."""
    yield f"{media.modality} places", media.array.size
    yield f"{media.modality} least", float(media.array.min())
    yield f"{media.modality} largest", float(media.array.max())


def series(media: Media) -> Measures:
    """Of channels over time."""
    assert media.rate is not None, "a series has a rate"
    yield f"{media.modality} seconds", media.array.shape[1] / media.rate
    yield f"{media.modality} samples a second", media.rate
    yield f"{media.modality} peak", float(np.abs(media.array).max())


def short(media: Media, file: Media | Path | StoredFile, words: str) -> Doubts:
    """Sound that is shorter than anything heard."""
    if media.rate is not None and len(media.array) < SHORTEST * media.rate:
        yield "tiny medium", f"found {len(media.array)} samples of audio, {1000 * len(media.array) / media.rate:.3g} ms"


def few(media: Media, file: Media | Path | StoredFile, words: str) -> Doubts:
    """A cloud of hardly any points."""
    if len(media.array) < FEWEST:
        yield "tiny medium", f"found a cloud of {len(media.array)} points"


def turned(media: Media, file: Media | Path | StoredFile, words: str) -> Doubts:
    """A picture that its reader turned, of which words may say where something is."""
    if isinstance(file, Media):
        return
    orientation, _ = _header(file)
    if orientation not in (0, 1) and (side := SIDES.search(words)):
        yield (
            "turned picture",
            f"found EXIF orientation {orientation}, by which the picture is turned, and {side[0]!r} in a text: it "
            "may have been written of the picture as stored",
        )


def transparency(media: Media, file: Media | Path | StoredFile) -> Iterator[str]:
    """Whether a picture's file has a transparent part."""
    if not isinstance(file, Media) and _header(file)[1]:
        yield f"{media.modality} with transparency"


def coloured(media: Media, file: Media | Path | StoredFile) -> Iterator[str]:
    """Whether a cloud has colours."""
    if media.array.shape[1] == 6:
        yield f"{media.modality} with colours"


def _header(file: Path | StoredFile) -> tuple[int, bool]:
    """An image file's EXIF orientation, 0 where it has none, and whether it may be clear; both without decoding it."""
    from isthmus.data.media.images.files import open_image, orientation_of

    try:
        with open_image(BytesIO(file.data) if isinstance(file, StoredFile) else file) as image:
            return orientation_of(image), image.has_transparency_data
    except Exception:  # a header that the reader had to fix says nothing here
        return 0, False
