"""Batches of prompts that are answered several times each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from isthmus.data.collate import Collator
from isthmus.data.samples import Sample, stack
from isthmus.data.schema import Conversation
from isthmus.types import IGNORED, Batch
from isthmus.vocabulary import Vocabulary

PROMPT = "prompt"
"""Under which of a sample's details its conversation stands, for whoever scores the answers."""


class PromptCollator(Collator):
    """Makes batches of prompts, each ``copies`` times in a row: (B copies, T). Its arguments are the collator's."""

    copies: int = 1

    def sample(self, conversation: Conversation) -> Sample:
        """A prompt, its conversation kept among the details."""
        sample = super().sample(conversation)
        return Sample(**vars(sample) | {"details": {**sample.details, PROMPT: conversation.prompt()}})

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Every prompt so many times, side by side."""
        return stack([sample for sample in samples for _ in range(self.copies)])


def with_answers(prompts: Batch, answers: Sequence[Sequence[int]], vocabulary: Vocabulary) -> Batch:
    """Prompts (R, T) and the ids that answer each -> the batch to learn from, (R, T').

    What was sampled is a target: words, the end, and each run's first signal token, which the rest of a run follows.
    """
    lengths = prompts.mask.sum(1).tolist()
    longest = max(length + len(answer) for length, answer in zip(lengths, answers, strict=True))
    ids = prompts.ids.new_zeros(len(prompts), longest)
    labels = torch.full_like(ids, IGNORED)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    starts = vocabulary.starts()
    for row, (length, answer) in enumerate(zip(lengths, answers, strict=True)):
        ids[row, :length] = prompts.ids[row, :length]
        ids[row, length : length + len(answer)] = ids.new_tensor(list(answer))
        mask[row, : length + len(answer)] = True
        sampled = [token if token < vocabulary.base_size or token in starts else IGNORED for token in answer]
        labels[row, length : length + len(answer)] = labels.new_tensor(sampled)
    return Batch(ids, mask, labels, prompts.media, {}, prompts.details)
