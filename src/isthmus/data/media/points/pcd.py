"""PCD, the Point Cloud Library's files: as text, as binary rows, and as columns compressed by LZF."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.points.columns import cloud_of

Array = np.ndarray[Any, Any]

_TINY = 1e-30
"""Bytes of a colour without alpha, taken as a float32, make less than this."""

_TYPES = {"F": "f", "I": "i", "U": "u"}


def read_pcd(path: Path, limits: MediaLimits) -> Array:
    """A file -> (P, 3 or 6): its x, y and z, and its colours under ``rgb``, ``rgba`` or three names.

    Raises:
        DataError: over a limit.
        ValueError: not such a file.
        Exception: whatever numpy meets in a broken file; the caller words it.
    """
    with path.open("rb") as file:
        told = _header(file)
        count = int(told["POINTS"][0])
        names = told["FIELDS"]
        counts = told.get("COUNT", ["1"] * len(names))
        kinds = [
            (name, f"<{_TYPES[kind]}{int(size)}", (int(number),))
            for name, kind, size, number in zip(names, told["TYPE"], told["SIZE"], counts, strict=True)
        ]
        row = np.dtype([(f"{i}", kind, shape) for i, (_, kind, shape) in enumerate(kinds)])
        limits.check(path, points=count, bytes=count * max(row.itemsize, 4 * len(names)))
        if count < 1:
            raise ValueError(f"its header declares {count} points")
        columns = _read(file, told["DATA"][0], row, count)
    # Fields of several numbers, such as histograms, are no coordinates; padding is called "_".
    return cloud_of({name: columns[i].reshape(count) for i, (name, _, shape) in enumerate(kinds) if shape == (1,)})


def _header(file: BinaryIO) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for _ in range(1000):  # a header is short; a hostile one isn't read to the end
        words = file.readline(10_000).decode("ascii", errors="replace").split()
        if words and not words[0].startswith("#"):
            told[words[0].upper()] = words[1:]
        if "DATA" in told:
            break
    if "POINTS" not in told and {"WIDTH", "HEIGHT"} <= told.keys():
        told["POINTS"] = [str(int(told["WIDTH"][0]) * int(told["HEIGHT"][0]))]
    if lacking := [key for key in ("FIELDS", "SIZE", "TYPE", "POINTS", "DATA") if not told.get(key)]:
        raise ValueError(f"its header has no {', '.join(lacking)}")
    return told


def _read(file: BinaryIO, form: str, row: np.dtype[np.void], count: int) -> list[Array]:
    """Each field's values (P, its numbers), in the header's order."""
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
        data = lzf(file.read()[:packed], whole)  # a read of a declared length would take memory for all of it
        ends = np.cumsum([0, *(count * row[name].itemsize for name in names)])
        columns = [
            np.frombuffer(data[start:end], row[name].base)
            for start, end, name in zip(ends[:-1], ends[1:], names, strict=True)
        ]
        return [column.reshape(count, -1) for column in columns]
    raise ValueError(f"its data are {form!r}, none of ascii, binary and binary_compressed")


def _typed(values: Array, kind: np.dtype[Any]) -> Array:
    """What was read from text: whole numbers in the field's type, real ones as float64.

    A packed colour is written as a whole number, or as the float32 of the same four bytes: next to nothing, then.
    """
    if kind.kind == "f":
        return values.astype(kind) if kind.itemsize == 4 and np.all(np.abs(values) < _TINY) else values
    if not np.isfinite(values).all() or values.min() < np.iinfo(kind).min or values.max() > np.iinfo(kind).max:
        raise ValueError(f"a number in its text doesn't fit the type {kind.name}")
    return values.astype(kind)


def lzf(data: bytes, size: int) -> bytes:
    """LZF-compressed bytes -> the ``size`` bytes that they were (the format of Marc Lehmann's LibLZF).

    Raises:
        ValueError: they are of another size, or refer to what isn't there.
    """
    made = bytearray()
    at = 0
    while at < len(data) and len(made) < size:
        control = data[at]
        at += 1
        if control < 32:  # as they stand
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
            raise ValueError("its compressed data refer to what lies before them")
        length += 2
        piece = bytes(made[start : start + length])
        made += (piece * -(-length // len(piece)))[:length]
    if len(made) != size:
        raise ValueError(f"its compressed data hold {len(made)} of {size} bytes")
    return bytes(made)
