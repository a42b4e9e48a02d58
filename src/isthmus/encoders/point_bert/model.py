"""Point-BERT as ULIP uses it: a point cloud -> tokens and an embedding (arXiv 2111.14819, 2212.05171, 2305.08275).

Keys as in ULIP's checkpoints without their ``module.`` prefix. An ordinary trainable module:
:class:`isthmus.encoders.point_bert.PointBert` is the frozen expert around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.encoders.mlp import Mlp
from isthmus.encoders.point_bert.sampling import group_points
from isthmus.encoders.stochastic_depth import StochasticDepth, rising_rates

NORM_EPS = 1e-5


@dataclass(frozen=True)
class PointBertConfig:
    """Sizes (defaults: ULIP-2's published model, 10,000 coloured points).

    Attributes:
        points: number of points in a preprocessed cloud.
        colored: whether points have colours: six features instead of three.
        num_group, group_size: number of neighbourhoods in a cloud, and of points in each; each becomes a token.
        encoder_dims: width of a neighbourhood's PointNet code; trans_dim: width of the transformer.
        embed_dim: width of the projected embedding.

    Raises:
        ValueError: a size is below one or doesn't fit another; the message names the fields.
    """

    points: int = 10000
    colored: bool = True
    trans_dim: int = 384
    depth: int = 18
    num_heads: int = 6
    group_size: int = 32
    num_group: int = 512
    encoder_dims: int = 256
    embed_dim: int = 1280
    drop_path_rate: float = 0.1

    def __post_init__(self) -> None:
        sizes = (self.trans_dim, self.depth, self.num_heads, self.encoder_dims, self.embed_dim)
        if min(sizes) < 1 or self.trans_dim % self.num_heads:
            raise ValueError(
                f"trans_dim, depth, num_heads, encoder_dims, embed_dim: found {sizes}; "
                "expected positive sizes, trans_dim a multiple of num_heads"
            )
        if not 1 <= self.num_group <= self.points or not 1 <= self.group_size <= self.points:
            raise ValueError(
                f"num_group {self.num_group}, group_size {self.group_size}: expected 1 to points, {self.points}"
            )


ULIP1 = PointBertConfig(points=8192, colored=False, depth=12, embed_dim=512)
"""The published ULIP-1 Point-BERT: 8,192 points without colour."""


class MiniPointNet(nn.Module):
    """A neighbourhood's points -> one code: two point-wise networks; the second also reads the maximum of the first.

    The checkpoint's layers are convolutions of kernel 1, applied here as linear maps of rows. The maximum passes
    through its half of the second network's first layer once for each neighbourhood instead of once for each point,
    which gives the same sums at half the cost.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(
            nn.Conv1d(features, 128, 1), nn.BatchNorm1d(128), nn.ReLU(), nn.Conv1d(128, 256, 1)
        )
        self.second_conv = nn.Sequential(
            nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, width, 1)
        )

    def forward(self, neighbourhoods: Tensor) -> Tensor:
        """(B, G, points, features) -> (B, G, width)."""
        batch, groups, points, features = neighbourhoods.shape
        widen, norm, activate, local_layer = self.first_conv
        local = linear_rows(local_layer, activate(norm(linear_rows(widen, neighbourhoods.reshape(-1, features)))))
        shared = local.reshape(batch * groups, points, -1).amax(dim=1)

        mix, norm, activate, last = self.second_conv
        assert isinstance(mix, nn.Conv1d)
        for_shared, for_local = mix.weight.squeeze(-1).chunk(2, dim=1)
        mixed = F.linear(local, for_local).reshape(batch * groups, points, -1)
        mixed = mixed + F.linear(shared, for_shared, mix.bias).unsqueeze(1)
        codes = linear_rows(last, activate(norm(mixed.flatten(0, 1))))
        return codes.reshape(batch, groups, points, -1).amax(dim=2)


def linear_rows(layer: nn.Module, rows: Tensor) -> Tensor:
    """A convolution of kernel 1 as a linear map of rows (R, in) -> (R, out)."""
    assert isinstance(layer, nn.Conv1d)
    return F.linear(rows, layer.weight.squeeze(-1), layer.bias)


class Attention(nn.Module):
    """Self-attention without biases on queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        queries, keys, values = self.qkv(tokens).reshape(*tokens.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed: Tensor = self.proj(F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, drop_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width)
        self.attn = Attention(width, heads)
        self.drop = StochasticDepth(drop_rate)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        tokens = tokens + self.drop(self.attn(self.norm1(tokens)))
        tokens = tokens + self.drop(self.mlp(self.norm2(tokens)))
        return tokens


class PointTransformer(nn.Module):
    """Groups, their codes and their positions -> the tokens of a class token and G groups."""

    def __init__(self, config: PointBertConfig) -> None:
        super().__init__()
        self.config = config
        width = config.trans_dim
        self.cls_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=0.02))
        self.cls_pos = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=0.02))
        self.encoder = MiniPointNet(6 if config.colored else 3, config.encoder_dims)
        self.reduce_dim = nn.Linear(config.encoder_dims, width)
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        rates = rising_rates(config.drop_path_rate, config.depth)
        # Nested because the checkpoint's keys are `blocks.blocks.0`.
        self.blocks = nn.ModuleDict({"blocks": nn.ModuleList(Block(width, config.num_heads, rate) for rate in rates)})
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def codes(self, cloud: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, 3 or 6) -> a code for each neighbourhood (B, G, encoder_dims) and its centre (B, G, 3)."""
        # Grouping compares distances, so it runs in float32 whatever the type of the weights.
        neighbourhoods, centres = group_points(cloud.float(), self.config.num_group, self.config.group_size)
        return self.encoder(neighbourhoods.to(self.cls_token.dtype)), centres.to(self.cls_token.dtype)

    def forward(self, cloud: Tensor) -> Tensor:
        """(B, P, 3 or 6) -> tokens (B, 1 + G, D), the class token first."""
        codes, centres = self.codes(cloud)
        batch = cloud.shape[0]
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), self.reduce_dim(codes)], dim=1)
        places = torch.cat([self.cls_pos.expand(batch, -1, -1), self.pos_embed(centres)], dim=1)
        for block in self.blocks["blocks"].children():
            tokens = block(tokens + places)
        normalised: Tensor = self.norm(tokens)
        return normalised


class PointBertModel(nn.Module):
    """The point tower of ULIP: Point-BERT, the projection into the joint space and the contrastive temperature."""

    def __init__(self, config: PointBertConfig) -> None:
        super().__init__()
        self.config = config
        self.point_encoder = PointTransformer(config)
        pooled = 2 * config.trans_dim
        self.pc_projection = nn.Parameter(nn.init.normal_(torch.empty(pooled, config.embed_dim), std=pooled**-0.5))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def tokens(self, cloud: Tensor) -> Tensor:
        """(B, P, 3 or 6) -> (B, 1 + G, D) after the last norm."""
        tokens: Tensor = self.point_encoder(cloud)
        return tokens

    @staticmethod
    def pool(tokens: Tensor) -> Tensor:
        """(B, 1 + G, D) -> (B, 2D): the class token beside the maximum over the groups."""
        return torch.cat([tokens[:, 0], tokens[:, 1:].amax(dim=1)], dim=-1)

    def forward(self, cloud: Tensor) -> Tensor:
        """(B, P, 3 or 6) -> the embedding (B, embed_dim), not normalised."""
        return torch.matmul(self.pool(self.tokens(cloud)), self.pc_projection)
