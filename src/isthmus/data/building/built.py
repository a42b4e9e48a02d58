"""Instruction dialogues over captioned media, similar to MosIT (NExT-GPT, arXiv 2309.05519, section 5)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.random import Generator as Random

from isthmus.data.building.kinds import MAKES, NEEDS_OTHERS, WRITERS, Writing
from isthmus.data.building.media_pool import MediaPool
from isthmus.data.building.script import Script
from isthmus.data.building.templates import read_templates
from isthmus.data.conversations.schema import Conversation
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.sampling.seeds import derive_seed, permuted
from isthmus.modalities import Modality, is_medium

TEXT = "text"


class BuiltDialogues(ConversationSource):
    """Dialogues generated from sets of captioned media: any modality to any, over several turns.

    Kinds: ``describe`` or ``make`` a medium; ``convert`` one into another modality of the same content; ``compare`` two
    in one turn; ``make_two`` in one answer; ``recall`` the content of a medium of an earlier turn; ``remake`` one in
    another modality; ``clarify`` an incomplete request; ``refuse`` an impossible one; ``offer`` in words. Kinds that
    the sets don't support are left out: ``convert``, for instance, needs two modalities of the same content.

    Args:
        sets: captioned media, by name; see :class:`~isthmus.data.building.MediaPool` for what counts as a caption.
        size: number of dialogues, including those of text alone.
        seed: of all random choices.
        templates: a file that replaces the package's templates.
        shares: of kinds, which replace the templates'.
        text: sets of text alone, by name, whose conversations are mixed in unchanged.
        text_share: their share of all dialogues.
        concept: the field of a conversation, such as ``label``, that is equal for media of the same content; captions
            are compared if None.
        outputs: modalities that are generated; all if None; with an empty list, media are only described.
        progress: wraps each set's indices, for a progress bar.

    Attributes:
        pool: the media.
        outputs: the modalities that are generated.
        kinds: the kinds that are built, with their shares among dialogues with media.

    Raises:
        ValueError: a number out of range, an unknown kind or output, no kind left, no captioned medium, no
            conversation with the field, or bad templates.
    """

    name = "built"

    def __init__(
        self,
        sets: dict[str, ConversationSource],
        size: int = 10_000,
        seed: int = 0,
        templates: str | Path | None = None,
        shares: dict[str, float] | None = None,
        text: dict[str, ConversationSource] | None = None,
        text_share: float = 0.0,
        concept: str | None = None,
        outputs: Sequence[str] | None = None,
        progress: Callable[[str, Iterable[int]], Iterable[int]] = lambda name, indices: indices,
    ) -> None:
        if size < 1:
            raise ValueError(f"built.size: found {size}; expected at least 1. Fix: raise it.")
        if not 0 <= text_share < 1 or bool(text) != bool(text_share):
            raise ValueError(
                f"built.text_share: found {text_share} with {len(text or {})} sets of text; expected a share from 0 to "
                "below 1, above 0 where there are such sets and there alone. Fix: give both or neither."
            )
        self.templates = read_templates(templates)
        self.size, self.seed = size, seed
        self.pool = MediaPool(sets, concept, progress)
        self.outputs = self._outputs(outputs)
        self._alike = [alike for alike in self.pool.shared if not alike.keys().isdisjoint(self.outputs)]
        self.text, self.text_share = dict(text or {}), text_share
        self.kinds = self._kinds(_checked(shares or {}))
        # How many come before one says which text it takes.
        self._texts = [index for index in range(size if self.text else 0) if self.kind(index) == TEXT]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Conversation:
        """The dialogue.

        Raises:
            IndexError: outside the source.
            DataError: one of its media can no longer be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: no item {index} among {len(self)}")
        kind = self.kind(index)
        if kind == TEXT:
            return self._text(index)
        writing = Writing(Script(self.templates), self.pool, self.outputs, self._alike, self._random(index, "dialogue"))
        WRITERS[kind](writing)
        return Conversation(tuple(writing.script.messages), {"id": f"{self.name}/{index}", "kind": kind})

    def kind(self, index: int) -> str:
        """A dialogue's kind: one of :attr:`kinds`, or ``text``."""
        random = self._random(index, "kind")
        if random.random() < self.text_share:
            return TEXT
        total = sum(self.kinds.values())
        reached = accumulate(share / total for share in self.kinds.values())
        drawn = random.random()
        return next((kind for kind, end in zip(self.kinds, reached, strict=True) if drawn < end), list(self.kinds)[-1])

    def _random(self, index: int, what: str) -> Random:
        return np.random.default_rng(derive_seed("building", self.seed, index, what))

    def _text(self, index: int) -> Conversation:
        """A text conversation, in random order without replacement until all have been used."""
        total = sum(map(len, self.text.values()))
        before = bisect_left(self._texts, index)
        place = permuted(before % total, total, derive_seed("building", self.seed, "text"))
        for source in self.text.values():
            if place < len(source):
                own = source[place]
                return Conversation(own.messages, {**own.details, "kind": TEXT})
            place -= len(source)
        raise AssertionError("an index among all is an index in one of them")

    def _outputs(self, asked: Sequence[str] | None) -> tuple[Modality, ...]:
        there = self.pool.by_modality
        if unknown := [name for name in asked or () if not is_medium(name) or Modality(name) not in there]:
            raise ValueError(
                f"built.outputs: found {unknown[0]!r}; expected some of {', '.join(there)}, of which there are "
                "captioned media. Fix: remove it."
            )
        return tuple(modality for modality in there if asked is None or modality in asked)

    def _kinds(self, asked: Mapping[str, float]) -> dict[str, float]:
        shares = {kind: asked.get(kind, share) for kind, share in self.templates.shares.items()}
        impossible = frozenset() if self.outputs else MAKES
        if not self._alike:
            impossible |= NEEDS_OTHERS
        can = {kind: share for kind, share in shares.items() if share and kind not in impossible}
        if not can:
            raise ValueError(
                f"built.shares: found {shares}; expected a kind that can be built of {self.pool.counts()} with "
                f"{len(self.pool.shared)} captions or concepts of two modalities, where "
                f"{', '.join(self.outputs) or 'nothing'} can be made. Fix: raise the share of another kind."
            )
        return can


def _checked(shares: Mapping[str, float]) -> Mapping[str, float]:
    for kind, share in shares.items():
        if kind not in WRITERS or not 0 <= share < float("inf"):
            raise ValueError(
                f"built.shares: found {kind}: {share}; expected a number of at least 0 for {', '.join(WRITERS)}. "
                "Fix: correct it."
            )
    return shares
