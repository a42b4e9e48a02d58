"""The frames that a video shows at given times, by seeking to the keyframes before them and decoding onwards."""

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
"""Packets before and after one among which the frame that follows it on the screen is looked for.

H.264 and H.265 reorder 16 frames at most.
"""
SKIPPING = ("h264", "hevc")
"""Decoders that leave out a single frame on request, and give all others their own times."""
UNKNOWN_GAP = 5.0
"""Seconds that are rather decoded than sought in a container whose index doesn't tell where keyframes are."""


class ShownFrames:
    """Walks through one opened video from its beginning.

    Args:
        opened: just opened, nothing read of it.
        stream: of it.
        can_seek: whether the container is one in which seeking works at all.
        is_counted: whether frames are timed by their number. AVI has no times of its own: those that FFmpeg makes up
            are wrong where frames are reordered. Such a file is read from its beginning.

    Attributes:
        first: the first frame; None where there is none.
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
        """Whether no frame follows the one that was shown last."""
        return self._next is None

    def close(self) -> None:
        """Lets go of the decoder's frames at once: its iterator and this refer to each other."""
        self._frames.close()

    def every(self) -> Iterator[av.VideoFrame]:
        """All frames."""
        if self.first is not None:
            yield self.first
        yield from self._frames

    def at(self, wanted: Sequence[int]) -> Iterator[av.VideoFrame]:
        """The frame that is shown at each time: the last that begins at it or before, else the first.

        Args:
            wanted: ticks after :attr:`start`, rising.
        """
        assert self.first is not None, "a video without frames shows none"
        self._wanted = [self.start + ticks for ticks in wanted]
        held = self.first
        for time in self._wanted:
            if self._next is not None and _ticks(self._next) <= time and self._is_far(time):
                self._seek(time)
            while self._next is not None and _ticks(self._next) <= time:
                held = self._next
                self._next = next(self._frames, None)
            yield held

    def _is_far(self, time: int) -> bool:
        """Whether a keyframe stands between here and a time, as far as the container tells."""
        if not self._can_seek:
            return False
        entries = self._stream.index_entries
        place = entries.search_timestamp(time, backward=True)
        if place >= 0 and entries[place].timestamp > self._at:
            return True
        is_complete = 0 < self._stream.frames <= len(entries)
        return not is_complete and (time - self._at) * float(self._stream.time_base or 0) > UNKNOWN_GAP

    def _seek(self, time: int) -> None:
        """Goes on from a keyframe whose frames begin at a time or before, else from the beginning."""
        before = self._at
        # Behind a keyframe stand frames that are shown before it; and some containers are sought in by guess.
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
            self._can_seek = False  # nothing was gained, and no later seek would be

    def _decoded(self) -> Generator[av.VideoFrame]:
        """Frames from here on, without those that no wanted time shows and that no other frame is made of."""
        context = self._stream.codec_context
        skips = context.name in SKIPPING and not self._is_counted
        number = 0
        for packet, neighbours in self._packets():
            is_needless = skips and packet is not None and self._is_passed_over(packet, neighbours)
            context.skip_frame = "NONREF" if is_needless else "DEFAULT"
            if packet is not None:
                self._at = next((time for time in (packet.dts, packet.pts) if time is not None), self._at)
            for frame in context.decode(packet):
                if self._is_counted:
                    frame.pts = number
                number += 1
                yield frame

    def _packets(self) -> Iterator[tuple[_Packet | None, deque[int | None]]]:
        """Each packet and the times of those around it; at the end None, for what the decoder holds back."""
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

    def _is_passed_over(self, packet: _Packet, neighbours: deque[int | None]) -> bool:
        """Whether another frame begins after this one, and before or at the next wanted time."""
        if packet.pts is None:
            return False
        place = bisect_left(self._wanted, packet.pts)
        if place == len(self._wanted):
            return False
        return any(time is not None and packet.pts < time <= self._wanted[place] for time in neighbours)


def _ticks(frame: av.VideoFrame | None) -> int:
    return 0 if frame is None or frame.pts is None else frame.pts
