"""Reads animated WebP and PNG as video, by Pillow, since FFmpeg can't read animated WebP."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from isthmus.data.media.images.files import let_through
from isthmus.data.media.images.transparency import on_white
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.videos.decoding import chosen_frames
from isthmus.data.media.videos.timeline import Timeline
from isthmus.request import Request
from isthmus.types import Media, Modality

_DEFAULT = 100.0
"""Milliseconds of a frame without a duration."""


def read_animation(path: Path, limits: MediaLimits, request: Request) -> Media:
    """A file -> (F, H, W, 3) uint8 and its mean frame rate, on white.

    Frames depend on earlier ones, so that all are decoded; only the requested ones are kept.

    Raises:
        DataError: it exceeds a limit.
        Exception: Pillow's errors for a broken file, which the caller converts.
    """
    let_through(limits.pixels)
    with warnings.catch_warnings():
        # Pillow warns by its own limit; ours is checked below, from the same header.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(path, formats=["WEBP", "PNG"])
    with image:
        frames = int(getattr(image, "n_frames", 1))
        pixels = image.width * image.height
        limits.check(path, pixels=pixels, frames=frames)
        if request.frames is None:
            limits.check(path, bytes=3 * pixels * frames)
            pictures, begins = _kept_frames(image, range(frames), path, limits)
            timeline = _timeline(begins)
            rows = np.arange(len(pictures))
        else:
            _, begins = _kept_frames(image, (), path, limits)
            timeline = _timeline(begins)
            chosen = np.array(chosen_frames(request, timeline.frames, timeline.rate))
            times = chosen / timeline.rate + timeline.slack
            rows = np.unique(np.searchsorted(begins[:-1], times, side="right") - 1)
            limits.check(path, bytes=3 * pixels * len(rows))
            pictures, _ = _kept_frames(image, rows.tolist(), path, limits)
    own = np.array([timeline.snapped(begins[row]) for row in rows])
    is_even = len(rows) == timeline.frames and np.abs(own - np.arange(len(rows)) / timeline.rate).max() < 1e-6
    return Media(
        Modality.VIDEO,
        np.stack(pictures),
        rate=timeline.rate,
        source=str(path),
        times=None if is_even else own,
        total=None if is_even else timeline.frames,
    )


def _kept_frames(
    image: Image.Image, kept: Collection[int], path: Path, limits: MediaLimits
) -> tuple[list[np.ndarray[Any, Any]], list[float]]:
    """The kept frames, (H, W, 3) uint8, and the start of each frame in seconds, followed by the end."""
    pictures, begins = [], [0.0]
    for number, frame in enumerate(ImageSequence.Iterator(image)):
        if number in kept:
            pictures.append(on_white(frame))
        else:
            frame.load()
        begins.append(begins[-1] + (float(frame.info.get("duration", 0)) or _DEFAULT) / 1000)
        limits.check(path, frames=number + 1, seconds=begins[-1])
    return pictures, begins


def _timeline(begins: list[float]) -> Timeline:
    return Timeline(begins[-1], (len(begins) - 1) / begins[-1], 0.001)
