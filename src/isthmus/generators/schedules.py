"""Noise schedules: that of the denoiser's training, and faster samplers built from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from torch import Tensor

Sampler = Literal["ddim", "dpmsolver++", "euler"]
"""The samplers that may replace the one that a checkpoint ships."""

_SAMPLER_CLASSES: dict[str, str] = {
    "ddim": "DDIMScheduler",
    "dpmsolver++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
}
_KNOWN_BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
_PREDICTIONS = ("epsilon", "v_prediction", "sample")
_DETERMINISTIC = {
    "DDIMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
}


def check_schedule(config: Mapping[str, Any], where: str) -> None:
    """Checks in advance that :func:`training_schedule` supports a configuration.

    Raises:
        ValueError: the schedule has no betas, or its prediction type is unknown.
    """
    if config.get("beta_start") is None and config.get("trained_betas") is None:
        raise ValueError(
            f"{where}: {config.get('_class_name')} has neither beta_start nor trained_betas; expected a scheduler of "
            f"discrete timesteps (such as DDPM, DDIM or PNDM). Give a checkpoint that was trained with one."
        )
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in _PREDICTIONS:
        raise ValueError(
            f"{where}: found prediction_type '{prediction}'; expected one of {', '.join(_PREDICTIONS)}. "
            f"Set it to what the denoiser was trained to predict."
        )


def check_sampler(sampler: str | None) -> None:
    """Checks in advance that :func:`sampling_scheduler` knows a sampler.

    Raises:
        ValueError: the sampler is unknown.
    """
    if sampler is not None and sampler not in _SAMPLER_CLASSES:
        raise ValueError(
            f"scheduler: found '{sampler}'; expected one of {', '.join(get_args(Sampler))}, "
            f"or null for the checkpoint's own"
        )


def scheduler_class(config: Mapping[str, Any], where: str) -> Any:
    """The diffusers class that a scheduler's configuration names.

    Raises:
        ValueError: diffusers has none of that name.
    """
    import diffusers

    name = str(config.get("_class_name"))
    found = getattr(diffusers, name, None)
    if found is None:
        raise ValueError(
            f"{where}: found _class_name '{name}', which diffusers {diffusers.__version__} doesn't have. "
            f"Install the version that wrote it, or name a scheduler of this one."
        )
    return found


def training_schedule(config: Mapping[str, Any]) -> Any:
    """The discrete schedule of training: a ``DDPMScheduler`` with ``config``'s betas and prediction type."""
    from diffusers import DDPMScheduler

    kind: Any = DDPMScheduler
    return kind.from_config(dict(config))


def sampling_scheduler(shipped: Any, sampler: str | None) -> Any:
    """``shipped`` itself, or the named sampler with its configuration."""
    import diffusers

    if sampler is None:
        return shipped
    kind: Any = getattr(diffusers, _SAMPLER_CLASSES[sampler])
    fixed: dict[str, Any] = {}
    if sampler == "ddim" and "clip_sample" not in shipped.config:
        fixed["clip_sample"] = False  # DDIM's own default is for pixels in [-1, 1], and cuts latents off
    if sampler == "dpmsolver++":
        fixed["algorithm_type"] = sampler  # the shipped one may be its stochastic variant
    if shipped.config.beta_schedule not in _KNOWN_BETAS:
        # Other samplers don't know Shap-E's "exp" by name, but accept its values.
        return kind.from_config(shipped.config, trained_betas=shipped.betas.tolist(), **fixed)
    return kind.from_config(shipped.config, **fixed)


def is_deterministic(scheduler: Any) -> bool:
    """Whether a scheduler's steps add no noise (pipelines call it with eta 0)."""
    stochastic_variant = str(scheduler.config.get("algorithm_type", "")).startswith("sde")
    return type(scheduler).__name__ in _DETERMINISTIC and not stochastic_variant


def denoising_target(schedule: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """The denoiser's target, for the schedule's prediction type.

    Source: Ho et al., arXiv 2006.11239 (epsilon); Salimans and Ho, arXiv 2202.00512 (v).
    """
    match schedule.config.prediction_type:
        case "epsilon":
            return noise
        case "v_prediction":
            velocity: Tensor = schedule.get_velocity(latents, noise, timesteps)
            return velocity
        case _:
            return latents
