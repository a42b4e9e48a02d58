"""Batches of prompts for which several answers each are sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from isthmus.batch_layout import with_layouts
from isthmus.data.batching.collate import Collator
from isthmus.data.batching.samples import Sample, stack, stack_pieces
from isthmus.data.conversations.schema import Conversation
from isthmus.types import IGNORED, Batch
from isthmus.vocabulary import Vocabulary

PROMPT = "prompt"
"""The key of a sample's details that holds its conversation, for the reward."""


class PromptCollator(Collator):
    """Makes batches of prompts, each ``copies`` times in a row: (B copies, T). Its arguments are the collator's.

    Attributes:
        copies: number of copies of each prompt.
        instruction: makes the batch's ``mixed`` from conversations that end with an answer; prompts are then those that
            end with the user, (0, 1) if there are none. Without it every conversation is cut to its prompt.
    """

    copies: int = 1
    instruction: Collator | None = None

    def sample(self, conversation: Conversation) -> Sample:
        """A prompt, with its conversation among the details; or instruction data."""
        if self.instruction is not None and conversation.messages and conversation.messages[-1].role == "assistant":
            return self.instruction.sample(conversation)
        sample = super().sample(conversation)
        return replace(sample, details={**sample.details, PROMPT: conversation.prompt()})

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Adjacent copies of every prompt, whose media are stacked once; instruction data in micro-batches."""
        prompts = [sample for sample in samples if PROMPT in sample.details for _ in range(self.copies)]
        instruction = [sample for sample in samples if PROMPT not in sample.details]
        mixed = stack_pieces(instruction, self.micro_batches) if instruction else None
        return with_layouts(replace(stack(prompts) if prompts else _no_prompts(), mixed=mixed), self.planner.vocabulary)


def _no_prompts() -> Batch:
    ids = torch.zeros((0, 1), dtype=torch.int64)
    return Batch(ids, torch.zeros_like(ids, dtype=torch.bool), ids.clone())


def with_answers(prompts: Batch, answers: Sequence[Sequence[int]], vocabulary: Vocabulary) -> Batch:
    """Prompts (R, T) and the ids of their answers -> a training batch, (R, T').

    Sampled tokens are targets: text, the end token, and each run's first signal token; the rest of a run isn't sampled.
    """
    lengths = prompts.mask.sum(1).tolist() if prompts.layout is None else prompts.layout.lengths
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
