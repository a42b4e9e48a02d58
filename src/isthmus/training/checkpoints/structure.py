"""A checkpoint's tensors apart from its structure: shards are written from the tensors, and one file from the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._pytree import KeyEntry, MappingKey, SequenceKey, tree_map_with_path

Place = tuple[str | int, ...]
"""Where a tensor stands in a checkpoint: ``("optimizer_states", 0, "state", 3, "exp_avg")``."""


def split(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A checkpoint -> its tensors by key, and the same checkpoint with tensors on the meta device in their place.

    Scalars that aren't sharded, such as an optimizer's count of steps, stay where they are.
    """
    tensors: dict[str, Tensor] = {}

    def take(place: Place, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf.ndim == 0 and not isinstance(leaf, DTensor):
            return leaf.detach().cpu()
        tensors[key_of(place)] = leaf.detach()
        return torch.empty(leaf.shape, dtype=leaf.dtype, device="meta")

    return tensors, mapped(take, checkpoint)


def key_of(place: Place) -> str:
    """The key of a tensor among the shards: ``optimizer_states/0/state/3/exp_avg``."""
    return "/".join(map(str, place))


def mapped(change: Callable[[Place, Any], Any], tree: Any, at: Place = ()) -> Any:
    """The same nested dictionaries and lists with ``change(place, leaf)`` in the place of each leaf.

    Args:
        change: takes where the leaf stands in the checkpoint, and the leaf.
        tree: a checkpoint, or a part of one.
        at: where the part stands in the checkpoint.
    """
    return tree_map_with_path(lambda keys, leaf: change(at + tuple(map(_plain, keys)), leaf), tree)


def _plain(key: KeyEntry) -> str | int:
    if isinstance(key, SequenceKey):
        return key.idx
    assert isinstance(key, MappingKey), f"a checkpoint holds dictionaries and lists, found {key}"
    named: str | int = key.key
    return named
