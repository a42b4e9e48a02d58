"""An LLM's layers, compiled: fewer and larger kernels for norms, activations, rotations and adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import torch
from torch import nn

from isthmus.compiling import compiled


def compile_layers(layers: Sequence[nn.Module]) -> None:
    """From now on each layer runs as ``torch.compile`` makes it; layers of one class share what was made.

    Packed attention stays as it is, between two compiled halves. Not while a key-value cache is filled: its length
    changes at every token, and so would what is made for it.

    Args:
        layers: the LLM's, before anything else wraps their forward.
    """
    for layer in layers:
        layer.forward = _compiled(layer.forward, partial(_device, layer))


def _compiled(forward: Callable[..., Any], device: Callable[[], torch.device]) -> Callable[..., Any]:
    fused = compiled(forward, "backbone compiled", device, dynamic=True)

    @wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        return (forward if kwargs.get("past_key_values") is not None else fused)(*args, **kwargs)

    return run


def _device(layer: nn.Module) -> torch.device:
    return next(layer.parameters()).device
