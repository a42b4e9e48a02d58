"""Frozen experts: modules of published weights that load on first use and are built without weights where asked for."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

import torch

from isthmus.hub.address import pinned
from isthmus.hub.snapshot import settings_alone

_SHAPES_ONLY = ContextVar("shapes_only", default=False)


@contextmanager
def shapes_only(device: str = "meta") -> Iterator[None]:
    """Whatever is built inside stands on the meta device: experts by their configuration files, no weights read.

    What a set of experts weighs can so be counted before it is fetched, let alone fits a machine. Another ``device``
    is for fake tensors (:mod:`isthmus.training.rehearsal`).
    """
    token = _SHAPES_ONLY.set(True)
    try:
        with torch.device(device), settings_alone():
            yield
    finally:
        _SHAPES_ONLY.reset(token)


def is_shapes_only() -> bool:
    """Whether this runs inside :func:`shapes_only`."""
    return _SHAPES_ONLY.get()


class FrozenExpert(torch.nn.Module):
    """A pretrained part that never learns: in eval mode, without gradients to its weights, loaded on first use.

    A subclass reads only its configuration in ``__init__`` (so that widths are known and a stage can leave the part
    unloaded) and builds its weights in :meth:`materialize`. It is pickled as its constructor's arguments: a data worker
    constructs it anew, unloaded. ``copy.deepcopy`` keeps its weights.

    Attributes:
        dtype: the type of its weights, in which it computes (:mod:`isthmus.precision`).
        holds_float32: whether weights within it are float32 whatever the ``dtype``.
        stays: whether it is neither dropped nor moved: what it holds are shards (:mod:`isthmus.training.engines`).
    """

    dtype: torch.dtype = torch.float32
    holds_float32: bool = False
    stays: bool = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        expert = super().__new__(cls)
        expert.__dict__["_arguments"] = (args, kwargs)
        return expert

    def __init__(self) -> None:
        super().__init__()
        self.is_loaded = False

    def __reduce__(self) -> tuple[Any, ...]:
        # An address on the hub is then that of the commit which was loaded, and needs no hub.
        return _constructed, (type(self), *pinned(list(self.__dict__["_arguments"])))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def materialize(self) -> None:
        """Builds the modules and reads their weights. Called once, by :meth:`load`."""
        raise NotImplementedError  # a subclass's duty

    def release(self) -> None:
        """Drops the modules again; the next :meth:`load` reads them anew."""
        if self.stays:
            return
        for name in list(self._modules):
            delattr(self, name)
        self.is_loaded = False

    def load(self, device: torch.device | str | None = None) -> None:
        """Makes the weights present, frozen, in eval mode and on ``device``. Does nothing where they already are."""
        if not self.is_loaded:
            # What a frozen part builds must not draw from a training step's randomness; and first used in a validation
            # loop, its weights must not become inference tensors, through which no later step could send a gradient.
            with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.no_grad():
                self.materialize()
            self.requires_grad_(False)
            self.eval()
            self.is_loaded = True
        if device is not None and not self.stays:
            self.to(device)

    def train(self, mode: bool = True) -> FrozenExpert:
        super().train(False)
        return self


def _constructed(kind: type[FrozenExpert], args: tuple[Any, ...], kwargs: dict[str, Any]) -> FrozenExpert:
    return kind(*args, **kwargs)
