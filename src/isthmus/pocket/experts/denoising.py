"""Shared by the trainings of the generators: the noise schedule, and the loss of one denoising step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    # diffusers' classes come lazily and untyped.
    from typing import Any as DDIMScheduler

FLOOR = 0.15
"""The least weight of a noise level, so that levels near pure noise, which determine the digit, keep some weight."""


def scheduler() -> DDIMScheduler:
    """The noise schedule of every generator: v-prediction up to pure noise, which small latents need."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def denoising_loss(predict: Callable[[Tensor, Tensor], Tensor], clean: Tensor, levels: Tensor, times: Tensor) -> Tensor:
    """The error of the predicted velocity, weighted by min-SNR (arXiv 2303.09556, gamma 5).

    Args:
        predict: noisy latents (b, ...) and times (b,) -> velocity (b, ...).
        clean: (b, ...) scaled latents.
        levels: (T,) the schedule's cumulated alphas.
        times: (b,) int64 below T.
    """
    noise, alphas = torch.randn_like(clean), levels[times]
    view = alphas.view(-1, *[1] * (clean.ndim - 1))
    noisy = view.sqrt() * clean + (1 - view).sqrt() * noise
    target = view.sqrt() * noise - (1 - view).sqrt() * clean
    ratio = alphas / (1 - alphas)
    weight = torch.minimum(ratio, torch.full_like(ratio, 5.0)) / (ratio + 1)
    error = (predict(noisy, times).float() - target).square().flatten(1).mean(1)
    return (weight.clamp(min=FLOOR) * error).mean()
