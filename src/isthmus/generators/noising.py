"""Noise processes of a denoiser's training: the level of each sample, the denoiser's input and its target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from isthmus.generators.schedules import check_schedule, denoising_target, training_schedule
from isthmus.generators.seeded_noise import seeded_timesteps
from isthmus.layout import on_device


class Noising(ABC):
    """The noise of training, independent of the sampler that a checkpoint ships.

    Args:
        config: the scheduler's configuration.
        where: the name of its file in messages.

    Raises:
        ValueError: the configuration is of another kind of schedule.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self.config = dict(config)
        self.where = where

    def draw(self, generators: Sequence[torch.Generator]) -> Tensor:
        """(B,) int64, on the CPU: each sample's level, uniform over the training timesteps."""
        return seeded_timesteps(generators, int(self.config.get("num_train_timesteps", 1000)))

    @abstractmethod
    def apply(self, latents: Tensor, noise: Tensor, levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents and noise (B, ...) float32 at levels (B,) -> the denoiser's input, its timesteps (B,), its target."""

    def clean(self, scheduler: Any, prediction: Tensor, timestep: float, latents: Tensor) -> Tensor:
        """(B, ...) float32: the clean latents that a prediction for a sampler's latents at a timestep implies.

        Raises:
            NotImplementedError: it belongs to no generator whose media are looked at before they are done.
        """
        raise NotImplementedError


class DiscreteNoising(Noising):
    """Discrete timesteps, as in DDPM, with the scheduler's prediction type.

    Source: Ho et al., arXiv 2006.11239; Rombach et al., arXiv 2112.10752, equation 2.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        check_schedule(config, where)

    def apply(self, latents: Tensor, noise: Tensor, levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        schedule = training_schedule(self.config)
        timesteps = on_device(levels, latents.device)
        target = denoising_target(schedule, latents, noise, timesteps)
        return schedule.add_noise(latents, noise, timesteps), timesteps, target

    def clean(self, scheduler: Any, prediction: Tensor, timestep: float, latents: Tensor) -> Tensor:
        schedule = training_schedule(self.config)
        share = float(schedule.alphas_cumprod[round(timestep)])  # samplers also visit times between those of training
        signal, noise = share**0.5, (1 - share) ** 0.5
        # Samplers of Euler's kind hold x + sigma n, others the denoiser's input.
        noisy = latents.float() * (1.0 if float(scheduler.init_noise_sigma) == 1 else signal)
        clean = prediction.float()
        match schedule.config.prediction_type:
            case "epsilon":
                clean = (noisy - noise * clean) / signal
            case "v_prediction":
                clean = signal * noisy - noise * clean
        return clean


class FlowNoising(Noising):
    """Flow matching: straight paths from data to noise, (1 - sigma) x + sigma n; the target is their velocity, n - x.

    Sigma is uniform in (0, 1], and the scheduler's shift a maps it to a sigma / (1 + (a - 1) sigma). A dynamic shift,
    which a sampler computes from the image's size, isn't applied here.
    Source: Lipman et al., arXiv 2210.02747; Esser et al., arXiv 2403.03206, equations 13 and 23.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        name, prediction = str(config.get("_class_name")), config.get("prediction_type")
        if not name.startswith("FlowMatch") and prediction != "flow_prediction":
            raise ValueError(
                f"{where}: found {name} with prediction_type '{prediction}'; expected a flow-matching scheduler "
                f"(FlowMatchEulerDiscreteScheduler, or one of prediction_type flow_prediction). "
                f"Copy the scheduler's file from the checkpoint anew."
            )

    def sigmas(self, levels: Tensor) -> Tensor:
        """(B,) float32 in (0, 1]: the share of noise at each level."""
        sigmas = (levels + 1).float() / int(self.config.get("num_train_timesteps", 1000))
        is_dynamic = bool(self.config.get("use_dynamic_shifting", False))
        # Samplers that also support other kinds of models call it flow_shift.
        shift = 1.0 if is_dynamic else float(self.config.get("shift", self.config.get("flow_shift", 1.0)))
        return shift * sigmas / (1 + (shift - 1) * sigmas)

    def apply(self, latents: Tensor, noise: Tensor, levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sigmas = on_device(self.sigmas(levels), latents.device)
        share = sigmas.view(-1, *[1] * (latents.ndim - 1))
        timesteps = sigmas * int(self.config.get("num_train_timesteps", 1000))
        return (1 - share) * latents + share * noise, timesteps, noise - latents

    def clean(self, scheduler: Any, prediction: Tensor, timestep: float, latents: Tensor) -> Tensor:
        sigma = timestep / int(self.config.get("num_train_timesteps", 1000))
        return latents.float() - sigma * prediction.float()


class AngleNoising(Noising):
    """Noise levels sigma of a preconditioned denoiser, uniform in the angle arctan(sigma / sigma_data).

    The input is c_in (x + sigma n), and the target F satisfies c_skip (x + sigma n) + c_out F = x. For sigma_data 1
    and v prediction these are cos x + sin n and cos n - sin x.
    Source: Karras et al., arXiv 2206.00364, table 1; Salimans and Ho, arXiv 2202.00512.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        name, prediction = config.get("_class_name"), config.get("prediction_type")
        if name not in ("CosineDPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler") or prediction not in (
            "epsilon",
            "v_prediction",
        ):
            raise ValueError(
                f"{where}: found {name} with prediction_type '{prediction}'; expected "
                f"CosineDPMSolverMultistepScheduler or EDMDPMSolverMultistepScheduler with epsilon or v_prediction. "
                f"Copy the file from the checkpoint anew."
            )

    def apply(self, latents: Tensor, noise: Tensor, levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        data = float(self.config.get("sigma_data", 1.0))
        share = (levels.float() + 0.5) / int(self.config.get("num_train_timesteps", 1000))
        angles = on_device(share * torch.pi / 2, latents.device)
        sigmas = data * angles.tan()
        is_cosine = self.config["_class_name"] == "CosineDPMSolverMultistepScheduler"
        timesteps = sigmas.atan() * 2 / torch.pi if is_cosine else sigmas.log() / 4
        sign = -1 if self.config["prediction_type"] == "v_prediction" else 1
        cosine, sine = (part.view(-1, *[1] * (latents.ndim - 1)) for part in (angles.cos(), angles.sin()))
        # c_in = cos / sigma_data, c_skip = cos^2, c_out = +- sigma_data sin; x + sigma n = (cos x + sd sin n) / cos.
        noisy = (cosine * latents + data * sine * noise) / data
        return noisy, timesteps, sign * (sine * latents / data - cosine * noise)
