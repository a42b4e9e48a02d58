"""ZeroScope: text -> video.

Source: Wang et al., ModelScope, arXiv 2308.06571; diffusers' ``TextToVideoSDPipeline`` and its checkpoint format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from isthmus.generators.clip_conditioned import ClipConditioned
from isthmus.generators.pixels import clip_of, clip_request, pictures_of
from isthmus.generators.schedules import Sampler
from isthmus.part_card import PartCard
from isthmus.precision import Dtype
from isthmus.request import Request
from isthmus.types import Media, Modality


class ZeroScope(ClipConditioned):
    """ZeroScope, ModelScope's text-to-video. Its condition is OpenCLIP's last hidden states: (77, 1024) at full size.

    Args:
        checkpoint: the pipeline's folder.
        num_inference_steps, guidance_scale, height, width: as in :class:`ClipConditioned`.
        scheduler, batch_size, dtype, memo_megabytes: as in :class:`DiffusionGenerator`.
        num_frames: number of frames in a clip; ZeroScope was trained on 24, which its files don't state.
        fps: the frame rate of generated clips; it isn't an input of the expert.

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument doesn't fit it.
    """

    card = PartCard(
        takes="H (B, C, K)",
        gives="video",
        widths="(77, 1024)",
        code="Apache-2.0 (diffusers)",
        weights="CC-BY-NC 4.0",
        checkpoint="a TextToVideoSDPipeline folder, as of cerspense/zeroscope_v2_576w",
    )

    modality = Modality.VIDEO
    pipeline_name = "TextToVideoSDPipeline"
    default_steps = 50
    default_guidance = 9.0
    frames_share_batch = True

    def __init__(
        self,
        checkpoint: str | Path,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_frames: int = 24,
        fps: float = 8.0,
        height: int | None = None,
        width: int | None = None,
        scheduler: Sampler | None = None,
        batch_size: int = 16,
        dtype: Dtype = "float32",
        memo_megabytes: int = 256,
    ) -> None:
        super().__init__(
            checkpoint, num_inference_steps, guidance_scale, height, width, scheduler, batch_size, dtype, memo_megabytes
        )
        if num_frames < 1 or fps <= 0:
            raise ValueError(
                f"num_frames: found {num_frames} at fps {fps}; expected at least one frame and a positive rate"
            )
        self.num_frames = num_frames
        self.fps = fps

    def _materialize_denoiser(self) -> None:
        from diffusers import AutoencoderKL, UNet3DConditionModel

        self.vae = self.folder.read("vae", AutoencoderKL, dtype=self.dtype)
        self.unet = self.folder.read("unet", UNet3DConditionModel, dtype=self.dtype)

    def prepare(self, medium: Media) -> dict[str, Tensor]:
        """``clip`` (F, 3, height, width) float32 in [-1, 1]: evenly spaced over the video, repeated if too few."""
        self._check_modality(medium)
        return {"clip": clip_of(medium, self.num_frames, self.height, self.width)}

    def request(self) -> Request | None:
        """The frames of a clip."""
        return clip_request(self.num_frames, self.height, self.width)

    def _posterior(self, content: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        clips = content["clip"]
        mean, deviation = self._encode_images(clips.flatten(0, 1))
        layout = clips.shape[:2]
        mean = mean.reshape(*layout, *mean.shape[1:]).transpose(1, 2)
        return mean, deviation.reshape(*layout, *deviation.shape[1:]).transpose(1, 2)

    def _sample(self, pipeline: Any, request: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
        clips = pipeline(
            num_frames=self.num_frames, height=self.height, width=self.width, output_type="pt", **request
        ).frames
        return list(pictures_of(clips))

    def _as_media(self, array: np.ndarray[Any, Any], details: dict[str, Any]) -> Media:
        return Media(self.modality, array, rate=self.fps, source=self.checkpoint.name, details=details)
