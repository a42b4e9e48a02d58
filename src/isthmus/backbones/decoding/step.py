"""One step of decoding, for rows that end together and for rows that join and leave between steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from isthmus.backbones.decoding.answer_writer import AnswerWriter
from isthmus.precision import lifted

RunBlocks = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Right-padded ids (B, L) and their counts (B,) -> final states (B, L, E) and input embeddings (B, L, E)."""


def decode_step(
    last: Tensor, choose: Callable[[Tensor], list[int]], writers: Sequence[AnswerWriter], run: RunBlocks
) -> Tensor | None:
    """Appends a block to every unfinished row: a text token, or whole runs of signal tokens.

    Args:
        last: (B, E) the final state at each row's last position.
        choose: the same -> the column of the logits that each row takes.
        writers: one for each row; they decide what follows a choice, and get the states of their runs.
        run: the LLM without its head; keeps its own caches.

    Returns:
        (B, E) the states at the new last positions, or None if no row is left that goes on.
    """
    blocks = [writer.take(choice) for writer, choice in zip(writers, choose(last), strict=True)]
    if all(writer.is_finished and not writer.awaits_states for writer in writers):
        return None
    longest = max(len(block) for block in blocks)
    ids = torch.tensor([block + [0] * (longest - len(block)) for block in blocks], device=last.device)
    counts = torch.tensor([len(block) for block in blocks], device=last.device)
    hidden, embeddings = run(ids, counts)
    for row, writer in enumerate(writers):
        writer.receive(lifted(hidden[row]) + lifted(embeddings[row]))
    if all(writer.is_finished for writer in writers):
        return None
    rows = torch.arange(len(blocks), device=last.device)
    return torch.where(counts[:, None] > 0, hidden[rows, (counts - 1).clamp(min=0)], last)
