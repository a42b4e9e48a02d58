"""The interface of a cache of encoded media, which a data worker queries before a medium is decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.stored import StoredFile
from isthmus.types import Encoded, Media, Modality


class MediumLookup(Protocol):
    """Looks up the cached features of one modality's media, before they are decoded."""

    def find(self, medium: Media | Path | StoredFile, limits: MediaLimits, rate: float | None = None) -> Encoded:
        """The cache entry of a medium; its ``tokens`` are None if it must be encoded. ``rate``: of such a file."""

    @property
    def count(self) -> Callable[[Mapping[str, Tensor]], int]:
        """Gives N of preprocessed inputs."""

    @property
    def positions(self) -> Callable[[int], int]:
        """Gives M for N."""


class StateLookup(Protocol):
    """Looks up the states of conversations' signal runs, before the LLM is run."""

    def find(self, ids: Sequence[int]) -> tuple[str, dict[Modality, Tensor] | None]:
        """A conversation's key, and by modality S (k, S, E) of its k runs; None if the LLM must be run."""
