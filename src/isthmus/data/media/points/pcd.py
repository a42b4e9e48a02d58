"""Reads PCD, the Point Cloud Library's format: as text, as binary rows, and as columns compressed by LZF."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.points.columns import cloud_of

Array = np.ndarray[Any, Any]

_TINY = 1e-30
"""A packed colour without alpha, read as a float32, is below this."""

_TYPES = {"F": "f", "I": "i", "U": "u"}


def read_pcd(path: Path, limits: MediaLimits) -> Array:
    """A file -> (P, 3 or 6): its x, y and z, and its colours under ``rgb``, ``rgba`` or three names.

    Raises:
        DataError: the file exceeds a limit.
        ValueError: it isn't a PCD file.
        Exception: numpy's errors for a broken file, which the caller converts.
    """
    with path.open("rb") as file:
        header = _header(file)
        count = int(header["POINTS"][0])
        names = header["FIELDS"]
        counts = header.get("COUNT", ["1"] * len(names))
        kinds = [
            (name, f"<{_TYPES[kind]}{int(size)}", (int(number),))
            for name, kind, size, number in zip(names, header["TYPE"], header["SIZE"], counts, strict=True)
        ]
        row = np.dtype([(f"{i}", kind, shape) for i, (_, kind, shape) in enumerate(kinds)])
        limits.check(path, points=count, bytes=count * max(row.itemsize, 4 * len(names)))
        if count < 1:
            raise ValueError(f"its header declares {count} points")
        columns = _read(file, header["DATA"][0], row, count)
    # Fields of several numbers, such as histograms, are ignored; padding is named "_".
    return cloud_of({name: columns[i].reshape(count) for i, (name, _, shape) in enumerate(kinds) if shape == (1,)})


def _header(file: BinaryIO) -> dict[str, list[str]]:
    header: dict[str, list[str]] = {}
    for _ in range(1000):  # headers are short; a malicious one isn't read to its end
        words = file.readline(10_000).decode("ascii", errors="replace").split()
        if words and not words[0].startswith("#"):
            header[words[0].upper()] = words[1:]
        if "DATA" in header:
            break
    if "POINTS" not in header and {"WIDTH", "HEIGHT"} <= header.keys():
        header["POINTS"] = [str(int(header["WIDTH"][0]) * int(header["HEIGHT"][0]))]
    if lacking := [key for key in ("FIELDS", "SIZE", "TYPE", "POINTS", "DATA") if not header.get(key)]:
        raise ValueError(f"its header has no {', '.join(lacking)}")
    return header


def _read(file: BinaryIO, form: str, row: np.dtype[np.void], count: int) -> list[Array]:
    """Each field's values (P, numbers for each point), in the header's order."""
    names = row.names or ()
    if form == "ascii":
        width = sum(row[name].shape[0] for name in names)
        table = np.loadtxt(file, dtype=np.float64, max_rows=count, ndmin=2, usecols=range(width), comments="#")
        if len(table) != count:
            raise ValueError(f"{len(table)} of {count} points are there")
        parts = np.split(table, np.cumsum([row[name].shape[0] for name in names])[:-1], axis=1)
        return [_typed(part, row[name].base) for part, name in zip(parts, names, strict=True)]
    if form == "binary":
        data = file.read(count * row.itemsize)
        if len(data) != count * row.itemsize:
            raise ValueError(f"{len(data) // max(row.itemsize, 1)} of {count} points are there")
        records = np.frombuffer(data, row)
        return [records[name] for name in names]
    if form == "binary_compressed":
        packed, whole = struct.unpack("<II", file.read(8))
        if whole != count * row.itemsize:
            raise ValueError(f"it declares {whole} bytes for {count} points of {row.itemsize}")
        data = lzf(file.read()[:packed], whole)  # read(packed) would allocate the declared length
        ends = np.cumsum([0, *(count * row[name].itemsize for name in names)])
        columns = [
            np.frombuffer(data[start:end], row[name].base)
            for start, end, name in zip(ends[:-1], ends[1:], names, strict=True)
        ]
        return [column.reshape(count, -1) for column in columns]
    raise ValueError(f"its data are {form!r}, none of ascii, binary and binary_compressed")


def _typed(values: Array, kind: np.dtype[Any]) -> Array:
    """Values read from text: integers in the field's type, floats as float64.

    A packed colour is written as an integer, or as the float32 of the same four bytes, which is then tiny.
    """
    if kind.kind == "f":
        return values.astype(kind) if kind.itemsize == 4 and np.all(np.abs(values) < _TINY) else values
    if not np.isfinite(values).all() or values.min() < np.iinfo(kind).min or values.max() > np.iinfo(kind).max:
        raise ValueError(f"a number in its text doesn't fit the type {kind.name}")
    return values.astype(kind)


def lzf(data: bytes, size: int) -> bytes:
    """LZF-compressed bytes -> the ``size`` bytes that they were (the format of Marc Lehmann's LibLZF).

    Raises:
        ValueError: they have another size, or refer to bytes before their start.
    """
    made = bytearray()
    at = 0
    while at < len(data) and len(made) < size:
        control = data[at]
        at += 1
        if control < 32:  # a literal run
            made += data[at : at + control + 1]
            at += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += data[at]
            at += 1
        start = len(made) - ((control & 31) << 8 | data[at]) - 1
        at += 1
        if start < 0:
            raise ValueError("its compressed data refer to bytes before their start")
        length += 2
        piece = bytes(made[start : start + length])
        made += (piece * -(-length // len(piece)))[:length]
    if len(made) != size:
        raise ValueError(f"its compressed data hold {len(made)} of {size} bytes")
    return bytes(made)
