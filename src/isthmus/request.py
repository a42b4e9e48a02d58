"""What an encoder or a generator looks at in a medium, so that readers decode that alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """Travels to data workers: its fields are picklable.

    Attributes:
        frames: of a video: how many frames it has and its frames a second -> the numbers of those that are looked at,
            in any order; None for all of them. They are places on an even grid: frame i is the one that is shown
            ``i / rate`` seconds after the first. What is decoded finds them by :meth:`isthmus.types.Media.rows`.
        side: of images and frames: the pixels that their shorter side is scaled to. A reader may shrink what is more
            than :data:`MARGIN` times as large to that margin; None keeps every pixel.
        seconds: of a recording, how many from its beginning are encoded; None: all. A reader may give more, and reads
            a recording of float samples whole, since their largest is what they are divided by.
    """

    frames: Callable[[int, float], Iterable[int]] | None = None
    side: int | None = None
    seconds: float | None = None


MARGIN = 4
"""So far from the side that is looked at, shrinking twice can't be told from shrinking once."""
