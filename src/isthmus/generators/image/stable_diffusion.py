"""Stable Diffusion: text -> image.

Source: Rombach et al., arXiv 2112.10752; diffusers' ``StableDiffusionPipeline`` and its checkpoint format.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from isthmus.generators.clip_conditioned import ClipConditioned
from isthmus.generators.pixels import pictures_of, pixels_of
from isthmus.part_card import PartCard
from isthmus.types import Media, Modality


class StableDiffusion(ClipConditioned):
    """Stable Diffusion 1 and 2. Its condition is CLIP's last hidden states: (77, 768) or (77, 1024) at full size."""

    card = PartCard(
        takes="H (B, C, K)",
        gives="image",
        widths="(77, 768) SD 1; (77, 1024) SD 2",
        code="Apache-2.0 (diffusers)",
        weights="CreativeML OpenRAIL-M (SD 1), OpenRAIL++-M (SD 2)",
        checkpoint="a StableDiffusionPipeline folder, as of stable-diffusion-v1-5/stable-diffusion-v1-5",
    )

    modality = Modality.IMAGE
    has_estimates = True
    pipeline_name = "StableDiffusionPipeline"
    default_steps = 50
    default_guidance = 7.5
    absent_parts: ClassVar[dict[str, Any]] = {
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    """Arguments that switch off parts which the pipeline's class would otherwise require."""

    def _materialize_denoiser(self) -> None:
        from diffusers import AutoencoderKL, UNet2DConditionModel

        self.vae = self.folder.read("vae", AutoencoderKL, dtype=self.dtype)
        self.unet = self.folder.read("unet", UNet2DConditionModel, dtype=self.dtype)

    def prepare(self, medium: Media) -> dict[str, Tensor]:
        """``pixels`` (3, height, width) float32 in [-1, 1]."""
        self._check_modality(medium)
        return {"pixels": pixels_of(medium.array, self.height, self.width)}

    def _posterior(self, content: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self._encode_images(content["pixels"])

    def _pipeline_parts(self) -> dict[str, Any]:
        return {**super()._pipeline_parts(), **self.absent_parts}

    def _sample(self, pipeline: Any, request: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
        latents = pipeline(height=self.height, width=self.width, output_type="latent", **request).images
        return self._pictures(pipeline, self._decoded(latents))

    def _pictures(self, pipeline: Any, pixels: Tensor) -> list[np.ndarray[Any, Any]]:
        return list(pictures_of(pipeline.image_processor.postprocess(pixels, output_type="pt")))

    def _estimate(
        self, scheduler: Any, prediction: Tensor, timestep: Any, latents: Tensor, rows: Collection[int]
    ) -> dict[int, Media]:
        chosen = list(rows)
        if not chosen:
            return {}
        clean = self._noising.clean(scheduler, prediction[chosen], float(timestep), latents[chosen])
        pictures = self._pictures(self._pipeline, self._decoded(clean))
        return {row: self._as_media(picture, {}) for row, picture in zip(chosen, pictures, strict=True)}

    def _as_media(self, array: np.ndarray[Any, Any], details: dict[str, Any]) -> Media:
        return Media(self.modality, array, source=self.checkpoint.name, details=details)
