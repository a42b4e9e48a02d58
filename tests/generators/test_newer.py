"""The newer pipelines: conditions of several tensors, and the denoising loss and generation of each, by the library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from newer_pipelines import NEWER

from isthmus.types import Condition, Media, Modality

KINDS = list(NEWER)
CAPTIONS = ["cat", "a dog", ""]
SHAPES: dict[str, tuple[tuple[int, int], int | None]] = {
    "xl": ((8, 16 + 12), 10),
    "audioldm2": ((3 + 12, 24), 12),
    "sd3": ((8 + 6, 32), 10 + 6),
    "wan": ((10, 24), None),
    "stable_audio": ((10, 16), None),
}


def random_media(kind: str, count: int) -> list[Media]:
    draw = np.random.default_rng(3)
    match NEWER[kind].modality:
        case Modality.IMAGE:
            return [Media(Modality.IMAGE, draw.integers(0, 256, (20, 30, 3), np.uint8)) for _ in range(count)]
        case Modality.VIDEO:
            return [Media(Modality.VIDEO, draw.integers(0, 256, (7, 16, 16, 3), np.uint8), 8) for _ in range(count)]
        case _:
            noise = [draw.uniform(-1, 1, 9000).astype(np.float32) for _ in range(count)]
            return [Media(Modality.AUDIO, samples, 22_050) for samples in noise]


def stacked(generator: Any, media: list[Media]) -> dict[str, torch.Tensor]:
    prepared = [generator.prepare(medium) for medium in media]
    return {name: torch.stack([one[name] for one in prepared]) for name in prepared[0]}


def encoded_by_library(kind: str, library: Any, caption: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The pipeline's own encoding of one prompt, without guidance."""
    cpu = torch.device("cpu")
    with torch.no_grad():
        match kind:
            case "xl":
                tokens, _, pooled, _ = library.encode_prompt(caption, device=cpu, do_classifier_free_guidance=False)
                return tokens, pooled
            case "sd3":
                tokens, _, pooled, _ = library.encode_prompt(
                    caption, None, None, cpu, do_classifier_free_guidance=False, max_sequence_length=6
                )
                return tokens, pooled
            case "wan":
                tokens, _ = library.encode_prompt(
                    caption, do_classifier_free_guidance=False, max_sequence_length=10, device=cpu
                )
                return tokens, None
            case "stable_audio":
                return library.encode_prompt(caption, cpu, False), None
            case _:
                words, mask, generated = library.encode_prompt(caption, cpu, 1, False)
                tokens, valid = torch.zeros(1, 3 + 12, 24), torch.zeros(1, 12)
                tokens[:, :3, :16] = generated
                tokens[:, 3 : 3 + words.shape[1]] = words
                valid[:, : words.shape[1]] = mask
                return tokens, valid


@pytest.mark.parametrize("kind", KINDS)
def test_the_condition_is_the_pipelines_own_and_computed_once(kind: str, build_newer: Any, newer_library: Any) -> None:
    generator, library = build_newer(kind), newer_library(kind)
    condition = generator.condition([*CAPTIONS, "cat"])
    assert condition.mask is None and len(condition) == 4
    for row, caption in enumerate(CAPTIONS):
        tokens, pooled = encoded_by_library(kind, library, caption)
        torch.testing.assert_close(condition.tokens[row : row + 1], tokens, rtol=1e-4, atol=1e-5)
        if pooled is None:
            assert condition.pooled is None
        else:
            assert condition.pooled is not None
            torch.testing.assert_close(condition.pooled[row : row + 1], pooled, rtol=1e-4, atol=1e-5)
    seen: list[int] = []
    generator.text_encoder.register_forward_hook(lambda *_: seen.append(1))
    again = generator.condition(["cat", "a dog"])
    assert not seen and torch.equal(again.tokens, condition.tokens[:2])
    if again.pooled is not None:
        assert condition.pooled is not None and torch.equal(again.pooled, condition.pooled[:2])
    nothing = generator.condition([])
    assert nothing.tokens.shape == (0, *generator.condition_shape)
    assert (nothing.pooled is None) == (generator.pooled_width is None)


