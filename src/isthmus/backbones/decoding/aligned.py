"""Batched decoding in which all rows have run equally many tokens: for LLMs that count cache slots as positions."""

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

    A relative attention bias measures distances in cache slots, so no row may have a hidden slot. Each step therefore
    runs as many tokens as the unfinished row with the fewest has waiting: a whole run of signal tokens at once where
    all rows have one, otherwise a token at a time. Whoever is in the middle of a run chooses nothing.

    Args:
        last: (B, E) final states after the start token.
        run: embeddings (B, L, E) -> final states (B, L, E); keeps its own cache.
        embed: (B, L) ids -> (B, L, E).
        logits: (b, E) -> (b, columns), -inf where a column may not be chosen.
        sampler: chooses the columns.
        writers: one a row; they decide what follows a choice.

    Returns:
        The answers. A run's states are the final hidden states plus the signal tokens' input embeddings (NExT-GPT,
        arXiv 2309.05519).
    """
    waiting: list[list[int]] = [[] for _ in writers]
    states: list[list[Tensor]] = [[] for _ in writers]
    while True:
        choosing = [row for row, writer in enumerate(writers) if not waiting[row] and not writer.is_finished]
        if choosing:
            for row, column in zip(choosing, sampler.choose(logits(last[choosing]), choosing), strict=True):
                block = writers[row].take(column)
                # The last word of a finished answer is needed by nobody.
                if not writers[row].is_finished or writers[row].awaits_states:
                    waiting[row] = block
        unfinished = [row for row, block in enumerate(waiting) if block]
        if not unfinished:
            return [writer.answer for writer in writers]
        length = min(len(waiting[row]) for row in unfinished)
        ids = torch.tensor([block[:length] or [0] * length for block in waiting], device=last.device)
        embeddings = embed(ids)
        hidden = run(embeddings)
        for row in unfinished:
            waiting[row] = waiting[row][length:]
            states[row].append(lifted(hidden[row]) + lifted(embeddings[row]))
            if not waiting[row]:
                writers[row].receive(torch.cat(states[row]))
                states[row] = []
        last = hidden[:, -1]
