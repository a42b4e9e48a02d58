"""Images -> ink: the digit's share of each pixel, independent of colour, background and position."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 24
"""Height and width of normalised ink, in pixels."""
RADIUS = 7.2
"""Root mean square distance of normalised ink from its centre, in pixels."""
CONTRAST = 0.2
"""The least brightness of strokes above the background (that of the world's images is above 0.75)."""
_NOISE = 0.06


def ink_of(pictures: Tensor) -> Tensor:
    """Pictures (B, H, W, 3) in [0, 1] -> ink (B, H, W) in [0, 1]; all zero if nothing stands out from the background.

    The background is the first quintile of brightness, since a digit covers less than the rest; strokes are scaled to
    1.
    """
    brightness = pictures.amax(-1).flatten(1)
    ground = brightness.quantile(0.2, dim=1, keepdim=True)
    peak = brightness.quantile(0.97, dim=1, keepdim=True)
    ink = ((brightness - ground - _NOISE) / (peak - ground - _NOISE).clamp(min=1e-3)).clamp(0, 1)
    return torch.where(peak - ground > CONTRAST, ink, 0.0).view(pictures.shape[:-1])


def moments(ink: Tensor) -> tuple[Tensor, Tensor]:
    """Ink (B, H, W) -> its centre (B, 2) as (x, y) in pixels, and its root mean square distance from there (B,)."""
    height, width = ink.shape[1:]
    mass = ink.sum((1, 2)).clamp(min=1e-6)
    x = torch.arange(width, dtype=ink.dtype)
    y = torch.arange(height, dtype=ink.dtype)
    columns, rows = ink.sum(1), ink.sum(2)
    centre = torch.stack([columns @ x, rows @ y], dim=1) / mass[:, None]
    spread = (columns * (x - centre[:, :1]) ** 2).sum(1) + (rows * (y - centre[:, 1:]) ** 2).sum(1)
    return centre, (spread / mass).sqrt()


def normalised(ink: Tensor, warp: Tensor | None = None) -> Tensor:
    """Ink (B, H, W) -> (B, 1, SIDE, SIDE): centred and scaled to one size by its moments.

    Args:
        ink: from :func:`ink_of`.
        warp: (B, 2, 3) affine maps of the result's coordinates (unit: half a side), for augmentation.
    """
    height, width = ink.shape[1:]
    centre, radius = moments(ink)
    # Half a side of the result in pixels of the picture.
    reach = radius.clamp(min=1.0) / RADIUS * SIDE / 2
    scale = torch.stack([2 * reach / width, 2 * reach / height], dim=1)
    middle = torch.stack([(2 * centre[:, 0] + 1) / width - 1, (2 * centre[:, 1] + 1) / height - 1], dim=1)
    if warp is None:
        warp = torch.eye(2, 3).expand(len(ink), 2, 3)
    theta = warp * scale[:, :, None]
    theta = torch.cat([theta[:, :, :2], theta[:, :, 2:] + middle[:, :, None]], dim=2)
    grid = functional.affine_grid(theta, [len(ink), 1, SIDE, SIDE], align_corners=False)
    return functional.grid_sample(ink[:, None], grid, align_corners=False)
