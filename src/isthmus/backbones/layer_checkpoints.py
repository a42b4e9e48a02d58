"""Gradient checkpointing of an LLM's layers: less memory for one more forward (Chen et al., arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_layers(layers: Sequence[Any]) -> None:
    """Prepares layers of ``transformers`` for :func:`checkpointing`, through the library's own switch.

    Raises:
        ValueError: a layer doesn't have that switch.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    for layer in layers:
        if not isinstance(layer, GradientCheckpointingLayer):
            raise ValueError(
                f"backbone checkpointed_layers: found {type(layer).__name__}, which transformers can't checkpoint; "
                "expected one of its GradientCheckpointingLayer. Fix: set it to 0."
            )
        own: Any = layer
        own._gradient_checkpointing_func = partial(_run, layer)


@contextmanager
def checkpointing(layers: Sequence[Any]) -> Iterator[None]:
    """Within the block, each layer keeps its input alone and computes the rest again when the gradient comes.

    It isn't for passes that fill a key-value cache: the library would run them without it.
    """
    for layer in layers:
        layer.gradient_checkpointing = layer.training = True  # the library asks for both
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = layer.training = False


def _run(layer: nn.Module, run: Callable[..., Any], *args: Any) -> Any:
    """Runs a layer in eval mode, checkpointed where a gradient may come: a frozen LLM's own dropout stays off."""
    layer.training = False
    try:
        return checkpoint(run, *args, use_reentrant=False) if torch.is_grad_enabled() else run(*args)
    finally:
        layer.training = True  # for the next pass: a prefix goes before, without gradients
