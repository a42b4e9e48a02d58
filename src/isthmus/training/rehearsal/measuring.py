"""What a step costs by part: floating-point operations, traffic, and the bytes of tensors that live at once."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup, get_process_group_ranks
from torch.distributed._tools.fake_collectives import CollectiveOp, collective_ops, sync_ops
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.weak import WeakIdKeyDictionary

from isthmus.backbones.owned_state import own_share

FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
GATHERED = "gathered layers"
COLLECTIVES = "collectives' buffers"
KINDS = {
    "allgather": "all_gather",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "allreduce": "all_reduce",
    "all_reduce": "all_reduce",
    "broadcast": "broadcast",
}
"""How the names of torch's operators begin -> the collective."""


@dataclass(frozen=True)
class Collective:
    """A kind of collective and who takes part.

    Attributes:
        kind: ``all_gather``, ``reduce_scatter``, ``all_reduce``, ``broadcast``; or the operator's own name.
        ranks: of the group.
    """

    kind: str
    ranks: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many take part."""
        return len(self.ranks)


@dataclass
class Sent:
    """How often a collective ran, and the bytes of its whole tensors: what is gathered, scattered or reduced."""

    count: int = 0
    bytes: int = 0

    def add(self, bytes: int) -> None:
        """One more."""
        self.count += 1
        self.bytes += bytes


@dataclass
class _Span:
    """That a storage held so many bytes for a time; times count changes."""

    name: str
    bytes: int
    born: int
    died: int | None = None


class Costs(TorchDispatchMode):
    """Counts while it is entered: on real tensors and on fake ones, sharded ones included.

    ``torch.distributed._tools.MemTracker`` registers a gradient hook on every parameter, which a frozen one refuses.
    Here forward hooks say which part runs, and what runs in none of them belongs to the step itself: its backward pass
    and its optimizer.

    Args:
        parts: by module, its name; of nested ones the innermost counts.
        rest: the name of what runs in none of them.

    Attributes:
        flops: by part.
        sent: by collective.
    """

    def __init__(self, parts: dict[nn.Module, str], rest: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.parts = parts
        self.rest = rest
        self.flops: Counter[str] = Counter()
        self.sent: dict[Collective, Sent] = {}
        self._running: list[str] = []
        self._spans: list[_Span] = []
        self._held: MutableMapping[torch.UntypedStorage, list[_Span]] = WeakIdKeyDictionary()
        self._now = 0

    def hold(self, tensors: Iterable[Tensor], name: str) -> None:
        """Counts tensors that are there before the step; of sharded ones, this process's shards."""
        for tensor in tensors:
            self._note(own_share(tensor).untyped_storage(), name, born=0)

    def call(self, tensors: Iterable[Tensor], name: str) -> None:
        """Names tensors by what they turned out to be, such as gradients."""
        for tensor in tensors:
            for span in self._held.get(own_share(tensor).untyped_storage(), [])[-1:]:
                span.name = name

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Counts, for the block's length."""
        own = torch.nn.modules.module
        hooks = [
            own.register_module_forward_pre_hook(self._enter),
            own.register_module_forward_hook(self._leave, always_call=True),
        ]
        resize = torch.UntypedStorage.resize_

        def resized(storage: torch.UntypedStorage, size: int) -> Any:
            # FSDP2 makes room for a gathered layer, and drops it, by its storage's size: no operator says so.
            found = resize(storage, size)
            self._resize(storage)
            return found

        torch.UntypedStorage.resize_ = resized  # type: ignore[method-assign, assignment]
        try:
            with self:
                yield
        finally:
            torch.UntypedStorage.resize_ = resize  # type: ignore[method-assign]
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

    @property
    def peak(self) -> int:
        """The most bytes at once."""
        return self._sweep()[0]

    @property
    def at_peak(self) -> dict[str, int]:
        """The bytes at that moment, by what holds them."""
        moment, found = self._sweep()[1], Counter[str]()
        for span in self._spans:
            if span.born <= moment and (span.died is None or moment < span.died):
                found[span.name] += span.bytes
        return dict(found)

    def _sweep(self) -> tuple[int, int]:
        """The most bytes at once, and when."""
        changes: Counter[int] = Counter()
        for span in self._spans:
            changes[span.born] += span.bytes
            if span.died is not None:
                changes[span.died] -= span.bytes
        most = total = moment = 0
        for when in sorted(changes):
            total += changes[when]
            if total > most:
                most, moment = total, when
        return most, moment

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs the operator and counts it."""
        if DTensor in types:
            return NotImplemented  # it computes with its shard, which comes here in its turn
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry:
            self.flops[self.running] += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        elif packet is FLASH:  # torch has no formula for the CPU's
            self.flops[self.running] += sdpa_flop_count(*(own.shape for own in args[:3]))
        elif packet is FLASH_BACKWARD:
            self.flops[self.running] += sdpa_backward_flop_count(*(own.shape for own in args[:4]))
        elif func in collective_ops and func not in sync_ops:
            self._send(func, args, out)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage(), self.running)
        return out

    def _send(self, func: Any, args: tuple[Any, ...], out: Any) -> None:
        group: ProcessGroup = CollectiveOp.get_process_group(func, args)
        name = func._overloadpacket.__name__.strip("_")
        kind = next((kind for start, kind in KINDS.items() if name.startswith(start)), name)
        own = Collective(kind, tuple(get_process_group_ranks(group)))
        taking_part = [leaf for leaf in tree_leaves((args, out)) if isinstance(leaf, Tensor)]
        # Of an all-gather the result is the whole, of a reduce-scatter what is given: the larger of both.
        groups = [[leaf for leaf in tree_leaves(each) if isinstance(leaf, Tensor)] for each in (*args[:2], out)]
        self.sent.setdefault(own, Sent()).add(max(sum(leaf.nbytes for leaf in each) for each in groups))
        for leaf in taking_part:
            storage = leaf.untyped_storage()
            if storage not in self._held:
                self._note(storage, COLLECTIVES, born=0)  # a bucket of DDP, which lives as long as DDP does
            elif self._held[storage][-1].name in (self.rest, *self.parts.values()):
                self._held[storage][-1].name = COLLECTIVES

    def _note(self, storage: torch.UntypedStorage, name: str, born: int | None = None) -> None:
        if storage in self._held:
            return
        life = [self._begin(name, storage.nbytes(), born)]
        self._held[storage] = life
        weakref.finalize(storage, self._end, life)

    def _resize(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._held:
            self._note(storage, GATHERED)
        elif storage.nbytes() != self._held[storage][-1].bytes:
            life = self._held[storage]
            self._end(life)
            life.append(self._begin(GATHERED, storage.nbytes()))

    def _begin(self, name: str, size: int, born: int | None = None) -> _Span:
        self._now += 1
        span = _Span(name, size, self._now if born is None else born)
        self._spans.append(span)
        return span

    def _end(self, life: list[_Span]) -> None:
        self._now += 1
        life[-1].died = self._now
