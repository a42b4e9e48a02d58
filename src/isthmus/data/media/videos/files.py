"""Reads and writes video files, by PyAV.

A file's container is determined by its first bytes and forced on the demuxer, so that a playlist, which could name
other files or addresses, is never opened as a video.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.container
import av.stream
import av.video.stream
import numpy as np

from isthmus.data.errors import DataError
from isthmus.data.media.limits import MediaLimits, corrupt
from isthmus.data.media.videos.decoding import VIDEO_FIX, decoded
from isthmus.data.media.videos.timeline import Timeline, declared_timeline, scanned_timeline
from isthmus.request import Request
from isthmus.types import Media

_COVER = av.stream.Disposition.attached_pic
_BEGINNINGS = {
    b"\x1a\x45\xdf\xa3": "matroska",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"\x89PNG\r\n\x1a\n": "animation",
    b"FLV\x01": "flv",
    b"\x00\x00\x01\xba": "mpeg",
    b"YUV4MPEG2 ": "yuv4mpegpipe",
}


def read_video(path: Path, limits: MediaLimits, request: Request | None = None) -> Media:
    """A file -> (F, H, W, 3) uint8 and its mean frame rate: upright, in square pixels, on white.

    Args:
        path: the file.
        limits: caps on what is decoded: the whole video, or the requested frames.
        request: the frames to decode; None for all.

    Raises:
        DataError: it exceeds a limit, by its header or while decoding, or isn't a readable video.
        OSError: it can't be opened.
    """
    request = request or Request()
    with path.open("rb") as file:
        container = _container_format(path, file)
        try:
            if container == "animation":
                from isthmus.data.media.images.animations import read_animation

                return read_animation(path, limits, request)
            try:
                with _opened(file, container, path) as (opened, stream, timeline):
                    return decoded(opened, stream, timeline, container, path, limits, request)
            finally:
                # PyAV's containers and streams form reference cycles, which keep the decoder's frames until collected.
                gc.collect(1)
        except DataError:
            raise
        except Exception as error:  # PyAV's errors for a malformed header
            raise corrupt(path, "video", error, VIDEO_FIX) from error


def _container_format(path: Path, file: BinaryIO) -> str:
    head = file.read(189)
    file.seek(0)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return "mp4"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "animation"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith(b"G") and head[188:] == b"G":
        return "mpegts"
    for beginning, name in _BEGINNINGS.items():
        if head.startswith(beginning):
            return name
    raise corrupt(path, "video", "its first bytes match no known container", VIDEO_FIX)


@contextmanager
def _opened(
    file: BinaryIO, container: str, path: Path
) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream, Timeline]]:
    """The opened container, its video stream, and its timeline."""
    timeline = None
    for is_scanned in (False, True):
        file.seek(0)
        # Titles in another encoding shouldn't make the video unreadable.
        with av.open(file, mode="r", format=container, metadata_errors="replace") as opened:
            stream = _moving_pictures(opened, path)
            timeline = timeline or declared_timeline(opened, stream, container)
            if timeline is not None:
                yield opened, stream, timeline
                return
            assert not is_scanned, "a scan always gives a timeline"
            timeline = scanned_timeline(opened, stream, container)


def _moving_pictures(opened: av.container.InputContainer, path: Path) -> av.video.stream.VideoStream:
    """The first video stream that isn't a cover picture."""
    for stream in opened.streams.video:
        if not stream.disposition & _COVER:
            return stream
    if not opened.streams.audio:
        raise corrupt(path, "video", "it holds no picture", VIDEO_FIX)
    held = "sound and a cover picture" if opened.streams.video else "sound"
    raise corrupt(path, "video", f"it holds only {held}", "give it as audio, or give a file with moving pictures")


def write_video(media: Media, path: Path) -> None:
    """Writes (F, H, W, 3) uint8: ``.mp4`` for compatibility (odd sizes are padded by one pixel), ``.mkv`` lossless.

    If only some frames of a video were read, they are spread over the duration of the whole.
    """
    assert media.rate is not None  # Media requires it for videos
    array = media.array
    codec, layout, options = {
        ".mp4": ("libx264", "yuv420p", {"crf": "12"}),
        ".mkv": ("libx264rgb", "rgb24", {"crf": "0"}),
        ".gif": ("gif", "rgb8", {}),
    }[path.suffix.lower()]
    if codec == "libx264":
        array = np.pad(array, ((0, 0), (0, array.shape[1] % 2), (0, array.shape[2] % 2), (0, 0)), mode="edge")
    with av.open(str(path), "w") as opened:
        stream: Any = opened.add_stream(codec, rate=Fraction(media.pace).limit_denominator(60_000), options=options)
        stream.height, stream.width = array.shape[1:3]
        stream.pix_fmt = layout
        for picture in array:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            opened.mux(stream.encode(frame))
        opened.mux(stream.encode())