@pytest.mark.parametrize("kind", KINDS)
def test_widths_are_known_without_weights(kind: str, build_newer: Any, copied_newer: Callable[..., Any]) -> None:
    folder = copied_newer(kind)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    generator = build_newer(kind, folder)
    assert (generator.condition_shape, generator.pooled_width) == SHAPES[kind]
    assert not list(generator.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_the_halves_load_apart(kind: str, build_newer: Any) -> None:
    generator = build_newer(kind)
    generator.load_conditioner()
    assert generator.conditioner_is_loaded and not generator.denoiser_is_loaded
    assert set(generator._modules) == set(generator.conditioner_parts)
    generator.release()
    generator.load_denoiser()
    assert generator.denoiser_is_loaded and not set(generator._modules) & set(generator.conditioner_parts)
    generator.load()
    assert generator.is_loaded and not any(parameter.requires_grad for parameter in generator.parameters())
    generator.release_denoiser()
    assert set(generator._modules) == set(generator.conditioner_parts)


@pytest.mark.parametrize("kind", KINDS)
def test_what_stays_is_not_released(kind: str, build_newer: Any) -> None:
    generator = build_newer(kind)
    generator.load()
    before = set(generator._modules)
    generator.stays = True
    generator.release_denoiser()
    generator.release()
    assert generator.is_loaded and set(generator._modules) == before
    assert generator.condition(["cat"]).tokens.shape == (1, *generator.condition_shape)


def asked(kind: str, condition: Condition, unsaid: Condition) -> dict[str, Any]:
    """A condition, and what stands against it, as the pipeline's arguments."""
    match kind:
        case "xl" | "sd3":
            return {
                "prompt_embeds": condition.tokens,
                "negative_prompt_embeds": unsaid.tokens,
                "pooled_prompt_embeds": condition.pooled,
                "negative_pooled_prompt_embeds": unsaid.pooled,
            }
        case "wan":
            return {"prompt_embeds": condition.tokens, "negative_prompt_embeds": unsaid.tokens}
        case "stable_audio":
            return {"prompt_embeds": condition.tokens}
        case _:
            return {
                "generated_prompt_embeds": condition.tokens[:, :3, :16],
                "prompt_embeds": condition.tokens[:, 3:],
                "attention_mask": condition.pooled,
                "negative_generated_prompt_embeds": unsaid.tokens[:, :3, :16],
                "negative_prompt_embeds": unsaid.tokens[:, 3:],
                "negative_attention_mask": unsaid.pooled,
            }


def drawn(kind: str, library: Any, seed: int, **options: Any) -> np.ndarray[Any, Any]:
    """What the library makes, in the form of a medium's array."""
    sizes: dict[str, Any] = {"output_type": "np"}
    if kind == "wan":
        sizes |= {"height": 16, "width": 32, "num_frames": 5}
    options |= {"num_inference_steps": 3, "generator": [torch.Generator().manual_seed(seed)]}
    result = library(**sizes, **options)
    match kind:
        case "xl" | "sd3":
            return (result.images[0] * 255).round().astype(np.uint8)
        case "wan":
            return (result.frames[0] * 255).round().astype(np.uint8)
        case "stable_audio":
            return result.audios[0].mean(0)
        case _:
            return result.audios[0]


@pytest.mark.parametrize("kind", KINDS)
def test_generation_is_the_librarys_in_any_batch(kind: str, build_newer: Any, newer_library: Any) -> None:
    generator, library = build_newer(kind, batch_size=2, num_inference_steps=3), newer_library(kind)
    condition, seeds = generator.condition(CAPTIONS), [4, 5, 6]
    together = generator.generate(condition, seeds, guidance_scale=3.0)
    resident = generator._pipeline
    unsaid = generator.condition([""])
    if kind == "xl":
        assert unsaid.pooled is not None
        unsaid = Condition(torch.zeros_like(unsaid.tokens), pooled=torch.zeros_like(unsaid.pooled))
    closeness: dict[str, Any] = {"atol": 1 if together[0].array.dtype == np.uint8 else 1e-4}
    for row, seed in enumerate(seeds):
        one = condition[row : row + 1]
        [alone] = generator.generate(one, [seed], guidance_scale=3.0)
        expected = drawn(kind, library, seed, guidance_scale=3.0, **asked(kind, one, unsaid))
        np.testing.assert_array_equal(alone.array, expected)
        np.testing.assert_allclose(together[row].array.astype(float), expected.astype(float), **closeness)
        assert alone.details == {"seed": seed, "num_inference_steps": 3, "guidance_scale": 3.0}
        [unguided] = generator.generate(one, [seed], guidance_scale=1.0)
        length = {"sd3": {"max_sequence_length": 6}, "wan": {"max_sequence_length": 10}}.get(kind, {})
        told = drawn(kind, library, seed, guidance_scale=1.0, prompt=CAPTIONS[row], **length)
        np.testing.assert_allclose(unguided.array.astype(float), told.astype(float), **closeness)
    assert generator._pipeline is resident and not np.array_equal(together[0].array, together[1].array)


def recomputed(kind: str, library: Any, target: torch.Tensor, condition: Condition, seed: int) -> torch.Tensor:
    """One sample's denoising error, plainly, with the library's own parts."""
    draw = torch.Generator().manual_seed(seed)
    level = torch.randint(1000, (1,), generator=draw)
    content = target.transpose(0, 1)[None] if kind == "wan" else target[None]
    posterior = library.vae.encode(content).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=draw)
    latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=draw)
    share = (level + 1) / 1000
    tokens, pooled = condition.tokens, condition.pooled
    match kind:
        case "xl":
            kept = library.scheduler.alphas_cumprod[level]
            noisy = kept.sqrt() * 0.5 * latents + (1 - kept).sqrt() * noise
            added = {"text_embeds": pooled, "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]])}
            found = library.unet(noisy, level, tokens, added_cond_kwargs=added).sample
            return (found - noise).square().mean()
        case "audioldm2":
            kept = library.scheduler.alphas_cumprod[level]
            noisy = kept.sqrt() * 0.5 * latents + (1 - kept).sqrt() * noise
            words = {"encoder_hidden_states_1": tokens[:, 3:], "encoder_attention_mask_1": pooled}
            found = library.unet(noisy, level, encoder_hidden_states=tokens[:, :3, :16], **words).sample
            return (found - noise).square().mean()
        case "sd3":
            scaled = (latents - 0.3) * 0.5
            timestep = library.scheduler.timesteps[999 - level]  # from the noisiest down
            noisy = library.scheduler.scale_noise(scaled, timestep, noise)
            found = library.transformer(noisy, tokens, pooled, timestep).sample
            return (found - (noise - scaled)).square().mean()
        case "wan":
            config = library.vae.config
            shape = (1, 16, 1, 1, 1)
            scaled = (latents - torch.tensor(config.latents_mean).view(shape)) / torch.tensor(config.latents_std).view(
                shape
            )
            sigma = 3 * share / (1 + 2 * share)
            noisy = (1 - sigma) * scaled + sigma * noise
            found = library.transformer(noisy, 1000 * sigma, tokens).sample
            return (found - (noise - scaled)).square().mean()
        case _:
            from diffusers.models.embeddings import get_1d_rotary_pos_embed

            sigma = torch.tan((level + 0.5) / 1000 * torch.pi / 2)
            noisy = library.scheduler.precondition_inputs(latents + sigma * noise, sigma)
            start, end = library.encode_duration(0.0, 32 * 8 / 2000, "cpu", False, 1)
            found = library.transformer(
                noisy,
                library.scheduler.precondition_noise(sigma),
                encoder_hidden_states=torch.cat([tokens, start, end], 1),
                global_hidden_states=torch.cat([start, end], 2),
                rotary_embedding=get_1d_rotary_pos_embed(4, 33, use_real=True, repeat_interleave_real=False),
            ).sample
            # The error of the denoised sample, weighed by 1 / c_out^2 as in training.
            denoised = library.scheduler.precondition_outputs(latents + sigma * noise, found, sigma)
            return (denoised - latents).square().mean() * (1 + sigma.square()) / sigma.square()


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_its_recomputation_in_any_batch(kind: str, build_newer: Any, newer_library: Any) -> None:
    generator, library = build_newer(kind, batch_size=2), newer_library(kind)
    content = stacked(generator, random_media(kind, 3))
    condition, seeds = generator.condition(CAPTIONS), [11, 2**62, 5]
    together = generator.denoising_loss(content, condition, torch.tensor(seeds))
    assert together.shape == (3,)
    [targets] = content.values()
    for row, seed in enumerate(seeds):
        with torch.no_grad():
            expected = recomputed(kind, library, targets[row], condition[row : row + 1], seed)
        torch.testing.assert_close(together[row], expected.reshape(()), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_reaches_every_part_of_the_condition(kind: str, build_newer: Any) -> None:
    generator = build_newer(kind)
    content = stacked(generator, random_media(kind, 2))
    condition = generator.condition(CAPTIONS[:2])
    tokens = condition.tokens.requires_grad_()
    pooled = None if condition.pooled is None else condition.pooled.requires_grad_()
    losses = generator.denoising_loss(content, Condition(tokens, pooled=pooled), torch.tensor([1, 2]))
    losses[0].backward()
    assert tokens.grad is not None and tokens.grad[0].abs().sum() > 0 and tokens.grad[1].abs().sum() == 0
    if kind in ("xl", "sd3"):
        assert pooled is not None and pooled.grad is not None
        assert pooled.grad[0].abs().sum() > 0 and pooled.grad[1].abs().sum() == 0
    assert all(parameter.grad is None for parameter in generator.parameters())


@pytest.mark.parametrize("kind", ["xl", "sd3", "audioldm2"])
def test_the_pooled_part_is_heard_and_must_fit(kind: str, build_newer: Any) -> None:
    generator = build_newer(kind, num_inference_steps=2)
    condition = generator.condition(["a dog"])
    assert condition.pooled is not None
    [found] = generator.generate(condition, [0])
    [other] = generator.generate(Condition(condition.tokens, pooled=1 - condition.pooled), [0])
    assert not np.array_equal(found.array, other.array)
    for wrong in (None, condition.pooled[:, :-1], condition.pooled.expand(2, -1)):
        with pytest.raises(ValueError, match=r"found a pooled part .* expects \(1, \d+\).*pooled_width"):
            generator.generate(Condition(condition.tokens, pooled=wrong), [0])


def test_one_tensor_takes_no_pooled_part(build_newer: Any) -> None:
    generator = build_newer("wan")
    with pytest.raises(ValueError, match=r"found a pooled part \(1, 4\); .* expects None"):
        generator.generate(Condition(torch.zeros(1, *generator.condition_shape), pooled=torch.zeros(1, 4)), [0])


@pytest.mark.parametrize("kind", ["xl", "sd3"])
def test_bfloat16_runs_and_is_near(kind: str, build_newer: Any) -> None:
    exact, rounded = build_newer(kind), build_newer(kind, dtype="bfloat16", num_inference_steps=2)
    content, seeds = stacked(exact, random_media(kind, 2)), torch.tensor([1, 2])
    condition = exact.condition(CAPTIONS[:2])
    found = rounded.denoising_loss(content, condition, seeds)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.denoising_loss(content, condition, seeds), rtol=0.1, atol=0.02)
    assert len(rounded.generate(rounded.condition(["cat"]), [0])) == 1


def test_the_vae_of_xl_is_lifted_where_it_would_overflow(build_newer: Any) -> None:
    exact, halved = build_newer("xl"), build_newer("xl", dtype="float16")
    content = stacked(exact, random_media("xl", 2))
    for generator in (exact, halved):
        generator.load_denoiser()
    assert halved.vae.config.force_upcast
    seen: list[torch.dtype] = []
    halved.vae.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.no_grad():
        (mean, deviation), (found_mean, found_deviation) = exact._posterior(content), halved._posterior(content)
    assert seen == [torch.float32] and halved.vae.dtype is torch.float16
    torch.testing.assert_close(found_mean, mean, rtol=0.01, atol=0.01)
    torch.testing.assert_close(found_deviation, deviation, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("kind", ["xl", "wan"])
def test_autocast_leaves_a_vae_exact_that_has_to_be(kind: str, build_newer: Any) -> None:
    generator = build_newer(kind, num_inference_steps=1)
    generator.load()
    seen: list[torch.dtype] = []
    for half in (generator.vae.encoder, generator.vae.decoder):
        half.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    condition, content = generator.condition(["cat"]), stacked(generator, random_media(kind, 1))
    with torch.autocast("cpu", torch.bfloat16):
        generator.denoising_loss(content, condition, torch.tensor([1]))
        generator.generate(condition, [1])
    assert len(seen) >= 2 and set(seen) == {torch.float32}


def test_the_vae_of_xl_is_halved_again_where_decoding_fails(build_newer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = build_newer("xl", dtype="float16", num_inference_steps=1)
    generator.load()

    def fails(*args: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(generator.vae, "decode", fails)
    with pytest.raises(torch.OutOfMemoryError):
        generator.generate(generator.condition(["cat"]), [1])
    assert {weight.dtype for weight in generator.vae.parameters()} == {torch.float16}
