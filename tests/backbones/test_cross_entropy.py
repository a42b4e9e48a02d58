"""The text loss is had by the cross-entropy that a backbone was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from isthmus.losses import cross_entropy


@pytest.mark.parametrize("family", ["llama", "t5"])
@pytest.mark.parametrize("by_token", [True, False])
def test_every_backbone_measures_by_its_own(family: str, by_token: bool, build: Callable[..., Any], kit: Any) -> None:
    backbone = build(family)
    batch, media = kit["conversation_batch"](backbone, text=20)
    plain = backbone(batch, media, by_token)
    seen: list[int] = []

    def doubled(logits: Tensor, labels: Tensor, reduction: Any) -> tuple[Tensor, Tensor]:
        seen.append(len(labels))
        losses, correct = cross_entropy(logits, labels, reduction)
        return 2 * losses, correct

    backbone.cross_entropy = doubled
    output = backbone(batch, media, by_token)
    assert sum(seen) == batch.target_count
    torch.testing.assert_close(output.text_loss, 2 * plain.text_loss)
    assert torch.equal(output.correct, plain.correct)
