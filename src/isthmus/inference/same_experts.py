"""Models over the same experts hold these once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from isthmus.backbones.pretrained import PretrainedLanguageModel
from isthmus.cache.fingerprint import fingerprint
from isthmus.frozen import FrozenExpert
from isthmus.model import AnyToAny

WRAPPED = "base_layer."
"""In the name of a weight to which LoRA was added."""


def share_experts(model: AnyToAny, other: AnyToAny) -> list[str]:
    """Lets a model use the experts of another one, where they are the same; its own of these are dropped.

    Encoders and generators are the same if they were built from the same arguments. LLMs are the same if their files
    and the type of their weights are; each keeps its own rows of new tokens and its own LoRA. Quantised ones aren't
    shared.

    Args:
        model: on its device.
        other: on the same one.

    Returns:
        What isn't shared, for who wonders about memory: the roles of experts that the other one has otherwise.
    """
    apart = []
    if model.input_side is not None:
        encoders = [] if other.input_side is None else [*other.input_side.encoders]
        apart += [f"encoder {name}" for name in _share(model.input_side.encoders, encoders)]
    if model.output_side is not None:
        generators = [] if other.output_side is None else [*other.output_side.generators]
        apart += [f"generator {name}" for name in _share(model.output_side.generators, generators)]
    language_model, twin = model.backbone.language_model, other.backbone.language_model
    if not _share_weights(language_model, twin):
        apart.append(f"LLM {type(language_model).__name__}")
    return apart


def _share(own: nn.ModuleList, theirs: Sequence[nn.Module]) -> list[str]:
    """Puts others' experts in the places of the same ones; the names of the classes that have none."""
    apart = []
    for at, expert in enumerate(own):
        twins = [each for each in theirs if _is_same(expert, each)]
        if twins:
            own[at] = twins[0]
        else:
            apart.append(type(expert).__name__)
    return apart


def _is_same(expert: nn.Module, other: nn.Module) -> bool:
    if type(expert) is not type(other) or not isinstance(expert, FrozenExpert):
        return False
    return bool(expert.__dict__["_arguments"] == other.__dict__["_arguments"])


def _share_weights(model: Any, other: Any) -> bool:
    if not all(isinstance(each, PretrainedLanguageModel) and each.quantization is None for each in (model, other)):
        return False
    if type(model) is not type(other) or _prints(model) != _prints(other):
        return False
    theirs = _frozen(other)
    for name, weight in _frozen(model).items():
        twin = theirs.get(name)
        if twin is not None and (twin.shape, twin.dtype, twin.device) == (weight.shape, weight.dtype, weight.device):
            weight.data = twin.data
    return True


def _prints(model: PretrainedLanguageModel) -> tuple[str, Any]:
    return fingerprint(Path(model.checkpoint)), model.dtype


def _frozen(model: PretrainedLanguageModel) -> dict[str, Tensor]:
    """The LLM's own weights, by the names that they have without LoRA."""
    return {
        name.replace(WRAPPED, ""): weight
        for name, weight in model.llm.named_parameters()
        if not weight.requires_grad and "lora_" not in name
    }
