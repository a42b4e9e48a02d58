"""What a conversation needs no second time: P of its media, and the LLM's keys and values of what was said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from isthmus.backbones.decoding.kept_prefix import KeptPrefix
from isthmus.cache.media import content_key
from isthmus.data.batching.lookup import MediumLookup
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.stored import StoredFile
from isthmus.model.input_side import InputSide
from isthmus.types import Encoded, Media, MediaBatch, Modality


class Memory:
    """Kept by one conversation, for one model whose weights stay as they are.

    It is bounded: P of the last prompt's media alone is kept, and keys and values of its positions and its answer's.

    Attributes:
        media: P and its mask, (M, E) and (M,), by content.
        prefix: the LLM's keys and values.
    """

    def __init__(self) -> None:
        self.media: dict[str, Encoded] = {}
        self.prefix = KeptPrefix()
        self._names: WeakKeyDictionary[Media, str] = WeakKeyDictionary()

    def lookups(self, side: InputSide) -> dict[Modality, MediumLookup]:
        """By modality, where a collator finds what needs no decoding or preprocessing."""
        return {
            modality: Lookup(
                self,
                modality,
                partial(side.encoder(modality).token_count, modality),
                partial(side.positions.of, modality),
            )
            for modality in side.serving
        }

    def name(self, medium: Media | Path | StoredFile, limits: MediaLimits) -> str:
        """A digest of the content; that of a decoded medium is computed once."""
        if not isinstance(medium, Media):
            return content_key(medium, limits)
        if medium not in self._names:
            self._names[medium] = content_key(medium, limits)
        return self._names[medium]

    def project(self, side: InputSide, media: Mapping[Modality, MediaBatch]) -> dict[Modality, tuple[Tensor, Tensor]]:
        """By modality P (n, M, E) and its mask (n, M): as ``side`` itself gives them, which sees what is new alone.

        Args:
            side: the model's.
            media: of a batch whose collator looked media up here.
        """
        projected: dict[Modality, tuple[Tensor, Tensor]] = {}
        held: dict[str, Encoded] = {}
        for modality, batch in media.items():
            assert batch.cached is not None, "the batch was collated without this memory"
            new = [known for known in batch.cached if known.tokens is None]
            if new:
                tokens, mask = side({modality: replace(batch, cached=None, index=None)})[modality]
                for known, own, valid in zip(new, tokens, mask, strict=True):
                    known.tokens, known.mask = own, valid
            held |= {known.key: known for known in batch.cached}
            order = range(len(batch.cached)) if batch.index is None else batch.index.tolist()
            rows = [(batch.cached[at].tokens, batch.cached[at].mask) for at in order]
            projected[modality] = (
                pad_sequence([own for own, _ in rows if own is not None], batch_first=True),
                pad_sequence([valid for _, valid in rows if valid is not None], batch_first=True),
            )
        self.media = held
        return projected


@dataclass
class Lookup:
    """A modality's media in a memory; see :class:`~isthmus.cache.media.MediumLookup`."""

    memory: Memory
    modality: Modality
    count: Callable[[Mapping[str, Tensor]], int]
    positions: Callable[[int], int]

    def find(self, medium: Media | Path | StoredFile, limits: MediaLimits, rate: float | None = None) -> Encoded:
        """What is known of a medium: its ``tokens`` are P."""
        key = f"{self.modality}/{self.memory.name(medium, limits)}{rate or ''}"
        return self.memory.media.get(key) or Encoded(key)
