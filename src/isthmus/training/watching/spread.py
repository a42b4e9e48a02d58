"""How much H differs from prompt to prompt, beside the conditions that it stands in for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from isthmus.model import AnyToAny
from isthmus.types import Batch, Modality


class ConditionProbe:
    """Sees what output projectors give within one training step: no forward of its own.

    Args:
        model: that learns.
        modalities: whose projectors are looked at.
    """

    def __init__(self, model: AnyToAny, modalities: Sequence[Modality]) -> None:
        self.seen: dict[Modality, list[Tensor]] = {modality: [] for modality in modalities}
        self._handles: list[RemovableHandle] = []
        assert model.output_side is not None, "only what is made has conditions"
        for modality in modalities:
            projector = model.output_side.projectors[modality]
            self._handles.append(projector.register_forward_hook(self._keeper(modality)))

    def close(self) -> dict[Modality, list[Tensor]]:
        """H (r, C, K) of each of the step's calls, by modality; projectors are as they were before."""
        for handle in self._handles:
            handle.remove()
        return self.seen

    def _keeper(self, modality: Modality) -> Any:
        def keep(module: Any, given: Any, made: Any) -> None:
            self.seen[modality].append((made if isinstance(made, Tensor) else made[0]).detach())

        return keep


@torch.no_grad()
def scatters(
    model: AnyToAny, seen: Mapping[Modality, Sequence[Tensor]], batch: Batch
) -> dict[Modality, tuple[float, float]]:
    """By modality the variance of H over a batch's different captions, and that of the captions' own conditions.

    Modalities with fewer than two captions are left out, and those whose projector gave something else than a condition
    for each run, as objectives that compare answers have it.
    """
    side, found = model.output_side, {}
    for modality, calls in seen.items():
        captions = [
            caption
            for piece in batch.pieces
            if modality in piece.signals
            for caption in piece.signals[modality].captions
        ]
        firsts = {caption: place for place, caption in reversed(list(enumerate(captions)))}
        if side is None or sum(map(len, calls)) != len(captions) or len(firsts) < 2:
            continue
        rows = torch.tensor(sorted(firsts.values()))
        conditions = torch.cat(list(calls))[rows.to(calls[0].device)]
        targets = side.target(modality, [captions[row] for row in rows.tolist()]).tokens
        found[modality] = (_scatter(conditions), _scatter(targets))
    return found


def _scatter(conditions: Tensor) -> float:
    """(r, C, K) -> the mean over C and K of the variance over r."""
    return float(conditions.float().flatten(1).var(0).mean())
