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


def see(
    side: OutputSide, modalities: Sequence[Modality], parts: Sequence[Mapping[Modality, Tensor]], world: int
) -> None:
    """Takes a step's runs of all processes into what S is standardised by.

    Args:
        side: of the model that learns.
        modalities: of which more runs are to be seen; the same in every process.
        parts: of each part of this process's batch, by modality S (r, S, E); it may lack some.
        world: how many processes there are.
    """
    standards = [standard_of(side, modality) for modality in modalities]
    sums = [
        standard.sums([part[m] for part in parts if m in part])
        for standard, m in zip(standards, modalities, strict=True)
    ]
    together = torch.cat(sums)
    if world > 1:
        distributed.all_reduce(together)
    for standard, added in zip(standards, together.split([len(each) for each in sums]), strict=True):
        standard.take(added)


def standard_of(side: OutputSide, modality: Modality) -> Standardisation:
    """What a modality's S is standardised by."""
    found = side.standards[modality]
    assert isinstance(found, Standardisation)
    return found
