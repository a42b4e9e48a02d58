"""Wan 2.1: text -> video, by a transformer and flow matching.

Source: Wan team, arXiv 2503.20314; diffusers' ``WanPipeline`` and its checkpoint format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.generators.caption_ids import CaptionIds
from isthmus.generators.diffusion import DiffusionGenerator
from isthmus.generators.noising import FlowNoising
from isthmus.generators.pixels import clip_of, clip_request, pictures_of
from isthmus.generators.text_towers import zero_padded
from isthmus.part_card import PartCard
from isthmus.precision import Dtype
from isthmus.request import Request
from isthmus.types import Condition, Media, Modality


class Wan(DiffusionGenerator):
    """Wan 2.1's text-to-video models.

    Its condition is UMT5's last hidden states, zero after a caption's end: (512, 4096) at full size.
    Weights: Apache-2.0.

    Args:
        checkpoint: the pipeline's folder.
        num_inference_steps, guidance_scale, batch_size, dtype, memo_megabytes: as in :class:`DiffusionGenerator`. The
            VAE is float32 in any case.
        num_frames: number of frames in a clip, one more than a multiple of the VAE's stride in time (4).
        fps: the frame rate of generated clips; it isn't an input of the expert, which was trained at 16.
        height, width: of the frames, in pixels.
        caption_tokens: number of positions of a caption; the pipeline's by default.

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument doesn't fit it.
    """

    card = PartCard(
        takes="H (B, C, K)",
        gives="video",
        widths="(512, 4096)",
        code="Apache-2.0 (diffusers)",
        weights="Apache-2.0",
        checkpoint="a WanPipeline folder, as of Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    )

    modality = Modality.VIDEO
    pipeline_name = "WanPipeline"
    denoiser_part = "transformer"
    default_steps = 50
    default_guidance = 5.0
    noising_class = FlowNoising

    transformer: Any

    def __init__(
        self,
        checkpoint: str | Path,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_frames: int = 81,
        fps: float = 16.0,
        height: int = 480,
        width: int = 832,
        caption_tokens: int = 512,
        batch_size: int = 1,
        dtype: Dtype = "float32",
        memo_megabytes: int = 256,
    ) -> None:
        super().__init__(checkpoint, num_inference_steps, guidance_scale, None, batch_size, dtype, memo_megabytes)
        index = self.folder.config("model_index.json")
        for name in ("boundary_ratio", "expand_timesteps"):
            if index.get(name):
                raise ValueError(
                    f"checkpoint {self.checkpoint}: model_index.json has {name} {index[name]}, so it is Wan 2.2; "
                    f"expected one of Wan 2.1, with one transformer and one timestep. Give a folder of Wan 2.1."
                )
        vae = self.folder.config("vae/config.json")
        stride, grain = int(vae.get("scale_factor_temporal", 4)), int(vae.get("scale_factor_spatial", 8))
        _, *patch = self.folder.value("transformer/config.json", "patch_size")
        if num_frames < 1 or num_frames % stride != 1 % stride or fps <= 0:
            raise ValueError(
                f"num_frames: found {num_frames} at fps {fps}; expected one more than a multiple of {stride}, "
                "and a positive rate"
            )
        for name, pixels, cells in (("height", height, patch[0]), ("width", width, patch[1])):
            if pixels < 16 or pixels % 16 or pixels % (grain * cells):
                raise ValueError(
                    f"{name}: found {pixels}; {self.pipeline_name} of {self.checkpoint} draws multiples of "
                    f"{max(16, grain * cells)} pixels"
                )
        text_width = int(self.folder.value("text_encoder/config.json", "d_model"))
        expected = self.folder.value("transformer/config.json", "text_dim")
        if text_width != expected:
            raise ValueError(
                f"checkpoint {self.checkpoint}: text_encoder/config.json has d_model {text_width}, and "
                f"transformer/config.json has text_dim {expected}; expected them equal. "
                f"The parts are of different checkpoints."
            )
        if caption_tokens < 1:
            raise ValueError(f"caption_tokens: found {caption_tokens}; expected at least 1")
        self.num_frames, self.fps, self.height, self.width = num_frames, fps, height, width
        self._condition_shape = caption_tokens, text_width

    def _materialize_conditioner(self) -> None:
        from transformers import T5Tokenizer, UMT5EncoderModel

        self.tokenizer = self.folder.read("tokenizer", T5Tokenizer)
        self.caption_ids = CaptionIds(self.tokenizer, self.condition_shape[0], str(self.checkpoint))
        self.text_encoder = self.folder.read("text_encoder", UMT5EncoderModel, dtype=self.dtype)

    def _materialize_denoiser(self) -> None:
        from diffusers import AutoencoderKLWan, WanTransformer3DModel

        self.vae = self.folder.read("vae", AutoencoderKLWan, dtype=torch.float32)
        self.transformer = self.folder.read("transformer", WanTransformer3DModel, dtype=self.dtype)

    def _encode_text(self, captions: list[str]) -> Tensor:
        from diffusers.pipelines.wan.pipeline_wan import prompt_clean

        inputs = self.caption_ids([prompt_clean(caption) for caption in captions]).to(self.device, non_blocking=True)
        return zero_padded(self.text_encoder, inputs.input_ids, inputs.attention_mask)

    def _predict(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        prediction: Tensor = self.transformer(
            hidden_states=noisy, timestep=timesteps, encoder_hidden_states=condition.tokens, return_dict=False
        )[0]
        return prediction

    def prepare(self, medium: Media) -> dict[str, Tensor]:
        """``clip`` (F, 3, height, width) float32 in [-1, 1]: evenly spaced over the video, repeated if too few."""
        self._check_modality(medium)
        return {"clip": clip_of(medium, self.num_frames, self.height, self.width)}

    def request(self) -> Request | None:
        """The frames of a clip."""
        return clip_request(self.num_frames, self.height, self.width)

    def _posterior(self, content: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self._encode_images(content["clip"].transpose(1, 2))

    def _scaled(self, latents: Tensor) -> Tensor:
        shape = (1, -1, 1, 1, 1)
        mean, deviation = (
            latents.new_tensor(values).view(shape)
            for values in (self.vae.config.latents_mean, self.vae.config.latents_std)
        )
        return (latents - mean) / deviation

    def _unscaled(self, latents: Tensor) -> Tensor:
        shape = (1, -1, 1, 1, 1)
        config = self.vae.config
        # In the pipeline's own order of operations, to the last bit.
        return latents / (1.0 / latents.new_tensor(config.latents_std).view(shape)) + latents.new_tensor(
            config.latents_mean
        ).view(shape)

    def _needs_exact_vae(self) -> bool:
        return True

    def _sample(self, pipeline: Any, request: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
        latents = pipeline(
            num_frames=self.num_frames, height=self.height, width=self.width, output_type="latent", **request
        ).frames
        return list(pictures_of(pipeline.video_processor.postprocess_video(self._decoded(latents), output_type="pt")))

    def _as_media(self, array: np.ndarray[Any, Any], details: dict[str, Any]) -> Media:
        return Media(self.modality, array, rate=self.fps, source=self.checkpoint.name, details=details)
