"""Reads PLY: the columns of its vertices, or a mesh, whose surface :mod:`isthmus.data.media.points.meshes` samples.

Trimesh parses the meshes. Clouds are read here, since trimesh would bypass the limits: it parses all lines of a text
file, whatever number the header declares, and needs six times the memory and five times the time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.points.columns import cloud_of
from isthmus.data.media.points.meshes import read_mesh

Array = np.ndarray[Any, Any]

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4"},
    **{"double": "f8", "float64": "f8"},
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass
class Element:
    """A table of a PLY: its number of rows, and its properties (name, numpy type); lists have the type ``list``."""

    count: int
    properties: list[tuple[str, str]] = field(default_factory=list)

    @property
    def has_lists(self) -> bool:
        """Whether its rows may have different lengths."""
        return any(kind == "list" for _, kind in self.properties)


def read_ply(path: Path, limits: MediaLimits) -> Array:
    """A file -> (P, 3 or 6): its vertices with their colours, or points on its surface if it has faces.

    Raises:
        DataError: the file exceeds a limit.
        ValueError: it isn't a PLY file.
        Exception: a parser's errors for a broken file, which the caller converts.
    """
    with path.open("rb") as file:
        order, elements = _header(file)
        for name, element in elements.items():
            numbers = element.count * sum(4 if kind == "list" else 1 for _, kind in element.properties)
            limits.check(path, points=element.count if name == "vertex" else 0, bytes=4 * numbers)
        if "vertex" not in elements:
            raise ValueError(f"its elements are {', '.join(elements) or 'none'}; 'vertex' is missing")
        faces = elements.get("face", Element(0))
        # A cloud may have a few faces; a mesh has at least one face for every four vertices.
        if faces.has_lists and 4 * faces.count >= elements["vertex"].count:
            return read_mesh(path, limits, faces=faces.count)
        for name, element in elements.items():
            if element.has_lists and element.count:
                raise ValueError(f"its element {name!r} holds lists before its vertices end")
            if name == "vertex":
                break
            _skip(file, order, element)
        return cloud_of(_columns(file, order, elements["vertex"]))


def _header(file: BinaryIO) -> tuple[str, dict[str, Element]]:
    """The byte order (empty for text) and the elements, in the file's order."""
    if file.readline(16).strip() != b"ply":
        raise ValueError("it doesn't begin with 'ply'")
    order: str | None = None
    elements: dict[str, Element] = {}
    for _ in range(1000):  # headers are short; a malicious one isn't read to its end
        match file.readline(1000).decode("ascii", errors="replace").split():
            case ["end_header"] if order is not None:
                return order, elements
            case ["format", name, _] if name in _ORDERS:
                order = _ORDERS[name]
            case ["element", name, number]:
                element = elements[name] = Element(int(number))
                if element.count < 0:
                    raise ValueError(f"its element {name!r} has {number} rows")
            case ["property", "list", _, _, name]:
                element.properties.append((name, "list"))
            case ["property", kind, name]:
                if kind not in _TYPES:
                    raise ValueError(f"its property {name!r} is of the unknown type {kind!r}")
                element.properties.append((name, _TYPES[kind]))
    raise ValueError("its header doesn't end, or names no format")


def _skip(file: BinaryIO, order: str, element: Element) -> None:
    if order:
        file.seek(element.count * _row(order, element).itemsize, 1)
    else:
        for _ in range(element.count):
            if not file.readline():
                break


def _row(order: str, element: Element) -> np.dtype[np.void]:
    return np.dtype([(name, order + kind) for name, kind in element.properties])


def _columns(file: BinaryIO, order: str, element: Element) -> dict[str, Array]:
    """The vertices' columns by name."""
    count, properties = element.count, element.properties
    if not count or not properties:
        raise ValueError(f"its header declares {count} vertices of {len(properties)} properties")
    if order:
        row = _row(order, element)
        data = file.read(count * row.itemsize)
        found = len(data) // row.itemsize
        records = np.frombuffer(data[: found * row.itemsize], row)
        columns = {name: records[name] for name, _ in properties}
    else:
        table = np.loadtxt(file, dtype=np.float64, max_rows=count, ndmin=2, usecols=range(len(properties)))
        found = len(table)
        columns = {name: table[:, i] for i, (name, _) in enumerate(properties)}
        for name, kind in properties:
            if kind[0] in "iu" and np.isfinite(columns[name]).all():
                columns[name] = columns[name].astype(np.int64)
    if found != count:
        raise ValueError(f"{found} of {count} vertices are there")
    return columns
