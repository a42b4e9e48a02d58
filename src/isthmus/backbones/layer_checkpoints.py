"""Gradient checkpointing of an LLM's layers: less memory, one more forward pass (Chen et al., arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_layers(layers: Sequence[Any]) -> None:
    """Prepares layers of ``transformers`` for :func:`checkpointing`, by the library's own mechanism.

    Raises:
        ValueError: a layer doesn't support it.
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
    """Within the block, each layer keeps only its input and recomputes the rest in the backward pass.

    Not for passes that fill a key-value cache: the library would drop the cache.
    """
    for layer in layers:
        layer.gradient_checkpointing = layer.training = True  # the library requires both
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = layer.training = False


def _run(layer: nn.Module, run: Callable[..., Any], *args: Any) -> Any:
    """Runs a layer in eval mode, so that the frozen LLM's dropout is off; checkpointed if autograd is on."""
    layer.training = False
    try:
        return checkpoint(run, *args, use_reentrant=False) if torch.is_grad_enabled() else run(*args)
    finally:
        layer.training = True  # for a second pass in the same block, after that of a prefix
