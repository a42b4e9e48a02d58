"""Where the clips of a recording begin and end: of one length, spread evenly from its start to its end."""

from __future__ import annotations


def clip_times(duration: float, clip_seconds: float, clips: int) -> list[tuple[float, float]]:
    """(begin, end) of each clip, seconds. A recording shorter than a clip gives that clip, past its end, each time."""
    spare = max(duration - clip_seconds, 0.0)
    begins = [spare * index / max(clips - 1, 1) for index in range(clips)]
    return [(begin, begin + clip_seconds) for begin in begins]
