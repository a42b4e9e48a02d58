"""The frames that a video displays at given times, found by seeking to keyframes and decoding from there."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import av
import av.container
import av.video.stream

_Packet = Any  # PyAV's is generic in its stubs alone
REACH = 24
"""How many packets before and after one are searched for the frame that follows it in display order.

H.264 and H.265 reorder at most 16 frames.
"""
SKIPPING = ("h264", "hevc")
"""Decoders that can skip a single frame and keep the timestamps of all others."""
UNKNOWN_GAP = 5.0
"""Without an index of keyframes, gaps up to this many seconds are decoded instead of seeking."""


class ShownFrames:
    """Reads frames of one opened video from its beginning.

    Args:
        opened: the container, of which nothing has been read.
        stream: its video stream.
        can_seek: whether seeking works for this kind of container.
        is_counted: whether times are computed from frame numbers. AVI stores no timestamps, and those that FFmpeg
            computes are wrong if frames are reordered. Such a file is read from its beginning.

    Attributes:
        first: the first frame; None if there is none.
        start: its time, in ticks of the stream.
    """

    def __init__(
        self,
        opened: av.container.InputContainer,
        stream: av.video.stream.VideoStream,
        can_seek: bool,
        is_counted: bool,
    ) -> None:
        self._opened = opened
        self._stream = stream
        self._can_seek = can_seek and not is_counted
        self._is_counted = is_counted
        self._wanted: Sequence[int] = ()
        self._at = 0  # the decoding time of the last packet that was decoded, in ticks
        self._frames = self._decoded()
        self._next: av.VideoFrame | None = next(self._frames, None)
        self.first = self._next
        self.start = _ticks(self._next)

    @property
    def is_over(self) -> bool:
        """Whether no frame follows the last one that was returned."""
        return self._next is None

    def close(self) -> None:
        """Frees the decoder's frames at once, by breaking the reference cycle with the iterator."""
        self._frames.close()

    def every(self) -> Iterator[av.VideoFrame]:
        """All frames."""
        if self.first is not None:
            yield self.first
        yield from self._frames

    def at(self, wanted: Sequence[int]) -> Iterator[av.VideoFrame]:
        """The frame that is displayed at each time: the last that begins at or before it, else the first.

        Args:
            wanted: ticks after :attr:`start`, ascending.
        """
        assert self.first is not None, "the video has no frames"
        self._wanted = [self.start + ticks for ticks in wanted]
        current = self.first
        for time in self._wanted:
            if self._next is not None and _ticks(self._next) <= time and self._is_far(time):
                self._seek(time)
            while self._next is not None and _ticks(self._next) <= time:
                current = self._next
                self._next = next(self._frames, None)
            yield current

    def _is_far(self, time: int) -> bool:
        """Whether there is a keyframe between the current position and a time, according to the container's index."""
        if not self._can_seek:
            return False
        entries = getattr(self._stream, "index_entries", None)  # as of PyAV 17; without it, every gap is unknown
        if entries is not None:
            place = entries.search_timestamp(time, backward=True)
            if place >= 0 and entries[place].timestamp > self._at:
                return True
        is_complete = entries is not None and 0 < self._stream.frames <= len(entries)
        return not is_complete and (time - self._at) * float(self._stream.time_base or 0) > UNKNOWN_GAP

    def _seek(self, time: int) -> None:
        """Continues from a keyframe at or before a time, else from the beginning."""
        before = self._at
        # Frames after a keyframe may be displayed before it, and in some containers seeking is inexact.
        for seconds in (0, 1, 10, None):
            target = self.start
            if seconds is not None:
                target = max(self.start, time - round(seconds / (self._stream.time_base or 1)))
            try:
                self._opened.seek(target, stream=self._stream, backward=True)
            except av.FFmpegError:
                self._can_seek = False
                return
            self._stream.codec_context.flush_buffers()
            self._frames = self._decoded()
            self._next = next(self._frames, None)
            is_behind_the_end = self._next is None and seconds == 10
            if is_behind_the_end or (self._next is not None and _ticks(self._next) <= time):
                break
        if self._at <= before:
            self._can_seek = False  # the seek gained nothing, and later ones wouldn't either

    def _decoded(self) -> Generator[av.VideoFrame]:
        """The following frames, without those that no wanted time displays and no other frame references."""
        context = self._stream.codec_context
        skips = context.name in SKIPPING and not self._is_counted
        number = 0
        for packet, neighbours in self._packets():
            can_skip = skips and packet is not None and self._is_not_displayed(packet, neighbours)
            context.skip_frame = "NONREF" if can_skip else "DEFAULT"
            if packet is not None:
                self._at = next((time for time in (packet.dts, packet.pts) if time is not None), self._at)
            for frame in context.decode(packet):
                if self._is_counted:
                    frame.pts = number
                number += 1
                yield frame

    def _packets(self) -> Iterator[tuple[_Packet | None, deque[int | None]]]:
        """Each packet and the times of its neighbours; at the end None, which flushes the decoder."""
        times: deque[int | None] = deque(maxlen=2 * REACH + 1)
        ahead: deque[_Packet] = deque()
        for packet in self._opened.demux(self._stream):
            if packet.size == 0:  # the demuxer's own end mark
                continue
            ahead.append(packet)
            times.append(None if packet.is_discard else packet.pts)
            if len(ahead) > REACH:
                yield ahead.popleft(), times
        for packet in ahead:
            yield packet, times
        yield None, times

    def _is_not_displayed(self, packet: _Packet, neighbours: deque[int | None]) -> bool:
        """Whether another frame begins after this one, and before or at the next wanted time."""
        if packet.pts is None:
            return False
        place = bisect_left(self._wanted, packet.pts)
        if place == len(self._wanted):
            return False
        return any(time is not None and packet.pts < time <= self._wanted[place] for time in neighbours)


def _ticks(frame: av.VideoFrame | None) -> int:
    return 0 if frame is None or frame.pts is None else frame.pts
