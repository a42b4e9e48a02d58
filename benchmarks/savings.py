"""Our backbone and encoder with each saving behind a switch, so that what it brings can be measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isthmus.backbones import CausalBackbone
from isthmus.backbones.attention.length_groups import launch_cost, length_groups
from isthmus.backbones.base import BackboneOutput
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.layout import Beginnings
from isthmus.types import IGNORED, Batch, Features, Modality


@dataclass(frozen=True)
class Savings:
    """What a step spares itself.

    Attributes:
        cached_features: frozen encoders don't run; a batch brings what they say.
        target_logits: only positions before a target meet the output head.
        prefix_without_gradients: positions before anything that trains run without autograd.
        packing: no position is padding.
        shared_beginnings: what several rows begin with runs once.
        rows_only: of embedding and head, the new tokens' rows alone train.
    """

    cached_features: bool = True
    target_logits: bool = True
    prefix_without_gradients: bool = True
    packing: bool = True
    shared_beginnings: bool = True
    rows_only: bool = True

    @classmethod
    def names(cls) -> list[str]:
        """Every saving."""
        return [field.name for field in fields(cls)]

    def without(self, name: str) -> Savings:
        """These, but for one. While the whole embedding trains there is no prefix that nothing trainable precedes."""
        off = {name: False} | ({"prefix_without_gradients": False} if name == "rows_only" else {})
        return replace(self, **off)


class SavingsBackbone(CausalBackbone):
    """The project's backbone, with ``savings`` to switch off; arguments are those of :class:`CausalBackbone`."""

    def __init__(
        self, checkpoint: Path, signals: Mapping[str, int] | None = None, savings: Savings | None = None, **options: Any
    ) -> None:
        super().__init__(checkpoint, signals, **options)
        self.savings = savings or Savings()
        self.skip_prefix_gradients &= self.savings.prefix_without_gradients
        self.packer = self.packer if self.savings.packing else None
        self._last: Tensor | None = None

    def forward(
        self,
        batch: Batch,
        media: Mapping[Modality, tuple[Tensor, Tensor]],
        *options: Any,
        **named: Any,
    ) -> BackboneOutput:
        """The backbone's own; without ``target_logits`` all other positions meet the head too, and its backward."""
        output: BackboneOutput = super().forward(batch, media, *options, **named)
        if not self.savings.target_logits:
            assert self._last is not None
            targets = batch.labels[:, 1:] != IGNORED
            logits = self.logits(torch.cat([self._last[:, :-1][~targets], self._last[:, -1]])).float()
            logits.argmax(-1)
            output.text_loss = output.text_loss + 0.0 * logits.logsumexp(-1).sum()
        self._last = None
        return output

    def _states(self, *of: Any) -> Tensor:
        if self.savings.packing:
            embeddings, mask, layout, *others = of
            if not self.savings.shared_beginnings:
                rows = list(range(len(layout.lengths)))
                layout = replace(layout, beginnings=Beginnings(rows, [0] * len(rows)))
            self._last = super()._states(embeddings, mask, layout, *others)
        else:  # all rows in one pass, as long as the longest
            embeddings, mask, layout, firsts, _ = of
            one = length_groups(layout.lengths, firsts, launch_cost(mask.device, uniform=True))
            self._last = self._grouped(embeddings, mask, one)
        return self._last


class ReadyFeatures(ImageBind):
    """ImageBind, which also takes what it said before: ``tokens`` and ``mask`` in place of preprocessed media."""

    def forward(self, modality: Modality, inputs: Mapping[str, Tensor]) -> Features:
        """The encoder's own, or the features that came."""
        if "tokens" in inputs:
            return Features(inputs["tokens"], inputs["mask"])
        return super().forward(modality, inputs)
