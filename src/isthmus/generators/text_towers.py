"""The outputs of CLIP's text towers and of T5's encoder that newer pipelines use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def penultimate(tower: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """CLIP's states before its last layer (B, C, width), and its first output.

    That is the projected text embedding (B, K') if the tower has a projection. Without a mask, padding is attended to.
    """
    output = tower(ids, output_hidden_states=True)
    return output.hidden_states[-2], output[0]


def zero_padded(encoder: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """T5's last hidden states (B, C, width), zero where the mask is 0."""
    states: Tensor = encoder(ids, attention_mask=mask)[0]
    return torch.where(mask.bool()[..., None], states, 0.0)
