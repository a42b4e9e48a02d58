"""A decoded frame -> its image as a player displays it: upright, in square pixels, transparency on white."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import av.sidedata.sidedata
import av.video.reformatter
import numpy as np
from av.video.reformatter import Interpolation

from isthmus.data.media.images.transparency import array_on_white
from isthmus.request import MARGIN

Array = np.ndarray[Any, Any]
_MATRIX = av.sidedata.sidedata.Type.DISPLAYMATRIX
# Data workers share the cores. Before PyAV 17 a reformatter has one thread, and no argument that says so.
_ONE_THREAD: dict[str, Any] = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}


class Pictures:
    """Converts frames of one video to images of one size, that of the first.

    Args:
        first: the first frame.
        aspect: the pixels' width divided by their height; None for square ones.
        side: see :class:`isthmus.request.Request`.
    """

    def __init__(self, first: av.VideoFrame, aspect: Fraction | None, side: int | None) -> None:
        width, height = first.width, first.height
        self.is_plain = not aspect or aspect == 1
        if not self.is_plain:
            width = max(1, round(width * (aspect or 1)))
        if side is not None and min(width, height) > MARGIN * side:
            scale = Fraction(MARGIN * side, min(width, height))
            width, height = round(width * scale), round(height * scale)
            self.is_plain = False
        self.width, self.height = width, height
        self._reformatter = av.video.reformatter.VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> Array:
        """(H, W, 3) uint8."""
        is_clear = any(component.is_alpha for component in frame.format.components)
        interpolation = Interpolation.BILINEAR
        if not self.is_plain:
            interpolation = Interpolation.AREA if self.height < frame.height else Interpolation.BICUBIC
        kind = "rgba" if is_clear else "rgb24"
        picture = self._reformatter.reformat(
            frame, self.width, self.height, kind, interpolation=interpolation, **_ONE_THREAD
        ).to_ndarray()
        return _turned(array_on_white(picture) if is_clear else picture, frame)


def _turned(picture: Array, frame: av.VideoFrame) -> Array:
    """Applies the display matrix's rotations by quarters and mirroring; translation and scale are ignored."""
    side_data: Any = frame.side_data  # untyped in PyAV's stubs
    data = side_data.get(_MATRIX)
    if data is None or data.buffer_size < 36:
        return picture
    # A point (x, y) is shown at (a x + c y, b x + d y): the rows of the matrix are (a, b, u), (c, d, v), (x0, y0, w).
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32, count=5).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down = a, d
    else:
        picture, across, down = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
