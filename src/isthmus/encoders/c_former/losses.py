"""The losses that train a C-Former (X-LLM, arXiv 2305.04160, section 3.2; Dong & Xu, arXiv 1905.11235, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.encoders.c_former.model import Spoken

CTC_WEIGHT = 0.25


@dataclass
class SpeechLosses:
    """The three terms, each () and a mean over the batch.

    Attributes:
        cross_entropy: of the tokens' pieces, for each token.
        quantity: |sum of the weights - number of pieces|, for each recording.
        ctc: connectionist temporal classification of the frames (Graves et al., 2006), for each piece.
    """

    cross_entropy: Tensor
    quantity: Tensor
    ctc: Tensor

    @property
    def total(self) -> Tensor:
        """cross-entropy + quantity + 0.25 CTC."""
        return self.cross_entropy + self.quantity + CTC_WEIGHT * self.ctc


def speech_losses(spoken: Spoken, pieces: Tensor, lengths: Tensor) -> SpeechLosses:
    """The losses of a batch against its transcripts.

    Args:
        spoken: the output of ``CFormerModel(..., lengths)``.
        pieces: (B, L) int64, the transcripts; values after ``lengths`` are ignored.
        lengths: (B,) int64, how many pieces each transcript has, 1 or more.
    """
    valid = torch.arange(pieces.shape[1], device=pieces.device) < lengths[:, None]
    # A recording with fewer frames than pieces can't fire them all.
    most = min(pieces.shape[1], spoken.token_logits.shape[1])
    paired = valid[:, :most] & spoken.fired.mask[:, :most]
    summed = F.cross_entropy(spoken.token_logits[:, :most][paired].float(), pieces[:, :most][paired], reduction="sum")
    ctc = F.ctc_loss(
        spoken.frame_logits.float().log_softmax(-1).transpose(0, 1),
        (pieces + 1).masked_fill(~valid, 0),
        spoken.frame_mask.sum(1),
        lengths,
        zero_infinity=True,
    )
    return SpeechLosses(
        cross_entropy=summed / paired.sum().clamp(min=1),
        quantity=(spoken.fired.quantity - lengths).abs().mean(),
        ctc=ctc,
    )
