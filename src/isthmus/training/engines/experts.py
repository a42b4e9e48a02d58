"""Encoders and generators in shards: they rest sharded, and are whole while a pass may need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch
import torch.distributed as distributed
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from isthmus.encoders.base import Encoder
from isthmus.frozen import FrozenExpert
from isthmus.model import AnyToAny
from isthmus.types import Features, MediaBatch, Modality


def frozen_experts(model: AnyToAny) -> list[FrozenExpert]:
    """The model's encoders and generators."""
    found = {id(expert): expert for expert in model.experts().values() if isinstance(expert, FrozenExpert)}
    return list(found.values())


def shard_experts(model: AnyToAny, arguments: Mapping[str, Any], per_layer: bool, place: tuple[int, int]) -> None:
    """Loads and shards encoders and generators, one after another.

    Args:
        model: built; its own units aren't sharded yet.
        arguments: of ``fully_shard``.
        per_layer: whether encoders' layers are units of their own. All processes have to run the same encoders then.
        place: this process among those of its machine, and their number. They load in turn, so that a machine's memory
            holds an expert whole once, beside the shards.

    Raises:
        ValueError: with ``per_layer``, the model keeps features in a cache, so that processes run unlike encoders, or
            has an encoder that runs more often in one process than in another.
    """
    if per_layer and model.cache_settings is not None:
        raise ValueError(
            "trainer.strategy.frozen_sharding: found per_layer and model.cache, from which each process takes other "
            "features, so that they'd run unlike encoders; expected root or replicate. Fix: set one of them, or take "
            "the cache out."
        )
    for expert in frozen_experts(model) if per_layer else []:
        if isinstance(expert, Encoder) and expert.passes_vary:
            raise ValueError(
                f"trainer.strategy.frozen_sharding: found per_layer and {type(expert).__name__} of "
                f"{expert.checkpoint}, which runs once for each length of recordings in a batch, so that processes "
                "would wait for each other in vain; expected root or replicate. Fix: set one of them, or take an "
                "encoder that pads (Whisper with one length of seconds, HuBERT with layer norm)."
            )
    for expert in frozen_experts(model):
        for turn in range(place[1]):
            if turn == place[0]:
                expert.load("cpu")
                for layer in _layers(expert) if per_layer and isinstance(expert, Encoder) else []:
                    fully_shard(layer, reshard_after_forward=True, **arguments)
                fully_shard(expert, reshard_after_forward=False, ignored_params=scalars(model), **arguments)
                expert.stays = True
            distributed.barrier()


def scalars(model: AnyToAny) -> set[nn.Parameter]:
    """Frozen experts' parameters without a dimension, such as a temperature, which can't be sharded."""
    return {own for expert in frozen_experts(model) for own in expert.parameters() if own.ndim == 0}


def gather_experts(model: AnyToAny, per_layer: bool) -> None:
    """Makes each pass gather the experts first, in every process, whichever its media need."""
    model.register_forward_pre_hook(lambda *_: _gather(model))
    side = model.input_side
    if side is None:
        return
    encode: Callable[[Mapping[Modality, MediaBatch]], dict[Modality, Features]] = side.encode

    @wraps(encode)
    def encoded(media: Mapping[Modality, MediaBatch]) -> dict[Modality, Features]:
        model._get_fsdp_state()._lazy_init()  # type: ignore[operator]  # or the encoder, which runs first, would be the root
        _gather(model)
        if per_layer:
            _check_alike(model, media)
        return encode(media)

    side.encode = encoded  # type: ignore[method-assign]


def _gather(model: AnyToAny) -> None:
    for expert in frozen_experts(model):
        if isinstance(expert, FSDPModule):
            expert.unshard()


def _layers(expert: nn.Module) -> list[nn.Module]:
    """The modules that stand in lists, the outermost of each."""
    found: list[nn.Module] = []
    for module in expert.children():
        if isinstance(module, nn.ModuleList):
            found += [own for own in module if any(True for _ in own.parameters())]
        else:
            found += _layers(module)
    return found


def _check_alike(model: AnyToAny, media: Mapping[Modality, MediaBatch]) -> None:
    """Raises a ValueError in all processes if they bring media of unlike modalities."""
    brought = torch.tensor([modality in media for modality in model.inputs], dtype=torch.int32, device=model.device)
    least, most = brought.clone(), brought.clone()
    distributed.all_reduce(least, distributed.ReduceOp.MIN)
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    if unlike := [str(own) for own, few, many in zip(model.inputs, least, most, strict=True) if few != many]:
        raise ValueError(
            f"trainer.strategy.frozen_sharding: found per_layer, and {', '.join(unlike)} in the batches of some "
            "processes alone, whose encoders' layers would wait for the others; expected the same modalities in each. "
            "Fix: set it to root or replicate, or data.batches to balanced."
        )
