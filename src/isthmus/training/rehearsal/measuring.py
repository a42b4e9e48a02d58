"""What a step costs by part: floating-point operations, and the bytes of tensors that live at once."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Costs(TorchDispatchMode):
    """Counts while it is entered.

    ``torch.distributed._tools.MemTracker`` registers a gradient hook on every parameter, which a frozen one refuses.
    Here forward hooks say which part runs, and what runs in none of them belongs to the step itself: its backward pass
    and its optimizer.

    Args:
        parts: by module, its name; of nested ones the innermost counts.
        rest: the name of what runs in none of them.

    Attributes:
        flops: by part.
        live: bytes by what holds them, now.
        peak: the most bytes at once.
        at_peak: ``live`` at that moment.
    """

    def __init__(self, parts: dict[nn.Module, str], rest: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.parts = parts
        self.rest = rest
        self.flops: Counter[str] = Counter()
        self.live: Counter[str] = Counter()
        self.peak = 0
        self.at_peak: dict[str, int] = {}
        self._running: list[str] = []
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def hold(self, tensors: Iterable[Tensor], name: str) -> None:
        """Counts tensors that are there before the step."""
        for tensor in tensors:
            self._note(tensor.untyped_storage(), name)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Counts, for the block's length."""
        own = torch.nn.modules.module
        hooks = [
            own.register_module_forward_pre_hook(self._enter),
            own.register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, module: nn.Module, _: Any) -> None:
        if module in self.parts:
            self._running.append(self.parts[module])

    def _leave(self, module: nn.Module, *_: Any) -> None:
        if module in self.parts:
            self._running.pop()

    @property
    def running(self) -> str:
        """The part that runs."""
        return self._running[-1] if self._running else self.rest

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs the operator and counts it."""
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry:
            self.flops[self.running] += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        elif packet is FLASH:  # torch has no formula for the CPU's
            self.flops[self.running] += sdpa_flop_count(*(own.shape for own in args[:3]))
        elif packet is FLASH_BACKWARD:
            self.flops[self.running] += sdpa_backward_flop_count(*(own.shape for own in args[:4]))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage(), self.running)
        return out

    def _note(self, storage: torch.UntypedStorage, name: str) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.live[name] += size
        weakref.finalize(storage, self._free, name, size)
        if (total := self.live.total()) > self.peak:
            self.peak, self.at_peak = total, dict(self.live)

    def _free(self, name: str, size: int) -> None:
        self.live[name] -= size
