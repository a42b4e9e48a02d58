"""Sounds in the formats that clients of speech ask for."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from isthmus.data.media.audio.files import resample
from isthmus.serving.provenance import Provenance
from isthmus.types import Media

SPEECH_RATE = 24_000
"""Samples a second of formats that don't take every rate, and of bare samples, whose rate no header says."""


@dataclass(frozen=True)
class Sound:
    """A format.

    Attributes:
        kind: media type.
        container: FFmpeg's name.
        codec: FFmpeg's name.
        takes_any_rate: whether it holds the sound at the rate at which it was made.
        options: of FFmpeg's writer.
    """

    kind: str
    container: str
    codec: str
    takes_any_rate: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


SOUNDS = {
    "wav": Sound("audio/wav", "wav", "pcm_s16le", True),
    "flac": Sound("audio/flac", "flac", "flac", True),
    "mp3": Sound("audio/mpeg", "mp3", "libmp3lame"),
    "opus": Sound("audio/ogg", "ogg", "libopus"),
    "aac": Sound("audio/aac", "adts", "aac", options={"write_id3v2": "1"}),
    "pcm": Sound("audio/pcm", "s16le", "pcm_s16le"),
}
"""By the name that requests give. A bare stream of AAC holds no words, so a tag precedes it, as broadcasters do it and
players know it. The last one holds none, and so doesn't say where a sound comes from."""


def encoded(medium: Media, form: str, made: Provenance | None = None) -> bytes:
    """A sound's file in one of :data:`SOUNDS`.

    Args:
        medium: (L,) float32 at its rate.
        form: a key of :data:`SOUNDS`.
        made: what the file says of itself.
    """
    import av

    assert medium.rate is not None  # Media requires it for audio
    sound = SOUNDS[form]
    rate = round(medium.rate) if sound.takes_any_rate else SPEECH_RATE
    samples = resample(medium, rate).array
    whole = (np.clip(samples, -1.0, 1.0) * 32767).round().astype(np.int16)[None]
    file = io.BytesIO()
    with av.open(file, "w", format=sound.container, options=dict(sound.options)) as opened:
        if made is not None:
            opened.metadata["comment"] = made.comment
        stream: Any = opened.add_stream(sound.codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
        frame.sample_rate = rate
        opened.mux(stream.encode(frame))
        opened.mux(stream.encode())
    return file.getvalue()
