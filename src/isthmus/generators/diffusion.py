"""The base of latent-diffusion generators: the denoising loss and batched generation.

A subclass names its pipeline's classes, and converts its media to tensors and back.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.generators.noising import DiscreteNoising, Noising
from isthmus.generators.pipeline_classes import deprecation_silenced, pipeline_class
from isthmus.generators.pipeline_expert import PipelineExpert
from isthmus.generators.schedules import (
    Sampler,
    check_sampler,
    is_deterministic,
    sampling_scheduler,
    scheduler_class,
)
from isthmus.generators.seeded_noise import seeded_generators, seeded_normal
from isthmus.precision import Dtype, in_own_precision
from isthmus.types import Condition, Media


class DiffusionGenerator(PipelineExpert):
    """A text-conditioned latent-diffusion pipeline, read from a folder that its ``save_pretrained`` wrote.

    The text conditioner and the denoiser (UNet or transformer, VAE, vocoder) load separately, each on first use or by
    :meth:`load_conditioner` and :meth:`load_denoiser`; :meth:`load` does both.

    Args:
        checkpoint: the pipeline's folder. Only its json files are read until a part is used; nothing is downloaded.
        steps: default number of denoising steps of :meth:`generate`; None is the pipeline's default.
        guidance: default scale of classifier-free guidance, likewise; up to 1, only the conditional pass runs.
        scheduler: a sampler that replaces the folder's, for fewer steps.
        batch_size: how many media are generated, and how many images or spectrograms are encoded, at a time.
        dtype: the type of the weights. Conditions and losses are float32 in any case.
        memo_megabytes: the most memory for cached conditions, on the conditioner's device.

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument doesn't fit it.
    """

    default_steps: ClassVar[int]
    default_guidance: ClassVar[float]
    noising_class: ClassVar[type[Noising]] = DiscreteNoising
    """The noise process of the denoiser's training."""
    frames_share_batch: ClassVar[bool] = False
    """Whether the pipeline flattens frames into the batch for its sampler, whose noise then mixes the media's seeds."""

    def __init__(
        self,
        checkpoint: str | Path,
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: Sampler | None = None,
        batch_size: int = 16,
        dtype: Dtype = "float32",
        memo_megabytes: int = 256,
    ) -> None:
        super().__init__(checkpoint, dtype, memo_megabytes)
        self.steps = self.default_steps if steps is None else steps
        self.guidance = self.default_guidance if guidance is None else guidance
        for name, value in (("steps", self.steps), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name}: found {value}; expected at least 1")
        self.batch_size = batch_size
        self.sampler = scheduler
        self._schedule_config = self.folder.config("scheduler/scheduler_config.json")
        self._schedule_file = f"checkpoint {self.checkpoint}: scheduler/scheduler_config.json"
        check_sampler(scheduler)
        self._noising = self.noising_class(self._schedule_config, self._schedule_file)
        self._pipeline: Any = None

    @abstractmethod
    def _predict(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """The denoiser's prediction for noisy latents (B, ...) at timesteps (B,) under a condition."""

    @abstractmethod
    def _posterior(self, content: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the VAE's latents, each in the denoiser's layout (B, ...)."""

    @abstractmethod
    def _sample(self, pipeline: Any, request: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
        """Runs the pipeline with the request's embeddings, generators, steps and guidance -> one array a medium."""

    @abstractmethod
    def _as_media(self, array: np.ndarray[Any, Any], details: dict[str, Any]) -> Media:
        """One generated array as a medium."""

    def _check_modality(self, medium: Media) -> None:
        """Raises a ValueError if a medium isn't of this generator's modality."""
        if medium.modality != self.modality:
            raise ValueError(
                f"{medium.source}: found {medium.modality}; {type(self).__name__} makes {self.modality}. "
                f"Give a medium of that kind, or choose the generator that serves {medium.modality}."
            )

    @in_own_precision
    def denoising_loss(self, content: Mapping[str, Tensor], condition: Condition, seeds: Tensor) -> Tensor:
        """(B,) float32: the mean squared error of the denoiser's prediction; gradients reach only the condition.

        A seed determines its sample's timestep (uniform), noise and sample of the VAE's posterior.
        Source: see :class:`Noising`'s subclasses.
        """
        conditions = self._checked(condition).to(self.device, self.dtype)
        assert len(conditions) == len(seeds), "one seed for each condition"
        self.load_denoiser()
        generators = seeded_generators(seeds.tolist())
        with torch.no_grad():
            mean, deviation = self._posterior(content)
            assert len(mean) == len(conditions), "one content for each condition"
            levels = self._noising.draw(generators)
            noise = seeded_normal(generators, mean)
            latents = self._scaled(mean + deviation * seeded_normal(generators, mean))
            noisy, timesteps, target = self._noising.apply(latents, noise, levels)
        prediction = self._predict(noisy.to(self.dtype), timesteps, conditions)
        return functional.mse_loss(prediction.float(), target, reduction="none").flatten(1).mean(1)

    def _scaled(self, latents: Tensor) -> Tensor:
        """The VAE's latents (B, ...) at the scale that the denoiser was trained on."""
        return latents * float(self.vae.config.scaling_factor)

    def _encode_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, channels, H, W) -> mean and standard deviation (n, c, h, w) float32 of the VAE's posterior."""
        means, deviations = [], []
        for piece in torch.split(images, self.batch_size):
            posterior = self.vae.encode(piece.to(self.device, self.vae.dtype)).latent_dist
            means.append(posterior.mean.float())
            deviations.append(posterior.std.float())
        return torch.cat(means), torch.cat(deviations)

    @in_own_precision
    def generate(
        self, condition: Condition, seeds: Sequence[int], steps: int | None = None, guidance: float | None = None
    ) -> list[Media]:
        """One medium for each condition, by the pipeline, which stays loaded. A medium's details hold its seed."""
        steps = self.steps if steps is None else steps
        guidance = self.guidance if guidance is None else guidance
        conditions = self._checked(condition).detach().to(self.device, self.dtype)
        if len(seeds) != len(conditions):
            raise ValueError(f"seeds: found {len(seeds)} for {len(conditions)} conditions; expected one each")
        if steps < 1:
            raise ValueError(f"steps: found {steps}; expected at least 1")
        if not len(conditions):
            return []
        pipeline = self._resident_pipeline()
        size = 1 if self.frames_share_batch and not is_deterministic(pipeline.scheduler) else self.batch_size
        media: list[Media] = []
        for start in range(0, len(conditions), size):
            piece, piece_seeds = conditions[start : start + size], seeds[start : start + size]
            negative = self._unconditional(len(piece)).to(self.device, self.dtype) if guidance > 1 else None
            request = {
                **self._prompt(piece, negative),
                "generator": seeded_generators(piece_seeds),
                "num_inference_steps": steps,
                "guidance_scale": guidance,
            }
            for array, seed in zip(self._sample(pipeline, request), piece_seeds, strict=True):
                media.append(self._as_media(array, {"seed": seed, "steps": steps, "guidance": guidance}))
        return media

    def _unconditional(self, count: int) -> Condition:
        """The unconditional input of guidance for ``count`` conditions: that of the empty caption."""
        empty = self.condition([""])
        pooled = None if empty.pooled is None else empty.pooled.expand(count, -1)
        return Condition(empty.tokens.expand(count, -1, -1), pooled=pooled)

    def _prompt(self, condition: Condition, unconditional: Condition | None) -> dict[str, Any]:
        """The pipeline's arguments for a condition, and for the unconditional pass if there is one."""
        return {
            "prompt_embeds": condition.tokens,
            "negative_prompt_embeds": None if unconditional is None else unconditional.tokens,
        }

    def _pipeline_parts(self) -> dict[str, Any]:
        """The arguments of the pipeline's class, without the scheduler."""
        parts = ("vae", *self.conditioner_parts, *self.tokenizers, self.denoiser_part)
        return {part: getattr(self, part) for part in parts}

    def release(self) -> None:
        """Drops the conditioner, the denoiser, the pipeline and cached conditions."""
        super().release()
        self._pipeline = None

    def release_denoiser(self) -> None:
        """Drops all but the text conditioner and cached conditions."""
        super().release_denoiser()
        self._pipeline = None

    def _resident_pipeline(self) -> Any:
        self.load()
        if self._pipeline is None:
            shipped = self._shipped_scheduler()
            with deprecation_silenced():
                pipeline = pipeline_class(self.pipeline_name)(scheduler=shipped, **self._pipeline_parts())
            # After construction, because a pipeline may fix an old scheduler's configuration.
            pipeline.scheduler = sampling_scheduler(pipeline.scheduler, self.sampler)
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline = pipeline
        return self._pipeline

    def _shipped_scheduler(self) -> Any:
        return self.folder.read("scheduler", scheduler_class(self._schedule_config, self._schedule_file))

    def _checked(self, condition: Condition) -> Condition:
        tokens, pooled = condition.tokens, condition.pooled
        if tokens.ndim != 3 or tuple(tokens.shape[1:]) != self.condition_shape:
            raise ValueError(
                f"condition: found {tuple(tokens.shape)}; {type(self).__name__} of {self.checkpoint} expects "
                f"(batch, {self.condition_shape[0]}, {self.condition_shape[1]}). "
                f"Build the output projector for this generator's condition_shape."
            )
        expected = None if self.pooled_width is None else (len(tokens), self.pooled_width)
        if (None if pooled is None else tuple(pooled.shape)) != expected:
            raise ValueError(
                f"condition: found a pooled part {None if pooled is None else tuple(pooled.shape)}; "
                f"{type(self).__name__} of {self.checkpoint} expects {expected}. "
                f"Build the output projector's pooled head for this generator's pooled_width."
            )
        return condition
