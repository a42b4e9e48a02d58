"""Videos to and from files, by PyAV.

A file's container is told by its first bytes and forced on the demuxer, so that a playlist, which could name other
files or addresses, is never taken for a video.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.container
import av.video.stream
import numpy as np

from isthmus.data.errors import DataError
from isthmus.data.limits import MediaLimits, corrupt
from isthmus.data.transparency import array_on_white
from isthmus.types import Media, Modality

_MEND = "replace the file with an intact MP4, MOV, WebM, MKV, AVI, GIF or WebP"


def read_video(path: Path, limits: MediaLimits) -> Media:
    """A file -> (F, H, W, 3) uint8 and its mean frame rate, upright.

    Raises:
        DataError: over a limit, by its header or while decoding; or not a readable video.
    """
    with path.open("rb") as file:
        container = _container_format(path, file)
        try:
            if container == "animation":
                from isthmus.data.animation_files import read_animation

                pictures, rate = read_animation(path, limits)
                return Media(Modality.VIDEO, pictures, rate=rate, source=str(path))
            # Titles in an old encoding are no reason to refuse a video.
            with av.open(file, mode="r", format=container, metadata_errors="replace") as opened:
                return _decode(opened, path, limits)
        except DataError:
            raise
        except Exception as error:  # FFmpeg's errors, and whatever PyAV meets in a half-read header
            raise corrupt(path, "video", error, _MEND) from error


def _container_format(path: Path, file: BinaryIO) -> str:
    head = file.read(16)
    file.seek(0)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return "mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "animation"
    raise corrupt(path, "video", "its first bytes are of no known container", _MEND)


def _decode(opened: av.container.InputContainer, path: Path, limits: MediaLimits) -> Media:
    if not opened.streams.video:
        raise corrupt(path, "video", "it holds no picture", _MEND)
    stream = opened.streams.video[0]
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    declared, seconds = _header_check(opened, stream, rate, path, limits)
    if not rate:
        raise corrupt(path, "video", "it has no frame rate", _MEND)
    # A header may lie: FFmpeg itself refuses a picture above this before it takes memory for it.
    stream.codec_context.options = {"max_pixels": str(limits.pixels)}
    pictures, end = _pictures(opened, stream, path, limits)
    if not pictures or len(pictures) < 0.9 * declared:
        raise corrupt(path, "video", f"{len(pictures)} of {declared or 'its'} frames could be decoded", _MEND)
    # Matroska declares no number of frames, only how long the longest stream is.
    if len(opened.streams) == 1 and end < 0.9 * seconds:
        raise corrupt(path, "video", f"it breaks off after {end:g} of {seconds:g} seconds", _MEND)
    return Media(Modality.VIDEO, np.stack(pictures), rate=rate, source=str(path))


def _pictures(
    opened: av.container.InputContainer, stream: av.video.stream.VideoStream, path: Path, limits: MediaLimits
) -> tuple[list[np.ndarray[Any, Any]], float]:
    """Every frame, (H, W, 3) uint8, upright and of the first one's size; and when the last one ends, in seconds."""
    pictures: list[np.ndarray[Any, Any]] = []
    width = height = 0
    end = 0.0
    for frame in opened.decode(stream):
        if not pictures:
            width, height = frame.width, frame.height
        if any(component.is_alpha for component in frame.format.components):
            picture = array_on_white(frame.to_ndarray(format="rgba", width=width, height=height))
        else:
            picture = frame.to_ndarray(format="rgb24", width=width, height=height)
        pictures.append(np.rot90(picture, round(frame.rotation / 90) % 4))
        limits.check(path, frames=len(pictures), bytes=len(pictures) * picture.nbytes)
        end = float(((frame.pts or 0) + frame.duration) * frame.time_base) if frame.time_base else end
    return pictures, end


def _header_check(
    opened: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    rate: float,
    path: Path,
    limits: MediaLimits,
) -> tuple[int, float]:
    """Holds the header against the limits; returns how many frames and seconds it declares, 0 where it doesn't say."""
    pixels = stream.width * stream.height
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    else:
        seconds = (opened.duration or 0) / av.time_base
    frames = stream.frames or round(seconds * rate)
    limits.check(path, pixels=pixels, seconds=seconds, frames=frames, bytes=3 * pixels * frames)
    return stream.frames, seconds


def write_video(media: Media, path: Path) -> None:
    """Writes (F, H, W, 3) uint8: ``.mp4`` plays everywhere (an odd size gets an edge doubled), ``.mkv`` is lossless."""
    assert media.rate is not None  # Media refuses a video without one
    array = media.array
    codec, layout, options = {
        ".mp4": ("libx264", "yuv420p", {"crf": "12"}),
        ".mkv": ("libx264rgb", "rgb24", {"crf": "0"}),
        ".gif": ("gif", "rgb8", {}),
    }[path.suffix.lower()]
    if codec == "libx264":
        array = np.pad(array, ((0, 0), (0, array.shape[1] % 2), (0, array.shape[2] % 2), (0, 0)), mode="edge")
    with av.open(str(path), "w") as opened:
        stream: Any = opened.add_stream(codec, rate=Fraction(media.rate).limit_denominator(60_000), options=options)
        stream.height, stream.width = array.shape[1:3]
        stream.pix_fmt = layout
        for picture in array:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            opened.mux(stream.encode(frame))
        opened.mux(stream.encode())
