"""An opened video -> all or the requested frames, with their times."""

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
    """Checks the header against the limits, then decodes.

    Raises:
        DataError: the video exceeds a limit or is truncated.
        Exception: FFmpeg's errors for a broken file, which the caller converts.
    """
    if not timeline.rate:
        raise corrupt(path, "video", "it has no frame rate", VIDEO_FIX)
    chosen = chosen_frames(request, timeline.frames, timeline.rate)
    _header_check(stream, timeline, chosen, path, limits)
    # The header may be wrong: FFmpeg itself refuses larger frames before it allocates memory.
    stream.codec_context.options = {"max_pixels": str(limits.pixels)}
    stream.codec_context.thread_count = 1  # data workers share the cores
    # After a seek, program streams lose their last frame; GIF frames depend on all earlier ones.
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
    """The requested frames, without repeats and in ascending order; None for all."""
    if request.frames is None:
        return None
    total = max(frames, 1)  # a still image declares no duration
    return sorted({min(max(int(frame), 0), total - 1) for frame in request.frames(total, rate)})


def _header_check(
    stream: av.video.stream.VideoStream,
    timeline: Timeline,
    chosen: Sequence[int] | None,
    path: Path,
    limits: MediaLimits,
) -> None:
    """Checks what will be decoded, according to the header, against the limits."""
    pixels = stream.codec_context.width * stream.codec_context.height
    if chosen is not None:
        limits.check(path, pixels=pixels, frames=len(chosen))
        return
    frames = timeline.frames
    limits.check(path, pixels=pixels, seconds=timeline.seconds, frames=frames, bytes=3 * pixels * frames)


class _Frames:
    """Collects the frames of one video and their times."""

    def __init__(self, shown: ShownFrames, make: Pictures, timeline: Timeline, path: Path, limits: MediaLimits) -> None:
        self.shown, self.make, self.timeline, self.path, self.limits = shown, make, timeline, path, limits
        self.pictures: list[Array] = []
        self.times: list[float] = []
        self.end = 0.0

    def every(self, declared: int) -> Media:
        """All frames. ``declared``: their number in the header; 0 if it has none."""
        for frame in self.shown.every():
            self._add(frame)
        rate, seconds = self.timeline.rate, self.timeline.seconds
        if len(self.pictures) < 0.9 * declared:
            reason = f"{len(self.pictures)} of {declared} frames could be decoded"
            raise corrupt(self.path, "video", reason, VIDEO_FIX)
        self._check_end(0.9 * seconds)
        even = np.arange(len(self.times)) / rate
        times = np.array(self.times)
        # Times that don't increase are ignored; frames are then taken as evenly spaced.
        if np.abs(times - even).max() < 1e-6 or not (np.diff(times) > 0).all():
            return self._media(None, None)
        return self._media(times, max(self.timeline.frames, 1))

    def at(self, chosen: Sequence[int]) -> Media:
        """The frames that are displayed at the given indices of evenly spaced times."""
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
        times, order = np.unique(self.times, return_index=True)  # ascending, even if timestamps are broken
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
        """Refuses a file whose frames end before a time, such as an incomplete download."""
        if self.end < seconds:
            reason = f"it ends after {self.end:g} of {self.timeline.seconds:g} seconds"
            raise corrupt(self.path, "video", reason, VIDEO_FIX)

    def _media(self, times: Array | None, total: int | None) -> Media:
        array = np.stack(self.pictures)
        source = str(self.path)
        return Media(Modality.VIDEO, array, rate=self.timeline.rate, source=source, times=times, total=total)
