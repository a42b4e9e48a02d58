"""Files -> media: the reader of each kind, and of modalities that have their own. A library loads when it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isthmus.data.media.limits import MediaLimits
from isthmus.request import Request
from isthmus.types import Media, Modality


@dataclass(frozen=True)
class Asked:
    """What a reader is asked for.

    Attributes:
        modality: what the file is read as.
        limits: caps, to be held against the file's header before anything is decoded.
        request: what will be looked at; None: everything.
        sample_rate: to which sound is resampled.
        rate: samples a second where the file doesn't say it.
    """

    modality: Modality
    limits: MediaLimits
    request: Request | None = None
    sample_rate: float | None = None
    rate: float | None = None


def image(path: Path, asked: Asked) -> Media:
    """A picture, (H, W, 3) uint8."""
    from isthmus.data.media.images.files import read_image

    return _as(read_image(path, asked.limits, asked.request), asked)


def video(path: Path, asked: Asked) -> Media:
    """A film, (F, H, W, 3) uint8."""
    from isthmus.data.media.videos.files import read_video

    return _as(read_video(path, asked.limits, asked.request), asked)


def audio(path: Path, asked: Asked) -> Media:
    """A recording, (L,) float32."""
    from isthmus.data.media.audio.files import read_audio

    seconds = None if asked.request is None else asked.request.seconds
    return _as(read_audio(path, asked.limits, asked.sample_rate, seconds), asked)


def points(path: Path, asked: Asked) -> Media:
    """A cloud, (P, 3 or 6) float32."""
    from isthmus.data.media.points.files import read_points

    return _as(read_points(path, asked.limits), asked)


def grid(path: Path, asked: Asked) -> Media:
    """Values on a plane, (H, W) float32, as they stand in an ``npy``, a ``csv`` or a grey picture."""
    from isthmus.data.arrays.grids import read_grid

    return Media(asked.modality, read_grid(path, asked.limits), source=str(path))


def depth(path: Path, asked: Asked) -> Media:
    """As :func:`grid`; a picture of whole numbers holds millimetres, and gives metres."""
    from isthmus.data.arrays.grids import read_grid

    return Media(asked.modality, read_grid(path, asked.limits, unit=1000.0), source=str(path))


def thermal(path: Path, asked: Asked) -> Media:
    """As :func:`grid`; a picture gives its grey values from 0 to 1."""
    from isthmus.data.arrays.grids import read_grid

    return Media(asked.modality, read_grid(path, asked.limits, unit=None), source=str(path))


def series(path: Path, asked: Asked) -> Media:
    """Channels over time, (channels, samples) float32 and their rate, of an ``npz``, an ``npy`` or a ``csv``."""
    from isthmus.data.arrays.series import read_series

    array, rate = read_series(path, asked.limits, asked.rate)
    return Media(asked.modality, array, rate=rate, source=str(path))


def _as(media: Media, asked: Asked) -> Media:
    """A medium that a shared reader made, under the name of the modality that was asked for."""
    from dataclasses import replace

    return media if media.modality is asked.modality else replace(media, modality=asked.modality)
