"""Packed attention as a custom operator of ``torch``, which ``torch.compile`` doesn't trace.

The number of blocks and the lengths of their rows differ from batch to batch. If they were traced, each batch would be
compiled again; if attention weren't an operator, it would break every layer's graph in two.
"""

from __future__ import annotations

from itertools import count
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor


class AttentionPass(Protocol):
    """A pass that computes attention among its positions."""

    def attend(self, states: tuple[Tensor, Tensor, Tensor], layer: int, scale: float, window: int | None) -> Tensor:
        """Queries, keys and values (1, H, N, D) of a layer -> (1, N, H, D)."""


_PASSES: WeakValueDictionary[int, Any] = WeakValueDictionary()
_NUMBERS = count()


def handle_of(attention_pass: AttentionPass) -> Tensor:
    """() int64 on the CPU, by which the operator finds the pass: as a tensor, no compiled graph specialises on it.

    For gradients, the caller keeps a reference to the pass until the backward pass is over.
    """
    number = next(_NUMBERS)
    _PASSES[number] = attention_pass
    return torch.tensor(number)


def number_layers(llm: torch.nn.Module) -> None:
    """Gives each attention its ``layer_idx`` as a tensor too, so that all layers share one compiled graph."""
    for module in llm.modules():
        if isinstance(index := getattr(module, "layer_idx", None), int):
            module.layer_number = torch.tensor(index)


@torch.library.custom_op("isthmus::packed_attention", mutates_args=())
def packed_attention(
    query: Tensor, key: Tensor, value: Tensor, handle: Tensor, layer: Tensor, scale: float, window: int | None
) -> Tensor:
    """(1, H, N, D), (1, H', N, D) twice -> (1, N, H, D), by the pass of this handle."""
    attention_pass = _PASSES[int(handle)]
    attention_pass.is_compiled = True
    found: Tensor = attention_pass.attend((query, key, value), int(layer), scale, window)
    return found.clone(memory_format=torch.contiguous_format)  # not a view of the pass's tensors


@packed_attention.register_fake
def _(query: Tensor, *_: Any) -> Tensor:
    return query.new_empty(query.shape[0], query.shape[2], query.shape[1], query.shape[3])


@torch.library.custom_op("isthmus::packed_attention_backward", mutates_args=())
def packed_attention_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    handle: Tensor,
    layer: Tensor,
    scale: float,
    window: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values. Attention is recomputed, since kernels differ by device and mask."""
    own = torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradFunctionality)
    hidden = torch._C._dispatch_tls_local_exclude_set()
    # An operator's body runs below autograd; here autograd is enabled again for a separate graph.
    with (
        torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), hidden - own),
        torch.enable_grad(),
    ):
        states = [own.detach().requires_grad_() for own in (query, key, value)]
        out = _PASSES[int(handle)].attend((states[0], states[1], states[2]), int(layer), scale, window)
        found = torch.autograd.grad(out, states, gradient)
    return found[0].contiguous(), found[1].contiguous(), found[2].contiguous()


@packed_attention_backward.register_fake
def _(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale, ctx.window = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    found = packed_attention_backward(gradient, *ctx.saved_tensors, ctx.scale, ctx.window)
    return *found, None, None, None, None


packed_attention.register_autograd(_backward, setup_context=_keep)
