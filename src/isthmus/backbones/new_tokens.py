"""Trained embedding and head rows for the new tokens, separate from the LLM's frozen embedding and head."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.layout import Layout
from isthmus.modalities import MEDIA
from isthmus.vocabulary import Vocabulary

BLOCK = 8192
"""Rows averaged at a time, so that a large vocabulary isn't copied whole."""


class NewTokenRows(nn.Module):
    """Input rows of the media tags and the signal tokens, and output rows of those that are predicted.

    These are each modality's first signal token; of NExT-GPT's first release all (:mod:`isthmus.vocabulary`).

    An input row is drawn from a normal distribution with the mean and deviation of each column of the LLM's embedding,
    so that frozen layers can process it like a word; the draw uses torch's global random state. An output row is the
    mean of the LLM's head: its logit is then the mean logit, so that the new tokens hardly change the LLM's
    distribution before training (Hewitt, "Initializing new word embeddings for pretrained language models", 2021).
    Equal output rows diverge at the first step, as their labels differ. Rows are float32, whatever the LLM's type.

    Args:
        vocabulary: ids of the new tokens.
        embedding: ids -> (..., E), the LLM's embedding; a module, because some LLMs scale embeddings in it.
        head: (base_size, E) the LLM's head. If it is on the meta device, so are the rows.

    Attributes:
        embedding_rms: root mean square of the LLM's embedding; 1 on the meta device.
        starts: the output rows.
    """

    def __init__(self, vocabulary: Vocabulary, embedding: Callable[[Tensor], Tensor], head: Tensor) -> None:
        super().__init__()
        self.base_size = vocabulary.base_size
        ids = torch.arange(vocabulary.base_size, device=head.device)
        mean, deviation = _column_statistics(embedding(block) for block in torch.split(ids, BLOCK))
        # What a modality adds is drawn after all others, so that their rows start as they do without it.
        common = [m for m in vocabulary.media if m in MEDIA]
        others = [m for m in vocabulary.media if m not in MEDIA]
        tags = vocabulary.tag_rows - 2 * len(others)
        groups = [tags + sum(vocabulary.signal_counts[m] for m in common)]
        groups += [2 + vocabulary.signal_counts[m] for m in others]
        if mean.is_meta:
            drawn = [mean.expand(rows, -1) for rows in groups]
        else:
            drawn = [mean.cpu() + deviation.cpu() * torch.randn(rows, len(mean), device="cpu") for rows in groups]
        self.embedding_rms = 1.0 if mean.is_meta else float((mean.square() + deviation.square()).mean().sqrt())
        self.media_tags = nn.Parameter(torch.cat([drawn[0][:tags], *(rows[:2] for rows in drawn[1:])]))
        self.signal_rows = nn.Parameter(torch.cat([drawn[0][tags:], *(rows[2:] for rows in drawn[1:])]))
        likely = _column_statistics(torch.split(head, BLOCK))[0].to(self.media_tags.device)
        self.starts = StartHead(likely.expand(len(vocabulary.predicted), -1).clone())
        columns = torch.full(
            (vocabulary.size - vocabulary.base_size,), -1, dtype=torch.int64, device=self.media_tags.device
        )
        for index, token in enumerate(vocabulary.predicted):
            columns[token - vocabulary.base_size] = vocabulary.base_size + index
        self.register_buffer("head_columns", columns, persistent=False)
        self.head_columns: Tensor

    @property
    def run_starts(self) -> nn.Parameter:
        """The output rows, one for each modality in the vocabulary's order."""
        return self.starts.weight

    def forward(self, ids: Tensor, base: Callable[[Tensor], Tensor], layout: Layout | None = None) -> Tensor:
        """(B, T) ids -> (B, T, E) in the type of ``base``, the LLM's embedding. Media positions are filled later.

        Without the ids' layout, as in decoding, a row is looked up for every position: the CPU doesn't know which ones
        hold new tokens.
        """
        new = ids >= self.base_size
        embeddings = base(ids.masked_fill(new | (ids < 0), 0))
        rows = torch.cat([self.media_tags, self.signal_rows])
        if layout is None:
            each = rows[(ids - self.base_size).clamp(min=0)].to(embeddings.dtype)
            return torch.where(new[..., None], each, embeddings)
        found = rows.index_select(0, layout.new_rows).to(embeddings.dtype)
        return embeddings.flatten(0, -2).index_copy(0, layout.new, found).view_as(embeddings)

    def columns(self, labels: Tensor) -> Tensor:
        """Labels -> columns of the logits; negative for labels that can't be predicted.

        The columns are the base vocabulary, then one for each new token that is predicted.
        """
        new = labels >= self.base_size
        offsets = (labels - self.base_size).clamp(0, len(self.head_columns) - 1)
        return torch.where(new, self.head_columns[offsets], labels)


class StartHead(nn.Module):
    """The head of first signal tokens: (p, E) states -> (p, modalities) scores, in the states' own type."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, states: Tensor) -> Tensor:
        return F.linear(states, self.weight.to(states.dtype))


@torch.no_grad()
def _column_statistics(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation (E,) over the rows of all blocks, float32."""
    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0
    for block in blocks:
        rows = block.double()
        count, total, squares = count + len(rows), total + rows.sum(0), squares + rows.square().sum(0)
    assert isinstance(total, Tensor) and isinstance(squares, Tensor), "a vocabulary has rows"
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp(min=0).sqrt().float()
