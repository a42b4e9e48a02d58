"""A model in shares: each process holds its part of every layer, and one layer whole while it computes."""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from isthmus.model import AnyToAny


def build_in_shares(model: AnyToAny, mesh: DeviceMesh) -> None:
    """Builds a model whose LLM, bridges and rows are sharded (FSDP2), layer by layer.

    The LLM's layers stay on the meta device until they are sharded; each process then reads its share of them from the
    checkpoint, a tensor at a time. What else there is at the beginning, whole, are the embedding, the head and what is
    trained. Frozen encoders and generators, which load on first use, aren't sharded: each process has its own.

    Args:
        model: not built yet.
        mesh: of one dimension, over which it is sharded.

    Raises:
        ValueError: its LLM's weights can't be read share by share.
    """
    model.configure_model(later=True)
    language_model = model.backbone.language_model
    for layer in language_model.layers():
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "answer")
    language_model.fill(next(model.parameters()).device)
