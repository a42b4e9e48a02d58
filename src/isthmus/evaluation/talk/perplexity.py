"""The perplexity of plain text, before and after tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.backbones import CausalBackbone
from isthmus.types import IGNORED, Batch

WINDOW = 512
"""Tokens of a text that are read together, where the LLM has positions for as many."""


@dataclass(frozen=True)
class TextLoss:
    """The losses of a text.

    Attributes:
        tokens: that were predicted.
        before: the sum of their cross-entropies by the LLM as it was published: no adapters, no new tokens.
        after: likewise by the tuned model, which may also predict a medium where the text goes on.
    """

    tokens: int
    before: float
    after: float


@torch.no_grad()
def text_losses(language_model: CausalBackbone, texts: Sequence[str]) -> list[TextLoss]:
    """The losses of each text's tokens but the first, in windows of :data:`WINDOW`.

    Args:
        language_model: tuned, and built.
        texts: plain text, outside any chat template.
    """
    device = language_model.rows.signal_rows.device
    window = min(WINDOW, getattr(language_model.config, "max_position_embeddings", None) or WINDOW)
    found = []
    for text in texts:
        read = language_model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        windows = [part for part in torch.tensor(read, device=device).split(window) if len(part) > 1]
        with language_model.adapters_disabled():
            before = sum(_published(language_model, part) for part in windows)
        after = sum(_tuned(language_model, part) for part in windows)
        found.append(TextLoss(sum(len(part) - 1 for part in windows), before, after))
    return found


def _published(language_model: CausalBackbone, ids: Tensor) -> float:
    logits = language_model.llm(input_ids=ids[None], use_cache=False).logits[0, :-1].float()
    return float(functional.cross_entropy(logits, ids[1:], reduction="sum"))


def _tuned(language_model: CausalBackbone, ids: Tensor) -> float:
    labels = ids.clone()
    labels[0] = IGNORED
    batch = Batch(ids[None], torch.ones_like(ids, dtype=torch.bool)[None], labels[None])
    return float(language_model(batch, {}).text_loss)
