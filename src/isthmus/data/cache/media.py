"""Encoded media as data workers find them: by the content of a file or an array, without decoding it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from torch import Tensor

from isthmus.data.cache.store import TensorStore
from isthmus.data.limits import MediaLimits
from isthmus.types import Encoded, Media

CHUNK = 1 << 20


@dataclass
class MediumCache:
    """The cached features of one modality.

    Attributes:
        store: where they are.
        namespace: the encoder with its weights and settings.
        count: N of preprocessed inputs.
        positions: M of N.
    """

    store: TensorStore
    namespace: str
    count: Callable[[Mapping[str, Tensor]], int]
    positions: Callable[[int], int]

    def find(self, medium: Media | Path, limits: MediaLimits) -> Encoded:
        """What is known of a medium; its ``tokens`` are None where it must be encoded.

        Raises:
            DataError: a file of more bytes than the limit.
        """
        found = Encoded(f"{self.namespace}/{content_key(medium, limits)}")
        held = self.store.get(found.key)
        if held is not None:
            found.tokens, found.mask, found.count = held["tokens"], held["mask"], int(held["count"])
        return found


def content_key(medium: Media | Path, limits: MediaLimits) -> str:
    """A digest of a file's bytes and ending, or of an array with its rate."""
    digest = blake2b(digest_size=16)
    if isinstance(medium, Path):
        limits.check(medium, bytes=medium.stat().st_size)
        digest.update(f"file {medium.suffix.lower()}\n".encode())
        with medium.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    else:
        array = np.ascontiguousarray(medium.array)
        digest.update(f"array {medium.modality} {array.dtype} {array.shape} {medium.rate}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
