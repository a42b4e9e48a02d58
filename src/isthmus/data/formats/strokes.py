"""Pen strokes -> a video of the pen writing them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from isthmus.data.conversations.records import JsonRecords
from isthmus.data.errors import DataError, Fault, fault
from isthmus.data.formats.fields import mapping
from isthmus.types import Media, Modality


@dataclass(frozen=True)
class Strokes:
    """Renders ``{"strokes": [[[x, y], ...], ...]}``, y up: the k-th frame shows a longer prefix of the points.

    Attributes:
        size: of a frame, in pixels each way.
        frames: how many.
        interval: seconds from one point to the next, which set the frame rate.
        width: of the pen, in pixels.

    Raises:
        ValueError: a number that isn't above 0.
    """

    size: int = 64
    frames: int = 16
    interval: float = 0.1
    width: int = 3

    def __post_init__(self) -> None:
        for name in ("size", "frames", "interval", "width"):
            if not getattr(self, name) > 0:
                raise ValueError(f"strokes.{name}: found {getattr(self, name)}; expected above 0. Fix: raise it.")

    def read(self, path: Path, row: int, where: str) -> Media:
        """The ``row``-th line's strokes as (F, S, S, 3) uint8, black on white.

        Raises:
            DataError: no such line, or no strokes in it.
        """
        lines = _lines(path, path.stat().st_mtime_ns)
        if row >= len(lines):
            raise fault(
                where, f"found row {row} of {len(lines)} in {path}", "a row that is there", "correct the record"
            )
        raw, place = lines.raw(row)
        return Media(Modality.VIDEO, *self.render(mapping(raw, place).get("strokes"), place), source=f"{path}[{row}]")

    def render(self, strokes: Any, where: str) -> tuple[np.ndarray[Any, Any], float]:
        """Frames (F, S, S, 3) uint8 and how many are shown in a second.

        Raises:
            DataError: no strokes, or points that aren't two finite numbers.
        """
        try:
            parts = [np.asarray(stroke, dtype=np.float64).reshape(len(stroke), 2) for stroke in strokes]
            points = np.concatenate(parts)
        except (TypeError, ValueError, OverflowError) as error:
            raise fault(
                where, f"found no strokes ({error})", "strokes: lists of [x, y]", "correct the record"
            ) from error
        if not len(points) or not np.isfinite(points).all() or np.abs(points).max() > 1e9:
            raise fault(
                where, "found no points, or ones that aren't finite", "strokes: lists of [x, y]", "correct the record"
            )
        low, high = points.min(axis=0), points.max(axis=0)
        # Both axes by one scale, in the middle, with a margin of a tenth.
        scale = 0.8 * (self.size - 1) / max(float((high - low).max()), 1e-6)
        middle = (low + high) / 2
        places = [((part - middle) * [scale, -scale] + (self.size - 1) / 2) for part in parts]
        counts = np.ceil(np.arange(1, self.frames + 1) * len(points) / self.frames).astype(int)
        pictures = np.stack([self._frame(places, int(count)) for count in counts])
        return pictures, self.frames / (len(points) * self.interval)

    def _frame(self, places: list[np.ndarray[Any, Any]], count: int) -> np.ndarray[Any, Any]:
        image = Image.new("L", (self.size, self.size), 255)
        draw = ImageDraw.Draw(image)
        for part in places:
            shown = [(float(x), float(y)) for x, y in part[:count]]
            count -= len(shown)
            if len(shown) > 1:
                draw.line(shown, fill=0, width=self.width, joint="curve")
            elif shown:
                (x, y), half = shown[0], self.width / 2
                draw.ellipse((x - half, y - half, x + half, y + half), fill=0)
        return np.repeat(np.asarray(image)[..., None], 3, axis=2)


@lru_cache(maxsize=8)
def _lines(path: Path, changed: int) -> JsonRecords:
    try:
        return JsonRecords(path)
    except ValueError as error:
        raise DataError(Fault.CORRUPT, str(error)) from error
