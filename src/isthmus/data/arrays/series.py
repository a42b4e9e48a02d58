"""Channels over time, of numpy's files and of tables."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.arrays.npy import read_npy, read_npz
from isthmus.data.errors import DataError
from isthmus.data.media.limits import MediaLimits, corrupt

Array = np.ndarray[Any, Any]
TIMES = ("time", "times", "t", "seconds")
"""Names of a table's column of seconds."""

_FIX = (
    "save an .npz of 'samples' (channels, samples) and 'rate', an .npy whose conversation says its 'rate', or a .csv "
    "of one sample a line under names of columns, with a column 'time' in seconds or a first line '# rate: 200'"
)


def read_series(path: Path, limits: MediaLimits, rate: float | None = None) -> tuple[Array, float]:
    """A file -> (channels, samples) float32 and samples a second.

    Args:
        path: ``npz`` with ``samples`` and ``rate``, ``npy``, or ``csv``; of a ``csv`` with a column of times whose
            steps differ, values are interpolated to even ones.
        limits: caps.
        rate: where the file doesn't say it.

    Raises:
        DataError: over a limit, without a rate, or not a readable series.
    """

    def check(shape: tuple[int, ...], size: int) -> None:
        limits.check(path, bytes=size)

    try:
        match path.suffix.lower():
            case ".npy":
                values = read_npy(path, check)
            case ".npz":
                arrays, names = read_npz(path, check, ("samples", "rate"))
                if "samples" not in arrays:
                    raise ValueError(f"its arrays are {', '.join(names) or 'none'}")
                values = arrays["samples"]
                rate = float(arrays["rate"]) if "rate" in arrays else rate
            case ".csv":
                values, rate = _table(path, rate)
            case _:
                raise ValueError(f"the ending {path.suffix!r} is none of .npz, .npy, .csv")
        if values.dtype.kind not in "fiu" or values.ndim != 2 or not values.size:
            raise ValueError(f"found {values.shape} {values.dtype}")
        if not np.isfinite(values).all():
            raise ValueError("it holds values that aren't finite")
        if rate is None or not 0 < rate < float("inf"):
            raise ValueError(f"found the rate {rate}")
    except DataError:
        raise
    except Exception as error:  # zip and numpy's parsers raise whatever hostile bytes lead them to
        raise corrupt(path, "series", error, _FIX) from error
    limits.check(path, seconds=values.shape[1] / rate)
    return values.astype(np.float32), float(rate)


def _table(path: Path, rate: float | None) -> tuple[Array, float | None]:
    """(channels, samples), and the rate where the table tells it."""
    with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin files with a byte order mark
        head = file.readline()
        if head.startswith("#"):
            said, _, value = head[1:].partition(":")
            rate = float(value) if said.strip() == "rate" else rate
        else:
            file.seek(0)
        names = [name.strip().lower() for name in next(csv.reader(islice(file, 1)), [])]
        rows = np.atleast_2d(np.loadtxt(file, delimiter=",", dtype=np.float64)).T
    if len(rows) != len(names):
        raise ValueError(f"it has {len(names)} names of columns and {len(rows)} columns")
    at = next((index for index, name in enumerate(names) if name in TIMES), None)
    if at is None:
        return rows, rate
    times, values = rows[at], np.delete(rows, at, axis=0)
    steps = np.diff(times)
    if len(times) < 2 or (steps <= 0).any():
        raise ValueError("its times don't rise")
    even = np.linspace(times[0], times[-1], len(times))
    return np.stack([np.interp(even, times, row) for row in values]), 1 / float(steps.mean())
