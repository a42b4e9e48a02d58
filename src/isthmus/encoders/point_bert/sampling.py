"""Farthest point sampling and nearest neighbours: a cloud -> groups around centres (PointNet++, arXiv 1706.02413)."""

from __future__ import annotations

import torch
from torch import Tensor

from isthmus.precision import unmixed

ORIGIN_RADIUS_SQUARED = 1e-3
"""Points this near to the origin are never chosen: the published models were trained with a kernel that skips them."""


def farthest_points(xyz: Tensor, count: int) -> Tensor:
    """Indices (B, count) int64 of points of (B, P, 3), each the farthest from those before it, beginning with point 0.

    Raises:
        ValueError: there are fewer points than are asked for.
    """
    batch, points, _ = xyz.shape
    if points < count:
        raise ValueError(
            f"found {points} points for {count} groups; expected at least one a group: give a denser cloud"
        )
    distances = torch.full((batch, points), 1e10, device=xyz.device, dtype=xyz.dtype)
    distances.masked_fill_(xyz.square().sum(dim=-1) <= ORIGIN_RADIUS_SQUARED, -1.0)
    chosen = torch.zeros(batch, count, dtype=torch.int64, device=xyz.device)
    last = chosen[:, :1]
    for step in range(1, count):
        centre = xyz.gather(1, last.unsqueeze(-1).expand(-1, -1, 3))
        # A skipped point stays at -1, below every distance.
        torch.minimum(distances, (xyz - centre).square().sum(dim=-1), out=distances)
        last = distances.argmax(dim=1, keepdim=True)
        chosen[:, step] = last[:, 0]
    return chosen


def nearest_points(xyz: Tensor, centres: Tensor, count: int) -> Tensor:
    """Indices (B, G, count) of the points of (B, P, 3) nearest to each centre (B, G, 3), in no particular order."""
    # Autocast would multiply in half precision, which takes near neighbours for one another.
    with unmixed():
        squares = xyz.square().sum(dim=-1).unsqueeze(1) - 2 * centres @ xyz.transpose(1, 2)
    return squares.topk(count, dim=-1, largest=False, sorted=False).indices


def gather_points(cloud: Tensor, indices: Tensor) -> Tensor:
    """Rows of (B, P, F) at indices (B, ...) -> (B, ..., F)."""
    rows = indices.flatten(1).unsqueeze(-1).expand(-1, -1, cloud.shape[-1])
    return cloud.gather(1, rows).reshape(*indices.shape, cloud.shape[-1])


@torch.no_grad()
def group_points(cloud: Tensor, groups: int, group_size: int) -> tuple[Tensor, Tensor]:
    """A cloud (B, P, 3 or 6) -> neighbourhoods (B, G, group_size, 3 or 6) and their centres (B, G, 3).

    Neighbours are found by position alone. Positions are relative to the group's centre; colours are unchanged.
    """
    xyz = cloud[..., :3]
    centres = gather_points(xyz, farthest_points(xyz, groups))
    neighbourhoods = gather_points(cloud, nearest_points(xyz, centres, group_size))
    relative = neighbourhoods[..., :3] - centres.unsqueeze(2)
    return torch.cat([relative, neighbourhoods[..., 3:]], dim=-1), centres
