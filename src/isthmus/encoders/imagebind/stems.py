"""The stems of ImageBind: images, clips, log-mel images, depth, thermal, IMU and text -> a trunk's input (B, N, D)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.encoders.imagebind.config import ImageBindConfig


def table(*shape: int, std: float = 0.02) -> nn.Parameter:
    """A learned table, drawn from a truncated normal."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=std, a=-2 * std, b=2 * std))


class RepeatFrames(nn.Module):
    """An image (B, 3, H, W), or a clip of one frame -> a still clip (B, 3, frames, H, W); other clips unchanged."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, images: Tensor) -> Tensor:
        clips = images.unsqueeze(2) if images.ndim == 4 else images
        return clips.expand(-1, -1, self.frames, -1, -1) if clips.shape[2] == 1 else clips


class PatchEmbedding(nn.Module):
    """A projection of patches without bias, followed by a LayerNorm (eps 1e-5) except in vision."""

    def __init__(self, proj: nn.Module, norm_width: int | None) -> None:
        super().__init__()
        self.proj = proj
        self.norm_layer = nn.LayerNorm(norm_width, eps=1e-5) if norm_width else nn.Identity()

    def norm(self, patches: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        normalised: Tensor = self.norm_layer(patches)
        return normalised


class PositionTable(nn.Module):
    """Learned positions of the class token and a grid of patches; resized bicubically for other square grids."""

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.grid = grid
        self.pos_embed = table(1, 1 + grid[0] * grid[1], width)

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """(1, 1 + rows x columns, D) for this grid."""
        if grid == self.grid:
            return self.pos_embed
        if grid[0] != grid[1] or self.grid[0] != self.grid[1]:
            raise ValueError(
                f"found a patch grid of {grid}, expected {self.grid}: only square grids can differ; "
                "prepare media with this encoder's own preprocess"
            )
        positions = self.pos_embed[:, 1:].reshape(1, *self.grid, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(positions, size=grid, mode="bicubic").flatten(2).transpose(1, 2)
        return torch.cat([self.pos_embed[:, :1], resized], dim=1)


class GridStem(nn.Module):
    """Images and log-mel images -> patches by a strided convolution, a class token before them, positions added.

    ``stem_name`` is the checkpoint's name of the projection: ``rgbt_stem`` or ``depth_stem``.
    """

    def __init__(self, stem_name: str, embedding: PatchEmbedding, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.stem_name = stem_name
        self.cls_token = table(1, 1, width)
        self.add_module(stem_name, embedding)
        self.pos_embedding_helper = PositionTable(grid, width)

    def forward(self, planes: Tensor) -> Tensor:
        """(B, channels, [frames,] H, W) -> (B, 1 + N, D)."""
        embedding = self.get_submodule(self.stem_name)
        assert isinstance(embedding, PatchEmbedding)
        patches = embedding.proj(planes)
        grid = (patches.shape[-2], patches.shape[-1])
        tokens = embedding.norm(patches.flatten(2).transpose(1, 2))
        tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        positions: Tensor = self.pos_embedding_helper(grid)
        return tokens + positions


class MotionStem(nn.Module):
    """IMU (B, channels, length): each window of ``kernel`` samples over all channels becomes a token."""

    def __init__(self, channels: int, length: int, kernel: int, width: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.pos_embed = table(1, 1 + length // kernel, width)
        self.cls_token = table(1, 1, width)
        self.imu_stem = PatchEmbedding(nn.Linear(channels * kernel, width, bias=False), norm_width=width)

    def forward(self, motion: Tensor) -> Tensor:
        """(B, channels, length) -> (B, 1 + length / kernel, D)."""
        windows = motion.unfold(-1, self.kernel, self.kernel).transpose(1, 2).flatten(2)
        tokens = self.imu_stem.norm(self.imu_stem.proj(windows))
        return torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1) + self.pos_embed


class TextStem(nn.Module):
    """Token ids -> embeddings with positions. Holds the causal mask as a buffer, since the checkpoint stores it."""

    mask: Tensor

    def __init__(self, context_length: int, vocabulary: int, width: int) -> None:
        super().__init__()
        self.pos_embed = table(1, context_length, width, std=0.01)
        self.register_buffer("mask", torch.full((context_length, context_length), float("-inf")).triu(1))
        self.token_embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) int64, T at most the context length -> (B, T, D)."""
        tokens: Tensor = self.token_embedding(ids)
        return tokens + self.pos_embed[:, : ids.shape[1]]


def build_stem(name: str, config: ImageBindConfig) -> nn.Module:
    """The stem of one tower."""
    width = config.tower(name).width
    match name:
        case "vision":
            kernel = (config.video_frames, config.vision_patch_size, config.vision_patch_size)
            convolution = nn.Conv3d(3, width, kernel, stride=kernel, bias=False)
            embedding = PatchEmbedding(nn.Sequential(RepeatFrames(config.video_frames), convolution), norm_width=None)
            return GridStem("rgbt_stem", embedding, config.grid(name), width)
        case "audio":
            embedding = _plane_embedding(width, config.audio_kernel_size, config.audio_stride)
            return GridStem("rgbt_stem", embedding, config.grid(name), width)
        case "depth":
            embedding = _plane_embedding(width, config.depth_kernel_size, config.depth_kernel_size)
            return GridStem("depth_stem", embedding, config.grid(name), width)
        case "thermal":
            embedding = _plane_embedding(width, config.thermal_kernel_size, config.thermal_kernel_size)
            return GridStem("rgbt_stem", embedding, config.grid(name), width)
        case "imu":
            return MotionStem(config.imu_channels, config.imu_length, config.imu_kernel_size, width)
        case _:
            return TextStem(config.text_context_length, config.text_vocab_size, width)


def _plane_embedding(width: int, kernel: int, stride: int) -> PatchEmbedding:
    return PatchEmbedding(nn.Conv2d(1, width, kernel, stride=stride, bias=False), norm_width=width)
