"""Tensors without numbers: shapes and types alone, in which a model of any size fits a laptop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._pytree import tree_leaves

from isthmus.data.module import ConversationDataModule
from isthmus.frozen import shapes_only
from isthmus.types import Batch

aten = torch.ops.aten
PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.linear, aten.convolution}
"""Operators that take one type alone, which torch's own rules for fake tensors don't look at."""


class _Mode(FakeTensorMode):
    """Makes fakes, except of what comes from real numbers on the CPU alone: seeds and counts are read there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        if tensors and not any(isinstance(own, FakeTensor) or own.device.type != "cpu" for own in tensors):
            return func(*args, **(kwargs or {}))
        if func.overloadpacket in PRODUCTS and len(found := {own.dtype for own in tensors}) > 1:
            raise RuntimeError(f"{func.overloadpacket.__name__} of tensors of dtype {', '.join(map(str, found))}")
        if func is aten._ctc_loss.default:  # torch has no rule for it; with lengths as numbers its sizes are known
            steps, texts, _ = args[0].shape
            with self:
                return args[0].new_empty(texts), args[0].new_empty(texts, steps, 2 * max(args[3]) + 1)
        return super().__torch_dispatch__(func, types, args, kwargs)


@dataclass(frozen=True)
class Fakes:
    """Fake tensors of one kind: they can't be mixed with those of another mode."""

    mode: FakeTensorMode

    def fake(self, tensor: Tensor) -> Tensor:
        """One like it."""
        return self.mode.from_tensor(tensor, static_shapes=True)

    def place(self, module: nn.Module) -> None:
        """Puts fakes in the place of all parameters and buffers; tied ones stay tied."""
        _apply(module, self._like)

    def _like(self, tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")


@contextmanager
def fake_tensors() -> Iterator[Fakes]:
    """Within the block every tensor is a fake one of the CPU; no weights are read."""
    mode = _Mode(allow_non_fake_inputs=True)
    own = nn.Module._apply
    nn.Module._apply = _apply  # type: ignore[method-assign]
    try:
        with mode, shapes_only("cpu"):
            yield Fakes(mode)
    finally:
        nn.Module._apply = own  # type: ignore[method-assign]


def _apply(
    module: nn.Module,
    function: Callable[[Tensor], Tensor],
    recurse: bool = True,
    known: dict[int, tuple[nn.Parameter, Any]] | None = None,
) -> nn.Module:
    """What ``to`` and its kin come down to: torch's own swaps the contents of a fake parameter, and can't.

    ``known``: by id, each parameter and what became of it, so that tied ones stay tied.
    """
    known = {} if known is None else known
    if recurse:
        for child in module.children():
            _apply(child, function, recurse, known)
    for name, parameter in module._parameters.items():
        if parameter is None:
            continue
        if id(parameter) not in known:
            with torch.no_grad():
                made = function(parameter)
            same = (made.dtype, made.device) == (parameter.dtype, parameter.device)
            known[id(parameter)] = (parameter, parameter if same else nn.Parameter(made, parameter.requires_grad))
        module._parameters[name] = known[id(parameter)][1]
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = function(buffer)
    return module


class FakeBatches:
    """Batches that a loader makes of real media, with fake tensors in their places."""

    def __init__(self, loader: Any, fakes: Fakes) -> None:
        self.loader, self.fakes = loader, fakes

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.loader)
        while True:
            with unset_fake_temporarily():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch.apply(self.fakes.fake)


class FakeData(ConversationDataModule):
    """A data module whose training batches are fake; ``fakes`` is set before it is asked for any."""

    fakes: Fakes

    def train_dataloader(self) -> Any:
        """The present stage's batches."""
        return FakeBatches(super().train_dataloader(), self.fakes)
