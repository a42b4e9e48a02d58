"""Columns with names, or arrays with keys, -> one cloud (P, 3 or 6): which names are coordinates, which are colours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.media.limits import MediaLimits, corrupt
from isthmus.data.media.remarks import Remark, remark

Array = np.ndarray[Any, Any]

COLOURS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
"""Names of three columns of colour, the first that is there is taken."""

PACKED = ("rgb", "rgba")
"""Names of a column that holds a colour's three bytes in one number, as PCL writes it."""

HARMONICS = ("f_dc_0", "f_dc_1", "f_dc_2")
"""Gaussian splats' colour: the constant term of its spherical harmonics (arXiv 2308.04079)."""

_CONSTANT_HARMONIC = 0.28209479177387814  # 1 / (2 sqrt(pi))

FIX = "save the cloud as float32 (points, 3 or 6): xyz and, if it has colours, rgb in [0, 1]"

_FINE = 1e-5
"""Of a cloud's extent: coordinates that float32 holds more coarsely than this are moved to their centre first."""

_NAMED = 5
"""How many broken points an error names."""


def cloud_of(columns: Mapping[str, Array]) -> Array:
    """Columns (P,) by name -> (P, 3 or 6) float64, colours in [0, 1].

    Raises:
        ValueError: a coordinate or a part of a colour lacks, or colours are out of range.
    """
    by_name = {name.lower(): column for name, column in columns.items()}
    names = f"it has {', '.join(columns) or 'nothing'}"
    if missing := [name for name in "xyz" if name not in by_name]:
        raise ValueError(f"{names}, and no {', '.join(missing)}")
    xyz = np.stack([by_name[name] for name in "xyz"], axis=1).astype(np.float64)
    for trio in COLOURS:
        there = [name for name in trio if name in by_name]
        if 0 < len(there) < 3:
            lacks = ", ".join(name for name in trio if name not in there)
            raise ValueError(f"{names}: {', '.join(there)} without {lacks}; all three make a colour, none is no colour")
        if there:
            return np.hstack([xyz, unit_colours(np.stack([by_name[name] for name in trio], axis=1))])
    for name in PACKED:
        if name in by_name:
            column = np.ascontiguousarray(by_name[name])
            # The number's own bytes; where text was read as float64, its value.
            bits = column.view(column.dtype.str[0] + "u4") if column.dtype.itemsize == 4 else column
            packed = bits.astype(np.int64)
            return np.hstack([xyz, np.stack([packed >> shift & 255 for shift in (16, 8, 0)], axis=1) / 255])
    if all(name in by_name for name in HARMONICS):
        terms = np.stack([by_name[name] for name in HARMONICS], axis=1).astype(np.float64)
        return np.hstack([xyz, np.clip(0.5 + _CONSTANT_HARMONIC * terms, 0, 1)])
    return xyz


def unit_colours(colours: Array) -> Array:
    """Colours of any type -> float64 in [0, 1]: those above 1 are of 8 bits, those above 255 of 16.

    Whole numbers are of 8 bits at least. Of real ones, what lies between 1 and 2 is neither and is refused.

    Raises:
        ValueError: the range is none of these.
    """
    values = colours.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return values
    least, largest = finite.min(), finite.max()
    whole = colours.dtype.kind in "iu"
    if least < 0 or largest > 65535 or (not whole and 1.001 < largest < 2):
        raise ValueError(
            f"its colours reach from {least:g} to {largest:g}, where 0 to 1, 0 to 255 or 0 to 65535 are read; normals "
            "are no colours"
        )
    if not whole and largest <= 1.001:
        return np.clip(values, 0, 1)
    return values / (255 if largest <= 255 else 65535)


def float32_cloud(array: Array, path: Path | str, limits: MediaLimits) -> Array:
    """(P, 3 or 6) of any real type -> float32, its broken points left out and its coordinates kept exact.

    Coordinates far from zero, as a map's, would lose in float32 what distinguishes the points: they are moved by their
    mean first, in float64.

    Raises:
        DataError: more points than ``limits.broken_points`` hold what isn't finite.
    """
    points = array.astype(np.float64)
    # What float32 can't hold is as good as infinite.
    sound = (np.abs(points) <= np.finfo(np.float32).max).all(axis=1)
    broken = np.flatnonzero(~sound)
    if len(broken):
        named = ", ".join(map(str, broken[:_NAMED])) + (", ..." if len(broken) > _NAMED else "")
        said = f"{len(broken)} of {len(points)} points aren't finite: those of index {named}"
        if len(broken) > limits.broken_points or not sound.any():
            raise corrupt(
                path, "point cloud", said, "take these points out, or have up to limits.broken_points left out"
            )
        remark(Remark.BROKEN_POINTS, path, f"{said}; they are left out")
        points = points[sound]
    xyz = points[:, :3]
    extent = np.ptp(xyz, axis=0).max(initial=0)
    if array.dtype.itemsize > 4 and np.spacing(np.float32(np.abs(xyz).max(initial=0))) > _FINE * extent > 0:
        points[:, :3] -= xyz.mean(axis=0)
    return points.astype(np.float32)
