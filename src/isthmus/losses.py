"""Losses as plain functions of tensors: text, alignment, preference. A generator's denoising loss is its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

AlignmentForm = Literal["mse", "norm"]
PreferenceForm = Literal["sigmoid", "sigmoid_norm", "ipo"]
CrossEntropy = Callable[[Tensor, Tensor, str], Tensor]
"""(p, vocabulary) logits of any type, (p,) labels and ``sum`` or ``none`` -> losses in float32: () or (p,)."""


def torch_cross_entropy(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
    """The cross-entropy of torch, in float32; a :data:`CrossEntropy`."""
    return F.cross_entropy(logits.float(), labels, reduction=reduction)


def text_loss(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    labels: Tensor,
    chunk: int = 1024,
    cross_entropy: CrossEntropy = torch_cross_entropy,
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
        cross_entropy: what measures the logits.

    Returns:
        The sum of the cross-entropies () in float32 (0 without targets), and which targets were the likeliest token
        (P,) bool, without gradient.
    """
    losses, correct = _pieces(hidden, head, labels, chunk, cross_entropy, "sum")
    return (losses[0], correct[0]) if len(losses) == 1 else (torch.stack(losses).sum(), torch.cat(correct))


def token_losses(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    labels: Tensor,
    chunk: int = 1024,
    cross_entropy: CrossEntropy = torch_cross_entropy,
) -> tuple[Tensor, Tensor]:
    """As :func:`text_loss`, but the cross-entropy (P,) of each target position: its negative log-probability."""
    losses, correct = _pieces(hidden, head, labels, chunk, cross_entropy, "none")
    return torch.cat(losses), torch.cat(correct)


