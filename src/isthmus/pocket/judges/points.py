"""The judge of point clouds: reads the digit by the digit reader on the cloud's front view, and the colour by hue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from isthmus.paths import shipped_path
from isthmus.pocket.judges.base import MediaJudge, Reading
from isthmus.pocket.judges.digit_reader import ILLEGIBLE, load_reader
from isthmus.pocket.judges.image import colour_of, digit_of
from isthmus.types import Media, Modality

VIEW = 22
"""Pixels along a side of the front view: so few that a few hundred points form strokes."""
MARGIN = 4
BLOT = 0.7
"""Standard deviation of a point's Gaussian in the view, in pixels."""
LEANS = (-0.25, -0.125, 0.0, 0.125, 0.25)
"""Rotations of the view in its plane, in radians, which cover the world's solids."""
MOST_YAW = 0.9
"""The largest rotation about the upright axis at which a solid is read, in radians."""


def faced(places: Tensor) -> Tensor:
    """(P, 3) points, centred and rotated about the upright axis so that the plane of the strokes faces the viewer.

    The angle minimises the variance along the line of sight, in closed form.
    """
    centred = places - places.mean(0)
    x, z = centred[:, 0], centred[:, 2]
    # Spread along z after a turn: least where twice the angle is opposite to this direction.
    angle = 0.5 * torch.atan2(2 * (x * z).sum(), (x * x).sum() - (z * z).sum())
    angle = angle if float(angle.abs()) <= MOST_YAW else torch.zeros(())
    return torch.stack([x * angle.cos() + z * angle.sin(), centred[:, 1], z * angle.cos() - x * angle.sin()], dim=1)


def front_view(places: Tensor, lean: float) -> Tensor:
    """(P, 3) centred points -> ink (VIEW, VIEW) in [0, 1], upright, with a small Gaussian for each point."""
    turn = torch.tensor(lean)
    x = places[:, 0] * turn.cos() - places[:, 1] * turn.sin()
    y = places[:, 0] * turn.sin() + places[:, 1] * turn.cos()
    reach = torch.stack([x.abs().max(), y.abs().max()]).max().clamp(min=1e-6)
    scale = (VIEW / 2 - MARGIN) / reach
    columns, rows = VIEW / 2 + x * scale - 0.5, VIEW / 2 - y * scale - 0.5
    axis = torch.arange(VIEW, dtype=places.dtype)
    across = torch.exp(-((axis[None] - columns[:, None]) ** 2) / (2 * BLOT**2))
    along = torch.exp(-((axis[None] - rows[:, None]) ** 2) / (2 * BLOT**2))
    density = along.T @ across
    covered = density[density > 0.1 * density.max()]
    return (density / covered.median().clamp(min=1e-6)).clamp(0, 1)


class PointsJudge(MediaJudge):
    """Reads digit and colour of clouds with any number of points; without colours, the digit alone.

    Args:
        folder: of the digit reader's weights.

    Raises:
        ValueError: they are missing, or those of another network.
    """

    modality = Modality.POINTS
    attributes = ("digit", "colour")

    def __init__(self, folder: str | Path) -> None:
        self.reader = load_reader(shipped_path(folder))

    def many(self, media: Sequence[Media]) -> list[Reading]:
        """Reads one cloud at a time."""
        self.check(media)
        return [self._read(torch.from_numpy(medium.array).float()) for medium in media]

    def _read(self, cloud: Tensor) -> Reading:
        places = faced(cloud[:, :3])
        views = torch.stack([front_view(places, lean) for lean in LEANS])
        probabilities = self.reader.probabilities(views)
        # The mean over all rotations weighs each by its confidence; None if no rotation is legible.
        is_legible = digit_of(probabilities[int(probabilities[:, :ILLEGIBLE].amax(1).argmax())]) is not None
        digit = int(probabilities[:, :ILLEGIBLE].mean(0).argmax()) if is_legible else None
        colour = colour_of(cloud[:, 3:], torch.ones(len(cloud))) if cloud.shape[1] == 6 else None
        return {"digit": digit, "colour": colour}
