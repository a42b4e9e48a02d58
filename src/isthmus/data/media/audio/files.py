"""Audio to and from files, by soundfile and, where that reads none, by PyAV; resampling by soxr."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import soundfile

from isthmus.data.errors import DataError
from isthmus.data.media.audio.streams import Sound, container_of, read_stream
from isthmus.data.media.limits import MediaLimits, corrupt
from isthmus.data.media.remarks import Remark, remark
from isthmus.types import Media, Modality

_FIX = "replace the file with an intact WAV, FLAC, MP3, OGG, M4A or WebM"

_PIPED = 0x7FFF0000
"""A length from here on stands in headers of what was written to a pipe: nobody knew it."""

_LONGEST_PAGE = 65_307
"""Bytes of an Ogg page at most."""

_CANCELLED = 0.05
"""Of the channels' loudness: a mix that is softer has lost what they held."""


def read_audio(path: Path, limits: MediaLimits, sample_rate: float | None = None) -> Media:
    """A file -> (L,) float32 in [-1, 1], channels averaged, at its own rate or at ``sample_rate``.

    Numbers that were stored as float beyond 1 are divided by the largest; what lossy codecs overshoot is cut off.

    Raises:
        DataError: over a limit, or not readable audio.
    """
    try:
        sound = _sound(path, limits)
        mono = sound.samples.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise ValueError("it holds samples that aren't finite")
    except DataError:
        raise
    except Exception as error:  # libsndfile's and FFmpeg's errors, and whatever a header of nonsense leads to
        raise corrupt(path, "audio", error, _FIX) from error
    _tell_cancelling(sound, mono, path)
    peak = float(np.abs(mono).max())
    if peak > 1 and sound.is_exact:
        remark(Remark.LOUD_AUDIO, path, f"its samples reach to {peak:g}; they are divided by that")
        mono /= np.float32(peak)
    media = Media(Modality.AUDIO, np.clip(mono, -1.0, 1.0), rate=sound.rate, source=str(path))
    return media if sample_rate is None else resample(media, sample_rate)


def _sound(path: Path, limits: MediaLimits) -> Sound:
    container = container_of(path)
    if container is not None:
        return read_stream(path, container, limits)
    is_mp3, declared = False, 0
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate, declared, is_mp3 = file.samplerate, file.frames, file.format in ("MP3", "MPEG")
            limits.check(path, seconds=declared / rate, bytes=4 * declared * file.channels)
            _check_length(file.extra_info)
            samples = file.read(dtype="float32", always_2d=True)
            if file.format == "OGG":
                _check_last_page(path)
            is_exact = file.subtype in ("FLOAT", "DOUBLE")
    except soundfile.LibsndfileError:
        if not is_mp3:
            raise
        return _around(path, declared, limits)
    if is_mp3 and len(samples) < declared:
        return _around(path, declared, limits)
    if not declared:
        raise ValueError("its header declares no samples: whoever wrote it was stopped")
    # libsndfile fills in silence, or stops, where compressed data breaks off.
    if len(samples) == 0 or len(samples) < 0.9 * declared:
        raise ValueError(f"{len(samples)} of {declared} samples could be decoded")
    return Sound(samples, float(rate), is_exact)


def _around(path: Path, declared: int, limits: MediaLimits) -> Sound:
    """An MP3 in whose midst frames are broken: FFmpeg reads around them and counts, where libsndfile may stop."""
    sound = read_stream(path, "mp3", limits)
    if len(sound.samples) < 0.9 * declared:
        raise ValueError(f"{len(sound.samples)} of {declared} samples could be decoded")
    return sound


def _check_length(told: str) -> None:
    """Refuses a WAV, AIFF or the like that is cut off: libsndfile reads what is there, and notes what should be.

    Raises:
        ValueError: less than 99 % is there.
    """
    for declared, found in re.findall(r"(\d+) \(should be (\d+)\)", told):
        if int(found) < 0.99 * int(declared) < 0.99 * _PIPED:
            raise ValueError(f"{found} of {declared} bytes are there")


def _check_last_page(path: Path) -> None:
    """Refuses an Ogg file whose last page is cut off: libsndfile takes what stands before it for the whole.

    Raises:
        ValueError: it is.
    """
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 2 * _LONGEST_PAGE, 0))
        end = file.read()
    page = end[end.rfind(b"OggS") :]
    # After 26 bytes of header, how many parts there are, and how long each one is.
    if len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        raise ValueError("it breaks off in the midst of a page")


def _tell_cancelling(sound: Sound, mono: np.ndarray[tuple[int], np.dtype[np.float32]], path: Path) -> None:
    """Remarks on channels that are each other's opposite: their mean is silence."""
    if sound.samples.shape[1] < 2:
        return
    loudness, mixed = (float(np.sqrt(np.mean(np.square(part)))) for part in (sound.samples, mono))
    if mixed < _CANCELLED * loudness:
        remark(
            Remark.OPPOSITE_CHANNELS,
            path,
            f"its channels cancel: of a loudness of {loudness:.2g} the mix keeps {mixed:.2g}",
        )


def resample(media: Media, sample_rate: float) -> Media:
    """The same audio at another rate."""
    import soxr

    if media.rate == sample_rate:
        return media
    samples = np.clip(soxr.resample(media.array, media.rate, sample_rate), -1.0, 1.0).astype(np.float32)
    return Media(Modality.AUDIO, samples, rate=float(sample_rate), source=media.source, details=media.details)


def write_audio(media: Media, path: Path) -> None:
    """Writes (L,) float32 as a 16-bit WAV."""
    assert media.rate is not None  # Media refuses audio without one
    soundfile.write(str(path), media.array, round(media.rate), subtype="PCM_16", format="WAV")
