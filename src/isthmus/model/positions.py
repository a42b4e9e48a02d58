"""How many LLM positions a medium takes, known to data workers without any weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.encoders.base import Encoder
from isthmus.input_projectors.base import InputProjector
from isthmus.types import Modality


@dataclass(frozen=True)
class Positions:
    """M of each modality's media: the projector's count for the encoder's.

    Pickled, it holds no weights: encoders are pickled unloaded, and of a projector go its settings and the shapes of
    its own parameters (:func:`weightless`).

    Attributes:
        encoders: by modality.
        projectors: by modality.
        fused: media that take no positions.
    """

    encoders: Mapping[Modality, Encoder]
    projectors: Mapping[Modality, InputProjector]
    fused: frozenset[Modality] = frozenset()

    def __call__(self, modality: Modality, inputs: Mapping[str, Tensor]) -> int:
        """M of one preprocessed medium."""
        return self.of(modality, self.encoders[modality].token_count(modality, inputs))

    def of(self, modality: Modality, count: int) -> int:
        """M of a medium of ``count`` encoder tokens N."""
        return 0 if modality in self.fused else self.projectors[modality].positions(count)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"projectors": {m: weightless(own) for m, own in self.projectors.items()}}


def weightless(projector: InputProjector) -> InputProjector:
    """The projector for its ``positions`` alone: settings, and its own parameters and buffers on the meta device.

    Of its submodules those are kept, weightless too, that are projectors.
    """
    found = type(projector).__new__(type(projector))
    nn.Module.__init__(found)
    vars(found).update({name: value for name, value in vars(projector).items() if name not in vars(found)})
    for name, parameter in projector.named_parameters(recurse=False):
        setattr(found, name, nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False))
    for name, buffer in projector.named_buffers(recurse=False):
        found.register_buffer(name, torch.empty_like(buffer, device="meta"))
    for name, module in projector.named_children():
        if isinstance(module, InputProjector):
            setattr(found, name, weightless(module))
    return found


def no_media(modality: Modality, inputs: Mapping[str, Tensor]) -> int:
    """Positions of media for a model that takes none.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{modality}: this model has no input side and takes text alone; configure model.input_side")
