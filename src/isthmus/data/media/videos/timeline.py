"""How long a video is and how many frames a second it shows, by its header or else by its packets."""

from __future__ import annotations

import re
from dataclasses import dataclass

import av
import av.container
import av.video.stream

_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Timeline:
    """What a container says of a video.

    Attributes:
        seconds: from the beginning of the first frame to the end of the last.
        rate: frames a second, on average; 0 where nothing is known.
        tick: seconds to which its times are rounded.
    """

    seconds: float
    rate: float
    tick: float

    @property
    def frames(self) -> int:
        """How many frames an even row at this rate has."""
        return round(self.seconds * self.rate)

    @property
    def slack(self) -> float:
        """Seconds by which a time may be off the even row and still be meant to stand on it."""
        return min(1.5 * self.tick, 0.25 / self.rate)

    def snapped(self, seconds: float) -> float:
        """A time without what a container's clock has rounded of it."""
        even = round(seconds * self.rate) / self.rate
        return even if abs(seconds - even) <= self.slack else seconds


def declared_timeline(
    opened: av.container.InputContainer, stream: av.video.stream.VideoStream, container: str
) -> Timeline | None:
    """By the header alone; None where it doesn't tell how long these very pictures last."""
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    tick = float(stream.time_base or 0)
    # Program streams have no header, and FFmpeg guesses by the file's size; of a GIF it leaves the last frame out.
    if container in ("mpeg", "gif"):
        return None
    if stream.duration is not None and tick:
        return Timeline(stream.duration * tick, rate, tick)
    # What follows counts from the recording's beginning, and not from the first picture.
    late = (stream.start_time or 0) * tick
    whole = (opened.duration or 0) / av.time_base
    if clock := _CLOCK.fullmatch(stream.metadata.get("DURATION", "")):  # Matroska's, of each stream
        hours, minutes, seconds = map(float, clock.groups())
        own = 3600 * hours + 60 * minutes + seconds
        return Timeline(max((min(own, whole) if whole else own) - late, 0.0), rate, tick)
    if whole and len(opened.streams) == 1:
        return Timeline(max(whole - late, 0.0), rate, tick)
    return None


def scanned_timeline(
    opened: av.container.InputContainer, stream: av.video.stream.VideoStream, container: str
) -> Timeline:
    """By all packets, which are read and not decoded; ``opened`` then stands at its end."""
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
