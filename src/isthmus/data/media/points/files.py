"""Reads and writes point clouds: npy, npz, ply, pcd, las, and meshes by sampling their surface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.arrays.npy import Check, read_npy, read_npz
from isthmus.data.errors import DataError
from isthmus.data.media.limits import MediaLimits, corrupt
from isthmus.data.media.points import meshes as mesh_files
from isthmus.data.media.points.columns import FIX, cloud_of, float32_cloud, unit_colours
from isthmus.data.media.points.las import read_las
from isthmus.data.media.points.pcd import read_pcd
from isthmus.data.media.points.ply import read_ply
from isthmus.types import Media, Modality

Array = np.ndarray[Any, Any]

PLACES = ("points", "xyz")
"""Keys of coordinates in an npz."""

COLOURS = ("rgb", "colors", "colours", "color", "colour")
"""Keys of their colours."""


def read_points(path: Path, limits: MediaLimits) -> Media:
    """A file -> (P, 3 or 6) float32.

    ``npy`` holds such an array, or a structured one with named columns; ``npz`` one under a key of :data:`PLACES` and
    optionally another under one of :data:`COLOURS`; ``ply``, ``pcd``, ``las`` and ``laz`` columns that
    :func:`isthmus.data.media.points.columns.cloud_of` knows. Colours are divided by 255 or 65535, depending on their
    range. ``glb``, ``gltf``, ``obj``, ``off`` and ``ply`` with faces give points on the surface
    (:mod:`isthmus.data.media.points.meshes`).

    Raises:
        DataError: the file exceeds a limit, or isn't a readable point cloud.
    """
    readers = {
        **{
            ".npy": _read_npy,
            ".npz": _read_npz,
            ".ply": read_ply,
            ".pcd": read_pcd,
            ".las": read_las,
            ".laz": read_las,
        },
        **dict.fromkeys(mesh_files.ENDINGS, mesh_files.read_mesh),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise corrupt(path, "point cloud", f"the ending {path.suffix!r} is none of {', '.join(readers)}", FIX)
    try:
        array = reader(path, limits)
        if array.dtype.names:
            array = cloud_of({name: array.reshape(-1)[name] for name in array.dtype.names})
        if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] not in (3, 6) or not len(array):
            raise ValueError(f"found {array.shape} {array.dtype}")
        if array.shape[1] == 6:
            array = np.hstack([array[:, :3].astype(np.float64), unit_colours(array[:, 3:])])
        points = float32_cloud(array, path, limits)
    except DataError:
        raise
    except Exception as error:  # zip, zlib and header parsers raise whatever hostile bytes lead them to
        raise corrupt(path, "point cloud", error, FIX) from error
    return Media(Modality.POINTS, points, source=str(path))


def read_rows(path: Path, limits: MediaLimits) -> Array:
    """A file of many clouds -> (rows, P, 3 or 6): an ``npy``, or the array ``points`` of an ``npz``.

    Raises:
        DataError: the file exceeds a limit, or doesn't hold such an array.
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


def _check(path: Path, limits: MediaLimits) -> Check:
    def check(shape: tuple[int, ...], size: int) -> None:
        limits.check(path, points=shape[0] if shape else 0, bytes=size)

    return check


def _read_npy(path: Path, limits: MediaLimits) -> Array:
    return read_npy(path, _check(path, limits))


def _read_npz(path: Path, limits: MediaLimits) -> Array:
    arrays, names = read_npz(path, _check(path, limits), (*PLACES, *COLOURS))
    place = next((key for key in PLACES if key in arrays), None)
    if place is None:
        raise ValueError(
            f"its arrays are {', '.join(names) or 'none'}; expected one called {' or '.join(PLACES)}, and its colours, "
            f"if any, under {' or '.join(COLOURS)}"
        )
    xyz: Array = arrays[place]
    colour = next((key for key in COLOURS if key in arrays), None)
    if colour is None or xyz.shape[-1:] != (3,):
        return xyz
    rgb = arrays[colour]
    if rgb.shape != xyz.shape:
        raise ValueError(f"its {place!r} is {xyz.shape} and its {colour!r} {rgb.shape}; expected equal shapes")
    return np.concatenate([xyz.astype(np.float64), unit_colours(rgb)], axis=-1)
