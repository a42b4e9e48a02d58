"""Media of any size -> those of the embedded experts: 32 x 32 pixels, 8 frames, 0.64 s of sound at 16 kHz."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from isthmus.pocket.world import FRAMES, FRAMES_PER_SECOND, SAMPLE_RATE, SAMPLES, SIZE
from isthmus.types import Media, Modality

Array = np.ndarray[Any, Any]

PEAK = 0.5
"""The peak of every normalised recording: loudness carries no information about the digit."""
SILENT = 0.03
"""A recording's beginning and end are trimmed while they are below this share of the peak."""
MARGIN = 160
"""Samples that are kept before and after."""


def fitted(medium: Media) -> tuple[Media, bool]:
    """The medium at the experts' size, and whether a part was cut off. Points are unchanged."""
    match medium.modality:
        case Modality.IMAGE:
            return Media(Modality.IMAGE, pictures(medium.array[None])[0], source=medium.source), False
        case Modality.VIDEO:
            # Evenly from the first to the last, since only the last frame shows all that a pen has written.
            chosen = np.linspace(0, len(medium.array) - 1, FRAMES).round().astype(int)
            frames = pictures(medium.array[chosen])
            return Media(Modality.VIDEO, frames, rate=FRAMES_PER_SECOND, source=medium.source), False
        case Modality.AUDIO:
            samples, is_cut = sound(medium.array)
            return Media(Modality.AUDIO, samples, rate=float(SAMPLE_RATE), source=medium.source), is_cut
        case _:
            return medium, False


def pictures(frames: Array) -> Array:
    """(F, H, W, 3) uint8 -> (F, SIZE, SIZE, 3), light strokes on a dark background; others are inverted."""
    square = np.stack(
        [np.asarray(Image.fromarray(frame).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for frame in frames]
    )
    fitting: Array = 255 - square if np.median(square) > 127 else square
    return fitting


def sound(samples: Array) -> tuple[Array, bool]:
    """(L,) float32 at 16 kHz -> (SAMPLES,) from its audible beginning, padded with silence; True if it was cut off."""
    level = np.abs(samples)
    peak = float(level.max())
    audible = np.flatnonzero(level >= SILENT * peak)
    begin, end = max(int(audible[0]) - MARGIN, 0), min(int(audible[-1]) + MARGIN, len(samples))
    part = samples[begin:end][:SAMPLES]
    fitting = np.zeros(SAMPLES, dtype=np.float32)
    fitting[: len(part)] = part * (PEAK / max(peak, 1e-6))
    # A fade, because a hard edge would be a click.
    fade = min(MARGIN, len(part))
    fitting[len(part) - fade : len(part)] *= np.linspace(1, 0, fade, dtype=np.float32)
    return fitting, end - begin > SAMPLES
