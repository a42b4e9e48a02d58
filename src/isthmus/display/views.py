"""What a page shows of media that a browser has no way to show: pictures of them."""

from __future__ import annotations

import numpy as np

from isthmus.types import Media, Modality

PLOT = (96, 256)
"""Height and width of a picture of channels over time."""


def itself(medium: Media) -> Media:
    """What a browser shows as it is."""
    return medium


def grid(medium: Media) -> Media:
    """(H, W) values -> a grey picture, black at the least and white at the largest."""
    least, largest = float(medium.array.min()), float(medium.array.max())
    shade = (medium.array - least) / max(largest - least, 1e-12)
    grey = (255 * shade).round().astype(np.uint8)
    return Media(Modality.IMAGE, np.repeat(grey[..., None], 3, axis=2), source=medium.source)


def series(medium: Media) -> Media:
    """(channels, samples) -> a picture of bands, one a channel: time to the right, values upward in the band."""
    height, width = PLOT
    count = len(medium.array)
    band = max(height // count, 8)
    picture = np.full((band * count, width, 3), 255, np.uint8)
    columns = np.linspace(0, medium.array.shape[1] - 1, width).round().astype(int)
    for channel, values in enumerate(medium.array):
        shown = values[columns]
        level = (shown - values.min()) / max(float(np.ptp(values)), 1e-12)
        rows = band * (channel + 1) - 1 - (level * (band - 1)).round().astype(int)
        # From one value to the next the line is drawn through, or a steep one would be loose dots.
        for column, (before, row) in enumerate(zip((rows[0], *rows[:-1]), rows, strict=True)):
            picture[min(before, row) : max(before, row) + 1, column] = (30, 60, 140)
    return Media(Modality.IMAGE, picture, source=medium.source)
