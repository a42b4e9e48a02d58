"""Preference pairs, two answers to one prompt of which one is preferred, and their batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.batch_layout import with_layouts
from isthmus.data.batching.collate import Collator
from isthmus.data.batching.samples import Sample, SampleMedium, SampleRun, split_evenly, stack
from isthmus.data.conversations.schema import ContentItem, Conversation, MediumItem, Message, TextItem
from isthmus.data.errors import DataError, Fault
from isthmus.types import Batch, Media


@dataclass(frozen=True)
class Pair(Conversation):
    """A conversation that ends with the chosen answer, and the rejected answer.

    As a conversation it is instruction data: an ordinary stage trains the chosen answer.
    """

    rejected: Message = field(default_factory=lambda: Message("assistant", ()))

    def other(self) -> Conversation:
        """The same conversation with the rejected answer at its end."""
        return Conversation((*self.messages[:-1], self.rejected), self.details, tools=self.tools)


def check_pair(pair: Pair, where: str) -> None:
    """Refuses pairs that carry no preference.

    Raises:
        DataError: an answer isn't the assistant's or is empty, or both are the same.
    """
    chosen = pair.messages[-1] if pair.messages else Message("user", ())
    for side, message in (("chosen", chosen), ("rejected", pair.rejected)):
        if message.role != "assistant":
            raise DataError(
                Fault.SCHEMA,
                f"{where}: {side}: found a turn of the {message.role}; expected the assistant's answer. Fix: end the "
                "conversation with it.",
            )
        if not any(isinstance(item, MediumItem) or item.text.strip() for item in message.content):
            raise DataError(
                Fault.SCHEMA,
                f"{where}: {side}: found neither text nor media; expected an answer. Fix: fill it, or drop the pair.",
            )
    if len(chosen.content) == len(pair.rejected.content) and all(
        _is_same(*items) for items in zip(chosen.content, pair.rejected.content, strict=True)
    ):
        raise DataError(
            Fault.EQUAL_PAIR,
            f"{where}: chosen and rejected: found the same answer twice; expected two that differ. Fix: drop the pair.",
        )


def _is_same(one: ContentItem, other: ContentItem) -> bool:
    if isinstance(one, TextItem) or isinstance(other, TextItem):
        return one == other
    return (one.modality, one.caption) == (other.modality, other.caption) and _is_same_medium(one.media, other.media)


def _is_same_medium(one: Any, other: Any) -> bool:
    if isinstance(one, Media) and isinstance(other, Media):
        return one.rate == other.rate and np.array_equal(one.array, other.array)
    return bool(one == other)


def _is_same_runs(chosen: Sequence[SampleRun], rejected: Sequence[SampleRun]) -> bool:
    """Whether all runs have equal captions and equal contents; contents that a stage doesn't read count as unequal."""
    return len(chosen) == len(rejected) and all(
        one.caption == other.caption and _is_same_content(one.content, other.content)
        for one, other in zip(chosen, rejected, strict=True)
    )


def _is_same_content(one: Mapping[str, Tensor] | None, other: Mapping[str, Tensor] | None) -> bool:
    return (
        one is not None
        and other is not None
        and one.keys() == other.keys()
        and all(torch.equal(own, other[name]) for name, own in one.items())
    )


@dataclass
class PairSample(Sample):
    """The chosen side of a pair as a sample, and the rejected side."""

    rejected: Sample = field(default_factory=Sample)


class PairCollator(Collator):
    """Makes batches of pairs: n chosen answers, then the n rejected ones in the same order, (2n, T).

    Runs at the same index of both answers share a seed, and so their noise. The media of a pair's prompt are read and
    stacked once for both sides. Arguments are those of :class:`~isthmus.data.batching.collate.Collator`; ``targets``
    should be ``last``, since only the answers differ.
    """

    def sample(self, conversation: Conversation) -> PairSample:
        """Lays out both sides.

        Raises:
            DataError: it isn't a pair, both sides are equal (:func:`check_pair`) or become equal model inputs, or a
                side is invalid.
        """
        name = f"conversation {conversation.details.get('id', '')}".rstrip()
        if not isinstance(conversation, Pair):
            raise DataError(
                Fault.SCHEMA,
                f"{name}: found a conversation with one answer; expected a pair. Fix: give a stage that learns "
                "preferences sources of isthmus.data.conversations.preferences alone.",
            )
        check_pair(conversation, name)
        ready: dict[MediumItem, SampleMedium] = {}  # the prompt's media are in both sides, and are read once
        chosen = self.lay_out(conversation, ready)
        rejected = self.lay_out(self._rejected_side(conversation, chosen), ready)
        if chosen.ids == rejected.ids and _is_same_runs(chosen.runs, rejected.runs):
            raise DataError(
                Fault.EQUAL_PAIR,
                f"{name}: chosen and rejected: found the same tokens and media once laid out; expected two answers "
                "that differ in more than white space or the names of files. Fix: drop the pair.",
            )
        return PairSample(**vars(chosen), rejected=rejected)

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Chosen rows, then rejected rows; in micro-batches of whole pairs, of which the first holds the others."""
        pairs = [sample for sample in samples if isinstance(sample, PairSample)]
        assert len(pairs) == len(samples), "a batch of pairs holds only pairs"
        groups = split_evenly([len(pair.ids) + len(pair.rejected.ids) for pair in pairs], self.micro_batches)
        chosen = [[pairs[place] for place in part] for part in groups]
        first, *rest = [stack([*part, *[pair.rejected for pair in part]]) for part in chosen]
        return with_layouts(replace(first, rest=rest), self.planner.vocabulary)

    def _rejected_side(self, pair: Pair, chosen: Sample) -> Conversation:
        """The rejected side, with the seed of the chosen side's first run if the source gives none."""
        other = pair.other()
        if "seed" in other.details or not chosen.runs:
            return other
        first = sum(isinstance(i, MediumItem) for m in pair.messages[:-1] if m.role == "assistant" for i in m.content)
        return replace(other, details={**other.details, "seed": chosen.runs[0].seed - first})
