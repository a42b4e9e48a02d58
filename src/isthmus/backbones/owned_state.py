"""Copying saved components into a model, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

State = Mapping[str, Mapping[str, Tensor]]
"""By component, by name."""


def copy_state(target: State, source: State, strict: bool) -> None:
    """Copies every tensor of ``source`` into the one of the same component and name.

    Args:
        target: tensors that share memory with the model's parameters.
        source: what was saved.
        strict: every component of ``target`` must be there; otherwise absent ones are left as they are.

    Raises:
        ValueError: components, names or shapes differ; nothing has been copied then.
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
    with torch.no_grad():
        for component, tensors in source.items():
            for name, tensor in tensors.items():
                target[component][name].copy_(tensor)


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
