"""C-Former's network (X-LLM, arXiv 2305.04160): a conformer encodes the speech, and tokens are fired from its frames.

The conformer is transformers' ``ParakeetEncoder``: convolutions that keep one frame of four, then blocks with relative
positions (Gulati et al., arXiv 2005.08100; Rekesh et al., arXiv 2305.05084).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from isthmus.encoders.c_former.cif import ContinuousIntegrateAndFire, Fired

SUBSAMPLING = 4
"""How many filter-bank frames of 10 ms become one conformer frame of 40 ms."""
STRIDE = 2
"""The stride of each subsampling convolution; its kernel has three frames."""
ENGLISH = tuple(" 'abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class CFormerConfig:
    """Sizes and preprocessing. The defaults are a conformer of X-LLM's width.

    Attributes:
        bins: mel filters.
        bank_mean: mean of the training data's log-mel values.
        bank_deviation: their standard deviation.
        width: of the conformer, and D.
        layers: number of its blocks.
        heads: number of its attention heads, a divisor of ``width``.
        feed_forward: width inside each block's feed-forwards.
        kernel: of each block's convolution, frames, odd.
        channels: of the subsampling convolutions.
        dropout: of states, activations and attention weights, in training.
        pieces: the vocabulary of the heads: characters, syllables or words.

    Raises:
        ValueError: a size is below one, ``heads`` doesn't divide ``width``, or a choice is impossible.
    """

    bins: int = 80
    bank_mean: float = 0.0
    bank_deviation: float = 1.0
    width: int = 512
    layers: int = 12
    heads: int = 8
    feed_forward: int = 2048
    kernel: int = 31
    channels: int = 256
    dropout: float = 0.1
    pieces: tuple[str, ...] = ENGLISH

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{field.name}: found {value}; expected at least 1")
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width: found {self.width}; expected an even multiple of heads, {self.heads}")
        if not self.kernel % 2:
            raise ValueError(f"kernel: found {self.kernel}; expected an odd number")
        if self.bins < SUBSAMPLING or self.bank_deviation <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"found bins {self.bins}, bank_deviation {self.bank_deviation} and dropout {self.dropout}; expected "
                f"at least {SUBSAMPLING} bins, a deviation above 0 and a dropout of at least 0 and below 1"
            )
        if not self.pieces or not all(isinstance(piece, str) for piece in self.pieces):
            raise ValueError(f"pieces: found {list(self.pieces)}; expected one string or more")


@dataclass
class Spoken:
    """The network's output for a batch of recordings.

    Attributes:
        fired: the tokens (B, N, D), their mask and quantity.
        frame_logits: (B, T, pieces + 1) of the frames for CTC; class 0 is the blank.
        frame_mask: (B, T).
        token_logits: (B, N, pieces).
    """

    fired: Fired
    frame_logits: Tensor
    frame_mask: Tensor
    token_logits: Tensor


class CFormerModel(nn.Module):
    """Speech encoder, integrate-and-fire, and the two heads that its training needs."""

    def __init__(self, config: CFormerConfig) -> None:
        super().__init__()
        from transformers import ParakeetEncoder, ParakeetEncoderConfig

        self.speech_encoder = ParakeetEncoder(
            ParakeetEncoderConfig(
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.feed_forward,
                conv_kernel_size=config.kernel,
                subsampling_factor=SUBSAMPLING,
                subsampling_conv_channels=config.channels,
                num_mel_bins=config.bins,
                dropout=config.dropout,
                activation_dropout=config.dropout,
                attention_dropout=config.dropout,
                layerdrop=0.0,
            )
        )
        self.cif = ContinuousIntegrateAndFire(config.width, config.width)
        self.frame_head = nn.Linear(config.width, len(config.pieces) + 1)
        self.token_head = nn.Linear(config.width, len(config.pieces))

    def frames_of(self, banks: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Banks (B, frames, bins), mask (B, frames), True on the first -> frames (B, T, D) and mask (B, T).

        Masked frames have no influence and are zero in the result. At least one masked frame follows every row, so that
        integrate-and-fire finds its end.
        """
        encoded = self.speech_encoder(input_features=banks.masked_fill(~mask[..., None], 0), attention_mask=mask)
        frame_mask = encoded.attention_mask.bool()
        frames = encoded.last_hidden_state.masked_fill(~frame_mask[..., None], 0)
        return nn.functional.pad(frames, (0, 0, 0, 1)), nn.functional.pad(frame_mask, (0, 1))

    def tokens(self, banks: Tensor, mask: Tensor) -> Fired:
        """Banks (B, frames, bins), mask (B, frames) -> tokens (B, N, D), one or more a recording."""
        fired: Fired = self.cif(*self.frames_of(banks, mask))
        return fired

    def forward(self, banks: Tensor, mask: Tensor, lengths: Tensor | None = None) -> Spoken:
        """Banks (B, frames, bins) -> tokens, and the heads' logits.

        Args:
            banks: normalised.
            mask: (B, frames).
            lengths: (B,) how many tokens each should have, in training.
        """
        frames, frame_mask = self.frames_of(banks, mask)
        fired = self.cif(frames, frame_mask, lengths)
        return Spoken(fired, self.frame_head(frames), frame_mask, self.token_head(fired.tokens))


def frame_counts(banks: Tensor) -> Tensor:
    """The number of conformer frames for each number of filter-bank frames, int64."""
    for _ in range(SUBSAMPLING // STRIDE):
        banks = torch.div(banks - 1, STRIDE, rounding_mode="floor") + 1
    return banks
