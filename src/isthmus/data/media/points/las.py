"""LAS and LAZ, survey's point clouds, by laspy: an extra."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.points.columns import cloud_of


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
    _records_fit(path)
    with laspy.open(path) as reader:
        header = reader.header
        count, row = header.point_count, header.point_format.size
        limits.check(path, points=count, bytes=count * max(row, 24))
        try:
            las = reader.read()
        except BaseException as error:
            # What panics in lazrs, which is written in Rust, is no Exception.
            if type(error).__name__ == "PanicException":
                raise ValueError(f"its compressed points can't be unpacked: {error}") from error
            raise
    if len(las.points) != count:
        raise ValueError(f"{len(las.points)} of {count} points are there")
    named = {"x": np.asarray(las.x), "y": np.asarray(las.y), "z": np.asarray(las.z)}
    there = set(header.point_format.dimension_names)
    colours = {name: np.asarray(las[name]) for name in ("red", "green", "blue") if name in there}
    # Formats with room for colours are written without them too: all zero then.
    return cloud_of(named | (colours if any(column.any() for column in colours.values()) else {}))


def _records_fit(path: Path) -> None:
    """Refuses a header that declares more records than its file has room for: laspy would go through them all.

    Raises:
        ValueError: it does.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(375)
    if len(head) < 227 or head[:4] != b"LASF":
        raise ValueError("it doesn't begin with a LAS header")
    (records,) = struct.unpack("<I", head[100:104])
    room = 54 * records
    if head[25] >= 4 and len(head) >= 247:
        room += 60 * int(struct.unpack("<I", head[243:247])[0])
    if room > size or _chunks(path, head) > size:
        raise ValueError(f"its header declares records of {room} bytes in a file of {size}")


def _chunks(path: Path, head: bytes) -> int:
    """How many chunks the compressed points are said to be in; 0 where they aren't compressed."""
    if not head[104] & 0x80:  # LAZ's mark in the format's number
        return 0
    with path.open("rb") as file:
        file.seek(struct.unpack("<I", head[96:100])[0])
        table = file.read(8).ljust(8, b"\0")
        file.seek(max(struct.unpack("<q", table)[0], 0))
        return int(struct.unpack("<4xI", file.read(8).ljust(8, b"\0"))[0])
