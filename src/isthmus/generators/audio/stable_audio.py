"""Stable Audio Open: text -> audio, by a transformer.

Source: Evans et al., arXiv 2407.14358; diffusers' ``StableAudioPipeline`` and its checkpoint format.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, pi, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.generators.caption_ids import CaptionIds
from isthmus.generators.diffusion import DiffusionGenerator
from isthmus.generators.noising import AngleNoising
from isthmus.generators.text_towers import zero_padded
from isthmus.part_card import PartCard
from isthmus.precision import Dtype
from isthmus.types import Condition, Media, Modality


class StableAudio(DiffusionGenerator):
    """Stable Audio Open 1.0.

    Its condition is T5's last hidden states, zero after a caption's end: (128, 768) at full size. The transformer also
    takes embeddings of the start and end time, as two more tokens and as a global vector. These don't depend on the
    caption: they are computed from ``seconds`` and aren't part of the condition.

    The published sampler draws one noise path for a whole batch and needs another package. It is replaced by the
    deterministic DPM-Solver++ on the same noise levels (Lu et al., arXiv 2211.01095). Audio is mono here: generated
    channels are averaged, and targets have the same signal in each. Weights: Stability AI Community License.

    Args:
        checkpoint: the pipeline's folder.
        num_inference_steps, guidance_scale, batch_size, dtype, memo_megabytes: as in :class:`DiffusionGenerator`.
        seconds: length of the audio; None is the longest, which the transformer was trained at (47.6 s).

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument doesn't fit it.
    """

    card = PartCard(
        takes="H (B, C, K)",
        gives="audio",
        widths="(128, 768)",
        code="Apache-2.0 (diffusers)",
        weights="Stability AI Community License",
        checkpoint="a StableAudioPipeline folder, as of stabilityai/stable-audio-open-1.0",
    )

    modality = Modality.AUDIO
    pipeline_name = "StableAudioPipeline"
    denoiser_part = "transformer"
    default_steps = 100
    default_guidance = 7.0
    noising_class = AngleNoising

    projection_model: Any
    transformer: Any

    def __init__(
        self,
        checkpoint: str | Path,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seconds: float | None = None,
        batch_size: int = 4,
        dtype: Dtype = "float32",
        memo_megabytes: int = 256,
    ) -> None:
        super().__init__(checkpoint, num_inference_steps, guidance_scale, None, batch_size, dtype, memo_megabytes)
        width = self.folder.value("text_encoder/config.json", "d_model")
        projection = self.folder.config("projection_model/config.json")
        expected = (projection.get("text_encoder_dim"), projection.get("conditioning_dim"))
        if expected != (width, width):
            raise ValueError(
                f"checkpoint {self.checkpoint}: text_encoder/config.json has d_model {width}, and "
                f"projection_model/config.json goes from {expected[0]} to {expected[1]}; expected them equal, as they "
                f"are published. The parts are of different checkpoints."
            )
        vae = self.folder.config("vae/config.json")
        self.sample_rate = int(self.folder.value("vae/config.json", "sampling_rate"))
        self.channels = int(vae.get("audio_channels", 2))
        # The transformer always generates its whole length; the pipeline cuts it at `seconds`.
        latents = int(self.folder.value("transformer/config.json", "sample_size"))
        self.samples = latents * prod(self.folder.value("vae/config.json", "downsampling_ratios"))
        longest = min(self.samples / self.sample_rate, float(projection.get("max_value", 512)))
        self.seconds = longest if seconds is None else seconds
        if not 1 / self.sample_rate <= self.seconds <= longest:
            raise ValueError(
                f"seconds: found {self.seconds}; {type(self).__name__} of {self.checkpoint} makes at most {longest} s, "
                f"and no less than a sample"
            )
        self._condition_shape = int(self.folder.value("tokenizer/tokenizer_config.json", "model_max_length")), width

    def _materialize_conditioner(self) -> None:
        from transformers import T5EncoderModel, T5Tokenizer

        self.tokenizer = self.folder.read("tokenizer", T5Tokenizer)
        self.caption_ids = CaptionIds(self.tokenizer, self.condition_shape[0], str(self.checkpoint))
        self.text_encoder = self.folder.read("text_encoder", T5EncoderModel, dtype=self.dtype)

    def _materialize_denoiser(self) -> None:
        from diffusers import AutoencoderOobleck, StableAudioDiTModel
        from diffusers.pipelines.stable_audio import StableAudioProjectionModel

        self.vae = self.folder.read("vae", AutoencoderOobleck, dtype=self.dtype)
        self.projection_model = self.folder.read("projection_model", StableAudioProjectionModel, dtype=self.dtype)
        self.transformer = self.folder.read("transformer", StableAudioDiTModel, dtype=self.dtype)

    def _encode_text(self, captions: list[str]) -> Tensor:
        inputs = self.caption_ids(captions).to(self.device, non_blocking=True)
        return zero_padded(self.text_encoder, inputs.input_ids, inputs.attention_mask)

    def _predict(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        from diffusers.models.embeddings import get_1d_rotary_pos_embed

        ends = torch.tensor([0.0, self.seconds], device=self.device).expand(len(noisy), 2).unbind(1)
        with torch.no_grad():
            span = self.projection_model(start_seconds=ends[0], end_seconds=ends[1])
        start, end = span.seconds_start_hidden_states, span.seconds_end_hidden_states
        rotary = get_1d_rotary_pos_embed(
            self.transformer.config.attention_head_dim // 2,
            noisy.shape[2] + 1,
            use_real=True,
            repeat_interleave_real=False,
        )
        prediction: Tensor = self.transformer(
            noisy,
            timesteps,
            encoder_hidden_states=torch.cat([condition.tokens, start, end], dim=1),
            global_hidden_states=torch.cat([start, end], dim=2),
            rotary_embedding=rotary,
            return_dict=False,
        )[0]
        return prediction

    def prepare(self, medium: Media) -> dict[str, Tensor]:
        """``waveform`` (channels, samples) float32: the first ``seconds``, the same in every channel, then silence."""
        self._check_modality(medium)
        assert medium.rate is not None  # Media ensures it for audio
        # A tenth of a second more than is kept, for the resampling filter's tail.
        samples = medium.array[: ceil((self.seconds + 0.1) * medium.rate)]
        if medium.rate != self.sample_rate:
            import soxr

            samples = soxr.resample(samples, medium.rate, self.sample_rate)
        waveform = torch.tensor(samples[: int(self.seconds * self.sample_rate)], dtype=torch.float32)
        padded = functional.pad(waveform, (0, self.samples - len(waveform)))
        return {"waveform": padded.expand(self.channels, -1).clone()}

    def _posterior(self, content: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self._encode_images(content["waveform"])

    def _scaled(self, latents: Tensor) -> Tensor:
        return latents

    def _unconditional(self, count: int) -> Condition:
        # The pipeline then builds its own negative condition, which zeroes the embeddings of the times too.
        return Condition(torch.zeros(count, *self.condition_shape))

    def _prompt(self, condition: Condition, unconditional: Condition | None) -> dict[str, Any]:
        return {"prompt_embeds": condition.tokens}

    def _shipped_scheduler(self) -> Any:
        from diffusers import EDMDPMSolverMultistepScheduler

        base: Any = EDMDPMSolverMultistepScheduler
        config = {**self._schedule_config, "algorithm_type": "dpmsolver++"}
        if config["_class_name"] == base.__name__:
            return base.from_config(config)

        class AngularDPMSolver(base):  # type: ignore[misc]  # diffusers' classes are untyped
            """Gives the denoiser the angle of a noise level instead of its logarithm."""

            def precondition_noise(self, sigma: Tensor) -> Tensor:
                return torch.as_tensor(sigma).atan() * 2 / pi

        return AngularDPMSolver.from_config({"sigma_schedule": "exponential", **config})

    def _pipeline_parts(self) -> dict[str, Any]:
        return {**super()._pipeline_parts(), "projection_model": self.projection_model}

    def _sample(self, pipeline: Any, request: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
        audio = pipeline(audio_end_in_s=self.seconds, output_type="pt", **request).audios
        return list(audio.float().mean(1).cpu().numpy())

    def _as_media(self, array: np.ndarray[Any, Any], details: dict[str, Any]) -> Media:
        return Media(self.modality, array, rate=float(self.sample_rate), source=self.checkpoint.name, details=details)
