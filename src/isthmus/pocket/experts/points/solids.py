"""Solid digits for the training of the 3D generator: a scan's strokes, extruded, upright and facing ahead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator as Random
from torch import Tensor
from torch.nn import functional

from isthmus.pocket.world import COLOURS, Split, resized, scans, tinted

PIXELS = 32
DEPTH = 0.12
"""Half the thickness of a solid, whose box is [-1, 1]^3."""
_FINE = 96
_INK = 0.35
"""Ink above this is solid, as in the world's clouds."""


@dataclass(frozen=True)
class DrawnSolids:
    """B solids.

    Attributes:
        number: (B,) int64, index of the scan.
        digit, colour: (B,) int64.
        ink: (B, PIXELS, PIXELS) in [0, 1].
        tint: (B, 3) sRGB in [0, 1].
    """

    number: Tensor
    digit: Tensor
    colour: Tensor
    ink: Tensor
    tint: Tensor


class Solids:
    """All solids of a split.

    Args:
        split: of the scans.
    """

    def __init__(self, split: Split) -> None:
        from scipy.ndimage import distance_transform_edt

        inks, digits = scans(split)
        self.digits = torch.from_numpy(digits)
        self.ink = torch.from_numpy(np.stack([resized(ink, PIXELS) for ink in inks]))
        unit = 2 / _FINE
        flats = []
        for ink in inks:
            inside = resized(ink, _FINE) > _INK
            flats.append((distance_transform_edt(inside) - distance_transform_edt(~inside)) * unit)
        self.flat = torch.from_numpy(np.stack(flats).astype(np.float32))[:, None]
        """(n, 1, _FINE, _FINE) signed distance from the strokes' edge, positive inside."""

    def draw(self, size: int, random: Random) -> DrawnSolids:
        """``size`` solids, of uniform colours."""
        number = torch.from_numpy(random.integers(len(self.digits), size=size))
        colour = torch.from_numpy(random.integers(len(COLOURS), size=size))
        tint = torch.from_numpy(np.stack([tinted(COLOURS[int(c)], random) for c in colour]))
        return DrawnSolids(number, self.digits[number], colour, self.ink[number], tint)

    def places(self, drawn: DrawnSolids, count: int) -> Tensor:
        """(B, count, 3) training points: an eighth anywhere in the box, the rest around the slab."""
        places = 2 * torch.rand(len(drawn.number), count, 3) - 1
        places[:, count // 8 :, 2] *= 2.5 * DEPTH
        return places

    def distance(self, drawn: DrawnSolids, places: Tensor) -> Tensor:
        """(B, Q) signed distance from the solids' surface at places (B, Q, 3), positive inside."""
        # An image's second axis points down.
        grid = torch.stack([places[..., 0], -places[..., 1]], dim=-1)[:, None]
        flat = functional.grid_sample(self.flat[drawn.number], grid, padding_mode="border", align_corners=False)
        both = torch.stack([flat[:, 0, 0], DEPTH - places[..., 2].abs()], dim=-1)
        outside = both.clamp(max=0).norm(dim=-1)
        return torch.where(outside > 0, -outside, both.amin(-1))
