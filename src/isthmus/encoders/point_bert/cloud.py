"""A point cloud -> the fixed number of normalised points that Point-BERT was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np

MISSING_COLOUR = 0.4
"""The value of every colour channel for points without colour (ULIP-2)."""

Array = np.ndarray[Any, Any]


def resized(cloud: Array, points: int) -> Array:
    """(P, F) -> (points, F): larger clouds are subsampled at random with a fixed seed, smaller ones repeated."""
    found = cloud.shape[0]
    if found > points:
        rows = np.sort(np.random.default_rng(0).choice(found, points, replace=False))
    else:
        rows = np.arange(points) % found
    chosen: Array = cloud[rows]
    return chosen


def prepared_points(cloud: Array, points: int, fewest: int, colored: bool) -> Array:
    """(P, 3 or 6) float32 -> (points, 3 or 6) float32: centroid removed, divided by the largest distance from it.

    Args:
        cloud: xyz and optional rgb in [0, 1].
        points: number of points of the result.
        fewest: the least number of points in the cloud: one for each group.
        colored: whether the result has colours, :data:`MISSING_COLOUR` if the cloud has none; otherwise any are
            dropped.

    Raises:
        ValueError: too few points, values that aren't finite, colours out of range, or all points in one place.
    """
    if cloud.shape[0] < fewest:
        raise ValueError(f"points: found {cloud.shape[0]}; expected at least {fewest}, one a group: give more")
    if not np.isfinite(cloud).all():
        raise ValueError("points: found values that aren't finite numbers; remove those points")
    xyz, rgb = cloud[:, :3], cloud[:, 3:]
    if rgb.size and (rgb.min() < 0 or rgb.max() > 1):
        raise ValueError(f"points: found colours {rgb.min():g} to {rgb.max():g}; expected [0, 1]: divide bytes by 255")
    if colored and not rgb.size:
        rgb = np.full_like(xyz, MISSING_COLOUR)
    chosen = resized(np.concatenate([xyz, rgb], axis=1) if colored else xyz, points)
    places = chosen[:, :3].astype(np.float64)  # float32 can hold coordinates whose sums and squares it can't
    centred = places - places.mean(axis=0)
    largest = np.sqrt(np.square(centred).sum(axis=1)).max()
    if not largest > 0:
        raise ValueError("points: all are in one place; expected a cloud with an extent")
    return np.concatenate([centred / largest, chosen[:, 3:]], axis=1).astype(np.float32)
