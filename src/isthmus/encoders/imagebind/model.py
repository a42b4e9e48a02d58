"""ImageBind's architecture: six towers into one embedding space (Girdhar et al., arXiv 2305.05665).

Keys as in ``imagebind_huge.pth``. Written anew from the paper and that checkpoint's layout; the published weights are
CC-BY-NC-SA 4.0.
An ordinary trainable module: :class:`isthmus.encoders.imagebind.ImageBind` is the frozen expert around it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.encoders.imagebind.config import ImageBindConfig, TowerSize
from isthmus.encoders.imagebind.stems import TextStem, build_stem, table
from isthmus.encoders.mlp import Mlp
from isthmus.encoders.stochastic_depth import StochasticDepth, rising_rates

NORM_EPS = 1e-6
"""For every LayerNorm in trunks and heads; those after patch embeddings have 1e-5."""
INITIAL_SCALES = {"text": 1 / 0.07, "audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}
"""Logit scales applied after the L2 norm; vision has none, and only the text tower's is learned."""
LARGEST_SCALE = 100.0


class Attention(nn.Module):
    """Self-attention; outside vision and text, every query also attends to one learned key and value."""

    bias_k: nn.Parameter | None
    bias_v: nn.Parameter | None

    def __init__(self, width: int, heads: int, bias_kv: bool) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(nn.init.normal_(torch.empty(3 * width, width), std=width**-0.5))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.bias_k = table(1, 1, width) if bias_kv else None
        self.bias_v = table(1, 1, width) if bias_kv else None
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, D) -> (B, N, D); ``mask`` (N, N) is added to the logits."""
        queries, keys, values = F.linear(tokens, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        if self.bias_k is not None and self.bias_v is not None:
            keys = torch.cat([keys, self.bias_k.expand(keys.shape[0], -1, -1)], dim=1)
            values = torch.cat([values, self.bias_v.expand(values.shape[0], -1, -1)], dim=1)
        # (B, heads, N, D / heads) each
        queries, keys, values = (
            part.reshape(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in (queries, keys, values)
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        projected: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return projected


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, size: TowerSize, bias_kv: bool, drop_rate: float) -> None:
        super().__init__()
        self.attn = Attention(size.width, size.heads, bias_kv)
        self.norm_1 = nn.LayerNorm(size.width, eps=NORM_EPS)
        self.mlp = Mlp(size.width)
        self.norm_2 = nn.LayerNorm(size.width, eps=NORM_EPS)
        self.drop = StochasticDepth(drop_rate)
        self._initialise(size)

    def _initialise(self, size: TowerSize) -> None:
        """CLIP's initialisation (arXiv 2103.00020): it scales with the width, so that small towers learn as well."""
        residual = (2 * size.blocks) ** -0.5 * size.width**-0.5
        nn.init.normal_(self.attn.out_proj.weight, std=residual)
        nn.init.normal_(self.mlp.fc1.weight, std=(2 * size.width) ** -0.5)
        nn.init.normal_(self.mlp.fc2.weight, std=residual)
        for layer in (self.attn.out_proj, self.mlp.fc1, self.mlp.fc2):
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        tokens = tokens + self.drop(self.attn(self.norm_1(tokens), mask))
        tokens = tokens + self.drop(self.mlp(self.norm_2(tokens)))
        return tokens


class Trunk(nn.Module):
    """The transformer of one tower; only vision has a LayerNorm before it."""

    def __init__(self, size: TowerSize, norm_first: bool, bias_kv: bool) -> None:
        super().__init__()
        first = nn.LayerNorm(size.width, eps=NORM_EPS) if norm_first else nn.Identity()
        self.pre_transformer_layer = nn.Sequential(first)
        rates = rising_rates(size.drop_path, size.blocks)
        self.blocks = nn.ModuleList(Block(size, bias_kv, rate) for rate in rates)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        tokens = self.pre_transformer_layer(tokens)
        for block in self.blocks:
            tokens = block(tokens, mask)
        return tokens


