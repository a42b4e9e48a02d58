"""Losses as plain functions of tensors: text cross-entropy and alignment. A generator's denoising loss is its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

AlignmentForm = Literal["mse", "norm"]


def text_loss(
    hidden: Tensor, head: Callable[[Tensor], Tensor], labels: Tensor, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the target positions, summed: -sum_p log softmax(head(h_p))[y_p].

    Only target positions come in, and no more than ``chunk`` of them meet the head at a time. Where they are more, a
    chunk's logits are computed once more in the backward pass, so that (P, vocabulary) logits never exist.

    Args:
        hidden: (P, E) final states at the positions that predict a target.
        head: (p, E) -> (p, vocabulary) logits. A function, since LLMs scale, bias or cap their logits each in their own
            way.
        labels: (P,) int64, the columns of the logits to predict.
        chunk: positions that meet the head together.

    Returns:
        The sum of the cross-entropies () in float32 (0 without targets), and which targets were the likeliest token
        (P,) bool, without gradient.
    """

    def piece(states: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(states).float()
        return F.cross_entropy(logits, wanted, reduction="sum"), logits.detach().argmax(-1) == wanted

    if len(labels) <= chunk:
        return piece(hidden, labels)
    losses, correct = [], []
    for states, wanted in zip(torch.split(hidden, chunk), torch.split(labels, chunk), strict=True):
        loss, hits = checkpoint(piece, states, wanted, use_reentrant=False, preserve_rng_state=False)
        losses.append(loss)
        correct.append(hits)
    return torch.stack(losses).sum(), torch.cat(correct)


def alignment_loss(
    projected: Tensor, target: Tensor, mask: Tensor | None = None, form: AlignmentForm = "mse"
) -> Tensor:
    """Distance between H and the generator's own text condition, for each sample, in float32.

    ``mse`` is the paper's (NExT-GPT, arXiv 2309.05519, section 4.2): mean over C and K of (H - target)^2.
    ``norm`` is the un-squared form of NExT-GPT's first released code: mean over C of the L2 norm over K. Its gradient
    doesn't fade near the target, and it weighs wide conditions (large K) more.

    Args:
        projected: H (r, C, K).
        target: (r, C, K); no gradient flows into it.
        mask: (r, C) bool, the condition tokens that count; all of them if None. A sample without any gives 0.
        form: ``mse`` or ``norm``.

    Returns:
        (r,) one loss a sample.

    Raises:
        ValueError: the shapes differ, or ``form`` is unknown.
    """
    if projected.shape != target.shape:
        raise ValueError(
            f"alignment_loss: found H {tuple(projected.shape)} and target {tuple(target.shape)}; expected equal shapes "
            "(r, C, K). "
            "Was the output projector built with this generator's condition_shape?"
        )
    difference = projected.float() - target.detach().float()
    match form:
        case "mse":
            distances = difference.square().mean(-1)
        case "norm":
            distances = torch.linalg.vector_norm(difference, dim=-1)
        case _:
            raise ValueError(f"alignment_loss: unknown form '{form}'; known: mse, norm")
    if mask is None:
        return distances.mean(-1)
    return (distances * mask).sum(-1) / mask.sum(-1).clamp(min=1)
