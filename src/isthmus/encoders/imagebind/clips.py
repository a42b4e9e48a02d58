"""Clips of a recording, of equal length and spread evenly from its start to its end."""

from __future__ import annotations


def clip_times(duration: float, clip_seconds: float, clips: int) -> list[tuple[float, float]]:
    """(begin, end) of each clip, seconds. If the recording is shorter than a clip, all clips extend past its end."""
    spare = max(duration - clip_seconds, 0.0)
    begins = [spare * index / max(clips - 1, 1) for index in range(clips)]
    return [(begin, begin + clip_seconds) for begin in begins]
