"""The base of latent-diffusion generators: the denoising loss and batched generation.

A subclass names its pipeline's classes, and converts its media to tensors and back.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.earlier.options import takes_present_names
from isthmus.generators.noising import DiscreteNoising, Noising
from isthmus.generators.pipeline_expert import PipelineExpert
from isthmus.generators.schedules import Sampler, is_deterministic
from isthmus.generators.seeded_noise import seeded_generators, seeded_normal
from isthmus.generators.steps import named_rows
from isthmus.precision import Dtype, in_own_precision, unmixed
from isthmus.types import Condition, Media


class DiffusionGenerator(PipelineExpert):
    """A text-conditioned latent-diffusion pipeline, read from a folder that its ``save_pretrained`` wrote.

    The text conditioner and the denoiser (UNet or transformer, VAE, vocoder) load separately, each on first use or by
    :meth:`load_conditioner` and :meth:`load_denoiser`; :meth:`load` does both.

    Args:
        checkpoint: the pipeline's folder. Only its json files are read until a part is used.
        num_inference_steps: default number of denoising steps of :meth:`generate`; None is the pipeline's default.
        guidance_scale: default scale of classifier-free guidance, likewise; up to 1, only the conditional pass runs.
        scheduler: a sampler that replaces the folder's, for fewer steps.
        batch_size: how many media are generated, and how many images or spectrograms are encoded, at a time.
        dtype: the type of the weights. Conditions and losses are float32 in any case.
        memo_megabytes: the most memory for cached conditions, on the conditioner's device.

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument doesn't fit it.
    """

    noising_class: ClassVar[type[Noising]] = DiscreteNoising
    """The noise process of the denoiser's training."""
    frames_share_batch: ClassVar[bool] = False
    """Whether the pipeline flattens frames into the batch for its sampler, whose noise then mixes the media's seeds."""

    def __init__(
        self,
        checkpoint: str | Path,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        scheduler: Sampler | None = None,
        batch_size: int = 16,
        dtype: Dtype = "float32",
        memo_megabytes: int = 256,
    ) -> None:
        super().__init__(checkpoint, num_inference_steps, guidance_scale, scheduler, batch_size, dtype, memo_megabytes)
        self._noising = self.noising_class(self._schedule_config, self._schedule_file)

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
        with self._exact_vae():
            for piece in torch.split(images, self.batch_size):
                posterior = self.vae.encode(piece.to(self.device, self.vae.dtype)).latent_dist
                means.append(posterior.mean.float())
                deviations.append(posterior.std.float())
        return torch.cat(means), torch.cat(deviations)

    @torch.no_grad()
    def _decoded(self, latents: Tensor) -> Tensor:
        """The denoiser's latents (n, ...) -> the VAE's output."""
        with self._exact_vae():
            pixels: Tensor = self.vae.decode(self._unscaled(latents.to(self.vae.dtype)), return_dict=False)[0]
        return pixels

    def _unscaled(self, latents: Tensor) -> Tensor:
        """The inverse of :meth:`_scaled`."""
        return latents / float(self.vae.config.scaling_factor)

    def _needs_exact_vae(self) -> bool:
        """Whether the VAE computes in float32 where it is half precision or would be by autocast."""
        return False

    @contextmanager
    def _exact_vae(self) -> Iterator[None]:
        """Within the block the VAE overflows neither in float16 nor in autocast, if :meth:`_needs_exact_vae`."""
        if not self._needs_exact_vae():
            yield
            return
        is_lifted = self.vae.dtype is torch.float16
        try:
            if is_lifted:
                self.vae.to(torch.float32)
            with unmixed():
                yield
        finally:  # also where there is no memory to decode in
            if is_lifted:
                self.vae.to(torch.float16)

    @takes_present_names
    @in_own_precision
    def generate(
        self,
        condition: Condition,
        seeds: Sequence[int],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> list[Media]:
        """One medium for each condition, by the pipeline, which stays loaded. A medium's details hold its seed."""
        conditions = self._checked(condition).detach().to(self.device, self.dtype)
        num_inference_steps, guidance_scale = self._checked_settings(
            len(conditions), seeds, num_inference_steps, guidance_scale
        )
        if not len(conditions):
            return []
        pipeline = self._resident_pipeline()
        size = 1 if self.frames_share_batch and not is_deterministic(pipeline.scheduler) else self.batch_size
        media: list[Media] = []
        for start in range(0, len(conditions), size):
            piece, piece_seeds = conditions[start : start + size], seeds[start : start + size]
            negative = self._unconditional(len(piece)).to(self.device, self.dtype) if guidance_scale > 1 else None
            request = {
                **self._prompt(piece, negative),
                "generator": seeded_generators(piece_seeds),
                "num_inference_steps": num_inference_steps,
                "guidance_scale": guidance_scale,
            }
            with named_rows(range(start, start + len(piece))):
                arrays = self._sample(pipeline, request)
            for array, seed in zip(arrays, piece_seeds, strict=True):
                media.append(
                    self._as_media(
                        array,
                        {"seed": seed, "num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale},
                    )
                )
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
