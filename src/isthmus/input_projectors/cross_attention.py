"""A resampler: learned queries attend to any number of tokens (Flamingo, arXiv 2204.14198, section 2.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.input_projectors.base import InputProjector
from isthmus.input_projectors.expansion import require_positive
from isthmus.part_card import PartCard
from isthmus.types import Features


class CrossAttention(InputProjector):
    """Flamingo's Perceiver resampler: any number of encoder tokens -> a fixed number of LLM positions.

    Linear (D -> width); ``depth`` blocks in which the queries attend to the tokens and to themselves; layer norm;
    linear (width -> E). Blocks are pre-norm, without biases in their linear layers. ``depth`` 1 is close to Qwen-VL's
    adapter (arXiv 2308.12966). Masked tokens have no influence, even NaN.

    Args:
        in_width: D.
        out_width: E.
        queries: M, the positions that every medium takes.
        width: width of the blocks; D if None, as in Flamingo.
        depth: number of blocks.
        heads: number of attention heads, a divisor of ``width``.
        feed_forward: width inside each block's feed-forward, as a multiple of ``width``.

    Raises:
        ValueError: a size is below one, or ``heads`` doesn't divide ``width``.
    """

    card = PartCard(takes="F (B, N, D)", gives="P (B, M, E), M learned queries", widths="the encoder's D, the LLM's E")

    def __init__(
        self,
        in_width: int,
        out_width: int,
        queries: int = 64,
        width: int | None = None,
        depth: int = 6,
        heads: int = 8,
        feed_forward: int = 4,
    ) -> None:
        super().__init__()
        width = in_width if width is None else width
        require_positive(
            in_width=in_width,
            out_width=out_width,
            queries=queries,
            width=width,
            depth=depth,
            heads=heads,
            feed_forward=feed_forward,
        )
        if width % heads:
            raise ValueError(f"input projector: found width {width} and {heads} heads; expected heads that divide it")
        self.project_in = nn.Linear(in_width, width)
        # Random, not zero: equal queries would get equal gradients and stay equal.
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.blocks = nn.ModuleList(ResamplerBlock(width, heads, feed_forward) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.project_out = nn.Linear(width, out_width)

    def positions(self, tokens: int) -> int:
        """M, the number of queries, for any N."""
        return len(self.queries)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """F (B, N, D) -> P (B, M, E) and its mask (B, M), which is True throughout."""
        hidden = ~features.mask[..., None]
        tokens = self.project_in(features.tokens.masked_fill(hidden, 0))  # masked tokens may be NaN
        states = self.queries.expand(len(tokens), -1, -1)
        for block in self.blocks:
            states = block(states, tokens, features.mask)
        return self.project_out(self.norm(states)), features.mask.new_ones(states.shape[:2])


class ResamplerBlock(nn.Module):
    """x + attention(x; tokens and x), then x + feed-forward(x), over states (B, M, width) and tokens (B, N, width)."""

    def __init__(self, width: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_tokens = nn.LayerNorm(width)
        self.norm_states = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, feed_forward * width, bias=False),
            nn.GELU(),
            nn.Linear(feed_forward * width, width, bias=False),
        )

    def forward(self, states: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """States (B, M, width) after attending to the tokens whose mask (B, N) is True."""
        own = self.norm_states(states)
        query = self._split(self.query(own))
        context = torch.cat([self.norm_tokens(tokens), own], dim=1)
        key, value = (self._split(part) for part in self.key_value(context).chunk(2, dim=-1))
        # The queries attend to themselves too, so that no row of the mask is empty.
        valid = torch.cat([mask, mask.new_ones(own.shape[:2])], dim=1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=valid[:, None, None])
        states = states + self.out(attended.transpose(1, 2).flatten(2))
        fed: Tensor = self.feed_forward(states)
        return states + fed

    def _split(self, states: Tensor) -> Tensor:
        """(B, L, width) -> (B, heads, L, width / heads)."""
        batch, length, width = states.shape
        return states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
