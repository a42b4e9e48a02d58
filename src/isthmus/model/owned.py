"""What a model owns: the parts that a stage can train, and their state by component. Frozen experts are none of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from isthmus.model.any_to_any import AnyToAny

OwnedState = Mapping[str, Mapping[str, Tensor]]


def _projectors(model: AnyToAny) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    if model.input_side is not None:
        found |= {f"input_projectors.{name}": module for name, module in model.input_side.projectors.items()}
    if model.output_side is not None:
        found |= {f"output_projectors.{name}": module for name, module in model.output_side.projectors.items()}
    return found


def parts(model: AnyToAny) -> dict[str, dict[str, nn.Parameter]]:
    """Part -> its parameters by name. Every owned parameter is in exactly one part."""
    found = {part: dict(module.named_parameters()) for part, module in _projectors(model).items()}
    for part, parameters in model.backbone.language_model.parts().items():
        found[part] = {str(index): parameter for index, parameter in enumerate(parameters)}
    return found


def owned_state(model: AnyToAny) -> dict[str, dict[str, Tensor]]:
    """Component -> tensors by name; they share memory with the parameters. Buffers of projectors are included."""
    state = {part: dict(module.state_dict()) for part, module in _projectors(model).items()}
    return state | model.backbone.language_model.owned_state()


def load_owned(model: AnyToAny, state: OwnedState, strict: bool = True) -> None:
    """Copies a saved state into the model.

    Args:
        model: built.
        state: by component.
        strict: every component of the model must be there. Otherwise absent ones keep their initial values: a stage
            that adds LoRA or a modality goes on from one without.

    Raises:
        ValueError: a component is unknown or missing, or tensors differ in name or shape; nothing is copied then.
    """
    target = owned_state(model)
    unknown, missing = sorted(state.keys() - target.keys()), sorted(target.keys() - state.keys())
    if unknown or (strict and missing):
        raise ValueError(
            f"checkpoint: found the components {', '.join(sorted(state)) or 'none'}; this model has "
            f"{', '.join(sorted(target))}. It was saved by a model of other modalities or without LoRA: "
            "configure the same parts."
        )
    for component, tensors in state.items():
        expected = target[component]
        if expected.keys() != tensors.keys():
            different = sorted(expected.keys() ^ tensors.keys())
            raise ValueError(
                f"checkpoint, {component}: {len(different)} tensors differ in name, such as '{different[0]}'. "
                "It was saved with another kind of part: configure the one that it was trained with."
            )
        for name, tensor in tensors.items():
            if tensor.shape != expected[name].shape:
                raise ValueError(
                    f"checkpoint, {component}.{name}: found shape {tuple(tensor.shape)}; this model has "
                    f"{tuple(expected[name].shape)}. It was trained beside experts of other widths or sizes: "
                    "configure those."
                )
    with torch.no_grad():
        for component, tensors in state.items():
            for name, tensor in tensors.items():
                target[component][name].copy_(tensor)
