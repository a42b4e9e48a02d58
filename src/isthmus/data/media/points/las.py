"""Reads LAS and LAZ, point clouds of surveys, by laspy, an optional requirement."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.points.columns import cloud_of


def read_las(path: Path, limits: MediaLimits) -> np.ndarray[Any, Any]:
    """A file -> (P, 3 or 6) float64: coordinates in the file's units, and colours if its points have them.

    Raises:
        DataError: the file exceeds a limit.
        ValueError: laspy isn't installed.
        Exception: laspy's errors for a broken file, which the caller converts.
    """
    try:
        import laspy
    except ImportError as error:
        raise ValueError("LAS and LAZ are read by laspy, which is not installed: pip install 'isthmus[las]'") from error
    _records_fit(path)
    # The parallel backend allocates each chunk's declared bytes before it reads them; a damaged table can declare
    # gigabytes, which would end the process. This backend reads points one after the other.
    with laspy.open(path, laz_backend=laspy.LazBackend.Lazrs) as reader:
        header = reader.header
        count, row = header.point_count, header.point_format.size
        limits.check(path, points=count, bytes=count * max(row, 24))
        if laszip := header.vlrs.get("LasZipVlr"):
            _layers_fit(path, header.offset_to_point_data, count, laszip[0].record_data)
        try:
            las = reader.read()
        except BaseException as error:
            # A panic in lazrs, which is written in Rust, isn't an Exception.
            if type(error).__name__ == "PanicException":
                raise ValueError(f"its compressed points can't be unpacked: {error}") from error
            raise
    if len(las.points) != count:
        raise ValueError(f"{len(las.points)} of {count} points are there")
    named = {"x": np.asarray(las.x), "y": np.asarray(las.y), "z": np.asarray(las.z)}
    there = set(header.point_format.dimension_names)
    colours = {name: np.asarray(las[name]) for name in ("red", "green", "blue") if name in there}
    # Formats with colour fields are also used without colours: then all are zero.
    return cloud_of(named | (colours if any(column.any() for column in colours.values()) else {}))


def _records_fit(path: Path) -> None:
    """Refuses a header that declares more records than the file can hold: laspy would iterate over them all.

    Raises:
        ValueError: it declares too many.
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
    is_compressed = bool(head[104] & 0x80)  # LAZ's flag in the point format
    if room > size or (is_compressed and _chunks(path, struct.unpack("<I", head[96:100])[0]) > size):
        raise ValueError(f"its header declares records of {room} bytes in a file of {size}")


def _chunks(path: Path, start: int) -> int:
    """The declared number of chunks of the chunk table, whose position is in the eight bytes at ``start``."""
    with path.open("rb") as file:
        file.seek(start)
        table = file.read(8).ljust(8, b"\0")
        file.seek(max(struct.unpack("<q", table)[0], 0))
        return int(struct.unpack("<4xI", file.read(8).ljust(8, b"\0"))[0])


_VARIABLE = 0xFFFFFFFF
"""The number of points per chunk that means: the table has each chunk's number, as in COPC files."""

_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}
"""Layers of each item of LAZ 1.4 by its type: points, colours, colours with near infrared, wave packets.

An item of extra bytes, type 14, has one layer per byte. Items of earlier versions have other types and no layers.
"""


def _layers_fit(path: Path, start: int, count: int, record: bytes) -> None:
    """Refuses compressed points whose declared layers exceed their file: lazrs allocates the declared memory.

    A chunk is its first point, four bytes of count, each layer's length in four bytes, and the layers.

    Args:
        path: the file.
        start: offset of its points, which begin with eight bytes for the position of the chunk table.
        count: number of points.
        record: LASzip's record, with the items of a point and the number of points per chunk.

    Raises:
        ValueError: the layers exceed the file.
    """
    size = path.stat().st_size
    points, number = struct.unpack("<12xI16xH", record[:34].ljust(34, b"\0"))
    items = list(struct.iter_unpack("<HHH", record[34 : 34 + 6 * number]))
    layers = sum(_LAYERS.get(kind, width if kind == 14 else 0) for kind, width, _ in items)
    if not layers:
        return
    sizes = struct.Struct(f"<{layers}I")
    chunks = _chunks(path, start) if points == _VARIABLE else -(-count // max(points, 1))
    at = start + 8
    with path.open("rb") as file:
        for _ in range(chunks):
            at += sum(width for _, width, _ in items) + 4
            file.seek(at)
            at += sizes.size + sum(sizes.unpack(file.read(sizes.size).ljust(sizes.size, b"\xff")))
            if at > size:
                raise ValueError(f"its compressed points declare layers up to byte {at} of {size}")
