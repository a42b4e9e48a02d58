"""What lint says of one medium: its measures, and what is readable but likely not what was meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np

from isthmus.data.media.stored import StoredFile
from isthmus.request import Request
from isthmus.types import Media, Modality

SIDES = re.compile(r"\b(left|right|above|below|upper|lower|top|bottom|upside|clockwise)\b", re.IGNORECASE)
"""Words that say where in a picture something is."""

SHORTEST = 0.025
"""Seconds of audio below which it is a finding: a frame of speech takes as long."""

FEWEST = 8
"""Points below which a cloud is a finding."""


def _spread(count: int, rate: float) -> list[int]:
    """The numbers of at most sixteen frames, evenly from the first to the last."""
    return sorted({round(place) for place in np.linspace(0, count - 1, 16)})


LOOK = {Modality.VIDEO: Request(frames=_spread)}
"""What is decoded of a medium: some frames of a video, so that a film of any length is read."""


def measures(media: Media) -> Iterator[tuple[str, float]]:
    """A medium's sizes and ranges, by name."""
    array = media.array
    match media.modality:
        case Modality.IMAGE:
            yield "image pixels", array.shape[0] * array.shape[1]
            yield "image brightness", float(array.mean())
        case Modality.VIDEO:
            assert media.rate is not None
            yield from (("video frames", media.frame_count), ("video seconds", media.frame_count / media.rate))
            yield "video frames a second", media.rate
        case Modality.AUDIO:
            assert media.rate is not None
            yield from (("audio seconds", len(array) / media.rate), ("audio peak", float(np.abs(array).max())))
        case _:
            yield from (("points points", len(array)), ("points extent", float(np.ptp(array[:, :3], axis=0).max())))


def doubts(media: Media, file: Media | Path | StoredFile, words: str) -> Iterator[tuple[str, str]]:
    """What may be wrong with a medium that can be read: (kind of finding, what was found).

    Args:
        media: as it was read.
        file: what it was read from.
        words: the conversation's texts.
    """
    if media.modality is Modality.AUDIO and media.rate is not None and len(media.array) < SHORTEST * media.rate:
        yield "tiny medium", f"found {len(media.array)} samples of audio, {1000 * len(media.array) / media.rate:.3g} ms"
    if media.modality is Modality.POINTS and len(media.array) < FEWEST:
        yield "tiny medium", f"found a cloud of {len(media.array)} points"
    if media.modality is Modality.IMAGE and not isinstance(file, Media):
        orientation, _ = _header(file)
        if orientation not in (0, 1) and (side := SIDES.search(words)):
            yield (
                "turned picture",
                f"found EXIF orientation {orientation}, by which the picture is turned, and {side[0]!r} in a text: it "
                "may have been written of the picture as stored",
            )


def traits(media: Media, file: Media | Path | StoredFile) -> Iterator[str]:
    """What a medium has that not all of its modality have, as lint counts it."""
    if media.modality is Modality.IMAGE and not isinstance(file, Media) and _header(file)[1]:
        yield "image with transparency"
    if media.modality is Modality.POINTS and media.array.shape[1] == 6:
        yield "points with colours"


def _header(file: Path | StoredFile) -> tuple[int, bool]:
    """An image file's EXIF orientation, 0 where it has none, and whether it may be clear; both without decoding it."""
    from isthmus.data.media.images.files import open_image, orientation_of

    try:
        with open_image(BytesIO(file.data) if isinstance(file, StoredFile) else file) as image:
            return orientation_of(image), image.has_transparency_data
    except Exception:  # a header that the reader had to fix says nothing here
        return 0, False
