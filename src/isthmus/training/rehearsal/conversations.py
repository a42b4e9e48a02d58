"""What a rehearsal talks about: every medium that a model takes or makes, in the form that a stage learns from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from isthmus.data.batching.pairs import Pair
from isthmus.data.conversations.schema import ContentItem, Conversation, MediumItem, Message, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.model import AnyToAny
from isthmus.training.objectives.preference import Preference
from isthmus.training.stage import Stage
from isthmus.types import Media, Modality

LENGTH = 1 << 16
"""Of a set: more conversations than two batches have."""


def medium(modality: Modality) -> Media:
    """A medium of noise, of the modality's kind.

    Raises:
        ValueError: the modality accepts no such medium.
    """
    kind, noise = modality.kind, np.random.default_rng(0)
    shape, rate = kind.example
    array = noise.random(shape, np.float32) if kind.is_real else noise.integers(0, 256, shape, np.uint8)
    return Media(modality, array, rate)


class Rehearsed(ConversationSource):
    """Conversations in which each combination of a medium given and a medium made has its turn.

    Args:
        given: media in the question; text alone where there is none.
        made: media in the answer, likewise.
        words: of a question and of an answer, each.
        files: whether media that are made bring their content.
        pairs: whether each has a rejected answer too.

    Attributes:
        media_pairs: how many of the first conversations have each medium among them.
    """

    name = "rehearsal"

    def __init__(
        self,
        given: Sequence[Modality],
        made: Sequence[Modality],
        words: int,
        files: bool = False,
        pairs: bool = False,
    ) -> None:
        # Neighbours differ in both, so that a batch smaller than all combinations still has each medium.
        longest = max(len(given), len(made), 1)
        questions: list[Modality | None] = [*given] or [None]
        answers: list[Modality | None] = [*made] or [None]
        along = [(questions[i % len(questions)], answers[i % len(answers)]) for i in range(longest)]
        every = [pair for pair in product(questions, answers) if pair not in along]
        self.combinations = [*along, *every]
        self.media_pairs = longest
        self.media = {modality: medium(modality) for modality in {*given, *(made if files else [])}}
        self.words = words
        self.with_content = files
        self.pairs = pairs

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> Conversation:
        given, made = self.combinations[index % len(self.combinations)]
        asked: list[ContentItem] = [TextItem(" ".join(["word"] * self.words))]
        if given is not None:
            asked.append(MediumItem(given, self.media[given]))
        question = Message("user", tuple(asked))
        details = {"id": f"rehearsal/{index}"}
        if self.pairs:
            return Pair((question, self._answer(made, index)), details, self._answer(made, index + LENGTH))
        return Conversation((question, self._answer(made, index)), details)

    def _answer(self, made: Modality | None, index: int) -> Message:
        text = " ".join([str(index), *["word"] * (self.words - 1)])  # a caption that was met before costs nothing
        content: list[ContentItem] = [TextItem(text)]
        if made is not None:
            content.append(MediumItem(made, self.media[made] if self.with_content else None, text))
        return Message("assistant", tuple(content))


def conversations_of(model: AnyToAny, stage: Stage, words: int) -> Rehearsed:
    """What a stage learns from: media in questions where it trains how they are read, in answers where they weigh."""
    reads = any(part.split(".")[0] in ("input_projectors", "media_tags", "fusion", "lora") for part in stage.trains)
    pairs, denoises = isinstance(stage.learns_by, Preference), stage.learns_by.prepares(stage.losses)
    makes = pairs or denoises or stage.losses.alignment > 0
    return Rehearsed(
        model.inputs if reads or not makes else [],
        model.outputs if makes else [],
        words,
        files=denoises,
        pairs=pairs,
    )
