"""The noise of training against the library's schedulers, and schedules of another kind."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from isthmus.generators.noising import AngleNoising, DiscreteNoising, FlowNoising
from isthmus.generators.seeded_noise import seeded_generators


def config_of(scheduler: Any) -> dict[str, Any]:
    return {"_class_name": type(scheduler).__name__, **scheduler.config}


@pytest.mark.parametrize("shift", [1.0, 3.0, 7.5])
def test_flow_levels_are_the_samplers_own(shift: float) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    noising = FlowNoising(config_of(scheduler), "scheduler")
    levels = torch.arange(1000)
    torch.testing.assert_close(noising.sigmas(levels), scheduler.sigmas[:1000].flip(0))
    _, timesteps, _ = noising.apply(torch.zeros(1000, 1), torch.zeros(1000, 1), levels)
    torch.testing.assert_close(timesteps, scheduler.timesteps.flip(0))


def test_flow_levels_of_a_sampler_of_many_kinds() -> None:
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    noising = FlowNoising(config_of(scheduler), "scheduler")
    scheduler.set_timesteps(10)
    # The sampler visits levels that training knew, up to the thousandth that it leaves between.
    distances = (scheduler.sigmas[:-1, None] - noising.sigmas(torch.arange(1000))).abs().min(1).values
    assert distances.max() < 2e-3


def test_a_dynamic_shift_is_the_samplers_alone() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    sigmas = FlowNoising(config_of(scheduler), "scheduler").sigmas(torch.arange(1000))
    torch.testing.assert_close(sigmas, torch.arange(1, 1001) / 1000)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("data", [0.5, 1.0])
def test_a_preconditioned_target_gives_the_latents_back(prediction: Any, data: float) -> None:
    scheduler = diffusers.EDMDPMSolverMultistepScheduler(sigma_data=data, prediction_type=prediction)
    noising = AngleNoising(config_of(scheduler), "scheduler")
    latents, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    levels = torch.tensor([3, 900])
    noisy, timesteps, target = noising.apply(latents, noise, levels)
    for row, level in enumerate(levels):
        sigma = data * torch.tan((level + 0.5) / 1000 * torch.pi / 2)
        sample = latents[row] + sigma * noise[row]
        torch.testing.assert_close(noisy[row], scheduler.precondition_inputs(sample, sigma), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(timesteps[row], scheduler.precondition_noise(sigma))
        denoised = scheduler.precondition_outputs(sample, target[row], sigma)
        torch.testing.assert_close(denoised, latents[row], rtol=1e-3, atol=1e-3)


def test_the_cosine_schedule_tells_the_angle() -> None:
    config = {"_class_name": "CosineDPMSolverMultistepScheduler", "prediction_type": "v_prediction", "sigma_data": 1.0}
    latents, noise, levels = torch.randn(2, 3), torch.randn(2, 3), torch.tensor([0, 749])
    noisy, timesteps, target = AngleNoising(config, "scheduler").apply(latents, noise, levels)
    torch.testing.assert_close(timesteps, torch.tensor([0.0005, 0.7495]), rtol=1e-3, atol=1e-6)
    angle = (timesteps * torch.pi / 2)[:, None]
    torch.testing.assert_close(noisy, angle.cos() * latents + angle.sin() * noise, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(target, angle.cos() * noise - angle.sin() * latents, rtol=1e-4, atol=1e-5)


def test_a_level_is_its_seeds_and_all_are_met() -> None:
    noising = DiscreteNoising({"beta_start": 0.1, "num_train_timesteps": 10}, "scheduler")
    levels = noising.draw(seeded_generators(range(300)))
    assert set(levels.tolist()) == set(range(10))
    assert torch.equal(noising.draw(seeded_generators([7])), levels[7:8])


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (FlowNoising, {"_class_name": "DDIMScheduler", "prediction_type": "epsilon"}, "expected a flow-matching"),
        (AngleNoising, {"_class_name": "DDIMScheduler", "prediction_type": "epsilon"}, "found DDIMScheduler with"),
        (
            AngleNoising,
            {"_class_name": "CosineDPMSolverMultistepScheduler", "prediction_type": "sample"},
            "prediction_type 'sample'",
        ),
        (DiscreteNoising, {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "neither beta_start nor trained_betas"),
    ],
)
def test_a_schedule_of_another_kind_is_refused(kind: Any, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        kind(config, "checkpoint x: scheduler_config.json")
    assert "checkpoint x: scheduler_config.json" in str(caught.value)