class ClassToken(nn.Module):
    """(B, N, D) -> (B, D): the first token."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


class TextHead(nn.Module):
    """Projects the text's end token."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.LayerNorm(width, eps=NORM_EPS), nn.Linear(width, out_width, bias=False))

    def forward(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """(B, T, D) and the position of each end (B,) -> (B, out)."""
        rows = torch.arange(tokens.shape[0], device=tokens.device)
        projected: Tensor = self.proj(tokens[rows, ends])
        return projected


class Normalise(nn.Module):
    """Unit length along the last axis."""

    def forward(self, embeddings: Tensor) -> Tensor:
        return F.normalize(embeddings, dim=-1)


class LogitScale(nn.Module):
    """Multiplies by exp(log_logit_scale), at most :data:`LARGEST_SCALE`. The checkpoint holds it, learned or not."""

    log_logit_scale: Tensor

    def __init__(self, initial: float, learned: bool) -> None:
        super().__init__()
        value = torch.tensor(math.log(initial))
        if learned:
            self.log_logit_scale = nn.Parameter(value)
        else:
            self.register_buffer("log_logit_scale", value)

    def forward(self, embeddings: Tensor) -> Tensor:
        return embeddings * self.log_logit_scale.exp().clamp(max=LARGEST_SCALE)


def build_head(name: str, width: int, out_width: int) -> nn.Module:
    """Trunk output -> embedding. Parts are numbered as in the checkpoint: ``0`` and ``2``, or ``0`` and ``3`` (IMU)."""
    if name == "text":
        return TextHead(width, out_width)
    dropout = [nn.Dropout(0.5)] if name == "imu" else []
    norm, projection = nn.LayerNorm(width, eps=NORM_EPS), nn.Linear(width, out_width, bias=False)
    return nn.Sequential(norm, ClassToken(), *dropout, projection)


class ImageBindModel(nn.Module):
    """Towers of ``config.modalities``: stem, trunk, head, L2 norm and logit scale."""

    def __init__(self, config: ImageBindConfig) -> None:
        super().__init__()
        self.config = config
        self.modality_preprocessors = nn.ModuleDict({name: build_stem(name, config) for name in config.modalities})
        self.modality_trunks = nn.ModuleDict()
        self.modality_heads = nn.ModuleDict()
        self.modality_postprocessors = nn.ModuleDict()
        for name in config.modalities:
            size = config.tower(name)
            bias_kv = name not in ("vision", "text")
            self.modality_trunks[name] = Trunk(size, norm_first=name == "vision", bias_kv=bias_kv)
            self.modality_heads[name] = build_head(name, size.width, config.out_embed_dim)
            scale = [LogitScale(INITIAL_SCALES[name], learned=name == "text")] if name in INITIAL_SCALES else []
            self.modality_postprocessors[name] = nn.Sequential(Normalise(), *scale)

    def stem(self, name: str, inputs: Tensor) -> Tensor:
        """Inputs without a clip axis -> the trunk's input tokens (B, N, D)."""
        tokens: Tensor = self.modality_preprocessors[name](inputs)
        return tokens

    def trunk(self, name: str, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D); text is causal."""
        stem = self.modality_preprocessors[name]
        mask = stem.mask[: tokens.shape[1], : tokens.shape[1]] if isinstance(stem, TextStem) else None
        hidden: Tensor = self.modality_trunks[name](tokens, mask)
        return hidden

    def head(self, name: str, hidden: Tensor, inputs: Tensor) -> Tensor:
        """Trunk output (B, N, D) -> (B, out), not normalised. The largest id of a text is CLIP's end token."""
        head = self.modality_heads[name]
        embedding: Tensor = head(hidden, inputs.argmax(dim=-1)) if name == "text" else head(hidden)
        return embedding

    def embed(self, name: str, inputs: Tensor, scaled: bool = False) -> Tensor:
        """One tower: inputs -> embeddings (B, out), of unit length or, ``scaled``, times the tower's logit scale.

        Inputs of five axes or more have clips on the second, which are embedded one by one and averaged:
        vision (B, S, 3, H, W) or (B, S, 3, frames, H, W), audio (B, S, 1, bins, frames). So video always has a clip
        axis, even for a single clip.
        """
        batch, clips = inputs.shape[0], inputs.shape[1] if inputs.ndim >= 5 else None
        flat = inputs if clips is None else inputs.flatten(0, 1)
        embedding = self.head(name, self.trunk(name, self.stem(name, flat)), flat)
        embedding = self.modality_postprocessors[name](embedding) if scaled else F.normalize(embedding, dim=-1)
        return embedding if clips is None else embedding.reshape(batch, clips, -1).mean(dim=1)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The original forward: inputs by tower -> embeddings (B, out) with logit scales, averaged over clips."""
        return {name: self.embed(name, tower_inputs, scaled=True) for name, tower_inputs in inputs.items()}
