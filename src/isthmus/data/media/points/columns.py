"""Named columns -> one cloud (P, 3 or 6): finds coordinates and colours by their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.media.limits import MediaLimits, corrupt
from isthmus.data.media.remarks import Remark, remark

Array = np.ndarray[Any, Any]

COLOURS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
"""Names of three colour columns; the first triple that exists is used."""

PACKED = ("rgb", "rgba")
"""Names of a column with a colour's three bytes packed into one number, as PCL writes it."""

HARMONICS = ("f_dc_0", "f_dc_1", "f_dc_2")
"""Gaussian splats' colour: the constant term of its spherical harmonics (arXiv 2308.04079)."""

_CONSTANT_HARMONIC = 0.28209479177387814  # 1 / (2 sqrt(pi))

FIX = "save the cloud as float32 (points, 3 or 6): xyz and, if it has colours, rgb in [0, 1]"

_FINE = 1e-5
"""If float32's resolution of coordinates is coarser than this share of a cloud's extent, the cloud is centred first."""

_NAMED = 5
"""How many broken points an error lists."""


def cloud_of(columns: Mapping[str, Array]) -> Array:
    """Columns (P,) by name -> (P, 3 or 6) float64, colours in [0, 1].

    Raises:
        ValueError: a coordinate or a part of a colour is missing, or colours are out of range.
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
            raise ValueError(f"{names}: {', '.join(there)} without {lacks}; expected all three or none")
        if there:
            return np.hstack([xyz, unit_colours(np.stack([by_name[name] for name in trio], axis=1))])
    for name in PACKED:
        if name in by_name:
            column = np.ascontiguousarray(by_name[name])
            # The bytes of a 4-byte number; its value if it was read from text as float64.
            bits = column.view(column.dtype.str[0] + "u4") if column.dtype.itemsize == 4 else column
            packed = bits.astype(np.int64)
            return np.hstack([xyz, np.stack([packed >> shift & 255 for shift in (16, 8, 0)], axis=1) / 255])
    if all(name in by_name for name in HARMONICS):
        terms = np.stack([by_name[name] for name in HARMONICS], axis=1).astype(np.float64)
        return np.hstack([xyz, np.clip(0.5 + _CONSTANT_HARMONIC * terms, 0, 1)])
    return xyz


def unit_colours(colours: Array) -> Array:
    """Colours of any type -> float64 in [0, 1]: values above 1 are taken as 8 bits, above 255 as 16 bits.

    Integers are always taken as 8 or 16 bits. Floats with a largest value between 1 and 2 fit no range and are refused.

    Raises:
        ValueError: the values fit none of these ranges.
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
            "aren't colours"
        )
    if not whole and largest <= 1.001:
        return np.clip(values, 0, 1)
    return values / (255 if largest <= 255 else 65535)


def float32_cloud(array: Array, path: Path | str, limits: MediaLimits) -> Array:
    """(P, 3 or 6) of any real type -> float32, without broken points.

    Coordinates far from zero, such as a map's, would lose their differences in float32: their mean is subtracted first,
    in float64.

    Raises:
        DataError: more points than ``limits.broken_points`` have non-finite values.
    """
    points = array.astype(np.float64)
    # Values beyond float32's range count as infinite.
    is_finite = (np.abs(points) <= np.finfo(np.float32).max).all(axis=1)
    broken = np.flatnonzero(~is_finite)
    if len(broken):
        named = ", ".join(map(str, broken[:_NAMED])) + (", ..." if len(broken) > _NAMED else "")
        message = f"{len(broken)} of {len(points)} points aren't finite: those of index {named}"
        if len(broken) > limits.broken_points or not is_finite.any():
            raise corrupt(path, "point cloud", message, "remove these points, or raise limits.broken_points")
        remark(Remark.BROKEN_POINTS, path, f"{message}; they are left out")
        points = points[is_finite]
    xyz = points[:, :3]
    extent = np.ptp(xyz, axis=0).max(initial=0)
    if array.dtype.itemsize > 4 and np.spacing(np.float32(np.abs(xyz).max(initial=0))) > _FINE * extent > 0:
        points[:, :3] -= xyz.mean(axis=0)
    return points.astype(np.float32)
