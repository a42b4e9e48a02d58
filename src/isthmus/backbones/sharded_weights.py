"""Loads an LLM's weights after sharding: no process reads more than its shards of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from isthmus.backbones.owned_state import own_share

LORA_BASE = ".base_layer."
"""The part that adapters insert into the name of a layer that they wrap."""


class StoredWeights:
    """The tensors of an LLM's safetensors files, by their names in the LLM's class.

    Args:
        folder: the checkpoint's folder.

    Raises:
        ValueError: the folder has no safetensors.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self.folder = folder
        self.files: dict[str, Path] = {}
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as weights:
                self.files |= dict.fromkeys(weights.keys(), file)
        if not self.files:
            raise ValueError(
                f"backbone checkpoint {folder}: found no safetensors, of which each process reads its share; expected "
                "some. Fix: save the checkpoint anew with save_pretrained(folder), or train without sharding."
            )

    def read(self, name: str, own: Tensor) -> Tensor:
        """What ``own`` holds of the tensor of this name: all of it, or this process's rows; no others are read.

        On the CPU, in the type of ``own``. Where that is the file's, a whole tensor is the file's own pages.

        Raises:
            ValueError: no tensor has this name, or it has another shape.
        """
        from safetensors import safe_open

        file = self.files.get(name)
        if file is None:
            raise ValueError(
                f"backbone checkpoint {self.folder}: found no tensor {name}; expected one, as the LLM's class names "
                "it: its weights can't be read in shares. Fix: save the checkpoint anew with save_pretrained(folder), "
                "or train without sharding."
            )
        with safe_open(file, framework="pt") as weights:
            rows = weights.get_slice(name)
            if (shape := tuple(rows.get_shape())) != own.shape:
                raise ValueError(
                    f"backbone checkpoint {file}: found {name} of shape {shape}; expected {tuple(own.shape)}, as "
                    "its config.json says. Download the folder again."
                )
            if isinstance(own, DTensor):
                lengths, starts = compute_local_shape_and_global_offset(own.shape, own.device_mesh, own.placements)
                ranges = [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]
                found: Tensor = rows[tuple(ranges)]
            else:
                found = weights.get_tensor(name)
        return found.to(own.dtype)


def without_weights(library: Any, config: Any, dtype: torch.dtype, weights: StoredWeights) -> Any:
    """The LLM with its layers on the meta device; embedding and head, which initialise new tokens' rows, are loaded.

    Buffers are computed.
    """
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        llm: Any = library.from_config(config, dtype=dtype, trust_remote_code=False)
    names = {id(module): name for name, module in llm.named_modules()}
    for module in (llm.get_input_embeddings(), llm.get_output_embeddings()):
        own, name = module.weight, f"{names[id(module)]}.weight"
        if name in weights.files or module is llm.get_input_embeddings():
            module.weight = nn.Parameter(weights.read(name, own), requires_grad=False)
    llm.tie_weights()
    return llm


@contextmanager
def stand_ins(llm: nn.Module) -> Iterator[None]:
    """Within the block, tensors on the meta device are replaced by expanded zeros of one element on the CPU.

    Adapters are moved to the device of the layer that they wrap, where they must keep their initial values.
    """
    llm._apply(lambda own: torch.zeros(1, dtype=own.dtype).expand(own.shape) if own.is_meta else own)
    yield
    llm._apply(lambda own: torch.empty_like(own, device="meta") if own.ndim and not any(own.stride()) else own)


def fill(llm: nn.Module, weights: StoredWeights, device: torch.device) -> None:
    """Loads the tensors that are on the meta device; of each sharded one, this process's shard.

    Raises:
        ValueError: see :meth:`StoredWeights.read`.
    """
    absent = {name for name, own in llm.named_parameters() if own.is_meta}
    llm._apply(lambda own: torch.empty_like(own, device=device) if own.is_meta else own)
    held: Mapping[str, Tensor] = dict(llm.named_parameters())
    with torch.no_grad():
        for name in sorted(absent):
            own_share(held[name]).copy_(weights.read(name.replace(LORA_BASE, "."), held[name]))
