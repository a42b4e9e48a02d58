"""LAS and LAZ, survey's point clouds, by laspy: an extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.limits import MediaLimits
from isthmus.data.point_columns import cloud_of


def read_las(path: Path, limits: MediaLimits) -> np.ndarray[Any, Any]:
    """A file -> (P, 3 or 6) float64: coordinates in the file's units, colours where its points have them.

    Raises:
        DataError: over a limit.
        ValueError: laspy isn't installed.
        Exception: whatever laspy meets in a broken file; the caller words it.
    """
    try:
        import laspy
    except ImportError as error:
        raise ValueError("LAS and LAZ are read by laspy, which is not installed: pip install 'isthmus[las]'") from error
    with laspy.open(path) as reader:
        header = reader.header
        count, row = header.point_count, header.point_format.size
        limits.check(path, points=count, bytes=count * max(row, 24))
        las = reader.read()
    if len(las.points) != count:
        raise ValueError(f"{len(las.points)} of {count} points are there")
    named = {"x": np.asarray(las.x), "y": np.asarray(las.y), "z": np.asarray(las.z)}
    there = set(header.point_format.dimension_names)
    colours = {name: np.asarray(las[name]) for name in ("red", "green", "blue") if name in there}
    # Formats with room for colours are written without them too: all zero then.
    return cloud_of(named | (colours if any(column.any() for column in colours.values()) else {}))
