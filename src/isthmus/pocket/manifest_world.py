"""A user's own digits as a world: the media of a manifest, resized for the embedded experts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator as Random

from isthmus.data.conversations.schema import MediumItem
from isthmus.data.formats.manifest import ManifestSource
from isthmus.data.formats.strokes import Strokes
from isthmus.data.media.files import read_media
from isthmus.paths import user_path
from isthmus.pocket.own.fitted_media import fitted
from isthmus.pocket.world import DIGITS, SAMPLE_RATE, SIZE, Concept, Split
from isthmus.pocket.worlds import World
from isthmus.types import Media, Modality

log = logging.getLogger(__name__)

STROKES = Strokes(size=2 * SIZE, frames=8, width=5)
"""Pen strokes are drawn at twice the size, so that shrinking smooths their edges."""
SET_APART = 20
"""The interval at which records of the training split are used for validation."""


@dataclass(frozen=True)
class Pool:
    """The media of one modality and split, in memory, and their digits (n,)."""

    media: tuple[Media, ...]
    digits: np.ndarray[Any, Any]

    def arrays(self) -> np.ndarray[Any, Any]:
        """(n, ...) all media in one array; all have the same shape, except points."""
        return np.stack([medium.array for medium in self.media])


class ManifestWorld(World):
    """Media that a manifest lists (:class:`~isthmus.data.formats.manifest.ManifestSource`), labelled with digits.

    ``label`` is a digit's word or figure; ``split`` is ``train`` or ``test``. Every twentieth training record is used
    for validation instead of training. All media of a modality and split are read on first use and kept in memory,
    resized for the experts by :func:`~isthmus.pocket.own.fitted_media.fitted`.

    Args:
        path: the manifest.
        root: the media's folder; the manifest's own if None.
        is_written: whether videos show a digit being written, such as pen strokes.

    Raises:
        ValueError: there is no such file, or it has no records.
    """

    has_attributes = False

    def __init__(self, path: str | Path, root: str | Path | None = None, is_written: bool = True) -> None:
        self.path = user_path(path)
        self.is_written = is_written
        self.root = None if root is None else user_path(root)
        if not self.path.is_file():
            raise ValueError(f"{self.path}: found no file; expected a manifest. Fix: correct the path.")

    def pool(self, modality: Modality, split: Split) -> Pool:
        """All media of a split and modality.

        Raises:
            ValueError: there are none, or a record has no label, an unknown modality, or a medium that can't be read.
        """
        return _pool(self.path, self.root, modality, split)

    def draw(self, modality: Modality, concept: Concept, split: Split, random: Random) -> Media:
        """A random medium of the concept's digit in the split."""
        own = _by_digit(self.path, self.root, modality, split)[concept.digit]
        if not own:
            raise ValueError(
                f"{self.path}: found no {modality} of {DIGITS[concept.digit]} in the split {split}; expected at least "
                "one. Fix: add some, or leave the modality out of the config's modalities, inputs and outputs."
            )
        return own[random.integers(len(own))]


@lru_cache(maxsize=16)
def _by_digit(path: Path, root: Path | None, modality: Modality, split: Split) -> tuple[tuple[Media, ...], ...]:
    pool = _pool(path, root, modality, split)
    pairs = list(zip(pool.media, pool.digits, strict=True))
    return tuple(tuple(medium for medium, own in pairs if own == digit) for digit in range(10))


@lru_cache(maxsize=16)
def _pool(path: Path, root: Path | None, modality: Modality, split: Split) -> Pool:
    whole = _read(path, root, modality, "test" if split == "test" else "train")
    if split == "test":
        return whole
    chosen = [i for i in range(len(whole.media)) if (i % SET_APART == SET_APART - 1) == (split == "validation")]
    return Pool(tuple(whole.media[i] for i in chosen), whole.digits[chosen])


@lru_cache(maxsize=16)
def _read(path: Path, root: Path | None, modality: Modality, split: str) -> Pool:
    source = ManifestSource(path, root, modalities=[modality], splits=[split], strokes=STROKES)
    media, digits, cut = [], [], 0
    for index in range(len(source)):
        conversation = source[index]
        digits.append(_digit(conversation.details.get("label"), source.where(index)))
        item = next(item for item in conversation.messages[0].content if isinstance(item, MediumItem))
        assert item.media is not None  # every record of a manifest has a medium
        read = item.media
        medium = read if isinstance(read, Media) else read_media(read, modality, sample_rate=SAMPLE_RATE)
        whole, was_cut = fitted(medium)
        media.append(whole)
        cut += was_cut
    if cut:
        log.info("%s: %d of %d %s recordings of %s were longer and are cut", path, cut, len(media), modality, split)
    return Pool(tuple(media), np.array(digits))


def _digit(label: object, where: str) -> int:
    text = str(label).strip().lower()
    for digit, word in enumerate(DIGITS):
        if text in (word, str(digit)):
            return digit
    raise ValueError(f"{where}: label: found {label!r}; expected a digit, such as seven or 7. Fix: correct the record.")
