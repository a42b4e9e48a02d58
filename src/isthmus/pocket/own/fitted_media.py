"""Media of any size -> those of the embedded experts: 32 x 32 pixels, 8 frames, 0.64 s of sound at 16 kHz."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from isthmus.pocket.world import FRAMES, FRAMES_PER_SECOND, SAMPLE_RATE, SAMPLES, SIZE
from isthmus.types import Media, Modality

Array = np.ndarray[Any, Any]

PEAK = 0.5
"""Of every sound: how loud a recording is says nothing of its digit."""
SILENT = 0.03
"""Of the peak: what is fainter at a recording's ends is cut off."""
MARGIN = 160
"""Samples that are left before and behind."""


def fitted(medium: Media) -> tuple[Media, bool]:
    """The medium at the experts' size, and whether a part of it had to be cut off. Points stay as they are."""
    match medium.modality:
        case Modality.IMAGE:
            return Media(Modality.IMAGE, pictures(medium.array[None])[0], source=medium.source), False
        case Modality.VIDEO:
            # Evenly from the first to the last: what a pen has written is whole in the last frame alone.
            chosen = np.linspace(0, len(medium.array) - 1, FRAMES).round().astype(int)
            frames = pictures(medium.array[chosen])
            return Media(Modality.VIDEO, frames, rate=FRAMES_PER_SECOND, source=medium.source), False
        case Modality.AUDIO:
            samples, is_cut = sound(medium.array)
            return Media(Modality.AUDIO, samples, rate=float(SAMPLE_RATE), source=medium.source), is_cut
        case _:
            return medium, False


def pictures(frames: Array) -> Array:
    """(F, H, W, 3) uint8 -> (F, SIZE, SIZE, 3), light strokes on a dark ground: on a light one they are inverted."""
    square = np.stack(
        [np.asarray(Image.fromarray(frame).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for frame in frames]
    )
    fitting: Array = 255 - square if np.median(square) > 127 else square
    return fitting


def sound(samples: Array) -> tuple[Array, bool]:
    """(L,) float32 at 16 kHz -> (SAMPLES,) from where it begins to sound, silence behind it; True if sound was cut."""
    level = np.abs(samples)
    peak = float(level.max())
    heard = np.flatnonzero(level >= SILENT * peak)
    begin, end = max(int(heard[0]) - MARGIN, 0), min(int(heard[-1]) + MARGIN, len(samples))
    part = samples[begin:end][:SAMPLES]
    fitting = np.zeros(SAMPLES, dtype=np.float32)
    fitting[: len(part)] = part * (PEAK / max(peak, 1e-6))
    # A hard edge would be heard as a click.
    fade = min(MARGIN, len(part))
    fitting[len(part) - fade : len(part)] *= np.linspace(1, 0, fade, dtype=np.float32)
    return fitting, end - begin > SAMPLES
