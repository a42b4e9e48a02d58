"""A batch learnt from in parts, one after another: loss and gradients of the whole, the memory of one part.

Each part's loss is divided by the whole batch's counts, so that the parts' gradients sum to those of the batch in one
piece. Gradient accumulation over batches, as Trainers have it, takes the mean of the batches' means instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from isthmus.model.losses import LossWeights, Terms
from isthmus.types import Batch, Modality

if TYPE_CHECKING:
    from isthmus.model.any_to_any import AnyToAny


def check_micro_batches(weights: LossWeights) -> None:
    """Says whether these losses can be learnt in parts.

    Raises:
        ValueError: a term's counts are only known when it has been computed.
    """
    for name in ("teaching", "imitation"):
        if getattr(weights, name):
            raise ValueError(
                f"micro_batches: found a weight on losses.{name}, which compares texts or media of the whole batch; "
                "expected text, alignment and denoising alone. Fix: set micro_batches to 1."
            )


def learn(model: AnyToAny, parts: Sequence[Batch], counts: Tensor) -> tuple[Tensor, Terms]:
    """The loss of parts of a batch, learnt from one after another, and their terms together, without gradient.

    Args:
        model: what learns.
        parts: at least one.
        counts: (3,) of the global batch.

    Returns:
        The loss (), a sum over this process's parts, and its terms.
    """
    found: list[Terms] = []

    def loss_of(part: Batch) -> Tensor:
        terms: Terms = model(part)
        found.append(terms.detach())
        return terms.total(model.loss_weights, counts)

    loss, _ = in_turn(model, [partial(loss_of, part) for part in parts])
    return loss, together(found, parts)


def in_turn(model: AnyToAny, losses: Sequence[Callable[[], Tensor]]) -> tuple[Tensor, list[Tensor]]:
    """The sum of losses that are computed and learnt from one after another.

    All but the last have been learnt from when this returns, and their activations are gone; the sum's own backward
    pass adds their gradients to the last one's. To optimizers, clipping and DDP's reduction, which see one backward
    pass, it is a loss like any other. Where the model's batches aren't divided (``micro_batches`` is 1) it is plainly
    the sum.

    Args:
        model: what learns.
        losses: at least one; each computes a loss () from the beginning.

    Returns:
        The sum (), and each loss without gradient.
    """
    if model.micro_batches == 1 or len(losses) == 1:
        whole = [find() for find in losses]
        return torch.stack(whole).sum() if len(whole) > 1 else whole[0], [loss.detach() for loss in whole]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    sums: list[Tensor | None] = [None] * len(trained)
    values: list[Tensor] = []
    for find in losses[:-1]:
        loss = find()
        if loss.requires_grad:
            with torch.autocast(loss.device.type, enabled=False):  # a backward pass keeps its forward's types
                gradients = torch.autograd.grad(loss, trained, allow_unused=True)
            sums = [_added(held, new) for held, new in zip(sums, gradients, strict=True)]
        values.append(loss.detach())
        del loss  # the next part takes its place
    last = losses[-1]()
    before, values = torch.stack(values).sum(), [*values, last.detach()]
    known = {parameter: gradient for parameter, gradient in zip(trained, sums, strict=True) if gradient is not None}
    if known:
        last = _WithGradients.apply(last, list(known.values()), *known)  # type: ignore[no-untyped-call]
    return last + before, values


def together(found: Sequence[Terms], parts: Sequence[Batch]) -> Terms:
    """The terms of a batch, of those of its parts."""

    def of(name: str) -> dict[Modality, list[Tensor]]:
        own: dict[Modality, list[Tensor]] = {}
        for terms in found:
            for modality, values in getattr(terms, name).items():
                own.setdefault(modality, []).append(values)
        return own

    # A share counts as often as its part has runs.
    runs = {m: [len(part.signals[m].captions) for part in parts if m in part.signals] for m in of("called")}
    called = {
        m: sum(s * n for s, n in zip(own, runs[m], strict=True)) / sum(runs[m]) for m, own in of("called").items()
    }
    correct = [terms.correct for terms in found if terms.correct is not None]
    return Terms(
        torch.stack([terms.text for terms in found]).sum(),
        torch.stack(correct).sum() if correct else None,
        torch.stack([terms.tokens for terms in found]).sum(),
        {modality: torch.cat(values) for modality, values in of("alignment").items()},
        {modality: torch.cat(values) for modality, values in of("denoising").items()},
        {modality: torch.stack(values).sum() for modality, values in of("cosine").items()},
        {modality: torch.as_tensor(share) for modality, share in called.items()},
    )


def _added(held: Tensor | None, new: Tensor | None) -> Tensor | None:
    if held is None or new is None:
        return new if held is None else held
    return held.add_(new)


class _WithGradients(torch.autograd.Function):
    """A loss, whose backward pass also gives parameters the gradients that were found for them before."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *parameters: nn.Parameter) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = upstream
        gradients, ctx.gradients = ctx.gradients, None
        return scale, None, *[gradient.mul_(scale) for gradient in gradients]
