"""The trained tensors of a module, by component: only they are saved; frozen experts' weights stay in their files.

A module lists them by ``owned()``: component -> the tensor's name in the component's file -> its path in the module.
Its ``state_dict`` has only these tensors, under their paths in the module and any prefix, as torch expects: within
another module, for DDP, for sharded modules and for ``torch.distributed.checkpoint``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

State = Mapping[str, Mapping[str, Tensor]]
"""Tensors by component and name."""

Owned = Mapping[str, Mapping[str, str]]
"""By component and name in its file: the path of a tensor in the module that owns it."""


def owned_by(module: nn.Module, places: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The owned tensors of a module whose components are whole submodules; ``places``: the path of each."""
    return {
        component: {name: f"{place}.{name}" for name in module.get_submodule(place).state_dict()}
        for component, place in places.items()
    }


def state_of(module: nn.Module, owned: Owned) -> dict[str, dict[str, Tensor]]:
    """The tensors that a module owns; they share memory with its parameters."""
    held = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    return {part: {name: held[path].detach() for name, path in names.items()} for part, names in owned.items()}


def keep_to_owned(module: nn.Module) -> None:
    """Restricts a module's ``state_dict``, and the keys that ``load_state_dict`` expects, to its owned tensors."""
    module.register_state_dict_post_hook(_leave_out)
    module.register_load_state_dict_pre_hook(_note_prefix)
    module.register_load_state_dict_post_hook(_expect_owned)


def _paths(module: Any) -> set[str]:
    return {path for names in module.owned().values() for path in names.values()}


def _leave_out(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    kept = {prefix + path for path in _paths(module)}
    for key in [key for key in state if key.startswith(prefix) and key not in kept]:
        del state[key]


def _note_prefix(module: Any, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    module._loaded_under = prefix  # the hook that runs after loading doesn't receive it


def _expect_owned(module: Any, keys: Any) -> None:
    prefix = module._loaded_under
    kept = {prefix + path for path in _paths(module)}
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.startswith(prefix) or key in kept]


def copy_state(target: State, source: State, strict: bool) -> None:
    """Copies every tensor of ``source`` into the one of the same component and name.

    Args:
        target: tensors that share memory with the model's parameters.
        source: the saved tensors.
        strict: whether every component of ``target`` must be present; otherwise absent ones stay unchanged.

    Raises:
        ValueError: see :func:`check_state`; nothing has been copied then.
    """
    check_state(target, source, strict)
    with torch.no_grad():
        for component, tensors in source.items():
            for name, tensor in tensors.items():
                own = target[component][name]
                own.copy_(share_of(own, tensor))


def share_of(own: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor in the layout of ``own``: this process's shard if it is sharded. No communication.

    One that is sharded already stays as it is.
    """
    if not isinstance(own, DTensor) or isinstance(whole, DTensor):
        return whole
    return distribute_tensor(whole.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def own_share(own: Tensor) -> Tensor:
    """This process's shard of a tensor; empty if the tensor is too small for all processes to have one."""
    return own.to_local() if isinstance(own, DTensor) else own


def with_share(own: Tensor, share: Tensor) -> Tensor:
    """A tensor in the layout of ``own``, of which ``share`` is this process's shard; else ``share`` itself."""
    if not isinstance(own, DTensor):
        return share
    return DTensor.from_local(
        share, own.device_mesh, own.placements, run_check=False, shape=own.shape, stride=own.stride()
    )


def whole_of(own: Tensor) -> Tensor:
    """A tensor with all shards. If it is sharded, every process must call this."""
    return own.full_tensor() if isinstance(own, DTensor) else own


def kept_of(own: Tensor) -> Tensor:
    """A tensor for a checkpoint: on the CPU; of a sharded one this process's shard, where it is."""
    return own.detach() if isinstance(own, DTensor) else own.detach().cpu()


@torch.no_grad()
def exchange(own: Tensor, other: Tensor) -> None:
    """Exchanges the values of two tensors in their places; of sharded ones, this process's shards."""
    first, second = own_share(own), own_share(other)
    held = first.clone()
    first.copy_(second)
    second.copy_(held)


def check_state(target: State, source: State, strict: bool) -> None:
    """Checks that saved tensors fit those of the model.

    Raises:
        ValueError: components, names or shapes differ.
    """
    unknown, missing = source.keys() - target.keys(), target.keys() - source.keys()
    if unknown or (strict and missing):
        raise ValueError(
            f"saved state: found components {', '.join(sorted(source)) or 'none'}; "
            f"expected {', '.join(sorted(target))}. "
            "It was saved by a model of other modalities, with LoRA or without LoRA: configure the same parts. A state "
            "with LoRA needs the `lora` setting that it was trained with."
        )
    for component, tensors in source.items():
        _check_component(target[component], tensors, component)


def _check_component(target: Mapping[str, Tensor], source: Mapping[str, Tensor], component: str) -> None:
    missing, unknown = sorted(target.keys() - source.keys()), sorted(source.keys() - target.keys())
    if missing or unknown:
        raise ValueError(
            f"saved state '{component}': {len(missing)} tensors are missing {missing[:3]} "
            f"and {len(unknown)} unknown {unknown[:3]}; expected exactly this model's. "
            "Was it saved with another kind of projector, another `output_side.standardised`, other lora settings or "
            "another LLM?"
        )
    for name, tensor in source.items():
        if tensor.shape != target[name].shape:
            raise ValueError(
                f"saved state '{component}.{name}': found shape {tuple(tensor.shape)}; "
                f"expected {tuple(target[name].shape)}. "
                "Was it saved with other signal counts, another LoRA rank, or beside experts of other widths?"
            )
