"""What a module owns, by component: its state is that, and frozen experts' weights stay in their own files.

A module that owns something says so by ``owned()``: component -> the name of each tensor in the component's file ->
where the module holds it. Its ``state_dict`` has these tensors, each under the module's own path and any prefix, as
torch has it: within another module, for DDP, for sharded modules and for ``torch.distributed.checkpoint``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

State = Mapping[str, Mapping[str, Tensor]]
"""By component, by name."""

Owned = Mapping[str, Mapping[str, str]]
"""By component, by name in its file: the path of a tensor in the module that owns it."""


class Owner(Protocol):
    """A module that says what it owns."""

    def owned(self) -> Owned:
        """See :data:`Owned`."""
        ...


def owned_by(module: nn.Module, places: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What a module owns whose components are whole submodules, by component: the path of each."""
    return {
        component: {name: f"{place}.{name}" for name in module.get_submodule(place).state_dict()}
        for component, place in places.items()
    }


def state_of(module: nn.Module, owned: Owned) -> dict[str, dict[str, Tensor]]:
    """The tensors that a module owns; they share memory with its parameters."""
    held = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    return {part: {name: held[path].detach() for name, path in names.items()} for part, names in owned.items()}


def keep_to_owned(module: nn.Module) -> None:
    """Leaves out of a module's ``state_dict``, and of what ``load_state_dict`` expects, what it doesn't own."""
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
    module._loaded_under = prefix  # the hook that runs after loading isn't told


def _expect_owned(module: Any, keys: Any) -> None:
    prefix = module._loaded_under
    kept = {prefix + path for path in _paths(module)}
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.startswith(prefix) or key in kept]


def copy_state(target: State, source: State, strict: bool) -> None:
    """Copies every tensor of ``source`` into the one of the same component and name.

    Args:
        target: tensors that share memory with the model's parameters.
        source: what was saved.
        strict: every component of ``target`` must be there; otherwise absent ones are left as they are.

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
    """A whole tensor as this process holds ``own``: its share of it, where that is sharded. Nothing is sent."""
    if not isinstance(own, DTensor):
        return whole
    return distribute_tensor(whole.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def own_share(own: Tensor) -> Tensor:
    """What this process holds of a tensor; nothing, where it is too small to be shared by all."""
    return own.to_local() if isinstance(own, DTensor) else own


def whole_of(own: Tensor) -> Tensor:
    """A tensor with all processes' shares of it. Where it is sharded, every process has to ask."""
    return own.full_tensor() if isinstance(own, DTensor) else own


def check_state(target: State, source: State, strict: bool) -> None:
    """Holds what was saved against the tensors that it is for.

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
            "Was it saved with another kind of projector, other lora settings or another LLM?"
        )
    for name, tensor in source.items():
        if tensor.shape != target[name].shape:
            raise ValueError(
                f"saved state '{component}.{name}': found shape {tuple(tensor.shape)}; "
                f"expected {tuple(target[name].shape)}. "
                "Was it saved with other signal counts, another LoRA rank, or beside experts of other widths?"
            )
