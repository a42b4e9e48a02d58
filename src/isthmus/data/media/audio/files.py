"""Reads and writes audio files, by soundfile and, for formats that it can't read, by PyAV; resamples by soxr."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import soundfile

from isthmus.data.errors import DataError
from isthmus.data.media.audio.streams import Sound, container_of, read_stream, samples_of
from isthmus.data.media.limits import MediaLimits, corrupt
from isthmus.data.media.remarks import Remark, remark
from isthmus.types import Media, Modality

_FIX = "replace the file with an intact WAV, FLAC, MP3, OGG, M4A or WebM"

_PIPED = 0x7FFF0000
"""Headers of files written to a pipe have lengths from here on, since the length was unknown."""

_LONGEST_PAGE = 65_307
"""The most bytes of an Ogg page."""

_CANCELLED = 0.05
"""The least share of the channels' RMS that a mono mix should keep: below it, channels cancel each other."""


def read_audio(
    path: Path, limits: MediaLimits, sample_rate: float | None = None, seconds: float | None = None
) -> Media:
    """A file -> (L,) float32 in [-1, 1], channels averaged, at its own rate or at ``sample_rate``.

    Float samples beyond 1 are divided by the largest; overshoots of lossy codecs are clipped.

    Args:
        path: the file.
        limits: caps on what is decoded.
        sample_rate: hertz, to which it is resampled.
        seconds: how many from the beginning will be used; a little more is decoded, and the rest isn't.

    Raises:
        DataError: the file exceeds a limit, or isn't readable audio.
    """
    try:
        sound = _sound(path, limits, seconds)
        mono = sound.samples.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise ValueError("it holds samples that aren't finite")
    except DataError:
        raise
    except Exception as error:  # libsndfile's and FFmpeg's errors, and any others that a malformed header causes
        raise corrupt(path, "audio", error, _FIX) from error
    _remark_cancellation(sound, mono, path)
    peak = float(np.abs(mono).max())
    if peak > 1 and sound.is_exact:
        remark(Remark.LOUD_AUDIO, path, f"its samples reach to {peak:g}; they are divided by that")
        mono /= np.float32(peak)
    media = Media(Modality.AUDIO, np.clip(mono, -1.0, 1.0), rate=sound.rate, source=str(path), total=sound.total)
    return media if sample_rate is None else resample(media, sample_rate)


def _sound(path: Path, limits: MediaLimits, seconds: float | None) -> Sound:
    container = container_of(path)
    if container is not None:
        return read_stream(path, container, limits, seconds)
    is_mp3, declared, wanted = False, 0, 0
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate, declared, is_mp3 = file.samplerate, file.frames, file.format in ("MP3", "MPEG")
            is_exact = file.subtype in ("FLOAT", "DOUBLE")
            wanted = declared if is_exact else min(declared, samples_of(seconds, rate))
            limits.check(path, seconds=wanted / rate, bytes=4 * wanted * file.channels)
            _check_length(file.extra_info)
            samples = file.read(wanted, dtype="float32", always_2d=True)
            if file.format == "OGG":
                _check_last_page(path)
    except soundfile.LibsndfileError:
        if not is_mp3:
            raise
        return _with_broken_frames(path, declared, limits)
    if is_mp3 and len(samples) < wanted:
        return _with_broken_frames(path, declared, limits)
    if not declared:
        raise ValueError("its header declares no samples: writing it was interrupted")
    # For truncated compressed data, libsndfile returns silence or fewer samples.
    if len(samples) == 0 or len(samples) < 0.9 * wanted:
        raise ValueError(f"{len(samples)} of {wanted} samples could be decoded")
    return Sound(samples, float(rate), is_exact, declared if wanted < declared else None)


def _with_broken_frames(path: Path, declared: int, limits: MediaLimits) -> Sound:
    """Reads an MP3 with broken frames by FFmpeg, which skips them; libsndfile may stop at the first one."""
    sound = read_stream(path, "mp3", limits)
    if len(sound.samples) < 0.9 * declared:
        raise ValueError(f"{len(sound.samples)} of {declared} samples could be decoded")
    return sound


def _check_length(log: str) -> None:
    """Refuses a truncated WAV, AIFF or similar file, of which libsndfile reads the rest, and logs the declared length.

    Raises:
        ValueError: less than 99 % of the bytes are there.
    """
    for declared, found in re.findall(r"(\d+) \(should be (\d+)\)", log):
        if int(found) < 0.99 * int(declared) < 0.99 * _PIPED:
            raise ValueError(f"{found} of {declared} bytes are there")


def _check_last_page(path: Path) -> None:
    """Refuses an Ogg file whose last page is truncated, which libsndfile ignores.

    Raises:
        ValueError: it is truncated.
    """
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 2 * _LONGEST_PAGE, 0))
        end = file.read()
    page = end[end.rfind(b"OggS") :]
    # After 26 bytes of header come the number of segments and the length of each.
    if len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        raise ValueError("it ends in the middle of a page")


def _remark_cancellation(sound: Sound, mono: np.ndarray[tuple[int], np.dtype[np.float32]], path: Path) -> None:
    """Adds a remark if channels have opposite phases, so that their mean is nearly silent."""
    if sound.samples.shape[1] < 2:
        return
    channel_rms, mixed_rms = (float(np.sqrt(np.mean(np.square(part)))) for part in (sound.samples, mono))
    if mixed_rms < _CANCELLED * channel_rms:
        remark(
            Remark.OPPOSITE_CHANNELS,
            path,
            f"its channels cancel: their RMS is {channel_rms:.2g}, and that of the mix {mixed_rms:.2g}",
        )


def resample(media: Media, sample_rate: float) -> Media:
    """The same audio at another rate."""
    import soxr

    assert media.rate is not None  # Media refuses audio without one
    if media.rate == sample_rate:
        return media
    samples = np.clip(soxr.resample(media.array, media.rate, sample_rate), -1.0, 1.0).astype(np.float32)
    total = None if media.total is None else round(media.total * sample_rate / media.rate)
    return Media(
        Modality.AUDIO, samples, rate=float(sample_rate), source=media.source, details=media.details, total=total
    )


def write_audio(media: Media, path: Path) -> None:
    """Writes (L,) float32 as a 16-bit WAV."""
    assert media.rate is not None  # Media requires it for audio
    soundfile.write(str(path), media.array, round(media.rate), subtype="PCM_16", format="WAV")
