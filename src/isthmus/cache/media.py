"""Data workers look up encoded media by the content of a file or an array, without decoding it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from torch import Tensor

from isthmus.cache.files import FileDigests, file_digest
from isthmus.cache.store import TensorStore
from isthmus.data.media.deferred import DeferredMedia
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.stored import StoredFile
from isthmus.types import Encoded, Media


@dataclass
class MediumCache:
    """The cached features of one modality.

    Attributes:
        store: holds the features.
        files: digests of files.
        namespace: the prefix of keys, from the encoder's weights and settings.
        count: gives N of preprocessed inputs.
        positions: gives M for N.
    """

    store: TensorStore
    files: FileDigests
    namespace: str
    count: Callable[[Mapping[str, Tensor]], int]
    positions: Callable[[int], int]

    def find(self, medium: Media | Path | StoredFile, limits: MediaLimits, rate: float | None = None) -> Encoded:
        """What is known of a medium; its ``tokens`` are None where it must be encoded.

        ``rate``: samples a second of a file that doesn't say it.

        Raises:
            DataError: the file has more bytes than the limit.
        """
        of = "" if rate is None else f"-{rate:g}"
        found = Encoded(f"{self.namespace}/{content_key(medium, limits, self.files)}{of}")
        held = self.store.get(found.key)
        if held is not None:
            found.tokens, found.mask, found.count = held["tokens"], held["mask"], int(held["count"])
        return found


def content_key(medium: Media | Path | StoredFile, limits: MediaLimits, files: FileDigests | None = None) -> str:
    """A digest of a file's bytes and suffix (not its path), of an array with its rate, or of a deferred medium's key.

    A file's digest includes the limits: cached features of it were decoded under the same limits, and under other
    limits it is decoded and checked again. So the cache never bypasses a limit.

    Args:
        medium: the medium.
        limits: caps on files.
        files: digests of files from an index; None reads the file.

    Raises:
        DataError: the file has more bytes than the limit.
    """
    digest = blake2b(digest_size=16)
    if isinstance(medium, Path):
        content = file_digest(medium) if files is None else files.digest(medium)
        digest.update(_file_name(medium.suffix, limits, content))
    elif isinstance(medium, StoredFile):
        limits.check(medium.name, bytes=len(medium.data))
        content = blake2b(medium.data, digest_size=16).hexdigest()
        digest.update(_file_name(medium.suffix, limits, content))
    elif isinstance(medium, DeferredMedia):
        digest.update(f"deferred {medium.modality} {medium.content}".encode())
    else:
        array = np.ascontiguousarray(medium.array)
        if medium.times is not None:
            digest.update(f"of {medium.total} at {medium.times.tolist()} ".encode())
        digest.update(f"array {medium.modality} {array.dtype} {array.shape} {medium.rate}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


READERS = 2
"""To be increased when a reader decodes a file differently, so that earlier cache entries aren't found."""


def _file_name(suffix: str, limits: MediaLimits, content: str) -> bytes:
    return f"file {READERS} {suffix.lower()} {astuple(limits)} {content}".encode()
