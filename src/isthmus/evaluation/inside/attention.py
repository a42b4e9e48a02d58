"""How much each word of an answer takes from each medium of the conversation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.data.conversations.schema import Conversation
from isthmus.evaluation.inside.trace import Trace, trace
from isthmus.model import AnyToAny
from isthmus.types import Modality


@dataclass(frozen=True)
class MediaAttention:
    """Attention of an answer's tokens over the media before it.

    Attributes:
        tokens: of the answer, as text; ``[image]`` stands for a run of signal tokens.
        media: of the conversation, in the order in which they stand.
        shares: (L, tokens, media), the mean over heads of the attention that the position which predicts the token
            pays to all positions of the medium. What is left of 1 goes to words.
    """

    tokens: list[str]
    media: list[Modality]
    shares: Tensor


def attention_over_media(model: AnyToAny, conversation: Conversation) -> MediaAttention:
    """Where a model looks while it answers.

    Args:
        model: with its weights.
        conversation: with its answer.

    Raises:
        ValueError: as :func:`isthmus.evaluation.inside.trace.trace`, or the conversation shows no media.
    """
    traced = trace(model, conversation)
    placed = sorted(
        (start, length, modality)
        for modality, places in traced.layout.media.items()
        for start, length in zip(places.starts, places.lengths, strict=True)
    )
    if not placed:
        raise ValueError("conversation: found no media; expected one or more. Fix: show the model a medium.")
    predicting = traced.attention.mean(1)[:, traced.layout.targets - 1]  # (L, tokens, T)
    shares = [predicting[..., start : start + length].sum(-1) for start, length, _ in placed]
    return MediaAttention(
        tokens=_tokens(model, traced),
        media=[modality for _, _, modality in placed],
        shares=torch.stack(shares, -1),
    )


def _tokens(model: AnyToAny, traced: Trace) -> list[str]:
    """The answer's labelled tokens as text."""
    firsts = {
        int(position): f"[{modality}]"
        for modality, runs in traced.layout.runs.items()
        for position in runs.positions[:, 0]
    }
    tokenizer = model.backbone.language_model.tokenizer
    ids = traced.batch.ids[0]
    return [firsts.get(int(at)) or tokenizer.decode([int(ids[at])]) for at in traced.layout.targets]
