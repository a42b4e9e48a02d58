"""What a layer's cheap modules give, its norms and activations, is computed again instead of kept for the gradient.

Their results are as wide as any linear layer's, and cost next to nothing: kept for the backward pass, they are a third
of a layer's memory (Korthikanti et al., arXiv 2205.05198, choose what to compute again by the same measure).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

Kept = Tensor | tuple["Recipe", tuple[int, ...], tuple[int, ...], int]


class Recipe:
    """How a result is had again: by what and from what, under the precision that it ran with.

    Args:
        compute: of what was given, the result.
        given: tensors that the backward pass holds anyway.
        result: as it is now.
    """

    def __init__(self, compute: Callable[..., Tensor], given: Sequence[Tensor], result: Tensor) -> None:
        kind = result.device.type
        self.compute, self.given = compute, [own.detach() for own in given]
        self.versions = [own._version for own in given]
        self.result: Tensor | None = result.detach()
        self.made, self.dtype = result._version, result.dtype
        self.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))

    def __call__(self) -> Tensor:
        """The result. It is kept for all who ask, until the last of them has let go of this recipe.

        Raises:
            RuntimeError: what the module was given has been changed since.
        """
        if self.result is None:
            if [own._version for own in self.given] != self.versions:
                raise RuntimeError(
                    "backbone recompute: found what a norm or an activation was given changed in place before the "
                    "backward pass; expected it as it was. Mend: set it to false."
                )
            kind, dtype, is_on = self.autocast
            with torch.no_grad(), torch.autocast(kind, dtype, is_on):
                self.result = self.compute(*self.given)
        return self.result


def recompute_cheap_modules(layers: Sequence[nn.Module], marks_modules: bool = True) -> None:
    """From now on these layers' norms and activations are computed again when the gradient comes.

    Losses and gradients are the same, bit for bit.

    Args:
        layers: of the LLM.
        marks_modules: false where the layers are compiled: ``torch.compile`` itself chooses what to keep of modules,
            and only what :func:`can_recompute` is told of elsewhere is left to do.
    """
    for layer in layers:
        for module in layer.modules():
            if marks_modules and is_cheap(module):
                module.register_forward_hook(_mark)
        layer.forward = _recomputing(layer.forward)


def can_recompute(compute: Callable[..., Tensor], given: Sequence[Tensor], result: Tensor) -> None:
    """Says how a result can be had again from tensors that are kept anyway, so that it needn't be.

    Without effect outside a layer of :func:`recompute_cheap_modules`.
    """
    marks = _running.get()
    if marks is not None and result.requires_grad:
        # Marks last for a layer's pass, and hold the result: nothing else can lie at its place meanwhile.
        marks[result.untyped_storage().data_ptr()] = Recipe(compute, given, result)


_running: ContextVar[dict[int, Recipe] | None] = ContextVar("_running", default=None)
"""The recipes of the layer that runs, by where each result lies."""


def is_cheap(module: nn.Module) -> bool:
    """Whether it is a norm or an activation, by the names that ``torch`` and ``transformers`` give them."""
    kind = type(module)
    is_activation = kind.__module__ in ("torch.nn.modules.activation", "transformers.activations")
    return not any(module.children()) and (is_activation or "Norm" in kind.__name__)


def _mark(module: nn.Module, given: tuple[Any, ...], result: Any) -> None:
    if len(given) == 1 and isinstance(result, Tensor):
        can_recompute(module.forward, given, result)


def _recomputing(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        marks: dict[int, Recipe] = {}
        before = _running.set(marks)
        try:
            with saved_tensors_hooks(partial(_keep, marks), _again):
                return forward(*args, **kwargs)
        finally:
            _running.reset(before)
            for recipe in marks.values():
                recipe.result = None

    return run


def _keep(marks: dict[int, Recipe], tensor: Tensor) -> Kept:
    recipe = marks.get(tensor.untyped_storage().data_ptr())
    if recipe is None or tensor._version != recipe.made or tensor.dtype != recipe.dtype:
        return tensor
    return recipe, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())


def _again(kept: Kept) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    recipe, shape, strides, offset = kept
    return recipe().as_strided(shape, strides, offset)
