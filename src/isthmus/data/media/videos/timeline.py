"""A video's duration and frame rate, from its header or else from its packets."""

from __future__ import annotations

import re
from dataclasses import dataclass

import av
import av.container
import av.video.stream

_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Timeline:
    """A video's timing, according to its container.

    Attributes:
        seconds: from the beginning of the first frame to the end of the last.
        rate: mean number of frames per second; 0 if unknown.
        tick: resolution of its timestamps in seconds.
    """

    seconds: float
    rate: float
    tick: float

    @property
    def frames(self) -> int:
        """The number of evenly spaced frames at this rate."""
        return round(self.seconds * self.rate)

    @property
    def slack(self) -> float:
        """The most seconds by which rounding may move a timestamp from the evenly spaced times."""
        return min(1.5 * self.tick, 0.25 / self.rate)

    def snapped(self, seconds: float) -> float:
        """A time, moved to the nearest evenly spaced time if rounding explains the difference."""
        even = round(seconds * self.rate) / self.rate
        return even if abs(seconds - even) <= self.slack else seconds


def declared_timeline(
    opened: av.container.InputContainer, stream: av.video.stream.VideoStream, container: str
) -> Timeline | None:
    """The timeline from the header alone; None if the header doesn't give this stream's duration."""
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    tick = float(stream.time_base or 0)
    # Program streams have no header, and FFmpeg estimates from the file's size; for GIFs it omits the last frame.
    if container in ("mpeg", "gif"):
        return None
    if stream.duration is not None and tick:
        return Timeline(stream.duration * tick, rate, tick)
    # The following durations count from the container's beginning, not from the first frame.
    late = (stream.start_time or 0) * tick
    whole = (opened.duration or 0) / av.time_base
    if clock := _CLOCK.fullmatch(stream.metadata.get("DURATION", "")):  # Matroska's, for each stream
        hours, minutes, seconds = map(float, clock.groups())
        own = 3600 * hours + 60 * minutes + seconds
        return Timeline(max((min(own, whole) if whole else own) - late, 0.0), rate, tick)
    if whole and len(opened.streams) == 1:
        return Timeline(max(whole - late, 0.0), rate, tick)
    return None


def scanned_timeline(
    opened: av.container.InputContainer, stream: av.video.stream.VideoStream, container: str
) -> Timeline:
    """The timeline from all packets, which are read but not decoded; ``opened`` is then at its end."""
    count, first, end = 0, None, 0
    for packet in opened.demux(stream):
        if packet.pts is not None and packet.size:
            count += 1
            first = packet.pts if first is None else min(first, packet.pts)
            end = max(end, packet.pts + (packet.duration or 0))
    tick = float(stream.time_base or 0)
    seconds = max(end - (first or 0), 0) * tick
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    if seconds and (container == "gif" or not rate):
        rate = count / seconds
    return Timeline(seconds, rate, tick)
