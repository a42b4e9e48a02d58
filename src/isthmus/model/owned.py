"""What a model owns: the parts that a stage can train, and their state by component. Frozen experts are none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from isthmus.model.any_to_any import AnyToAny


def _projectors(model: AnyToAny) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    if model.input_side is not None:
        found |= {f"input_projectors.{name}": module for name, module in model.input_side.projectors.items()}
        if model.input_side.teacher is not None:
            found["teacher"] = model.input_side.teacher
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
