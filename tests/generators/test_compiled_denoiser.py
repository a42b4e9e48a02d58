"""A compiled denoiser: the same media and losses to rounding, also after it was dropped and read again."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from isthmus.generators.base import Generator
from isthmus.types import Modality


@pytest.mark.slow
def test_same_media_and_losses(build: Any, media: Any) -> None:
    torch._dynamo.reset()
    plain, fused = build("image"), build("image")
    fused.load()  # what is there already is compiled too
    fused.compile_denoiser()
    assert not fused.denoiser_is_loaded
    contents = [plain.prepare(medium) for medium in media("image", 2)]
    content = {name: torch.stack([own[name] for own in contents]) for name in contents[0]}
    found = []
    for generator in (plain, fused):
        torch._dynamo.utils.counters.clear()
        condition = generator.condition(["a red three", "a blue seven"])
        tokens = condition.tokens.clone().requires_grad_(True)
        condition.tokens = tokens
        losses = generator.denoising_loss(content, condition, torch.tensor([3, 4]))
        (gradient,) = torch.autograd.grad(losses.sum(), tokens)
        with torch.no_grad():
            made = generator.generate(condition, [5, 6], num_inference_steps=2, guidance_scale=1.0)
        assert (torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0) == (generator is fused)
        found.append((losses.detach(), gradient, [medium.array.astype(np.int16) for medium in made]))
    (losses, gradient, arrays), (fused_losses, fused_gradient, fused_arrays) = found
    torch.testing.assert_close(fused_losses, losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused_gradient, gradient, rtol=0, atol=1e-4 * float(gradient.abs().max()))
    for array, other in zip(arrays, fused_arrays, strict=True):
        assert np.abs(array - other).max() <= 1  # a colour may round to its neighbour
    fused.release()
    with torch.no_grad():
        again = fused.generate(condition, [5, 6], num_inference_steps=2, guidance_scale=1.0)
    np.testing.assert_array_equal(again[0].array, fused_arrays[0])


@pytest.mark.slow
def test_a_copy_runs_its_own_denoiser(build: Any, media: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    generator = build("image")
    generator.compile_denoiser()
    prepared = generator.prepare(media("image", 1)[0])
    content = {name: value[None] for name, value in prepared.items()}
    condition = generator.condition(["a red three"])
    with torch.no_grad():
        loss = generator.denoising_loss(content, condition, torch.tensor([3]))
        twin = copy.deepcopy(generator)
        torch.testing.assert_close(twin.denoising_loss(content, condition, torch.tensor([3])), loss)
        for parameter in twin.unet.parameters():
            parameter.zero_()
        assert (twin.denoising_loss(content, condition, torch.tensor([3])) - loss).abs() > 1e-3
        torch.testing.assert_close(generator.denoising_loss(content, condition, torch.tensor([3])), loss)
    assert not [name for name, module in generator.named_modules() if "forward" in vars(module)]


def test_a_generator_without_a_denoiser_is_refused() -> None:
    class Drawer(Generator):
        modality = Modality.IMAGE

    with pytest.raises(ValueError, match=r"output_side.compiled: found image; Drawer has no denoiser.*remove it"):
        Drawer().compile_denoiser()
