"""BEATs' architecture: log-mel filter banks -> patch tokens (Chen et al., arXiv 2212.09058).

A transformer with DeepNorm residuals (Wang et al., arXiv 2203.00555) and gated relative positions (Chi et al.,
arXiv 2106.16138, and WavLM, arXiv 2110.13900). Keys as in the published checkpoints, whose code and weights are MIT.
An ordinary trainable module: :class:`isthmus.encoders.beats.Beats` is the frozen expert around it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.encoders.beats.config import BINS, BeatsConfig

NORM_EPS = 1e-5
GATES = 8
"""Outputs of a query's gate projection: two gates, each the sum of four."""


def narrowed_mask(mask: Tensor, length: int) -> Tensor:
    """A mask (B, L) of fine steps -> (B, length) of coarse ones, each valid if any of its L // length steps is.

    Remaining steps at the end are dropped. In a row of patches that is only partly valid, the low bands are marked
    valid, as in the original code.
    """
    steps = mask.shape[1] // length
    narrowed: Tensor = mask[:, : steps * length].unflatten(1, (length, steps)).any(-1)
    return narrowed


def relative_buckets(length: int, buckets: int, max_distance: int, device: torch.device | None = None) -> Tensor:
    """(N, N) int64, the bucket of each key's distance from each query: half of the buckets are for later keys.

    Each short distance has its own bucket; longer ones share logarithmically wider ones, as in T5 (arXiv 1910.10683).
    """
    places = torch.arange(length, device=device)
    offsets = places[None] - places[:, None]
    half, distances = buckets // 2, offsets.abs()
    exact = half // 2
    # Computed in float32 and in this order, since rounding decides at the borders of buckets.
    widths = torch.log(distances.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (half - exact)
    far = (exact + widths.long()).clamp(max=half - 1)
    return torch.where(distances < exact, distances, far) + half * (offsets > 0)


class PositionConvolution(nn.Module):
    """A grouped convolution over the sequence, with weight normalisation: one norm for each kernel position."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.kernel, self.groups = kernel, groups
        directions = torch.empty(width, width // groups, kernel)
        self.weight_v = nn.Parameter(nn.init.normal_(directions, std=math.sqrt(4 / (kernel * width))))
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        weight = self.weight_g * self.weight_v / self.weight_v.norm(dim=(0, 1), keepdim=True)
        mixed = F.conv1d(tokens.transpose(1, 2), weight, self.bias, padding=self.kernel // 2, groups=self.groups)
        return F.gelu(mixed[..., : tokens.shape[1]]).transpose(1, 2)  # an even kernel gives one step too many


class Attention(nn.Module):
    """Self-attention with a bias of relative positions, scaled by gates that are computed from each query."""

    def __init__(self, config: BeatsConfig, positions: nn.Embedding) -> None:
        super().__init__()
        width, self.heads = config.encoder_embed_dim, config.encoder_attention_heads
        self.relative_attention_bias = positions
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.q_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.grep_linear = nn.Linear(width // self.heads, GATES)
        self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))

    def forward(self, tokens: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, D), position bias (1, heads, N, N), mask (B, N) -> (B, N, D)."""
        # (B, heads, N, D / heads) each
        queries, keys, values = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        update, reset = self.grep_linear(queries).unflatten(-1, (2, -1)).sum(-1).sigmoid().chunk(2, dim=-1)
        logits = (update * (reset * self.grep_a - 1) + 2) * bias
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None, None], -torch.inf)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=logits)
        projected: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return projected


class Layer(nn.Module):
    """A post-norm transformer block, its residuals multiplied by DeepNorm's alpha."""

    def __init__(self, config: BeatsConfig, positions: nn.Embedding) -> None:
        super().__init__()
        width, inner = config.encoder_embed_dim, config.encoder_ffn_embed_dim
        self.self_attn = Attention(config, positions)
        self.self_attn_layer_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.alpha = (2 * config.encoder_layers) ** 0.25

    def forward(self, tokens: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        tokens = self.self_attn_layer_norm(self.alpha * tokens + self.self_attn(tokens, bias, mask))
        mixed = self.fc2(F.gelu(self.fc1(tokens)))
        normed: Tensor = self.final_layer_norm(self.alpha * tokens + mixed)
        return normed


class Transformer(nn.Module):
    """Positions by convolution, then blocks that share one table of relative positions."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.buckets, self.max_distance = config.num_buckets, config.max_distance
        self.pos_conv = nn.Sequential(PositionConvolution(width, config.conv_pos, config.conv_pos_groups))
        self.layer_norm = nn.LayerNorm(width, eps=NORM_EPS)
        positions = nn.Embedding(config.num_buckets, config.encoder_attention_heads)
        self.layers = nn.ModuleList(Layer(config, positions) for _ in range(config.encoder_layers))

    def placed(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, D) -> the first block's input (B, N, D); masked tokens don't influence their neighbours."""
        if mask is not None:
            tokens = tokens.masked_fill(~mask[..., None], 0)
        placed: Tensor = self.layer_norm(tokens + self.pos_conv(tokens))
        return placed

    def position_bias(self, length: int) -> Tensor:
        """(1, heads, N, N), the logits that relative positions add before gating."""
        first = self.layers[0]
        assert isinstance(first, Layer)
        table = first.self_attn.relative_attention_bias
        bias: Tensor = table(relative_buckets(length, self.buckets, self.max_distance, table.weight.device))
        return bias.permute(2, 0, 1)[None]

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, D), mask (B, N) -> (B, N, D)."""
        bias = self.position_bias(tokens.shape[1])
        tokens = self.placed(tokens, mask)
        for layer in self.layers:
            tokens = layer(tokens, bias, mask)
        return tokens


class BeatsModel(nn.Module):
    """Filter banks -> patches -> transformer, and in fine-tuned checkpoints a head for sound classes."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        side = config.input_patch_size
        self.config = config
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, side, stride=side, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(config.embed_dim, eps=NORM_EPS)
        if config.embed_dim != config.encoder_embed_dim:
            self.post_extract_proj = nn.Linear(config.embed_dim, config.encoder_embed_dim)
        self.encoder = Transformer(config)
        if config.finetuned_model:
            self.predictor = nn.Linear(config.encoder_embed_dim, config.predictor_class)

    def patches(self, banks: Tensor) -> Tensor:
        """Normalised filter banks (B, frames, 128) -> (B, N, embed_dim), row after row of the time-major grid."""
        assert banks.shape[-1] == BINS
        grid = self.patch_embedding(banks[:, None])
        normed: Tensor = self.layer_norm(grid.flatten(2).transpose(1, 2))
        return normed

    def projected(self, patches: Tensor) -> Tensor:
        """(B, N, embed_dim) -> (B, N, D)."""
        wide: Tensor = self.post_extract_proj(patches) if "post_extract_proj" in self._modules else patches
        return wide

    def forward(self, banks: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Filter banks (B, frames, 128) and the mask of their frames (B, frames) -> (B, N, D) and mask (B, N)."""
        tokens = self.projected(self.patches(banks))
        if mask is None:
            return self.encoder(tokens), tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
        mask = narrowed_mask(mask, tokens.shape[1])
        return self.encoder(tokens, mask), mask

    def classify(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, N, D), mask (B, N) -> (B, classes): sigmoid of the valid patches' mean logits. Fine-tuned models only."""
        logits = self.predictor(tokens).masked_fill(~mask[..., None], 0)
        return torch.sigmoid(logits.sum(1) / mask.sum(1, keepdim=True))
