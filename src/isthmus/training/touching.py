"""A gradient for every part that trains, in every step, whatever the batch holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def touched(loss: Tensor, trained: Iterable[nn.Parameter]) -> Tensor:
    """The loss (), whose backward pass also adds a zero to the gradient of each of these parameters.

    A batch of text alone reaches no input projector, and one that reaches nothing which trains has no backward pass at
    all. Strategies that reduce gradients over processes (DDP, FSDP, ZeRO) wait for each parameter's gradient in each
    step, so every process has to have one.

    Where the loss isn't finite, neither are the gradients: a process whose loss is infinite and whose gradients happen
    not to be would otherwise learn from it, and others couldn't know.

    Layers that are sharded again after their forward are left out: all of them are in every pass. What is sharded with
    the whole model is there, whole, from the forward to the backward pass.
    """
    made: Tensor = _Touched.apply(loss, *(own for own in trained if not isinstance(own, DTensor)))  # type: ignore[no-untyped-call]
    return made


class _Touched(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, *parameters: nn.Parameter) -> Tensor:
        ctx.parameters = parameters
        ctx.zero = loss.detach() - loss.detach()  # no number where the loss isn't finite
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, ...]:
        # Expanded, a zero takes no memory of its own.
        return upstream[0] + ctx.zero, *[ctx.zero.to(own).expand_as(own) for own in ctx.parameters]
