"""Animated WebP as video, by Pillow: FFmpeg reads none."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from isthmus.data.limits import MediaLimits
from isthmus.data.transparency import on_white

_DEFAULT = 100.0
"""Milliseconds of a frame that names no duration."""


def read_animation(path: Path, limits: MediaLimits) -> tuple[np.ndarray[Any, Any], float]:
    """A file -> (F, H, W, 3) uint8 and its mean frame rate.

    Raises:
        DataError: over a limit.
        Exception: whatever Pillow meets in a broken file; the caller words it.
    """
    with warnings.catch_warnings():
        # Pillow warns by a limit of its own; ours comes right after, from the same header.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(path, formats=["WEBP"])
    with image:
        frames = int(getattr(image, "n_frames", 1))
        pixels = image.width * image.height
        limits.check(path, pixels=pixels, frames=frames, bytes=3 * pixels * frames)
        pictures, milliseconds = [], 0.0
        for frame in ImageSequence.Iterator(image):
            pictures.append(on_white(frame))
            milliseconds += float(frame.info.get("duration", 0)) or _DEFAULT
            limits.check(path, frames=len(pictures), seconds=milliseconds / 1000)
    return np.stack(pictures), 1000 * len(pictures) / milliseconds
