"""Every size of an ImageBind: the published huge model by default, smaller ones by overriding fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

TOWERS = ("vision", "text", "audio", "depth", "thermal", "imu")
"""The towers of the published model, named as in its checkpoint, in its order. Images and video share ``vision``."""


class TowerSize(NamedTuple):
    """The transformer of one tower; ``drop_path`` is the last block's rate of stochastic depth in training."""

    width: int
    blocks: int
    heads: int
    drop_path: float


@dataclass(frozen=True)
class ImageBindConfig:
    """Sizes of the architecture and of its preprocessing (defaults: ``imagebind_huge``, arXiv 2305.05665).

    Attributes:
        modalities: the towers that are built, any of :data:`TOWERS`.
        out_embed_dim: width of the joint embedding.
        image_size: side of the square image and video crops, pixels.
        video_frames: frames in each clip, which one spatio-temporal patch spans; an image is repeated to this number.
        video_clips, video_clip_seconds, video_crops: views of a video: clips spread evenly over it, crops along its
            longer side.
        audio_num_mel_bins, audio_target_len: size of the log-mel image, bins and 10 ms frames.
        audio_clips, audio_clip_seconds: clips spread evenly over a recording.
        audio_mean, audio_std: normalisation of the log-mel values.
        text_context_length: ids in each text, the end-of-text token included.

    Raises:
        ValueError: a tower is unknown, or a size doesn't fit another; the message names the fields.
    """

    modalities: tuple[str, ...] = TOWERS
    out_embed_dim: int = 1024

    image_size: int = 224
    vision_patch_size: int = 14
    video_frames: int = 2
    video_clips: int = 5
    video_clip_seconds: float = 2.0
    video_crops: int = 3
    vision_embed_dim: int = 1280
    vision_num_blocks: int = 32
    vision_num_heads: int = 16
    vision_drop_path: float = 0.0

    text_context_length: int = 77
    text_vocab_size: int = 49408
    text_embed_dim: int = 1024
    text_num_blocks: int = 24
    text_num_heads: int = 16
    text_drop_path: float = 0.0

    audio_sample_rate: int = 16000
    audio_clips: int = 3
    audio_clip_seconds: float = 2.0
    audio_num_mel_bins: int = 128
    audio_target_len: int = 204
    audio_mean: float = -4.268
    audio_std: float = 9.138
    audio_kernel_size: int = 16
    audio_stride: int = 10
    audio_embed_dim: int = 768
    audio_num_blocks: int = 12
    audio_num_heads: int = 12
    audio_drop_path: float = 0.1

    depth_kernel_size: int = 16
    depth_embed_dim: int = 384
    depth_num_blocks: int = 12
    depth_num_heads: int = 8
    depth_drop_path: float = 0.0

    thermal_kernel_size: int = 16
    thermal_embed_dim: int = 768
    thermal_num_blocks: int = 12
    thermal_num_heads: int = 12
    thermal_drop_path: float = 0.0

    imu_channels: int = 6
    imu_length: int = 2000
    imu_kernel_size: int = 8
    imu_embed_dim: int = 512
    imu_num_blocks: int = 6
    imu_num_heads: int = 8
    imu_drop_path: float = 0.7

    def __post_init__(self) -> None:
        unknown = [name for name in self.modalities if name not in TOWERS]
        if unknown or not self.modalities:
            raise ValueError(f"modalities: found {list(self.modalities)}; expected some of {', '.join(TOWERS)}")
        for name in self.modalities:
            size = self.tower(name)
            if min(size.width, size.blocks, size.heads) < 1 or size.width % size.heads:
                raise ValueError(
                    f"{name}_embed_dim {size.width}, {name}_num_blocks {size.blocks}, {name}_num_heads {size.heads}: "
                    "expected positive sizes, the width a multiple of the heads"
                )
        self._check_patches("vision", "image_size", self.image_size, "vision_patch_size", self.vision_patch_size)
        self._check_patches("depth", "image_size", self.image_size, "depth_kernel_size", self.depth_kernel_size)
        self._check_patches("thermal", "image_size", self.image_size, "thermal_kernel_size", self.thermal_kernel_size)
        self._check_patches("imu", "imu_length", self.imu_length, "imu_kernel_size", self.imu_kernel_size)
        if "audio" in self.modalities and min(self.audio_num_mel_bins, self.audio_target_len) < self.audio_kernel_size:
            raise ValueError(
                f"audio_num_mel_bins {self.audio_num_mel_bins} and audio_target_len {self.audio_target_len}: "
                f"expected at least audio_kernel_size {self.audio_kernel_size}"
            )
        if self.video_crops not in (1, 3):
            raise ValueError(f"video_crops: found {self.video_crops}; expected 1 (the centre) or 3 (and both ends)")
        if min(self.video_clips, self.video_frames, self.audio_clips) < 1:
            raise ValueError("video_clips, video_frames and audio_clips: each must be at least 1")

    def _check_patches(self, tower: str, size_field: str, size: int, patch_field: str, patch: int) -> None:
        if tower in self.modalities and (patch < 1 or size < 1 or size % patch):
            raise ValueError(f"{size_field} {size} and {patch_field} {patch}: the size must be a multiple of the patch")

    def tower(self, name: str) -> TowerSize:
        """The transformer sizes of one tower."""
        fields = ("embed_dim", "num_blocks", "num_heads", "drop_path")
        return TowerSize(*(getattr(self, f"{name}_{field}") for field in fields))

    def with_towers(self, towers: Sequence[str]) -> ImageBindConfig:
        """The same sizes with these towers alone."""
        return replace(self, modalities=tuple(name for name in TOWERS if name in towers))

    def grid(self, name: str) -> tuple[int, int]:
        """(rows, columns) of patches in a tower: of an image, of one clip, or of an IMU recording in one row."""
        match name:
            case "vision":
                side = self.image_size // self.vision_patch_size
                return side, side
            case "audio":
                size, stride = self.audio_kernel_size, self.audio_stride
                return (self.audio_num_mel_bins - size) // stride + 1, (self.audio_target_len - size) // stride + 1
            case "depth":
                return self.image_size // self.depth_kernel_size, self.image_size // self.depth_kernel_size
            case "thermal":
                return self.image_size // self.thermal_kernel_size, self.image_size // self.thermal_kernel_size
            case "imu":
                return 1, self.imu_length // self.imu_kernel_size
            case _:
                raise AssertionError(f"{name} has no grid")
