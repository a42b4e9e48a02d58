"""Batched decoding of a causal LLM with a key-value cache, in which a run of signal tokens takes one forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from isthmus.backbones.base import Answer
from isthmus.backbones.decoding.answer_writer import AnswerWriter
from isthmus.backbones.decoding.sampling import Sampler
from isthmus.backbones.decoding.step import decode_step

Run = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(embeddings (B, L, E), mask (B, slots so far), positions (B, L)) -> final states (B, L, E); keeps its own cache."""


def decode_answers(
    prompts: Tensor,
    mask: Tensor,
    run: Run,
    embed: Callable[[Tensor], Tensor],
    logits: Callable[[Tensor], Tensor],
    sampler: Sampler,
    writers: Sequence[AnswerWriter],
    reused: int = 0,
) -> list[Answer]:
    """Decodes every row to its end.

    Each step appends a block to every unfinished row: a text token, or whole runs. Rows with shorter blocks get masked
    slots, so that cache slots and positions differ; positions are therefore explicit. (A sliding-window LLM counts
    slots, so that masked ones shrink its window.)

    Args:
        prompts: (B, T, E) embedded prompts, right-padded.
        mask: (B, T) bool.
        run: the LLM without its head.
        embed: (B, L) ids -> (B, L, E).
        logits: (B, E) -> (B, columns), -inf where a column may not be chosen.
        sampler: chooses the columns.
        writers: one for each row; they decide what follows a choice.
        reused: number of positions that are already in ``run``'s cache; fewer than any prompt has.

    Returns:
        The answers. A run's states are the final hidden states plus the signal tokens' input embeddings (NExT-GPT,
        arXiv 2309.05519).
    """
    all_rows = torch.arange(len(mask), device=mask.device)
    lengths = mask.sum(1)
    positions = torch.arange(reused, mask.shape[1], device=mask.device).expand(len(mask), -1)
    last: Tensor | None = run(prompts[:, reused:], mask, positions)[all_rows, lengths - 1 - reused]

    def run_blocks(ids: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal lengths, mask
        steps = torch.arange(ids.shape[1], device=mask.device)
        positions = lengths[:, None] + torch.minimum(steps, (counts[:, None] - 1).clamp(min=0))
        mask = torch.cat([mask, steps < counts[:, None]], dim=1)
        lengths = lengths + counts
        embeddings = embed(ids)
        return run(embeddings, mask, positions), embeddings

    while last is not None:
        last = decode_step(last, lambda states: sampler.choose(logits(states)), writers, run_blocks)
    return [writer.answer for writer in writers]
