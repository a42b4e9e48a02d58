"""Vectorised drawing of the world's media for the encoders' training, with augmented handwriting.

The world has about 1,300 training scans. Each time, a scan is randomly rotated, sheared, stretched, bent, thinned or
thickened and blended with another of its digit, so that an encoder doesn't memorise scans.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.pocket.world import COLOURS, HUES, SIZE, Split, scans

SIDE = 64
"""Side of a stored glyph: six pixels for each pixel of a scan, so that resampling doesn't blur it."""


def uniform(low: float, high: float, *shape: int) -> Tensor:
    """A tensor of uniform values in [low, high)."""
    return torch.rand(*shape) * (high - low) + low


class Handwriting:
    """A split's scans with a margin, enlarged as in the world.

    Attributes:
        ink: (n, 1, SIDE, SIDE) in [0, 1].
        digits: (n,) int64.
    """

    def __init__(self, split: Split) -> None:
        scanned, digits = scans(split)
        padded = F.pad(torch.from_numpy(scanned).unsqueeze(1), (1, 1, 1, 1))
        self.ink = F.interpolate(padded, size=(SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        self.digits = torch.from_numpy(digits)
        self.members = [(self.digits == digit).nonzero().flatten() for digit in range(10)]

    def draw(self, batch: int, strength: float) -> tuple[Tensor, Tensor]:
        """Warped glyphs (B, 1, SIDE, SIDE) of random scans and their digits (B,); ``strength`` 0 warps nothing."""
        digits = torch.randint(10, (batch,))
        pairs = torch.stack([own[torch.randint(len(own), (2,))] for own in (self.members[int(d)] for d in digits)])
        return warped(self.ink[pairs[:, 0]], self.ink[pairs[:, 1]], strength), digits


def bent_grid(batch: int, strength: float) -> Tensor:
    """The sampling grid of warped glyphs, (B, SIDE, SIDE, 2): an affine map and a smooth displacement."""
    turn, shear = uniform(-0.22, 0.22, batch) * strength, uniform(-0.2, 0.2, batch) * strength
    width, height = (torch.exp(uniform(-0.16, 0.16, batch) * strength) for _ in range(2))
    maps = torch.zeros(batch, 2, 3)
    maps[:, 0, 0], maps[:, 0, 1] = turn.cos() * width, (shear - turn.sin()) * height
    maps[:, 1, 0], maps[:, 1, 1] = turn.sin() * width, turn.cos() * height
    maps[:, :, 2] = uniform(-0.06, 0.06, batch, 2) * strength
    bending = F.interpolate(torch.randn(batch, 2, 5, 5) * 0.05 * strength, size=(SIDE, SIDE), mode="bicubic")
    return F.affine_grid(maps, [batch, 1, SIDE, SIDE], align_corners=False) + bending.permute(0, 2, 3, 1)


def warped(ink: Tensor, others: Tensor, strength: float) -> Tensor:
    """Glyphs (B, 1, SIDE, SIDE) -> bent, their strokes lighter or heavier, half of them blended with another."""
    batch = len(ink)
    share = uniform(0.0, 0.45, batch) * (torch.rand(batch) < 0.5) * strength
    mixed = torch.lerp(ink, others, share.view(-1, 1, 1, 1))
    bent = F.grid_sample(mixed, bent_grid(batch, strength), align_corners=False)
    weight = torch.exp(uniform(-0.4, 0.4, batch) * strength)
    return bent.clamp(0, 1).pow(weight.view(-1, 1, 1, 1))


def placed(ink: Tensor, sides: Tensor, centres: Tensor) -> Tensor:
    """Glyphs (B, 1, SIDE, SIDE), ``sides`` (B,) wide, around ``centres`` (B, F, 2) -> pictures (B, F, SIZE, SIZE)."""
    batch, frames = centres.shape[:2]
    pixels = torch.arange(SIZE) + 0.5
    # (B, F, SIZE) along each axis, in the glyph's own coordinates of -1 to 1.
    columns = (pixels - centres[..., :1]) * (2 / sides.view(-1, 1, 1))
    rows = (pixels - centres[..., 1:]) * (2 / sides.view(-1, 1, 1))
    grid = torch.stack(torch.broadcast_tensors(columns.unsqueeze(-2), rows.unsqueeze(-1)), dim=-1)
    # The frames of a glyph are stacked vertically in one image, which is sampled once.
    tall = F.grid_sample(ink, grid.reshape(batch, frames * SIZE, SIZE, 2), align_corners=False)
    return tall.reshape(batch, frames, SIZE, SIZE)


def tints(colours: Tensor) -> Tensor:
    """Colour indices (B,) -> rgb (B, 3), varied as in the world."""
    batch = len(colours)
    hues = torch.tensor([HUES[colour] for colour in COLOURS])[colours] + uniform(-0.02, 0.02, batch)
    saturation, value = uniform(0.85, 1.0, batch, 1), uniform(0.85, 1.0, batch, 1)
    place = (torch.tensor([5.0, 3.0, 1.0]) + 6 * hues.unsqueeze(1)) % 6
    return value - value * saturation * torch.minimum(place, 4 - place).clamp(0, 1)


def painted(ink: Tensor, tint: Tensor) -> Tensor:
    """Pictures (B, F, H, W) and rgb (B, 3) -> (B, 3, F, H, W), multiples of 1/255, on a dark and noisy background."""
    ground = uniform(0.0, 0.08, len(ink), 1, 1, 1, 1)
    picture = ground + (tint.view(-1, 3, 1, 1, 1) - ground) * ink.unsqueeze(1)
    noisy = picture + 0.01 * torch.randn(len(ink), 3, *ink.shape[1:])
    return (noisy.clamp(0, 1) * 255).round() / 255


def rotated(points: Tensor, angles: Tensor, first: int, second: int) -> Tensor:
    """Points (B, P, 3) turned by angles (B,), from axis ``first`` towards axis ``second``."""
    cosine, sine = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
    axes = list(points.unbind(-1))
    axes[first], axes[second] = cosine * axes[first] - sine * axes[second], sine * axes[first] + cosine * axes[second]
    return torch.stack(axes, dim=-1)


def solid(ink: Tensor, tint: Tensor, points: int) -> Tensor:
    """Glyphs (B, 1, SIDE, SIDE) and rgb (B, 3) -> clouds (B, points, 6): the strokes extruded, rotated and tilted."""
    side = SIZE
    batch = len(ink)
    plane = F.interpolate(ink, size=(side, side), mode="area").flatten(1)
    cells = torch.multinomial(torch.where(plane > 0.35, plane, 0.0) + 1e-9, points, replacement=True)
    jitter = uniform(-0.5, 0.5, 2, batch, points)
    x = (cells % side + jitter[0]) / side * 2 - 1
    y = 1 - (cells.div(side, rounding_mode="floor") + jitter[1]) / side * 2
    place = torch.stack([x, y, uniform(-0.12, 0.12, batch, points)], dim=-1)
    turn, lean = uniform(-math.pi / 4.5, math.pi / 4.5, batch), uniform(-0.25, 0.25, batch)
    turned = rotated(rotated(place, lean, 0, 1), turn, 2, 0)
    shade = (tint.unsqueeze(1) + 0.02 * torch.randn(batch, points, 3)).clamp(0, 1)
    return torch.cat([turned, shade], dim=-1)
