"""BLIP-2's querying transformer (arXiv 2301.12597) in ``transformers``' own class, and its published weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from isthmus.input_projectors.base import InputProjector
from isthmus.input_projectors.blip2_weights import load_blip2
from isthmus.input_projectors.expansion import require_positive
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.types import Features


class QFormer(InputProjector):
    """Learned queries -> layer norm -> a BERT whose queries attend to the encoder's tokens -> linear to E.

    The default sizes are BLIP-2's. At inference it equals the bridge between BLIP-2's vision tower and its LLM.

    Args:
        in_width: D.
        out_width: E.
        queries: M, the positions that every medium takes.
        width: width of the BERT.
        layers: number of its layers.
        heads: number of its attention heads, a divisor of ``width``.
        feed_forward: width inside each layer's feed-forward.
        cross_attention_every: in every this many layers, from the first on, queries attend to the encoder's tokens.
        dropout: of states and attention weights, in training.
        checkpoint: a folder with BLIP-2's weights (safetensors) to start from; random if None. The linear layer is
            copied too if it was trained for an LLM of width E.

    Raises:
        ValueError: a size is below one, ``heads`` doesn't divide ``width``, or the checkpoint doesn't fit.
    """

    card = PartCard(
        takes="F (B, N, D)",
        gives="P (B, M, E), M learned queries",
        widths="768 inside; 32 queries",
        code="Apache-2.0 (transformers)",
        weights="trained here, or from BLIP-2's (MIT)",
        checkpoint="none, or a folder as of Salesforce/blip2-opt-2.7b",
    )

    def __init__(
        self,
        in_width: int,
        out_width: int,
        queries: int = 32,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        feed_forward: int = 3072,
        cross_attention_every: int = 2,
        dropout: float = 0.1,
        checkpoint: str | Path | None = None,
    ) -> None:
        super().__init__()
        require_positive(
            in_width=in_width,
            out_width=out_width,
            queries=queries,
            width=width,
            layers=layers,
            heads=heads,
            feed_forward=feed_forward,
            cross_attention_every=cross_attention_every,
        )
        if width % heads:
            raise ValueError(f"input projector: found width {width} and {heads} heads; expected heads that divide it")
        from transformers import Blip2QFormerConfig, Blip2QFormerModel

        config = Blip2QFormerConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=feed_forward,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            cross_attention_frequency=cross_attention_every,
            encoder_hidden_size=in_width,
        )
        self.qformer = Blip2QFormerModel(config)
        # Random, not zero: equal queries would get equal gradients and stay equal.
        self.query_tokens = nn.Parameter(torch.randn(1, queries, width) * config.initializer_range)
        self.language_projection = nn.Linear(width, out_width)
        if checkpoint is not None:
            load_blip2(self, checkpoint_path(checkpoint))

    def positions(self, tokens: int) -> int:
        """M, the number of queries, for any N."""
        return self.query_tokens.shape[1]

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """F (B, N, D) -> P (B, M, E) and its mask (B, M), which is True throughout. Every medium has a valid token."""
        states = self.qformer(
            query_embeds=self.query_tokens.expand(len(features.tokens), -1, -1),
            encoder_hidden_states=features.tokens.masked_fill(~features.mask[..., None], 0),  # may be NaN
            encoder_attention_mask=features.mask,
        ).last_hidden_state
        return self.language_projection(states), features.mask.new_ones(states.shape[:2])
