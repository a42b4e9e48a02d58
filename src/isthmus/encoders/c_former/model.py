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
"""Frames of the filter banks that become one of the conformer's: 10 ms each before, 40 ms after."""
STRIDE = 2
"""Of each convolution that subsamples; its kernel has three frames."""
ENGLISH = tuple(" 'abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class CFormerConfig:
    """Sizes and preprocessing. The defaults are a conformer of X-LLM's width.

    Attributes:
        bins: mel filters.
        bank_mean: of the log-mel values of the data that it was trained on.
        bank_deviation: likewise.
        width: of the conformer, and D.
        layers: its blocks.
        heads: its attention heads; they divide ``width``.
        feed_forward: width inside each block's feed-forwards.
        kernel: frames that each block's convolution sees, odd.
        channels: of the subsampling convolutions.
        dropout: of states, activations and attention weights, in training.
        pieces: what a token can stand for, by the head that trained it: characters, syllables or words.

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
    """What the network says of recordings.

    Attributes:
        fired: the tokens (B, N, D), their mask and quantity.
        frame_logits: (B, T, pieces + 1) over the frames, 0 for none, as CTC reads them.
        frame_mask: (B, T).
        token_logits: (B, N, pieces).
    """

    fired: Fired
    frame_logits: Tensor
    frame_mask: Tensor
    token_logits: Tensor


class CFormerModel(nn.Module):
    """Speech encoder, integrate-and-fire, and the two heads that it is trained by."""

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

        What is hidden changes nothing, and comes out as zeros. One hidden frame at least stands behind every row, so
        that integrate-and-fire sees where it ends.
        """
        encoded = self.speech_encoder(input_features=banks.masked_fill(~mask[..., None], 0), attention_mask=mask)
        shown = encoded.attention_mask.bool()
        frames = encoded.last_hidden_state.masked_fill(~shown[..., None], 0)
        return nn.functional.pad(frames, (0, 0, 0, 1)), nn.functional.pad(shown, (0, 1))

    def tokens(self, banks: Tensor, mask: Tensor) -> Fired:
        """Banks (B, frames, bins), mask (B, frames) -> tokens (B, N, D), one or more a recording."""
        fired: Fired = self.cif(*self.frames_of(banks, mask))
        return fired

    def forward(self, banks: Tensor, mask: Tensor, lengths: Tensor | None = None) -> Spoken:
        """Banks (B, frames, bins) -> tokens, and what the heads read.

        Args:
            banks: normalised.
            mask: (B, frames).
            lengths: (B,) how many tokens each should have, in training.
        """
        frames, shown = self.frames_of(banks, mask)
        fired = self.cif(frames, shown, lengths)
        return Spoken(fired, self.frame_head(frames), shown, self.token_head(fired.tokens))


def frame_counts(banks: Tensor) -> Tensor:
    """How many frames the conformer makes of each number of frames of filter banks, int64."""
    for _ in range(SUBSAMPLING // STRIDE):
        banks = torch.div(banks - 1, STRIDE, rounding_mode="floor") + 1
    return banks
