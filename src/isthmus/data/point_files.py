"""Point clouds to and from files: npy, npz, ply, and meshes by their surface."""

from __future__ import annotations

import math
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from isthmus.data import mesh_files
from isthmus.data.errors import DataError
from isthmus.data.limits import MediaLimits, corrupt
from isthmus.data.mesh_files import read_mesh
from isthmus.types import Media, Modality

Array = np.ndarray[Any, Any]

_LONGEST_HEADER = 10_000
"""Bytes of an npy header: numpy's own limit for files that aren't trusted."""

_MEND = "save the cloud as float32 (points, 3 or 6): xyz and, if it has colours, rgb in [0, 1]"


def read_points(path: Path, limits: MediaLimits) -> Media:
    """A file -> (P, 3 or 6) float32.

    ``npy`` holds such an array; ``npz`` one called ``points``, or ``xyz`` and perhaps ``rgb``; ``ply`` x, y, z and
    perhaps red, green, blue of its vertices. Whole-numbered colours are divided by 255. Of ``glb``, ``gltf``, ``obj``
    and ``off``, points on the surface (:mod:`isthmus.data.mesh_files`).

    Raises:
        DataError: over a limit, or not a readable point cloud.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".ply": _read_ply, **dict.fromkeys(mesh_files.ENDINGS, read_mesh)}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise corrupt(path, "point cloud", f"the ending {path.suffix!r} is none of {', '.join(readers)}", _MEND)
    try:
        array = reader(path, limits)
        if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] not in (3, 6) or not len(array):
            raise ValueError(f"found {array.shape} {array.dtype}")
        points = array.astype(np.float32)
        if not np.isfinite(points).all():
            raise ValueError("it holds coordinates that aren't finite")
        if points.shape[1] == 6 and (points[:, 3:].min() < 0 or points[:, 3:].max() > 1):
            raise ValueError(f"its colours reach from {points[:, 3:].min():g} to {points[:, 3:].max():g}")
    except DataError:
        raise
    except Exception as error:  # zip, zlib and header parsers raise whatever hostile bytes lead them to
        raise corrupt(path, "point cloud", error, _MEND) from error
    return Media(Modality.POINTS, points, source=str(path))


def read_rows(path: Path, limits: MediaLimits) -> Array:
    """A file of many clouds -> (rows, P, 3 or 6): an ``npy``, or the array ``points`` of an ``npz``.

    Raises:
        DataError: over a limit, or not such an array.
    """
    try:
        array = _read_npz(path, limits) if path.suffix.lower() == ".npz" else _read_npy(path, limits)
        if array.dtype.kind not in "fiu" or array.ndim != 3 or array.shape[2] not in (3, 6) or not array.size:
            raise ValueError(f"found {array.shape} {array.dtype}")
    except DataError:
        raise
    except Exception as error:  # zip, zlib and header parsers raise whatever hostile bytes lead them to
        raise corrupt(path, "file of clouds", error, "save an array (rows, points, 3 or 6) as 'points'") from error
    return array


def _declared(file: BinaryIO, path: Path, limits: MediaLimits) -> None:
    """Holds an npy header against the limits; the file stands after it."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        # numpy takes memory for all that this length declares, and compares it with its own limit after that.
        start = file.tell()
        (length,) = struct.unpack("<I", file.read(4))
        file.seek(start)
        if length > _LONGEST_HEADER:
            raise ValueError(f"its header declares {length} bytes of itself")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    limits.check(path, points=shape[0] if shape else 0, bytes=math.prod(shape) * max(dtype.itemsize, 4))


def _read_npy(path: Path, limits: MediaLimits) -> Array:
    with path.open("rb") as file:
        _declared(file, path, limits)
        file.seek(0)
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _read_npz(path: Path, limits: MediaLimits) -> Array:
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                _declared(file, path, limits)  # type: ignore[arg-type]  # a ZipExtFile reads like a binary file
    with np.load(path, allow_pickle=False) as arrays:
        if "points" in arrays:
            points: Array = arrays["points"]
            return points
        xyz = arrays["xyz"]
        return np.hstack([xyz, _unit(arrays["rgb"])]) if "rgb" in arrays else np.asarray(xyz)


_PLY_TYPES = {
    **{
        "char": "i1",
        "uchar": "u1",
        "short": "i2",
        "ushort": "u2",
        "int": "i4",
        "uint": "u4",
        "float": "f4",
        "double": "f8",
    },
    **{
        "int8": "i1",
        "uint8": "u1",
        "int16": "i2",
        "uint16": "u2",
        "int32": "i4",
        "uint32": "u4",
        "float32": "f4",
        "float64": "f8",
    },
}


def _read_ply(path: Path, limits: MediaLimits) -> Array:
    with path.open("rb") as file:
        order, count, properties = _ply_header(file)
        limits.check(path, points=count, bytes=4 * count * len(properties))
        names = [name for name, _ in properties]
        if order is None:
            table = np.loadtxt(file, dtype=np.float64, max_rows=count, ndmin=2, usecols=range(len(names)))
            if len(table) != count:
                raise ValueError(f"{len(table)} of {count} vertices are there")
            columns = {name: table[:, i].astype(_PLY_TYPES[kind]) for i, (name, kind) in enumerate(properties)}
        else:
            dtype = np.dtype([(name, order + _PLY_TYPES[kind]) for name, kind in properties])
            data = file.read(count * dtype.itemsize)
            if len(data) != count * dtype.itemsize:
                raise ValueError(f"{len(data) // dtype.itemsize} of {count} vertices are there")
            records = np.frombuffer(data, dtype)
            columns = {name: records[name] for name in names}
    xyz = np.stack([columns[name] for name in ("x", "y", "z")], axis=1).astype(np.float32)
    if "red" not in columns:
        return xyz
    return np.hstack([xyz, _unit(np.stack([columns[name] for name in ("red", "green", "blue")], axis=1))])


def _ply_header(file: BinaryIO) -> tuple[str | None, int, list[tuple[str, str]]]:
    """The byte order (None: written as text), the number of vertices, and their properties with types."""
    if file.readline(16).strip() != b"ply":
        raise ValueError("it doesn't begin with 'ply'")
    orders = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}
    order: str | None = None
    count, element, properties = -1, "", list[tuple[str, str]]()
    for _ in range(1000):  # a header is short; a hostile one isn't read to the end
        words = file.readline(1000).decode("ascii", errors="replace").split()
        match words:
            case ["end_header"]:
                if count < 0 or not properties:
                    raise ValueError("its header names no vertices")
                return order, count, properties
            case ["format", name, _]:
                order = orders[name]
            case ["element", name, number]:
                if count < 0 and name != "vertex":
                    raise ValueError(f"its first element is {name!r}, not 'vertex'")
                element = name
                count = int(number) if name == "vertex" else count
            case ["property", kind, name] if element == "vertex":
                properties.append((name, kind if kind in _PLY_TYPES else _unknown(kind)))
            case ["property", "list", *_] if element == "vertex":
                raise ValueError("its vertices hold lists")
            case _:
                continue
    raise ValueError("its header doesn't end")


def _unknown(kind: str) -> str:
    raise ValueError(f"its vertices hold the unknown type {kind!r}")


def _unit(colours: Array) -> Array:
    return colours.astype(np.float32) / 255 if colours.dtype.kind in "iu" else colours.astype(np.float32)


def write_points(media: Media, path: Path) -> None:
    """Writes (P, 3 or 6) float32 as npy."""
    with path.open("wb") as file:
        np.save(file, media.array, allow_pickle=False)
