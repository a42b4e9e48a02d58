"""One process as rank 0 of many: torch's fake process group, and Lightning's strategies over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as distributed
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined] # Fabric's
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch._C._distributed_c10d import _DEFAULT_FIRST_BUCKET_BYTES, _compute_bucket_assignment_by_size
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp._fully_shard import _fsdp_param
from torch.testing._internal.distributed.fake_pg import FakeStore

from isthmus.model import AnyToAny
from isthmus.training.engines import Sharded
from isthmus.training.engines.experts import shard_experts
from isthmus.training.engines.units import shard
from isthmus.training.planning.plan import Setting

BUCKET = 25
"""MiB of a bucket of DDP, where its strategy names none: torch's own default."""


@contextmanager
def fake_group(ranks: int) -> Iterator[None]:
    """A process group of so many ranks, whose collectives end at once and move nothing; this process is rank 0.

    Raises:
        ValueError: there is a process group already.
    """
    if distributed.is_initialized():
        raise ValueError(
            "plan: found a process group in this process; expected none, as it stands for a cluster by itself. Fix: "
            "plan in a process of its own."
        )
    distributed.init_process_group("fake", rank=0, world_size=ranks, store=FakeStore())
    try:
        yield
    finally:
        distributed.destroy_process_group()


class Ranks(LightningEnvironment):
    """Says that all ranks but this one have been started elsewhere."""

    def __init__(self, ranks: int) -> None:
        super().__init__()
        self.ranks = ranks

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def world_size(self) -> int:
        return self.ranks

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return 0

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return 0


class _Fake:
    """What of a strategy would read numbers."""

    def setup_environment(self) -> None:
        """Meshes of devices are made of real numbers."""
        with unset_fake_temporarily():
            super().setup_environment()  # type: ignore[misc]

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Rank 0's own."""
        return obj


class FakeSharded(_Fake, Sharded):
    """FSDP2's own code over fake tensors."""

    def build(self, model: AnyToAny) -> None:
        """Shards a model that is built of fake tensors already."""
        with unset_fake_temporarily():
            mesh: DeviceMesh = self.mesh
        with first_chunks():
            if self.sharding.frozen_sharding != "replicate":
                per_layer = self.sharding.frozen_sharding == "per_layer"
                shard_experts(model, self.sharding.arguments(mesh), per_layer, place=(0, 1))
            shard(model, mesh, self.sharding)


@contextmanager
def first_chunks() -> Iterator[None]:
    """Within the block FSDP2 cuts off rank 0's chunk of a parameter alone, which is all that rank 0 keeps.

    Otherwise it makes as many fake tensors of each as there are ranks: minutes for a thousand.
    """
    module: Any = _fsdp_param
    own = module._chunk_with_empty

    def first(tensor: Tensor, num_chunks: int, dim: int) -> list[Tensor]:
        return [tensor.narrow(dim, 0, -(-tensor.size(dim) // num_chunks))]

    module._chunk_with_empty = first
    try:
        yield
    finally:
        module._chunk_with_empty = own


def strategy_of(setting: Setting) -> DDPStrategy | Sharded:
    """The strategy of a setting, over the fake group."""
    if setting.engine == "ddp":
        return FakeDDP(process_group_backend="fake")
    return FakeSharded(
        data_parallel_size=setting.shards,
        frozen_sharding=setting.frozen,
        activation_checkpointing=setting.recompute,
        offload=setting.offload,
        reshard_after_forward=setting.reshard,
        process_group_backend="fake",
    )


class FakeDDP(_Fake, DDPStrategy):
    """DDP as it does it: what trains lies in buckets, and each is reduced as soon as its last gradient is there.

    Torch's own reducer is C++ that reads memory, which fake tensors don't have. The buckets are assigned by its own
    function and limits.
    """

    def configure_ddp(self) -> None:
        """Makes the buckets, in the order in which gradients come: roughly from the last parameter to the first."""
        assert self.lightning_module is not None
        trained: list[Tensor] = [own for own in self.lightning_module.parameters() if own.requires_grad]
        limits = [_DEFAULT_FIRST_BUCKET_BYTES, self._ddp_kwargs.get("bucket_cap_mb", BUCKET) * 2**20]
        backwards = trained[::-1]
        assigned, _ = _compute_bucket_assignment_by_size(backwards, limits, [False] * len(trained))
        views = bool(self._ddp_kwargs.get("gradient_as_bucket_view", False))
        self._buckets = [_Bucket([backwards[at] for at in bucket], views) for bucket in assigned]

    def teardown(self) -> None:
        """The next stage has buckets of its own."""
        for bucket in self._buckets:
            bucket.remove()
        super().teardown()


class _Bucket:
    """Gradients that are reduced together.

    Args:
        parameters: of one type.
        views: whether gradients are views of the bucket's memory, instead of being copied to it.
    """

    def __init__(self, parameters: list[Tensor], views: bool) -> None:
        self.flat = torch.empty(sum(own.numel() for own in parameters), dtype=parameters[0].dtype)
        places = self.flat.split([own.numel() for own in parameters])
        self.places: dict[Tensor, Tensor] = dict(zip(parameters, places, strict=True))
        self.views = views
        self.missing = set(self.places)
        self.hooks = [own.register_post_accumulate_grad_hook(self.arrive) for own in parameters]

    def arrive(self, parameter: Tensor) -> None:
        """Takes a gradient; the last one is followed by the reduction."""
        assert parameter.grad is not None
        place = self.places[parameter].view_as(parameter)
        if self.views:
            parameter.grad = place
        else:
            place.copy_(parameter.grad)
        self.missing.discard(parameter)
        if not self.missing:
            distributed.all_reduce(self.flat)
            self.missing = set(self.places)

    def remove(self) -> None:
        """Takes the hooks off the parameters."""
        for hook in self.hooks:
            hook.remove()
