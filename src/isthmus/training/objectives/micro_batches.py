"""A batch learnt from in parts, one after another: loss and gradients of the whole, the memory of one part.

Each part's loss is divided by the whole batch's counts, so that the parts' gradients sum to those of the batch in one
piece. Gradient accumulation over batches, as Trainers have it, takes the mean of the batches' means instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from isthmus.training.objectives.terms import LossWeights


def check_micro_batches(weights: LossWeights) -> None:
    """Says whether these losses can be learnt in parts.

    Raises:
        ValueError: a term tells the texts of a batch from each other.
    """
    for name in ("teaching", "spelling"):
        if getattr(weights, name):
            raise ValueError(
                f"micro_batches: found a weight on losses.{name}, which tells all texts of a batch from each other; "
                "expected other terms alone. Fix: set micro_batches to 1."
            )


def in_turn(
    model: nn.Module, trained: Sequence[nn.Parameter], losses: Sequence[Callable[[], Tensor]], divided: bool
) -> tuple[Tensor, list[Tensor]]:
    """The sum of losses that are computed and learnt from one after another.

    All but the last have been learnt from when this returns, and their activations are gone; the sum's own backward
    pass adds their gradients to the last one's. To optimizers, clipping and DDP's reduction, which see one backward
    pass, it is a loss like any other. Where batches aren't divided it is plainly the sum.

    Of a sharded model the gathered tensors keep the gradients of all but the last part, and one reduction follows.

    Args:
        model: that learns.
        trained: what of it learns.
        losses: at least one; each computes a loss () from the beginning.
        divided: whether the stage divides its batches.

    Returns:
        The sum (), and each loss without gradient.
    """
    if not divided or len(losses) == 1:
        whole = [find() for find in losses]
        return torch.stack(whole).sum() if len(whole) > 1 else whole[0], [loss.detach() for loss in whole]
    if isinstance(model, FSDPModule):
        return _in_turn_sharded(model, losses)
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


def _in_turn_sharded(model: FSDPModule, losses: Sequence[Callable[[], Tensor]]) -> tuple[Tensor, list[Tensor]]:
    values: list[Tensor] = []
    model.set_requires_gradient_sync(False)
    try:
        for find in losses[:-1]:
            loss = find()
            loss.backward()
            values.append(loss.detach())
            del loss
    finally:
        model.set_requires_gradient_sync(True)
    last = losses[-1]()
    return last + torch.stack(values).sum(), [*values, last.detach()]


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
