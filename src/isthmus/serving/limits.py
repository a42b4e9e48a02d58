"""What one request may ask for, and how many are answered or wait at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from isthmus.data.media.limits import MediaLimits

MEDIA_LIMITS = MediaLimits(pixels=16_000_000, seconds=120.0, frames=2048, points=1_000_000, bytes=64 << 20)
"""Of a medium in a request: lower than a file's on one's own disk."""


@dataclass(frozen=True)
class ServingLimits:
    """Caps of a server.

    Attributes:
        slots: answers that are decoded at once; also the rows of every pass.
        queue: requests that wait beyond these; one more is refused.
        tokens: the most tokens of an answer.
        parts: the most content parts of a request, over all its messages.
        body: bytes of a request's body.
        body_seconds: in which the body must have arrived.
        seconds: in which a request must be answered, its waiting included.
        inference_steps: the most steps of a generator.
        media_batch: answers whose media are made together. Above 1, media agree with those made alone to rounding.
        media_wait: seconds that a medium waits for others to be made with it, while answers are decoded.
        kept: MiB for what later prompts may need again: keys and values of prompts, and projected media.
        videos: jobs of films that are kept at once.
        video_seconds: for which a film is kept after it was made.
        media: caps on each medium of a request.
        decoders: processes that decode media.
        decode_seconds: in which all media of a request must be decoded.
        decoder_memory: bytes that a decoder's process may allocate.
        media_megabytes: MiB of all media of a request together: their files, and what they decode to.
        fetch: hosts from which media may be fetched.
        fetch_seconds: in which all media of a request must be fetched.
        connections: that may be open.
        head_seconds: in which a request's line and headers must have arrived.

    Raises:
        ValueError: a cap below one, or no place to wait in below zero.
    """

    slots: int = 16
    queue: int = 32
    tokens: int = 1024
    parts: int = 64
    body: int = 64 << 20
    body_seconds: float = 60.0
    seconds: float = 300.0
    inference_steps: int = 100
    media_batch: int = 1
    media_wait: float = 0.05
    kept: int = 256
    videos: int = 32
    video_seconds: float = 3600.0
    media: MediaLimits = field(default=MEDIA_LIMITS)
    decoders: int = 2
    decode_seconds: float = 20.0
    decoder_memory: int = 1 << 30
    media_megabytes: int = 512
    fetch: tuple[str, ...] = ()
    fetch_seconds: float = 20.0
    connections: int = 256
    head_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name in ("queue", "media_wait", "kept") else 1
            if isinstance(value, int | float) and not least <= value < math.inf:
                raise ValueError(
                    f"serve {name}: found {value}; expected a number of at least {least}. Fix: correct it."
                )
