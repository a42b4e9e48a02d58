"""The modalities that ship: four that every vocabulary has, and three that models take where an encoder serves them."""

from __future__ import annotations

from isthmus.modalities.kinds import CLIP, CLOUD, GRID, RASTER, SERIES, SIGNAL
from isthmus.modalities.names import Modality, Spec

_READERS, _WRITERS, _LINT = "isthmus.data.readers", "isthmus.data.writers", "isthmus.data.lint_media"

Modality.IMAGE = Modality.define(
    Spec("image", RASTER, "image", 4, doubts=f"{_LINT}:turned", traits=f"{_LINT}:transparency")
)
Modality.VIDEO = Modality.define(Spec("video", CLIP, "video", 24, exact=(".mkv", f"{_WRITERS}:video")))
Modality.AUDIO = Modality.define(
    Spec(
        "audio",
        SIGNAL,
        "recording",
        seems="sound like",
        exact=(".wav", f"{_WRITERS}:float_audio"),
        doubts=f"{_LINT}:short",
    )
)
Modality.POINTS = Modality.define(
    Spec("points", CLOUD, "3D shape", plural="points", doubts=f"{_LINT}:few", traits=f"{_LINT}:coloured")
)

MEDIA: tuple[Modality, ...] = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO, Modality.POINTS)
"""The media that every vocabulary numbers first, in its order. All that are known: ``known_media()``."""

DEPTH = Modality.define(
    Spec(
        "depth",
        GRID,
        "depth map",
        read=f"{_READERS}:depth",
        check=lambda depths: depths.min() >= 0,
        expected="(height, width) float32 of finite values from 0 on",
    )
)
"""Depths in metres (or disparities, as the encoder is told), row by row."""
THERMAL = Modality.define(
    Spec(
        "thermal",
        GRID,
        "thermal image",
        read=f"{_READERS}:thermal",
        check=lambda shades: shades.min() >= 0 and shades.max() <= 1,
        expected="(height, width) float32 of grey values from 0 to 1",
    )
)
"""Grey values from 0 to 1 of a picture in infrared."""
IMU = Modality.define(
    Spec(
        "imu",
        SERIES,
        "IMU recording",
        check=lambda array: array.shape[0] == 6,
        expected="(6, samples) float32 with a sample rate: accelerations along x, y, z and turns about them",
    )
)
"""A body's motion: accelerations in m/s^2 and turns in rad/s, as an inertial measurement unit gives them."""
