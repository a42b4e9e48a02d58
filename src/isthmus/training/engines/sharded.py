"""FSDP2 as Lightning's strategy, for runs of several stages."""

from __future__ import annotations

from datetime import timedelta

from pytorch_lightning.strategies import ModelParallelStrategy
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from isthmus.model import AnyToAny
from isthmus.precision import Dtype, torch_dtype
from isthmus.training.checkpoints.shards import SavesShards
from isthmus.training.engines.units import FrozenSharding, Sharding, build_sharded


class Sharded(SavesShards, ModelParallelStrategy):
    """Fully sharded data parallelism (FSDP2): each process holds a shard of every tensor, and computes with all of it.

    A process reads its own batches, as under DDP. Parameters stay in place from stage to stage: what trains changes,
    and nothing is sharded anew, so that a whole curriculum runs in one process. The restored weights are in the shards
    before the stage's optimizer is made, and its own state follows.

    Args:
        data_parallel_size: over how many processes the model is sharded; all of them if None. Where it is smaller, each
            group of so many neighbours holds the model once, and gradients are averaged over groups: shards are then
            gathered within a machine, and only gradients cross to the others.
        frozen_sharding: of encoders and generators. ``replicate``: each process loads its own when it first needs one.
            ``root``: they rest in shards, and each pass gathers all of them, whatever media its batch has.
            ``per_layer``: as ``root``, but that encoders are gathered a layer at a time, which needs media of the same
            modalities in the batches of all processes.
        activation_checkpointing: whether each of the LLM's layers keeps only its input and recomputes the rest in the
            backward pass.
        offload: whether shards, gradients and the optimizer's state stay in the host's memory, and only what is
            gathered is on the device.
        reshard_after_forward: whether a layer that was gathered is dropped after its forward. If not, the LLM is whole
            on each process from forward to backward, and is gathered once a step instead of twice.
        reduce_dtype: the type in which gradients are added up over processes; their own if None.
        process_group_backend: nccl where the devices are GPUs, gloo on CPUs, if None.
        timeout_seconds: after which a process that waits for the others ends; torch's own if None.
    """

    def __init__(
        self,
        data_parallel_size: int | None = None,
        frozen_sharding: FrozenSharding = "replicate",
        activation_checkpointing: bool = False,
        offload: bool = False,
        reshard_after_forward: bool = True,
        reduce_dtype: Dtype | None = None,
        process_group_backend: str | None = None,
        timeout_seconds: float | None = None,
    ) -> None:
        super().__init__(process_group_backend=process_group_backend)
        if timeout_seconds is not None:
            self._timeout = timedelta(seconds=timeout_seconds)
        self.data_parallel_size = data_parallel_size
        reduced = None if reduce_dtype is None else torch_dtype(reduce_dtype)
        self.sharding = Sharding(frozen_sharding, activation_checkpointing, offload, reshard_after_forward, reduced)

    @property
    def mesh(self) -> DeviceMesh:
        """Of all processes: one dimension, or (replicas, shards)."""
        shards = self._shards()
        if shards == self.world_size:
            return self.device_mesh["data_parallel"]
        kind = self.root_device.type
        return init_device_mesh(kind, (self.world_size // shards, shards), mesh_dim_names=("replicas", "shards"))

    def build(self, model: AnyToAny) -> None:
        """Builds a model in shards."""
        build_sharded(model, self.mesh, self.sharding, (self.local_rank, self.num_processes))

    def model_to_device(self) -> None:
        """Shards that are offloaded stay on the host; buffers are moved."""
        assert self.model is not None
        if not self.sharding.offload:
            super().model_to_device()
            return
        for module in self.model.modules():
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.to(self.root_device)

    def _setup_distributed(self) -> None:
        if self._process_group_backend is None and self.sharding.offload and self.root_device.type == "cuda":
            self._process_group_backend = "cpu:gloo,cuda:nccl"  # norms of offloaded gradients are added up on CPUs
        super()._setup_distributed()
        self._data_parallel_size, self._tensor_parallel_size = self.world_size, 1
        self._shards()

    def _shards(self) -> int:
        found = self.world_size if self.data_parallel_size is None else self.data_parallel_size
        if found < 1 or self.world_size % found:
            raise ValueError(
                f"trainer.strategy.data_parallel_size: found {found} with {self.world_size} processes; expected a "
                "divisor of their number. Fix: leave it out to shard over all, or set it to the devices of a machine."
            )
        return found
