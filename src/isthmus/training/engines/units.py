"""What FSDP2 shards: each of the LLM's layers is a unit, and the whole model is the root unit around them.

A unit's tensors are gathered for its forward and its backward pass; between them each process holds its shard. The
bridges, the rows of new tokens, the embedding and the head are in the root unit, which is whole from a pass's beginning
to the end of its backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from isthmus.frozen import FrozenExpert
from isthmus.model import AnyToAny
from isthmus.training.engines.experts import gather_experts, scalars, shard_experts

FrozenSharding = Literal["replicate", "root", "per_layer"]


@dataclass(frozen=True)
class Sharding:
    """What ``fully_shard`` is told, beside the mesh.

    Attributes:
        frozen_sharding: of encoders and generators, see :class:`~isthmus.training.engines.Sharded`.
        activation_checkpointing: whether the LLM's layers keep only their inputs, and recompute the rest.
        offload: whether shards, gradients and optimizer state stay in the host's memory.
        reshard_after_forward: whether a layer is dropped after its forward, and gathered again for its backward pass.
        reduce_dtype: in which gradients are added up over processes; their own if None.
    """

    frozen_sharding: FrozenSharding = "replicate"
    activation_checkpointing: bool = False
    offload: bool = False
    reshard_after_forward: bool = True
    reduce_dtype: torch.dtype | None = None

    def arguments(self, mesh: DeviceMesh) -> dict[str, Any]:
        """Of ``fully_shard``, for every unit."""
        pinned = mesh.device_type == "cuda"
        return {
            "mesh": mesh,
            "mp_policy": MixedPrecisionPolicy(reduce_dtype=self.reduce_dtype, cast_forward_inputs=False),
            "offload_policy": CPUOffloadPolicy(pin_memory=pinned) if self.offload else OffloadPolicy(),
        }


def build_sharded(
    model: AnyToAny, mesh: DeviceMesh, sharding: Sharding | None = None, place: tuple[int, int] = (0, 1)
) -> None:
    """Builds a model in shards: no process holds the LLM whole.

    Its layers are on the meta device until they are sharded; then each process reads its shards from the checkpoint.

    Args:
        model: not built yet.
        mesh: over whose last dimension it is sharded; over the first of two it is replicated.
        sharding: how.
        place: this process among those of its machine, and their number.

    Raises:
        ValueError: its LLM's weights can't be read shard by shard.
    """
    sharding = sharding or Sharding()
    model.configure_model(later=True)
    if sharding.frozen_sharding != "replicate":
        shard_experts(model, sharding.arguments(mesh), sharding.frozen_sharding == "per_layer", place)
    shard(model, mesh, sharding)
    device = torch.device("cpu") if sharding.offload else next(model.parameters()).device
    model.backbone.language_model.fill(device)


def shard(model: AnyToAny, mesh: DeviceMesh, sharding: Sharding) -> None:
    """Shards a built model in place; tensors may be on the meta device, or fake.

    Raises:
        ValueError: a part that can be trained has a parameter without a dimension.
    """
    if single := [name for name, own in model.named_owned() if own.ndim == 0]:
        raise ValueError(
            f"trainer.strategy: found Sharded and {single[0]}, a parameter without a dimension, which can't be "
            "sharded; expected none (gated fusion and the P-Former have such). Fix: take the part out, or train under "
            "DDP."
        )
    if sharding.activation_checkpointing:
        model.backbone.language_model.recompute_layers()
    model.backbone.language_model.uniform_passes = True
    arguments = sharding.arguments(mesh)
    for layer in model.backbone.language_model.layers():
        fully_shard(layer, reshard_after_forward=sharding.reshard_after_forward, **arguments)
    fully_shard(model, ignored_params=scalars(model), **arguments)
    if sharding.frozen_sharding != "replicate":
        gather_experts(model, sharding.frozen_sharding == "per_layer")
    _SHARDED[model] = sharding
    _answers_whole(model)


def units(model: nn.Module, experts: bool = True) -> list[FSDPModule]:
    """The sharded units of a model, the root first; none if it isn't sharded. ``experts``: frozen ones' too."""
    frozen = set() if experts else {id(own) for each in _experts(model) for own in each.modules()}
    return [own for own in model.modules() if isinstance(own, FSDPModule) and id(own) not in frozen]


def _experts(model: nn.Module) -> list[FrozenExpert]:
    return [own for own in model.modules() if isinstance(own, FrozenExpert)]


def reshard(model: nn.Module, experts: bool = True) -> None:
    """Drops what was gathered for a pass without a backward pass, so that a module's parameters are the shards again.

    FSDP2 keeps the root unit whole for the backward pass that it expects. Until then whatever is written to its shards
    isn't seen, and ``requires_grad`` is set on the gathered tensors. Nothing is done where nothing is sharded.

    Args:
        model: sharded, or a module that holds one.
        experts: whether frozen experts are dropped too: a comparison with the reference uses them again.
    """
    for unit in units(model, experts):
        unit.reshard()


def begin_stage(model: nn.Module) -> None:
    """Makes every unit look anew at what trains: FSDP2 derives the types of gradients once, in the first pass."""
    for unit in units(model, experts=False):
        unit.unshard()
        unit.reshard()


@contextmanager
def gathered(model: AnyToAny) -> Iterator[None]:
    """Every process holds all units whole for the block's length; all have to enter it together.

    Within it no pass communicates: processes may take passes of unlike number, as answers of unlike length do. A block
    within another adds nothing, and where nothing is sharded neither does.
    """
    held = units(model)
    if not held or model in _GATHERED:
        yield
        return
    layers = units(model, experts=False)[1:]
    inner = [own for own in held[1:] if own not in layers and not isinstance(own, FrozenExpert)]
    for unit in held:
        unit.unshard()
    for unit in [*layers, *inner]:
        unit.set_reshard_after_forward(False, recurse=False)
    _GATHERED.add(model)
    try:
        yield
    finally:
        _GATHERED.discard(model)
        for unit in layers:
            unit.set_reshard_after_forward(_SHARDED[model].reshard_after_forward, recurse=False)
        for unit in inner:
            unit.set_reshard_after_forward(True, recurse=False)
        reshard(model)


def _answers_whole(model: AnyToAny) -> None:
    """Makes ``model.answer`` gather the model once, instead of layer by layer for each token."""
    answer = model.answer

    @wraps(answer)
    def answered(*arguments: Any, **options: Any) -> Any:
        with gathered(model):
            return answer(*arguments, **options)

    model.answer = answered  # type: ignore[method-assign]
    register_fsdp_forward_method(model, "answer")


_SHARDED: WeakKeyDictionary[nn.Module, Sharding] = WeakKeyDictionary()
_GATHERED: WeakSet[nn.Module] = WeakSet()
