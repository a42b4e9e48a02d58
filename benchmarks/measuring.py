"""How everything here is measured: interleaved medians, counted work, counted memory."""

from __future__ import annotations

import gc
import os
import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Work = Callable[[], object]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def now() -> float:
    """Seconds of the chosen clock: ``ISTHMUS_BENCHMARK_CLOCK=cpu`` counts this process's own, on a busy machine."""
    return CLOCKS[os.environ.get("ISTHMUS_BENCHMARK_CLOCK", "wall")]()


def interleaved(works: Mapping[str, Work], repetitions: int = 5) -> dict[str, list[float]]:
    """Seconds of each repetition of each work.

    The works take turns, each round in another order, so that a machine that slows down slows all of them; one round
    goes before and isn't counted.
    """
    names = list(works)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(repetitions + 1):
        turned = names[round_ % len(names) :] + names[: round_ % len(names)]
        for name in turned:
            gc.collect()
            start = now()
            works[name]()
            took = now() - start
            if round_:
                seconds[name].append(took)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> float:
    """The median over rounds of slow / fast: the two of a round were measured side by side."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


class FlopCounter(TorchDispatchMode):
    """Adds up the floating-point operations of matrix products and convolutions, by torch's own formulas.

    ``FlopCounterMode`` has these formulas too; its module tracking fails where frozen prefixes run without autograd.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types for it
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs the operator and counts it."""
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def flops(work: Work) -> int:
    """Floating-point operations, forward and backward.

    Attention is run as matrix products while it counts: torch has no formula for the CPU's fused kernel.
    """
    with FlopCounter() as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return int(counter.total)


class PeakMemory(TorchDispatchMode):
    """The most bytes of tensors that live at once while it is on, on top of those that did before.

    Counts the storages that operators return, by weak references: activations, gradients, what the optimizer keeps.
    What a kernel needs for itself isn't seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types for it
        self.now = 0
        self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs the operator and notes what is new."""
        for leaf in tree_leaves((args, kwargs or {})):
            if isinstance(leaf, torch.Tensor):  # there before: no part of what is counted
                self._seen.add(leaf.untyped_storage())
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


def peak_bytes(work: Work) -> int:
    """The most bytes of tensors that ``work`` holds at once beyond what is there when it begins."""
    gc.collect()
    with PeakMemory() as memory:
        work()
    return int(memory.peak)
