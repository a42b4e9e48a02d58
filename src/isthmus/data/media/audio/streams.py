"""Reads audio that libsndfile can't read, by PyAV: M4A, AAC, WebM, Matroska, and the sound track of any video.

A file's container is determined by its first bytes and forced on the demuxer, so that a playlist, which could name
other files or addresses, is never opened as a recording.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.remarks import Remark, remark

Array = np.ndarray[Any, Any]

CHANNELS = 8
"""The most channels: larger numbers come from a damaged header."""


@dataclass(frozen=True)
class Sound:
    """The decoded audio of a file.

    Attributes:
        samples: (L, channels) float32, as decoded: they may be outside of [-1, 1].
        rate: samples per second.
        is_exact: whether the samples are the stored ones, so that values beyond 1 aren't overshoots of a lossy codec.
        total: how many samples the file has, if only those at its beginning were decoded.
    """

    samples: Array
    rate: float
    is_exact: bool
    total: int | None = None


def samples_of(seconds: float | None, rate: float) -> int:
    """How many samples to decode where so many seconds will be used: resampling reads a little beyond their end."""
    return sys.maxsize if seconds is None else math.ceil((seconds + 1) * rate)


def container_of(path: Path) -> str | None:
    """FFmpeg's name of a file's container, by its first bytes; None if it isn't supported here."""
    with path.open("rb") as file:
        head = file.read(189)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return "mp4"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if _is_aac(head) or _is_aac(_behind_tag(path, head)):
        return "aac"
    if head[:1] == b"\x47" and head[188:] == b"\x47":
        return "mpegts"
    starts = {b"\x1a\x45\xdf\xa3": "matroska", b"FLV\x01": "flv", b"\0\0\x01\xba": "mpeg", b"#!AMR": "amr"}
    starts[bytes.fromhex("3026b2758e66cf11")] = "asf"
    return next((name for start, name in starts.items() if head.startswith(start)), None)


def _is_aac(head: bytes) -> bool:
    """Whether bytes begin with a frame of AAC's bare streams (ADTS)."""
    return head[:1] == b"\xff" and head[1:2] != b"" and head[1] & 0xF6 == 0xF0


def _behind_tag(path: Path, head: bytes) -> bytes:
    """The first two bytes behind an ID3v2 tag, which may precede any bare stream; nothing if there is no tag."""
    if len(head) < 10 or not head.startswith(b"ID3"):
        return b""
    size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    with path.open("rb") as file:
        file.seek(10 + size)
        return file.read(2)


def read_stream(path: Path, container: str, limits: MediaLimits, seconds: float | None = None) -> Sound:
    """The first sound track of a file, from its first sample on.

    Up to ``limits.broken_frames`` frames that can't be decoded are skipped, with a remark.

    Args:
        path: the file.
        container: see :func:`container_of`.
        limits: caps on what is decoded.
        seconds: how many from the beginning will be used; None: all.

    Raises:
        DataError: it exceeds a limit, by its header or while decoding.
        ValueError: it has no sound, or less than it declares.
        Exception: FFmpeg's errors, and those of PyAV for a malformed header, which the caller converts.
    """
    import av
    from av.audio.resampler import AudioResampler

    pieces: list[Array] = []
    broken = length = width = 0
    rate = 0.0
    with path.open("rb") as file, av.open(file, mode="r", format=container, metadata_errors="replace") as opened:
        if not opened.streams.audio:
            raise ValueError("it holds no sound")
        stream = opened.streams.audio[0]
        declared = 0.0
        if stream.duration is not None and stream.time_base is not None:
            declared = float(stream.duration * stream.time_base)
        elif len(opened.streams) == 1:
            declared = (opened.duration or 0) / av.time_base
        if container in ("aac", "mp3"):
            declared = 0.0  # raw frames declare no duration: FFmpeg estimates it from the bit rate
        is_exact = stream.codec_context.name.startswith(("pcm_f32", "pcm_f64"))
        wanted = samples_of(None if is_exact else seconds, stream.rate)
        decoded = min(declared, wanted / stream.rate) if stream.rate else declared
        limits.check(path, seconds=decoded, bytes=4 * decoded * stream.rate * stream.channels)
        # FFmpeg copies the samples: the planes of a damaged stream may be shorter than PyAV assumes.
        converter = AudioResampler(format="flt")
        for packet in opened.demux(stream):
            if length >= wanted:
                break
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                broken += 1
                if broken > limits.broken_frames:
                    raise ValueError(f"more than {limits.broken_frames} of its frames are broken") from None
                continue
            for frame in frames:
                if frame.layout.nb_channels > CHANNELS:
                    raise ValueError(f"it has {frame.layout.nb_channels} channels; expected at most {CHANNELS}")
                if rate and (frame.layout.nb_channels, frame.sample_rate) != (width, rate):
                    raise ValueError("its channels or its rate change within the file")
                if not all(plane.buffer_ptr for plane in frame.planes):
                    raise ValueError("a frame lacks one of its channels")
                width = frame.layout.nb_channels
                rate = float(frame.sample_rate)
                for piece in converter.resample(frame):
                    pieces.append(piece.to_ndarray().reshape(-1, width))
                    length += len(pieces[-1])
                    limits.check(path, seconds=min(length, wanted) / rate, bytes=4 * length * pieces[-1].shape[1])
    if not length or length < 0.9 * min(declared * rate, wanted):
        raise ValueError(f"{length} of {round(declared * rate)} samples could be decoded")
    if broken:
        remark(Remark.BROKEN_FRAMES, path, f"{broken} of its frames are broken and left out")
    total = max(round(declared * rate), length) if length >= wanted else None
    return Sound(np.concatenate(pieces)[:wanted], rate, is_exact, total)
