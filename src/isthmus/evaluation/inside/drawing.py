"""Draws media with matplotlib, for notebooks and figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from isthmus.types import Media, Modality


def draw_medium(figure: Any, place: tuple[int, int, int], medium: Media, title: str = "") -> Any:
    """Draws an image, the frames of a video side by side, a sound's spectrogram, or a cloud seen from the front.

    Args:
        figure: of matplotlib.
        place: rows, columns and number of the plot in it, from 1 on.
        medium: decoded.
        title: above it.

    Returns:
        The plot's axes.
    """
    is_cloud = medium.modality is Modality.POINTS
    axes = figure.add_subplot(*place, projection="3d" if is_cloud else None)
    if is_cloud:
        x, y, z = medium.array[:, :3].T
        colours = medium.array[:, 3:] if medium.array.shape[1] == 6 else None
        axes.scatter(x, z, y, c=colours, s=2)
        axes.view_init(elev=0, azim=-90)
        axes.set_aspect("equal")
    elif medium.modality is Modality.AUDIO:
        assert medium.rate is not None
        axes.specgram(medium.array, Fs=int(medium.rate), NFFT=512, noverlap=256)
    else:
        axes.imshow(np.concatenate(list(medium.array), axis=1) if medium.array.ndim == 4 else medium.array)
    axes.set_axis_off()
    axes.set_title(title, fontsize=8)
    return axes
