"""The judge of images: reads the digit by a network on normalised ink, and the colour by hue."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from isthmus.paths import shipped_path
from isthmus.pocket.judges.base import MediaJudge, Reading
from isthmus.pocket.judges.digit_reader import ILLEGIBLE, load_reader
from isthmus.pocket.judges.ink import ink_of
from isthmus.pocket.world import HUES
from isthmus.types import Media, Modality

CONFIDENCE = 0.5
"""The least probability of a digit; below it, the judge abstains."""
SATURATION = 0.3
COHERENCE = 0.8
"""The least length of the mean hue vector; it is shorter for strokes of several colours."""


def digit_of(probabilities: Tensor) -> int | None:
    """The digit of (CLASSES,) probabilities; None if no digit is likely."""
    best = int(probabilities.argmax())
    return best if best != ILLEGIBLE and float(probabilities[best]) >= CONFIDENCE else None


def colour_of(picture: Tensor, ink: Tensor) -> str | None:
    """The colour nearest to the strokes' mean hue; None if they are grey or have several colours.

    Args:
        picture: (..., 3) in [0, 1], one image's or all frames' pixels.
        ink: (...) their ink.
    """
    pixels, weights = picture.reshape(-1, 3), ink.reshape(-1)
    if float(weights.sum()) == 0:
        return None
    mean = (pixels * weights[:, None]).sum(0) / weights.sum()
    hue, saturation, _ = colorsys.rgb_to_hsv(*mean.tolist())
    if saturation < SATURATION:
        return None
    # A pixel's hue is the angle of its chroma: red, green and blue point 120 degrees apart.
    angles = torch.tensor([0.0, 2 * np.pi / 3, 4 * np.pi / 3])
    chroma = pixels @ torch.stack([angles.cos(), angles.sin()], dim=1) * weights[:, None]
    if float(chroma.sum(0).norm() / chroma.norm(dim=1).sum().clamp(min=1e-6)) < COHERENCE:
        return None
    return min(HUES, key=lambda name: abs((hue - HUES[name] + 0.5) % 1 - 0.5))


class ImageJudge(MediaJudge):
    """Reads digit and colour of images of any size.

    Args:
        folder: of the digit reader's weights.

    Raises:
        ValueError: they are missing, or those of another network.
    """

    modality = Modality.IMAGE
    attributes = ("digit", "colour")

    def __init__(self, folder: str | Path) -> None:
        self.reader = load_reader(shipped_path(folder))

    def many(self, media: Sequence[Media]) -> list[Reading]:
        """Images of one size are read together."""
        self.check(media)
        readings: list[Reading] = []
        for _, group in groupby(media, key=lambda medium: medium.array.shape):
            pictures = torch.from_numpy(np.stack([medium.array for medium in group])).float() / 255
            ink = ink_of(pictures)
            probabilities = self.reader.probabilities(ink)
            readings += [
                {
                    "digit": digit_of(probabilities[i]) if ink[i].any() else None,
                    "colour": colour_of(pictures[i], ink[i]),
                }
                for i in range(len(pictures))
            ]
        return readings
