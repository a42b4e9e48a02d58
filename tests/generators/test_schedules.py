"""Samplers by name, and what a scheduler's configuration must hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from isthmus.generators.schedules import is_deterministic, sampling_scheduler, training_schedule


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ddim", diffusers.DDIMScheduler),
        ("dpmsolver++", diffusers.DPMSolverMultistepScheduler),
        ("euler", diffusers.EulerDiscreteScheduler),
    ],
)
def test_a_sampler_keeps_the_checkpoints_schedule(name: str, kind: type) -> None:
    shipped = diffusers.PNDMScheduler(beta_schedule="scaled_linear", beta_end=0.012, prediction_type="v_prediction")
    found = sampling_scheduler(shipped, name)
    assert type(found) is kind and is_deterministic(found)
    assert found.config.prediction_type == "v_prediction"
    torch.testing.assert_close(found.alphas_cumprod, shipped.alphas_cumprod)
    assert sampling_scheduler(shipped, None) is shipped
    if name == "dpmsolver++":
        assert found.config.algorithm_type == "dpmsolver++"


def test_ddim_cuts_off_only_what_the_checkpoint_does() -> None:
    """Its own default is for pixels; latents of a published autoencoder go beyond [-1, 1]."""
    assert not sampling_scheduler(diffusers.PNDMScheduler(), "ddim").config.clip_sample
    assert sampling_scheduler(diffusers.DDPMScheduler(clip_sample=True), "ddim").config.clip_sample
    assert not sampling_scheduler(diffusers.DDPMScheduler(clip_sample=False), "ddim").config.clip_sample


def test_dpmsolver_is_deterministic_where_the_checkpoints_is_not() -> None:
    shipped = diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++")
    assert is_deterministic(sampling_scheduler(shipped, "dpmsolver++"))


@pytest.mark.parametrize("name", ["PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_any_sampler_hides_one_training_schedule(name: str) -> None:
    shipped = getattr(diffusers, name)(beta_schedule="scaled_linear", beta_start=0.001, prediction_type="v_prediction")
    found = training_schedule(shipped.config)
    torch.testing.assert_close(found.alphas_cumprod, shipped.alphas_cumprod)
    assert found.config.prediction_type == "v_prediction"


def test_samplers_that_draw_noise_are_known() -> None:
    assert not is_deterministic(diffusers.DDPMScheduler())
    assert not is_deterministic(diffusers.EulerAncestralDiscreteScheduler())
    assert not is_deterministic(diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"))


@pytest.mark.parametrize("name", ["ddim", "dpmsolver++", "euler"])
def test_a_generator_draws_with_the_named_sampler(name: str, build: Any, pipeline: Any) -> None:
    generator, library = build("image", scheduler=name, num_inference_steps=3, guidance_scale=2.0), pipeline("image")
    library.scheduler = sampling_scheduler(library.scheduler, name)
    [found] = generator.generate(generator.condition(["cat"]), [1])
    expected = library(
        ["cat"], num_inference_steps=3, guidance_scale=2.0, generator=[torch.Generator().manual_seed(1)]
    ).images[0]
    np.testing.assert_array_equal(found.array, np.asarray(expected))


@pytest.mark.parametrize("scheduler", ["DDPMScheduler", "PNDMScheduler"])
@pytest.mark.parametrize("kind", ["image", "video"])
def test_other_shipped_schedulers(kind: str, scheduler: str, build: Any, copied: Callable[..., Any]) -> None:
    folder = copied(kind, scheduler={"_class_name": scheduler})
    generator = build(kind, folder, num_inference_steps=4, guidance_scale=1.0)
    condition = generator.condition(["cat", "dog", "bird"])
    together = generator.generate(condition, [1, 2, 3])
    [alone] = generator.generate(generator.condition(["dog"]), [2])
    np.testing.assert_allclose(together[1].array.astype(float), alone.array.astype(float), atol=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prediction_type": "flow_prediction"}, "found prediction_type 'flow_prediction'; expected one of epsilon"),
        ({"beta_start": None}, "neither beta_start nor trained_betas"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused(
    fields: dict[str, Any], message: str, build: Any, copied: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match=message):
        build("image", copied("image", scheduler=fields))


def test_a_scheduler_that_diffusers_lacks_is_named(build: Any, copied: Callable[..., Any]) -> None:
    generator = build("image", copied("image", scheduler={"_class_name": "TomorrowScheduler"}))
    with pytest.raises(ValueError, match="_class_name 'TomorrowScheduler', which diffusers"):
        generator.generate(generator.condition(["cat"]), [0])
