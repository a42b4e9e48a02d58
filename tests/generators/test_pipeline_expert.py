"""The text conditions and the two halves that load apart, against the library's pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

CAPTIONS = ["a red cat", "", "dog", "a caption that is longer than the model can take", "dog"]
KINDS = ["image", "video", "audio"]


def encoded_by_library(pipeline: Any, kind: str, captions: list[str]) -> torch.Tensor:
    with torch.no_grad():
        if kind == "audio":
            return pipeline._encode_prompt(captions, torch.device("cpu"), 1, False)[:, None]
        return pipeline.encode_prompt(captions, torch.device("cpu"), 1, False)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_condition_is_the_pipelines_own(kind: str, build: Any, pipeline: Any) -> None:
    condition = build(kind).condition(CAPTIONS)
    torch.testing.assert_close(condition.tokens, encoded_by_library(pipeline(kind), kind, CAPTIONS))
    assert condition.mask is None and not condition.tokens.requires_grad


@pytest.mark.parametrize(("kind", "shape"), [("image", (8, 16)), ("video", (8, 16)), ("audio", (1, 16))])
def test_the_shape_is_known_without_weights(
    kind: str, shape: tuple[int, int], build: Any, copied: Callable[..., Any]
) -> None:
    folder = copied(kind)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    generator = build(kind, folder)
    assert generator.condition_shape == shape
    assert not list(generator.parameters()) and not generator.is_loaded


def test_clap_embeddings_have_unit_length(build: Any) -> None:
    norms = build("audio").condition(["dog", "cat"]).tokens.norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones(2, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_halves_load_apart(kind: str, build: Any) -> None:
    generator = build(kind)
    before = torch.get_rng_state()
    generator.load_conditioner()
    assert set(generator._modules) == {"text_encoder"} and not generator.is_loaded
    generator.load_denoiser("cpu")
    assert generator.is_loaded and generator.denoiser_is_loaded
    assert torch.equal(torch.get_rng_state(), before), "loading draws from the training step's randomness"
    generator.train()
    assert not any(module.training for module in generator.modules() if module is not generator)
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    generator.release_denoiser()
    assert set(generator._modules) == {"text_encoder"} and not generator.is_loaded
    generator.release()
    assert not generator._modules
    generator.load()
    assert generator.is_loaded
    assert not generator.state_dict().keys() & {"anchor"}


def test_the_denoiser_loads_without_the_conditioner(build: Any) -> None:
    generator = build("audio")
    generator.load_denoiser()
    assert set(generator._modules) == {"vae", "vocoder", "unet"}


def test_each_caption_is_encoded_once(build: Any) -> None:
    generator = build("image")
    generator.load_conditioner()
    seen: list[int] = []
    generator.text_encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    first = generator.condition(["cat", "dog", "cat"]).tokens
    second = generator.condition(["dog", "bird", "cat"]).tokens
    assert seen == [1, 1, 1]  # on a CPU one by one, whatever else is asked for
    assert torch.equal(first[0], second[2]) and torch.equal(first[1], second[0]) and torch.equal(first[0], first[2])
    generator.release()
    generator.condition(["cat"])
    assert generator.conditioner_is_loaded


def test_a_condition_of_validation_serves_training(build: Any) -> None:
    generator = build("image")
    with torch.inference_mode():
        generator.condition(["cat"])
        generator.load_denoiser()
    target = generator.condition(["cat"]).tokens
    guess = torch.zeros_like(target, requires_grad=True)
    torch.nn.functional.mse_loss(guess, target).backward()
    assert guess.grad is not None and guess.grad.abs().sum() > 0
    assert not any(parameter.is_inference() for parameter in generator.parameters())


def test_autocast_does_not_round_what_is_kept(build: Any) -> None:
    expected = build("image").condition(["cat"]).tokens
    with torch.autocast("cpu", torch.bfloat16):
        found = build("image").condition(["cat"]).tokens
    assert torch.equal(found, expected)


def test_precision_is_the_weights(build: Any) -> None:
    generator = build("image", dtype="bfloat16")
    tokens = generator.condition(["cat"]).tokens
    generator.load()
    assert {parameter.dtype for parameter in generator.parameters()} == {torch.bfloat16}
    assert tokens.dtype == torch.float32
    torch.testing.assert_close(tokens, build("image").condition(["cat"]).tokens, atol=0.05, rtol=0.05)


def test_no_captions_and_one_string(build: Any) -> None:
    generator = build("video")
    assert generator.condition([]).tokens.shape == (0, 8, 16)
    assert not generator.conditioner_is_loaded
    with pytest.raises(ValueError, match="one string, 'cat'"):
        generator.condition("cat")
