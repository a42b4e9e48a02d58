"""The kinds of media: which arrays they are, and what every modality of a kind has where it says nothing of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Reference = Callable[..., Any] | str
"""A function, or ``module:name`` of one, whose module and libraries then load when it is first called."""


def resolved(reference: Reference) -> Callable[..., Any]:
    """The function itself."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def _none(array: Array, rate: float | None) -> dict[str, float]:
    """Nothing of these is held against a limit after reading."""
    return {}


@dataclass(frozen=True)
class Kind:
    """What media of a kind are, in memory and in files. A modality's :class:`~isthmus.modalities.Spec` can differ.

    Attributes:
        name: in messages and on pages.
        expected: the array in words.
        fits: an array that isn't empty -> whether its shape and type are the kind's.
        has_rate: whether a medium needs a rate: frames or samples a second.
        is_real: whether float64 in memory is taken as float32.
        asks: the field of a :class:`~isthmus.request.Request` by which ``read`` decodes a part of a file, if any: the
            size of the file is no limit then.
        read: file, :class:`~isthmus.data.readers.Asked` -> :class:`~isthmus.types.Media`.
        write: medium, path: writes a file that ``read`` reads.
        endings: of the files that ``write`` writes.
        example: the shape and the rate of an ordinary medium, as a rehearsal takes one.
        view: medium -> the image, video, audio or points by which a page shows it.
        measures: medium -> pairs of a name and a number, which ``isthmus data lint`` reports.
        sizes: array and rate -> by name in :class:`~isthmus.data.media.limits.MediaLimits` what is held against it
            after reading. The readers of large kinds hold their files' headers against them themselves.
    """

    name: str
    expected: str
    fits: Callable[[Array], bool]
    read: Reference
    write: Reference
    endings: tuple[str, ...]
    measures: Reference
    example: tuple[tuple[int, ...], float | None]
    has_rate: bool = False
    is_real: bool = False
    asks: str | None = None
    view: Reference = "isthmus.display.views:itself"
    sizes: Callable[[Array, float | None], dict[str, float]] = _none

    def accepts(self, array: Array, rate: float | None) -> bool:
        """Whether these are a medium's array and rate."""
        return array.size > 0 and self.fits(array) and (not self.has_rate or (rate is not None and 0 < rate < math.inf))


def _is_finite(array: Array) -> bool:
    import numpy as np

    return bool(np.isfinite(array).all())


def _pixels(array: Array, rate: float | None) -> dict[str, float]:
    return {"pixels": float(array.shape[0] * array.shape[1]), "bytes": float(array.nbytes)}


def _seconds(array: Array, rate: float | None) -> dict[str, float]:
    assert rate is not None, "a series has a rate"
    return {"seconds": array.shape[1] / rate, "bytes": float(array.nbytes)}


_READERS, _WRITERS, _LINT = "isthmus.data.readers", "isthmus.data.writers", "isthmus.data.lint_media"

RASTER = Kind(
    "raster",
    "(height, width, 3) uint8",
    lambda array: array.dtype == "uint8" and array.ndim == 3 and array.shape[2] == 3,
    read=f"{_READERS}:image",
    write=f"{_WRITERS}:image",
    endings=(".png",),
    measures=f"{_LINT}:raster",
    example=((256, 256, 3), None),
)
CLIP = Kind(
    "clip",
    "(frames, height, width, 3) uint8 with a frame rate",
    lambda array: array.dtype == "uint8" and array.ndim == 4 and array.shape[3] == 3,
    read=f"{_READERS}:video",
    write=f"{_WRITERS}:video",
    endings=(".mp4", ".mkv", ".gif"),
    measures=f"{_LINT}:clip",
    example=((16, 256, 256, 3), 8.0),
    has_rate=True,
    asks="frames",
)
SIGNAL = Kind(
    "signal",
    "(samples,) float32 with a sample rate",
    lambda array: array.dtype == "float32" and array.ndim == 1,
    read=f"{_READERS}:audio",
    write=f"{_WRITERS}:audio",
    endings=(".wav",),
    measures=f"{_LINT}:signal",
    example=((32_000,), 16_000.0),
    has_rate=True,
    asks="seconds",
    is_real=True,
)
CLOUD = Kind(
    "cloud",
    "(points, 3 or 6) float32",
    lambda array: array.dtype == "float32" and array.ndim == 2 and array.shape[1] in (3, 6),
    read=f"{_READERS}:points",
    write=f"{_WRITERS}:array",
    endings=(".npy",),
    measures=f"{_LINT}:cloud",
    example=((8192, 6), None),
    is_real=True,
)
GRID = Kind(
    "grid",
    "(height, width) float32 of finite values",
    lambda array: array.dtype == "float32" and array.ndim == 2 and _is_finite(array),
    read=f"{_READERS}:grid",
    write=f"{_WRITERS}:array",
    endings=(".npy",),
    measures=f"{_LINT}:grid",
    example=((256, 256), None),
    is_real=True,
    view="isthmus.display.views:grid",
    sizes=_pixels,
)
"""One value a place, on a plane: depths, temperatures, pressures."""
SERIES = Kind(
    "series",
    "(channels, samples) float32 of finite values with a sample rate",
    lambda array: array.dtype == "float32" and array.ndim == 2 and _is_finite(array),
    read=f"{_READERS}:series",
    write=f"{_WRITERS}:series",
    endings=(".npz",),
    measures=f"{_LINT}:series",
    example=((6, 2_000), 400.0),
    has_rate=True,
    is_real=True,
    view="isthmus.display.views:series",
    sizes=_seconds,
)
"""Several channels over time: accelerations and turns of a body, for one."""