def kept_divergence(
    hidden: Tensor,
    earlier: Tensor,
    head: Callable[[Tensor], Tensor],
    known: int,
    chunk: int = 1024,
) -> Tensor:
    """How far predictions have moved from those before, summed over positions: sum_p KL(before_p || now_p), in nats.

    What is predicted now and wasn't before (signal tokens) has no mass before: what it takes from the rest counts.

    Args:
        hidden: (P, E) final states now.
        earlier: (P, E) final states before; no gradient flows into them.
        head: (p, E) -> (p, vocabulary) logits.
        known: the first so many columns are what was there to predict before.
        chunk: positions whose logits exist together; of more, they are computed once more in the backward pass.

    Returns:
        () in float32; 0 without positions.
    """

    def piece(states: Tensor, before: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = head(before)[:, :known].float().log_softmax(-1)
        found = head(states).float().log_softmax(-1)[:, :known]
        return F.kl_div(found, wanted, reduction="sum", log_target=True)

    if len(hidden) <= chunk:
        return piece(hidden, earlier)
    parts = zip(torch.split(hidden, chunk), torch.split(earlier, chunk), strict=True)
    return torch.stack(
        [checkpoint(piece, *each, use_reentrant=False, preserve_rng_state=False) for each in parts]
    ).sum()


def _pieces(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    labels: Tensor,
    chunk: int,
    cross_entropy: CrossEntropy,
    reduction: str,
) -> tuple[list[Tensor], list[Tensor]]:
    """Losses, and which targets were the likeliest token, of each chunk."""

    def piece(states: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(states)
        return cross_entropy(logits, wanted, reduction), logits.detach().argmax(-1) == wanted

    if len(labels) <= chunk:
        loss, hits = piece(hidden, labels)
        return [loss], [hits]
    losses, correct = [], []
    for states, wanted in zip(torch.split(hidden, chunk), torch.split(labels, chunk), strict=True):
        loss, hits = checkpoint(piece, states, wanted, use_reentrant=False, preserve_rng_state=False)
        losses.append(loss)
        correct.append(hits)
    return losses, correct


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


def preference_loss(
    ratios: tuple[Tensor, Tensor], tokens: tuple[Tensor, Tensor], beta: float, form: PreferenceForm = "sigmoid"
) -> tuple[Tensor, Tensor]:
    """Direct preference optimisation, for each pair. The forms have the names of ``trl``.

    ``sigmoid``: -log sigmoid(beta (r_w - r_l)), r being the log-ratio of policy and reference (DPO, arXiv 2305.18290,
    equation 7). ``sigmoid_norm``: the same with each log-ratio divided by its answer's tokens, so that length is worth
    nothing by itself. ``ipo``: (r_w - r_l - 1 / (2 beta))^2 with ratios by token (arXiv 2310.12036, equation 17).

    Args:
        ratios: (n,) of the chosen and (n,) of the rejected answers: log-probabilities of all target positions summed,
            minus the reference's.
        tokens: (n,) and (n,), how many positions these are.
        beta: how strongly the policy is held to the reference (in ``ipo``: tau).
        form: which of the losses.

    Returns:
        (n,) losses, and (n,) margins beta (r_w - r_l) without gradient: above 0 where the pair is ranked right.

    Raises:
        ValueError: ``form`` is unknown.
    """
    chosen, rejected = ratios
    if form in ("sigmoid_norm", "ipo"):
        chosen, rejected = (ratio / count.clamp(min=1) for ratio, count in zip(ratios, tokens, strict=True))
    margin = chosen - rejected
    match form:
        case "sigmoid" | "sigmoid_norm":
            loss = -F.logsigmoid(beta * margin)
        case "ipo":
            loss = (margin - 1 / (2 * beta)).square()
        case _:
            raise ValueError(f"preference_loss: unknown form '{form}'; known: sigmoid, sigmoid_norm, ipo")
    return loss, (beta * margin).detach()


def diffusion_preference_loss(chosen: Tensor, rejected: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Diffusion-DPO for each pair of media: -log sigmoid(-beta (d_w - d_l)) (Wallace et al., arXiv 2311.12908, eq. 14).

    Args:
        chosen: (c,) d_w, the denoising error of the chosen medium minus the reference's at the same noise and timestep.
        rejected: (c,) d_l, likewise.
        beta: theirs times the number of timesteps; since errors are means over a latent's elements, thousands.

    Returns:
        (c,) losses, and (c,) margins without gradient.
    """
    margin = -beta * (chosen - rejected)
    return -F.logsigmoid(margin), margin.detach()


def group_advantages(rewards: Tensor, epsilon: float = 1e-4) -> Tensor:
    """(B, G) rewards -> advantages (B, G): each group's mean taken off, divided by its deviation plus ``epsilon``.

    A group of equal rewards has none. Source: DeepSeekMath, arXiv 2402.03300, section 4.1.2.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (rewards.std(1, keepdim=True) + epsilon)


def policy_loss(
    policy: Tensor, old: Tensor, reference: Tensor, mask: Tensor, advantages: Tensor, clip: float, kl: float
) -> tuple[Tensor, Tensor]:
    """The clipped policy loss of GRPO with its KL term, for each answer (arXiv 2402.03300, equations 3 and 4).

    Args:
        policy: (R, T) log-probabilities of the sampled tokens; those of ``mask`` count.
        old: (R, T) the same when they were sampled, without gradient.
        reference: (R, T) the same under the reference, without gradient.
        mask: (R, T) bool.
        advantages: (R,) one an answer.
        clip: the ratio of policy and old policy counts within 1 - clip and 1 + clip.
        kl: the weight of the KL term.

    Returns:
        (R,) losses and (R,) KL terms, each a mean over an answer's tokens. The KL is the estimator exp(x) - x - 1 of
        x = log reference - log policy, unbiased and never negative.
    """
    ratio = ((policy - old) * mask).exp()
    weighed = advantages[:, None]
    gained = torch.minimum(ratio * weighed, ratio.clamp(1 - clip, 1 + clip) * weighed)
    apart = (reference - policy) * mask
    divergence = apart.exp() - apart - 1
    count = mask.sum(1).clamp(min=1)
    return ((kl * divergence - gained) * mask).sum(1) / count, (divergence.detach() * mask).sum(1) / count
