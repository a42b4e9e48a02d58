"""A user's own captioned media: a manifest's records, read into memory with their captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isthmus.data.conversations.schema import MediumItem
from isthmus.data.formats.fields import text
from isthmus.data.formats.manifest import ManifestSource
from isthmus.data.media.files import read_media
from isthmus.paths import user_path
from isthmus.types import MEDIA, Media, Modality


@dataclass(frozen=True)
class Captioned:
    """The media of one modality and split, in memory, with their captions."""

    media: tuple[Media, ...]
    captions: tuple[str, ...]


class CaptionedSet:
    """Media that a manifest lists (:class:`~isthmus.data.formats.manifest.ManifestSource`), each with a caption.

    ``split`` is ``train`` or ``test``. Media keep their size; the experts resize them.

    Args:
        path: the manifest.
        root: the media's folder; the manifest's own if None.

    Attributes:
        modalities: those that the training split has, in the order of :data:`~isthmus.types.MEDIA`.

    Raises:
        ValueError: there is no such file, or its training split is empty or names an unknown modality.
    """

    def __init__(self, path: str | Path, root: str | Path | None = None) -> None:
        self.path = user_path(path)
        self.root = None if root is None else user_path(root)
        source = ManifestSource(self.path, self.root, splits=["train"])
        found = {modality for index in range(len(source)) for modality in source.media_in(index)}
        self.modalities = tuple(Modality(name) for name in MEDIA if name in found)
        self._pools: dict[tuple[Modality, str], Captioned] = {}

    def pool(self, modality: Modality, split: str) -> Captioned:
        """All media of a split and modality, read once.

        Raises:
            ValueError: there are none, or a record has no caption or a medium that can't be read.
        """
        known = self._pools.get((modality, split))
        if known is None:
            known = self._pools[modality, split] = self._read(modality, split)
        return known

    def captions(self, modality: Modality) -> tuple[str, ...]:
        """The captions of the training split, one for each record."""
        return self.pool(modality, "train").captions

    def _read(self, modality: Modality, split: str) -> Captioned:
        source = ManifestSource(self.path, self.root, modalities=[modality], splits=[split])
        media, captions = [], []
        for index in range(len(source)):
            conversation = source[index]
            captions.append(text(conversation.details, ["caption"], source.where(index)).strip())
            item = next(item for item in conversation.messages[0].content if isinstance(item, MediumItem))
            assert item.media is not None  # every record of a manifest has a medium
            media.append(item.media if isinstance(item.media, Media) else read_media(item.media, modality))
        return Captioned(tuple(media), tuple(captions))


def has_labels(path: str | Path) -> bool:
    """Whether a manifest's first record has a ``label``: then it lists digits, otherwise captions.

    Raises:
        ValueError: see :class:`~isthmus.data.formats.manifest.ManifestSource`.
    """
    record, _ = ManifestSource(path).records.raw(0)
    return isinstance(record, dict) and record.get("label") is not None


def words_of(captions: Sequence[str]) -> list[str]:
    """Every word of the captions in lower case, most frequent first, without punctuation at their ends."""
    counts = Counter(word for caption in captions for word in re.findall(r"\w(?:[\w.-]*\w)?", caption.lower()))
    return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
