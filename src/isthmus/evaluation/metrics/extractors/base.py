"""What an extractor is: a frozen network whose features of media are compared, and all that decides over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from isthmus.modalities import known_media
from isthmus.request import Request
from isthmus.types import Media, Modality

Array = np.ndarray[Any, Any]


class Extractor(Protocol):
    """Media -> a row of features each.

    Attributes:
        modalities: those that it reads.
        chunk: how many media it gets at once. Values may differ in their last bits with it, so it is always the same.
    """

    modalities: tuple[Modality, ...]
    chunk: int

    def request(self, modality: Modality) -> Request | None:
        """The part of a medium that is looked at; None: all of it. It never asks a reader to shrink a picture."""
        ...

    def extract(self, media: Sequence[Media]) -> tuple[Array, Array | None]:
        """Media of one modality, n -> features (n, d) and, from a network with a classifier, logits (n, k).

        Raises:
            ValueError: a medium can't be read; the message names its source.
        """
        ...

    def identity(self) -> Mapping[str, Any]:
        """All that decides over features: class, hash of weights, layer, resize and antialias, frames or rate."""
        ...


def served_modality(modality: str, extractor: Extractor) -> Modality:
    """The modality.

    Raises:
        ValueError: there is no such one, or the extractor doesn't read it.
    """
    if modality not in known_media():
        raise ValueError(f"modality: found {modality!r}; expected {', '.join(known_media())}. Fix: name one.")
    if modality not in extractor.modalities:
        raise ValueError(
            f"modality: found {modality!r}, which {type(extractor).__name__} doesn't read; expected "
            f"{', '.join(extractor.modalities)}. Fix: name one of these, or another extractor."
        )
    return Modality(modality)


def at_least_one(chunk: int) -> int:
    """The number as it is.

    Raises:
        ValueError: it is below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk: found {chunk}; expected at least 1. Fix: raise it.")
    return chunk


def measuring_device() -> torch.device:
    """Where extractors run: this process's GPU, where there is one."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def as_array(values: torch.Tensor) -> Array:
    """(n, ...) -> (n, d) float32 in memory."""
    found: Array = values.detach().flatten(1).float().cpu().numpy()
    return found
