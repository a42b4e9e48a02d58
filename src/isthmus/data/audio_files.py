"""Audio to and from files, by soundfile; resampling by soxr."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from isthmus.data.errors import DataError
from isthmus.data.limits import MediaLimits, corrupt
from isthmus.types import Media, Modality

_MEND = "replace the file with an intact WAV, FLAC, MP3 or OGG"


def read_audio(path: Path, limits: MediaLimits, sample_rate: float | None = None) -> Media:
    """A file -> (L,) float32 in [-1, 1], channels averaged, at its own rate or at ``sample_rate``.

    Raises:
        DataError: over a limit, or not readable audio.
    """
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate, channels = file.samplerate, file.channels
            limits.check(path, seconds=file.frames / rate, bytes=4 * file.frames * channels)
            samples = file.read(dtype="float32", always_2d=True)
            declared = file.frames
    except DataError:
        raise
    except Exception as error:  # libsndfile's errors, and whatever a header of nonsense leads to
        raise corrupt(path, "audio", error, _MEND) from error
    # libsndfile fills in silence, or stops, where compressed data breaks off; an MP3's declared length is an estimate.
    if len(samples) == 0 or len(samples) < 0.9 * declared:
        raise corrupt(path, "audio", f"{len(samples)} of {declared} samples could be decoded", _MEND)
    mono = samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise corrupt(path, "audio", "it holds samples that aren't finite", _MEND)
    media = Media(Modality.AUDIO, np.clip(mono, -1.0, 1.0), rate=float(rate), source=str(path))
    return media if sample_rate is None else resample(media, sample_rate)


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
