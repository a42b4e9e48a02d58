"""Media -> files: the writer of each kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isthmus.types import Media


def image(media: Media, path: Path) -> None:
    """PNG."""
    from isthmus.data.media.images.files import write_image

    write_image(media, path)


def video(media: Media, path: Path) -> None:
    """MP4 (H.264), MKV (lossless) or GIF, by the ending."""
    from isthmus.data.media.videos.files import write_video

    write_video(media, path)


def audio(media: Media, path: Path) -> None:
    """WAV of 16 bits."""
    from isthmus.data.media.audio.files import write_audio

    write_audio(media, path)


def float_audio(media: Media, path: Path) -> None:
    """WAV of 32-bit real numbers, which loses nothing."""
    import soundfile

    assert media.rate is not None, "a signal has a rate"
    soundfile.write(str(path), media.array, round(media.rate), subtype="FLOAT", format="WAV")


def array(media: Media, path: Path) -> None:
    """NPY, the array as it is."""
    with path.open("wb") as file:
        np.save(file, media.array, allow_pickle=False)


def series(media: Media, path: Path) -> None:
    """NPZ of ``samples`` (channels, samples) and ``rate``."""
    with path.open("wb") as file:
        np.savez(file, samples=media.array, rate=np.float64(media.rate))
