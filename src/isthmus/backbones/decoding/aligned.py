"""Batched decoding in which all rows have the same number of tokens: for LLMs that count cache slots as positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from isthmus.backbones.base import Answer
from isthmus.backbones.decoding.answer_writer import AnswerWriter
from isthmus.backbones.decoding.sampling import Sampler
from isthmus.precision import lifted


def decode_aligned(
    last: Tensor,
    run: Callable[[Tensor], Tensor],
    embed: Callable[[Tensor], Tensor],
    logits: Callable[[Tensor], Tensor],
    sampler: Sampler,
    writers: Sequence[AnswerWriter],
) -> list[Answer]:
    """Decodes every row to its end.

    A relative attention bias measures distances in cache slots, so no row may have a masked slot. Each step therefore
    runs the smallest number of pending tokens of any unfinished row: a whole run of signal tokens if all rows have one
    pending, otherwise one token. A row in the middle of a run samples nothing.

    Args:
        last: (B, E) final states after the start token.
        run: embeddings (B, L, E) -> final states (B, L, E); keeps its own cache.
        embed: (B, L) ids -> (B, L, E).
        logits: (b, E) -> (b, columns), -inf where a column may not be chosen.
        sampler: chooses the columns.
        writers: one for each row; they decide what follows a choice.

    Returns:
        The answers. A run's states are the final hidden states plus the signal tokens' input embeddings (NExT-GPT,
        arXiv 2309.05519).
    """
    pending: list[list[int]] = [[] for _ in writers]
    states: list[list[Tensor]] = [[] for _ in writers]
    while True:
        choosing = [row for row, writer in enumerate(writers) if not pending[row] and not writer.is_finished]
        if choosing:
            for row, column in zip(choosing, sampler.choose(logits(last[choosing]), choosing), strict=True):
                block = writers[row].take(column)
                # No later computation needs the last token of a finished answer.
                if not writers[row].is_finished or writers[row].awaits_states:
                    pending[row] = block
        unfinished = [row for row, block in enumerate(pending) if block]
        if not unfinished:
            return [writer.answer for writer in writers]
        length = min(len(pending[row]) for row in unfinished)
        ids = torch.tensor([block[:length] or [0] * length for block in pending], device=last.device)
        embeddings = embed(ids)
        hidden = run(embeddings)
        for row in unfinished:
            pending[row] = pending[row][length:]
            states[row].append(lifted(hidden[row]) + lifted(embeddings[row]))
            if not pending[row]:
                writers[row].receive(torch.cat(states[row]))
                states[row] = []
        last = hidden[:, -1]
