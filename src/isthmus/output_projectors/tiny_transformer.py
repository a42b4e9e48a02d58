"""NExT-GPT's output projector (arXiv 2309.05519, section 3): a small encoder-decoder with learned queries."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isthmus.output_projectors.base import OutputProjector
from isthmus.output_projectors.shapes import require_sizes, require_states
from isthmus.part_card import PartCard


class TinyTransformer(OutputProjector):
    """Linear (E -> width), encoder over the S signal states, decoder from C learned queries, linear (width -> K).

    The defaults are NExT-GPT's: about 32M parameters at E = 4096 and (C, K) = (77, 768). Blocks are pre-norm.

    Args:
        in_width: E.
        signals: S.
        condition_shape: (C, K), read from the generator.
        width: width of the transformer.
        encoder_layers: number of blocks over the signal states.
        decoder_layers: number of blocks over the queries.
        heads: number of attention heads, a divisor of ``width``.
        feed_forward: width inside each block's feed-forward.
        dropout: dropout inside the blocks (0 in NExT-GPT's code, 0.1 in the paper).

    Raises:
        ValueError: a size is below one, or ``heads`` doesn't divide ``width``.
    """

    card = PartCard(takes="S (B, S, E)", gives="H (B, C, K)", widths="the LLM's E, the generator's (C, K); 512 inside")

    def __init__(
        self,
        in_width: int,
        signals: int,
        condition_shape: Sequence[int],
        width: int = 512,
        encoder_layers: int = 4,
        decoder_layers: int = 4,
        heads: int = 4,
        feed_forward: int = 2048,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        condition_tokens, condition_width = require_sizes(in_width, signals, condition_shape)
        if min(width, encoder_layers, decoder_layers, heads, feed_forward) < 1 or width % heads:
            raise ValueError(
                f"output projector: found width {width}, heads {heads}, layers {encoder_layers} + {decoder_layers}, "
                f"feed_forward {feed_forward}; expected sizes of at least 1 and heads that divide the width"
            )
        self.in_width, self.signals = in_width, signals
        self.project_in = nn.Linear(in_width, width)
        encoder_layer = nn.TransformerEncoderLayer(
            width, heads, feed_forward, dropout, batch_first=True, norm_first=True
        )
        self.transformer = nn.Transformer(
            width,
            heads,
            num_decoder_layers=decoder_layers,
            dim_feedforward=feed_forward,
            dropout=dropout,
            # Built here because nn.Transformer's own encoder warns that pre-norm can't use nested tensors.
            custom_encoder=nn.TransformerEncoder(
                encoder_layer, encoder_layers, nn.LayerNorm(width), enable_nested_tensor=False
            ),
            batch_first=True,
            norm_first=True,
        )
        # Random, not zero: equal queries would give C equal outputs, get equal gradients and stay equal.
        self.queries = nn.Parameter(torch.randn(condition_tokens, width))
        self.project_out = nn.Linear(width, condition_width)

    def forward(self, signals: Tensor) -> Tensor:
        """S (B, S, E) -> H (B, C, K)."""
        require_states(signals, self.signals, self.in_width)
        queries = self.queries.to(signals.dtype).expand(len(signals), -1, -1)
        decoded: Tensor = self.transformer(self.project_in(signals), queries)
        projected: Tensor = self.project_out(decoded)
        return projected
