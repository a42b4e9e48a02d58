"""An opened video -> its frames, all of them or those that are asked for, with their times."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from math import floor
from pathlib import Path
from typing import Any

import av
import av.container
import av.video.stream
import numpy as np

from isthmus.data.media.limits import MediaLimits, corrupt
from isthmus.data.media.videos.shown_frames import ShownFrames
from isthmus.data.media.videos.timeline import Timeline
from isthmus.data.media.videos.upright import Pictures
from isthmus.request import Request
from isthmus.types import Media, Modality

VIDEO_FIX = "replace the file with an intact MP4, MOV, WebM, MKV, AVI, MPEG-TS, MPG, FLV, Y4M, GIF, APNG or WebP"
Array = np.ndarray[Any, Any]


def decoded(
    opened: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    timeline: Timeline,
    container: str,
    path: Path,
    limits: MediaLimits,
    request: Request,
) -> Media:
    """Holds the header against the limits, then decodes.

    Raises:
        DataError: over a limit, or the pictures break off.
        Exception: whatever FFmpeg meets in a broken file; the caller words it.
    """
    if not timeline.rate:
        raise corrupt(path, "video", "it has no frame rate", VIDEO_FIX)
    chosen = chosen_frames(request, timeline.frames, timeline.rate)
    _header_check(stream, timeline, chosen, path, limits)
    # A header may lie: FFmpeg itself refuses a picture above this before it takes memory for it.
    stream.codec_context.options = {"max_pixels": str(limits.pixels)}
    stream.codec_context.thread_count = 1  # data workers share the cores
    # Program streams lose their last frame after a seek, and GIFs make a frame of all that precede it.
    can_seek = container not in ("gif", "mpeg")
    shown = ShownFrames(opened, stream, can_seek, is_counted=container == "avi")
    with closing(shown):
        if shown.first is None:
            raise corrupt(path, "video", f"none of its {timeline.frames} frames could be decoded", VIDEO_FIX)
        make = Pictures(shown.first, stream.sample_aspect_ratio, request.side)
        limits.check(path, pixels=make.width * make.height)
        read = _Frames(shown, make, timeline, path, limits)
        if chosen is not None:
            return read.at(chosen)
        return read.every(min(stream.frames, timeline.frames) if stream.frames else 0)


def chosen_frames(request: Request, frames: int, rate: float) -> list[int] | None:
    """The frames that are asked for, each once and rising; None for all of a video of so many."""
    if request.frames is None:
        return None
    total = max(frames, 1)  # a still declares no duration
    return sorted({min(max(int(frame), 0), total - 1) for frame in request.frames(total, rate)})


def _header_check(
    stream: av.video.stream.VideoStream,
    timeline: Timeline,
    chosen: Sequence[int] | None,
    path: Path,
    limits: MediaLimits,
) -> None:
    """Holds what will be decoded against the limits, as far as the header tells."""
    pixels = stream.codec_context.width * stream.codec_context.height
    if chosen is not None:
        limits.check(path, pixels=pixels, frames=len(chosen))
        return
    frames = timeline.frames
    limits.check(path, pixels=pixels, seconds=timeline.seconds, frames=frames, bytes=3 * pixels * frames)


class _Frames:
    """Pictures of one video and their times."""

    def __init__(self, shown: ShownFrames, make: Pictures, timeline: Timeline, path: Path, limits: MediaLimits) -> None:
        self.shown, self.make, self.timeline, self.path, self.limits = shown, make, timeline, path, limits
        self.pictures: list[Array] = []
        self.times: list[float] = []
        self.end = 0.0

    def every(self, declared: int) -> Media:
        """All frames. ``declared``: how many the header says; 0 where it doesn't."""
        for frame in self.shown.every():
            self._add(frame)
        rate, seconds = self.timeline.rate, self.timeline.seconds
        if len(self.pictures) < 0.9 * declared:
            reason = f"{len(self.pictures)} of {declared} frames could be decoded"
            raise corrupt(self.path, "video", reason, VIDEO_FIX)
        self._check_end(0.9 * seconds)
        even = np.arange(len(self.times)) / rate
        times = np.array(self.times)
        # Times that don't rise are no times; the order of the frames is all that is known then.
        if np.abs(times - even).max() < 1e-6 or not (np.diff(times) > 0).all():
            return self._media(None, None)
        return self._media(times, max(self.timeline.frames, 1))

    def at(self, chosen: Sequence[int]) -> Media:
        """The frames that are shown at places on the even row."""
        rate, slack, total = self.timeline.rate, self.timeline.slack, max(self.timeline.frames, 1)
        ticks = [floor((frame / rate + slack) / self.timeline.tick) for frame in chosen]
        last: av.VideoFrame | None = None
        for frame in self.shown.at(ticks):
            if frame is not last:
                self._add(frame)
            last = frame
        if self.shown.is_over:
            self._check_end(chosen[-1] / rate - 0.1 * self.timeline.seconds)
        if len(self.pictures) == total == len(chosen):
            return self._media(None, None)
        times, order = np.unique(self.times, return_index=True)  # rising, whatever a broken clock says
        self.pictures = [self.pictures[row] for row in order]
        return self._media(times, total)

    def _add(self, frame: av.VideoFrame) -> None:
        count, size = len(self.pictures) + 1, 3 * self.make.width * self.make.height
        self.limits.check(self.path, frames=count, bytes=count * size)
        self.pictures.append(self.make(frame))
        begin = ((frame.pts or 0) - self.shown.start) * self.timeline.tick
        self.times.append(self.timeline.snapped(begin))
        lasts = frame.duration * self.timeline.tick if frame.duration else 1 / self.timeline.rate
        self.end = max(self.end, begin + lasts)

    def _check_end(self, seconds: float) -> None:
        """Refuses a file whose pictures end before a time, as those of a half download do."""
        if self.end < seconds:
            reason = f"it breaks off after {self.end:g} of {self.timeline.seconds:g} seconds"
            raise corrupt(self.path, "video", reason, VIDEO_FIX)

    def _media(self, times: Array | None, total: int | None) -> Media:
        array = np.stack(self.pictures)
        source = str(self.path)
        return Media(Modality.VIDEO, array, rate=self.timeline.rate, source=source, times=times, total=total)
