"""Which operations of a step would make a device wait: those that read a value, or whose result's size is a value."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
READS = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.nonzero,
    aten.masked_select,
    aten._unique,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.equal,
}
"""They read values themselves; ``item()``, ``bool(tensor)`` and ``int(tensor)`` come down to the first."""
BY_INDEX = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
"""They do so where an index is a mask."""
COPIES = {Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__, Tensor.new_tensor}
"""Copies to the CPU, which no operation shows where tensors are on it, and one that waits on its way to a device."""
PACKAGE = str(Path(__file__).resolve().parents[1] / "src")


class Syncs:
    """Counts such operations while it is entered, by the line of the package that they come from.

    Attributes:
        found: by operation and line.
    """

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._is_paused = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Counts, for the block's length."""
        with _Functions(self), _Operations(self):
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Doesn't, for the block's length."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def note(self, name: str) -> None:
        """Counts one."""
        if not self._is_paused:
            frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(PACKAGE)]
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "elsewhere"
            self.found[f"{name} at {where}"] += 1


class _Operations(TorchDispatchMode):
    def __init__(self, syncs: Syncs) -> None:
        super().__init__()
        self.syncs = syncs

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        indices = args[1] if packet in BY_INDEX else ()
        if packet in READS or any(isinstance(own, Tensor) and not own.dtype.is_signed for own in indices):
            self.syncs.note(packet.__name__)
        return func(*args, **(kwargs or {}))


class _Functions(TorchFunctionMode):
    def __init__(self, syncs: Syncs) -> None:
        super().__init__()
        self.syncs = syncs

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in COPIES or (func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None):
            self.syncs.note(func.__name__)
        return func(*args, **kwargs)
