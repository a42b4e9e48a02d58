"""The one rule of number types: experts compute in their own type, bridges in float32, and types change between them.

    media -> Encoder (its dtype) -> lifted -> InputProjector (float32) -> LLM (its dtype) -> lifted -> OutputProjector
    (float32) -> Generator (its dtype) -> media

What comes out of an expert is lifted where the bridge takes it in (:func:`lifted`); what goes into an expert is cast by
that expert. Mixed precision (``trainer.precision``) is for what is float32: it doesn't reach into an expert whose
weights are of another type (:func:`own_precision`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, get_args

import torch
from torch import Tensor

Dtype = Literal["float32", "bfloat16", "float16"]
"""The types that a frozen expert's weights can have."""

HALF = (torch.bfloat16, torch.float16)

P = ParamSpec("P")
R = TypeVar("R")


class Typed(Protocol):
    """Whatever has weights of one type, and perhaps float32 ones, such as adapters, within them."""

    dtype: torch.dtype
    holds_float32: bool


T = TypeVar("T", bound=Typed)


def torch_dtype(name: str) -> torch.dtype:
    """The type of that name.

    Raises:
        ValueError: it isn't one of :data:`Dtype`.
    """
    if name not in get_args(Dtype):
        raise ValueError(f"dtype: found '{name}'; expected one of {', '.join(get_args(Dtype))}")
    found: torch.dtype = getattr(torch, name)
    return found


def lifted(values: Tensor) -> Tensor:
    """Half-precision values as float32; others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


@contextmanager
def unmixed() -> Iterator[None]:
    """Switches autocast off for the block's length, on each device where it is on: for what has to be exact."""
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def own_precision(dtype: torch.dtype, holds_float32: bool = False) -> Iterator[None]:
    """Switches autocast off for the block's length where the weights are of half precision.

    Under autocast some operations give float32, which other operations then refuse to mix with the weights, and
    float16 weights would be cast to bfloat16 at each use.

    Args:
        dtype: of the weights.
        holds_float32: whether some weights within are float32: autocast to ``dtype`` itself then stays on, for them.
    """
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            serves = holds_float32 and torch.get_autocast_dtype(device) is dtype
            if dtype in HALF and torch.is_autocast_enabled(device) and not serves:
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def mixed_on(device: torch.device) -> AbstractContextManager[Any]:
    """Mixed precision where it is faster: autocast on a GPU, to bfloat16 where it has that; nothing elsewhere.

    Older GPUs emulate bfloat16, which is slower than float16.
    """
    if device.type != "cuda":
        return nullcontext()
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast("cuda", torch.bfloat16 if has_bfloat16 else torch.float16)


def in_own_precision(method: Callable[Concatenate[T, P], R]) -> Callable[Concatenate[T, P], R]:
    """A method that runs within :func:`own_precision` of its object's ``dtype``."""

    @functools.wraps(method)
    def wrapped(self: T, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with own_precision(self.dtype, self.holds_float32):
            return method(self, *args, **kwargs)

    return wrapped
