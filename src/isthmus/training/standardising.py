"""Finds, in the first steps of training, what of S is the same in every conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as distributed
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from isthmus.model.output_side import OutputSide
from isthmus.output_projectors.standardisation import Standardisation
from isthmus.types import Modality


def lacking(side: OutputSide | None) -> list[Modality]:
    """Modalities whose projector trains, and of which too few runs have been seen to standardise S.

    A rehearsal, whose tensors have no values, stands where enough have been seen, as all but a run's first steps do.
    """
    if side is None:
        return []
    found = [Modality(name) for name in side.standards]
    trains = [m for m in found if any(own.requires_grad for own in side.projectors[m].parameters())]
    standards = {modality: standard_of(side, modality) for modality in trains}
    return [modality for modality, own in standards.items() if not isinstance(own.seen, FakeTensor) and own.lacks]


def see(side: OutputSide, modalities: Sequence[Modality], signals: Mapping[Modality, Tensor], world: int) -> None:
    """Takes a step's runs of all processes into what S is standardised by.

    Args:
        side: of the model that learns.
        modalities: of which more runs are to be seen; the same in every process.
        signals: by modality S (r, S, E) of this process; it may lack some.
        world: how many processes there are.
    """
    standards = [standard_of(side, modality) for modality in modalities]
    own = [standard.sums(signals.get(modality)) for standard, modality in zip(standards, modalities, strict=True)]
    sums = torch.cat(own)
    if world > 1:
        distributed.all_reduce(sums)
    for standard, added in zip(standards, sums.split([len(each) for each in own]), strict=True):
        standard.take(added)


def standard_of(side: OutputSide, modality: Modality) -> Standardisation:
    """What a modality's S is standardised by."""
    found = side.standards[modality]
    assert isinstance(found, Standardisation)
    return found
