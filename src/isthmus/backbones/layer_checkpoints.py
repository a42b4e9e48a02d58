"""Gradient checkpointing of an LLM's layers: less memory for one more forward (Chen et al., arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_layers(layers: Sequence[nn.Module]) -> None:
    """From now on each layer keeps its input alone and computes the rest again when the gradient comes.

    Not while a key-value cache is filled: the second time it would be filled twice. The library's own switch asks for
    train mode, which would also turn on dropout inside a frozen LLM.
    """
    for layer in layers:
        layer.forward = _checkpointed(layer.forward)


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled() or kwargs.get("past_key_values") is not None:
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run
