"""What a data worker may know of a medium before it is decoded: the contract of a cache of encoded media."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.stored import StoredFile
from isthmus.types import Encoded, Media


class MediumLookup(Protocol):
    """Where what is known of a modality's media is looked up, before they are decoded."""

    def find(self, medium: Media | Path | StoredFile, limits: MediaLimits) -> Encoded:
        """What is known of a medium; its ``tokens`` are None where it must be encoded."""

    @property
    def count(self) -> Callable[[Mapping[str, Tensor]], int]:
        """N of preprocessed inputs."""

    @property
    def positions(self) -> Callable[[int], int]:
        """M of N."""
