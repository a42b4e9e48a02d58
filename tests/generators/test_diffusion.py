"""The denoising loss against its plain recomputation, and generation against the library's pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from isthmus.types import Condition, Media

KINDS = ["image", "video", "audio"]
CAPTIONS = ["a red cat", "dog", "bird"]


def stacked(generator: Any, media: list[Media]) -> dict[str, torch.Tensor]:
    prepared = [generator.prepare(medium) for medium in media]
    return {name: torch.stack([one[name] for one in prepared]) for name in prepared[0]}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_its_recomputation(
    kind: str, prediction: str, build: Any, pipeline: Any, copied: Callable[..., Any], media: Any
) -> None:
    folder = copied(kind, scheduler={"prediction_type": prediction})
    generator = build(kind, folder)
    content = stacked(generator, media(kind, 2))
    condition = generator.condition(CAPTIONS[:2])
    losses = generator.denoising_loss(content, condition, torch.tensor([11, 2**62]))

    library = pipeline(kind, folder)
    [target_tensor] = content.values()
    for index, seed in enumerate([11, 2**62]):
        draw = torch.Generator().manual_seed(seed)
        timestep = torch.randint(1000, (1,), generator=draw)
        images = target_tensor[index] if kind == "video" else target_tensor[index : index + 1]
        with torch.no_grad():
            posterior = library.vae.encode(images).latent_dist
            mean, deviation = posterior.mean, posterior.std
            if kind == "video":
                mean, deviation = mean.transpose(0, 1)[None], deviation.transpose(0, 1)[None]
            noise = torch.randn(mean.shape, generator=draw)
            latents = 0.5 * (mean + deviation * torch.randn(mean.shape, generator=draw))
            kept = library.scheduler.alphas_cumprod[timestep]
            noisy = kept.sqrt() * latents + (1 - kept).sqrt() * noise
            tokens = condition.tokens[index : index + 1]
            words = {"encoder_hidden_states": tokens}
            if kind == "audio":
                words = {"encoder_hidden_states": None, "class_labels": tokens[:, 0]}
            found = library.unet(noisy, timestep, **words).sample
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * latents
        target = {"epsilon": noise, "v_prediction": velocity, "sample": latents}[prediction]
        torch.testing.assert_close(losses[index], (found - target).square().mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_reaches_the_condition_alone(kind: str, build: Any, media: Any) -> None:
    generator = build(kind)
    content = stacked(generator, media(kind, 2))
    tokens = generator.condition(CAPTIONS[:2]).tokens.requires_grad_()
    losses = generator.denoising_loss(content, Condition(tokens), torch.tensor([1, 2]))
    assert losses.shape == (2,)
    losses[0].backward()
    assert tokens.grad is not None
    assert tokens.grad[0].abs().sum() > 0 and tokens.grad[1].abs().sum() == 0, "a sample's loss is its own"
    assert all(parameter.grad is None for parameter in generator.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_samples_loss_is_the_same_in_any_batch(kind: str, build: Any, media: Any) -> None:
    generator = build(kind, batch_size=2)
    content = stacked(generator, media(kind, 3))
    condition, seeds = generator.condition(CAPTIONS), torch.tensor([5, 6, 7])
    together = generator.denoising_loss(content, condition, seeds)
    torch.manual_seed(123)
    for index in (2, 0, 1):
        one = {name: tensor[index : index + 1] for name, tensor in content.items()}
        alone = generator.denoising_loss(one, Condition(condition.tokens[index : index + 1]), seeds[index : index + 1])
        torch.testing.assert_close(alone[0], together[index], rtol=1e-4, atol=1e-5)
    assert together.unique().numel() == 3


def test_the_loss_in_bfloat16_is_near(build: Any, media: Any) -> None:
    exact, rounded = build("image"), build("image", dtype="bfloat16")
    content, seeds = stacked(exact, media("image", 2)), torch.tensor([1, 2])
    condition = exact.condition(CAPTIONS[:2])
    found = rounded.denoising_loss(content, condition, seeds)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.denoising_loss(content, condition, seeds), rtol=0.1, atol=0.02)


def drawn_by_library(pipeline: Any, kind: str, captions: list[str], seeds: list[int], **options: Any) -> list[Any]:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    request = {"prompt": captions, "generator": generators, "output_type": "np", **options}
    match kind:
        case "image":
            return [np.asarray(image) for image in pipeline(**{**request, "output_type": "pil"}).images]
        case "video":
            return list((pipeline(num_frames=3, **request).frames * 255).round().astype(np.uint8))
        case _:
            return list(pipeline(**request).audios)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("kind", KINDS)
def test_generation_is_the_pipelines_own(kind: str, guidance: float, build: Any, pipeline: Any) -> None:
    generator, library = build(kind), pipeline(kind)
    expected = drawn_by_library(library, kind, ["a red cat"], [9], num_inference_steps=3, guidance_scale=guidance)
    [found] = generator.generate(
        generator.condition(["a red cat"]), [9], num_inference_steps=3, guidance_scale=guidance
    )
    np.testing.assert_array_equal(found.array, expected[0])
    assert found.array.std() > 0 and found.details == {"seed": 9, "num_inference_steps": 3, "guidance_scale": guidance}


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_the_pipelines_own(kind: str, build: Any, pipeline: Any) -> None:
    import inspect

    library = inspect.signature(type(pipeline(kind)).__call__).parameters
    generator = build(kind)
    assert generator.num_inference_steps == library["num_inference_steps"].default
    assert generator.guidance_scale == library["guidance_scale"].default


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_its_medium_in_any_batch(kind: str, build: Any, pipeline: Any) -> None:
    generator = build(kind, batch_size=2, num_inference_steps=2, guidance_scale=3.0)
    condition, seeds = generator.condition(CAPTIONS), [4, 5, 6]
    together = generator.generate(condition, seeds)
    resident = generator._pipeline
    library = drawn_by_library(pipeline(kind), kind, CAPTIONS, seeds, num_inference_steps=2, guidance_scale=3.0)
    closeness = {"atol": 1e-5} if kind == "audio" else {"atol": 1}
    for index in range(3):
        [alone] = generator.generate(Condition(condition.tokens[index : index + 1]), [seeds[index]])
        for other in (alone.array, library[index]):
            np.testing.assert_allclose(together[index].array.astype(float), other.astype(float), **closeness)
    assert generator._pipeline is resident
    assert generator._pipeline.unet is generator.unet


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0])
def test_without_guidance_the_unconditional_pass_is_skipped(guidance: float, build: Any) -> None:
    generator = build("image")
    generator.load()
    seen: list[int] = []
    generator.unet.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    generator.generate(generator.condition(["cat"]), [0], num_inference_steps=2, guidance_scale=guidance)
    assert set(seen) == {2 if guidance > 1 else 1}


def test_generation_follows_an_outside_condition_and_gives_no_gradient(build: Any) -> None:
    generator = build("image", num_inference_steps=2)
    tokens = torch.randn(1, 8, 16, requires_grad=True)
    [found] = generator.generate(Condition(tokens), [0])
    [other] = generator.generate(Condition(tokens.detach() * -3), [0])
    assert not np.array_equal(found.array, other.array)


def test_release_rebuilds_the_same(build: Any) -> None:
    generator = build("audio", num_inference_steps=2)
    [before] = generator.generate(generator.condition(["cat"]), [0])
    generator.release_denoiser()
    [between] = generator.generate(generator.condition(["cat"]), [0])
    generator.release()
    [after] = generator.generate(generator.condition(["cat"]), [0])
    np.testing.assert_array_equal(before.array, between.array)
    np.testing.assert_array_equal(before.array, after.array)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.generate(Condition(torch.zeros(1, 8, 12)), [0]), r"found \(1, 8, 12\).*expects \(batch, 8, 16\)"),
        (lambda g: g.generate(Condition(torch.zeros(2, 8, 16)), [0]), "seeds: found 1 for 2 conditions"),
        (
            lambda g: g.generate(Condition(torch.zeros(1, 8, 16)), [0], num_inference_steps=0),
            "num_inference_steps: found 0",
        ),
    ],
)
def test_bad_requests_say_so(call: Callable[[Any], Any], message: str, build: Any) -> None:
    generator = build("image")
    with pytest.raises(ValueError, match=message):
        call(generator)
    assert not generator.denoiser_is_loaded, "found out before anything heavy is loaded"


def test_no_conditions_no_media(build: Any) -> None:
    assert build("image").generate(Condition(torch.zeros(0, 8, 16)), []) == []


@pytest.mark.parametrize("kind", KINDS)
def test_another_modality_is_refused(kind: str, build: Any, media: Any) -> None:
    other = {"image": "video", "video": "audio", "audio": "image"}[kind]
    with pytest.raises(ValueError, match=f"found {other}; .* makes {kind}"):
        build(kind).prepare(media(other, 1)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps: found 0"),
        ({"batch_size": 0}, "batch_size: found 0"),
        ({"memo_megabytes": 0}, "memo_megabytes: found 0"),
        ({"dtype": "float8"}, "dtype: found 'float8'; expected one of float32, bfloat16, float16"),
        ({"scheduler": "magic"}, "scheduler: found 'magic'; expected one of ddim"),
    ],
)
def test_bad_options_say_so(options: dict[str, Any], message: str, build: Any) -> None:
    with pytest.raises(ValueError, match=message):
        build("image", **options)
