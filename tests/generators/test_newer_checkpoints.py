"""The newer checkpoints' files: published sizes, sizes that are asked for, and parts that don't fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from newer_pipelines import NEWER

from isthmus.generators.image.stable_diffusion import StableDiffusion
from isthmus.types import Media, Modality

VAE = {"block_out_channels": [128, 256, 512, 512]}
CLIP_L = {"hidden_size": 768, "projection_dim": 768, "max_position_embeddings": 77}
CLIP_G = {"hidden_size": 1280, "projection_dim": 1280, "max_position_embeddings": 77}
LONG_77 = {"model_max_length": 77}
BETAS = {"_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085, "beta_end": 0.012}

PUBLISHED: dict[str, tuple[Any, dict[str, dict[str, Any]], tuple[int, int], int | None]] = {
    "stable-diffusion-2-1": (
        StableDiffusion,
        {
            "tokenizer": LONG_77,
            "text_encoder": {"hidden_size": 1024, "max_position_embeddings": 77, "num_hidden_layers": 23},
            "unet": {"sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20]},
            "vae": VAE,
            "scheduler": {**BETAS, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction"},
        },
        (77, 1024),
        None,
    ),
    "stable-diffusion-xl-base-1.0": (
        NEWER["xl"],
        {
            "tokenizer": LONG_77,
            "tokenizer_2": LONG_77,
            "text_encoder": CLIP_L,
            "text_encoder_2": CLIP_G,
            "unet": {
                "sample_size": 128,
                "cross_attention_dim": 2048,
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            },
            "vae": VAE,
            "scheduler": BETAS,
        },
        (77, 2048),
        1280,
    ),
    "audioldm2": (
        NEWER["audioldm2"],
        {
            "text_encoder_2": {"model_type": "t5", "d_model": 1024},
            "language_model": {"n_embd": 768, "max_new_tokens": 8},
            "unet": {"sample_size": 256},
            "vae": {"block_out_channels": [128, 256, 512]},
            "vocoder": {"sampling_rate": 16_000, "model_in_dim": 64, "upsample_rates": [5, 4, 2, 2, 2]},
            "scheduler": {**BETAS, "_class_name": "DDIMScheduler"},
        },
        (8 + 64, 1024),
        64,
    ),
    "stable-diffusion-3-medium": (
        NEWER["sd3"],
        {
            "tokenizer": LONG_77,
            "text_encoder": CLIP_L,
            "text_encoder_2": CLIP_G,
            "text_encoder_3": {"d_model": 4096},
            "transformer": {
                "sample_size": 128,
                "patch_size": 2,
                "joint_attention_dim": 4096,
                "pooled_projection_dim": 2048,
            },
            "vae": VAE,
            "scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
        },
        (77 + 256, 4096),
        2048,
    ),
    "wan2.1-t2v-1.3b": (
        NEWER["wan"],
        {
            "text_encoder": {"d_model": 4096},
            "transformer": {"patch_size": [1, 2, 2], "text_dim": 4096},
            "vae": {"z_dim": 16},
            "scheduler": {
                "_class_name": "UniPCMultistepScheduler",
                "prediction_type": "flow_prediction",
                "flow_shift": 3.0,
            },
        },
        (512, 4096),
        None,
    ),
    "stable-audio-open-1.0": (
        NEWER["stable_audio"],
        {
            "tokenizer": {"model_max_length": 128},
            "text_encoder": {"d_model": 768},
            "projection_model": {"text_encoder_dim": 768, "conditioning_dim": 768, "min_value": 0, "max_value": 512},
            "transformer": {"sample_size": 1024},
            "vae": {"sampling_rate": 44_100, "downsampling_ratios": [2, 4, 4, 8, 8], "audio_channels": 2},
            "scheduler": {
                "_class_name": "CosineDPMSolverMultistepScheduler",
                "prediction_type": "v_prediction",
                "sigma_data": 1.0,
            },
        },
        (128, 768),
        None,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_widths_are_read_without_weights(name: str, tmp_path: Path) -> None:
    kind, parts, shape, pooled = PUBLISHED[name]
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind.pipeline_name}))
    for part, config in parts.items():
        file = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}.get(
            part.removesuffix("_2"), "config.json"
        )
        (tmp_path / part).mkdir()
        (tmp_path / part / file).write_text(json.dumps(config))
    generator = kind(tmp_path)
    assert (generator.condition_shape, generator.pooled_width) == (shape, pooled)
    if name == "stable-diffusion-2-1":
        assert (generator.height, generator.width) == (768, 768)
    if name == "stable-audio-open-1.0":
        assert generator.seconds == pytest.approx(47.55, abs=0.01)


MISFITS: list[tuple[str, dict[str, dict[str, Any]], str]] = [
    ("xl", {"unet": {"cross_attention_dim": 16}}, "give 28 a token and 10 pooled.*cross_attention_dim 16"),
    ("xl", {"text_encoder_2": {"projection_dim": 9}}, "9 pooled, with the sizes 33; .*input_dim 34"),
    ("audioldm2", {"text_encoder_2": {"model_type": "vits"}}, "model_type 'vits'; expected t5"),
    ("sd3", {"transformer": {"pooled_projection_dim": 4}}, "16 pooled; .* pooled_projection_dim 4"),
    ("sd3", {"scheduler": {"_class_name": "DDIMScheduler"}}, "found DDIMScheduler .* expected a flow-matching"),
    ("wan", {"transformer": {"text_dim": 16}}, "d_model 24, and transformer/config.json has text_dim 16"),
    ("wan", {"index": {"boundary_ratio": 0.9}}, "boundary_ratio 0.9, so it is Wan 2.2"),
    ("wan", {"index": {"expand_timesteps": True}}, "expand_timesteps True, so it is Wan 2.2"),
    ("stable_audio", {"projection_model": {"conditioning_dim": 8}}, "d_model 16, and .* goes from 16 to 8"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), MISFITS)
def test_parts_of_different_checkpoints_are_refused(
    kind: str, changes: dict[str, Any], message: str, build_newer: Any, copied_newer: Callable[..., Path]
) -> None:
    folder = copied_newer(kind, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        build_newer(kind, folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("xl", {"height": 30}, "height: found 30; .* multiples of 8"),
        ("sd3", {"width": 20}, "width: found 20; .* multiples of 8"),
        ("sd3", {"caption_tokens": 0}, "caption_tokens: found 0"),
        ("audioldm2", {"caption_tokens": 0}, "caption_tokens: found 0"),
        ("wan", {"caption_tokens": 0}, "caption_tokens: found 0"),
        ("wan", {"num_frames": 6}, "num_frames: found 6 .* one more than a multiple of 4"),
        ("wan", {"fps": 0.0}, "at fps 0.0"),
        ("wan", {"height": 24}, "height: found 24; .* multiples of 16"),
        ("stable_audio", {"seconds": 0.2}, "seconds: found 0.2; .* at most 0.128 s"),
        ("stable_audio", {"seconds": 0.0}, "seconds: found 0.0"),
    ],
)
def test_what_a_pipeline_would_refuse_is_named(kind: str, options: Any, message: str, build_newer: Any) -> None:
    with pytest.raises(ValueError, match=message):
        build_newer(kind, **options)


@pytest.mark.parametrize("kind", NEWER)
def test_another_modality_and_another_folder_are_refused(kind: str, build_newer: Any, newer_folder: Any) -> None:
    points = Media(Modality.POINTS, np.zeros((4, 3), np.float32), source="cloud.ply")
    with pytest.raises(ValueError, match=f"cloud.ply: found points; {NEWER[kind].__name__} makes"):
        build_newer(kind).prepare(points)
    other = "wan" if kind != "wan" else "xl"
    with pytest.raises(ValueError, match=f"expected {NEWER[kind].pipeline_name}"):
        build_newer(kind, newer_folder(other))


def test_sound_is_cut_padded_and_given_to_every_channel(build_newer: Any) -> None:
    generator = build_newer("stable_audio", seconds=0.1, num_inference_steps=1)
    samples = np.linspace(-1, 1, 4000, dtype=np.float32)
    waveform = generator.prepare(Media(Modality.AUDIO, samples, 2000))["waveform"]
    assert waveform.shape == (2, 256) and torch.equal(waveform[0], waveform[1])
    torch.testing.assert_close(waveform[0, :200], torch.from_numpy(samples[:200]))
    assert not waveform[:, 200:].any()
    [made] = generator.generate(generator.condition(["cat"]), [0])
    assert made.array.shape == (200,) and made.rate == 2000 and made.array.dtype == np.float32


def test_the_published_sampler_is_replaced_by_a_deterministic_one(build_newer: Any, copied_newer: Any) -> None:
    folder = copied_newer("stable_audio", scheduler={"_class_name": "CosineDPMSolverMultistepScheduler"})
    generator = build_newer("stable_audio", folder, num_inference_steps=4)
    condition = generator.condition(["cat", "dog"])
    together = generator.generate(condition, [1, 2])
    scheduler = generator._pipeline.scheduler
    assert scheduler.config.algorithm_type == "dpmsolver++"
    torch.testing.assert_close(scheduler.timesteps, scheduler.sigmas[:-1].atan() * 2 / torch.pi)
    torch.testing.assert_close(scheduler.sigmas[[0, -2]], torch.tensor([500.0, 0.3]))
    [alone] = generator.generate(condition[1:], [2])
    np.testing.assert_allclose(together[1].array, alone.array, atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_either_prediction_of_stable_diffusion_2_is_drawn_as_the_library_does(
    prediction: str, build: Any, pipeline: Any, copied: Callable[..., Path]
) -> None:
    folder = copied("image", scheduler={"prediction_type": prediction})
    generator, library = build("image", folder, num_inference_steps=3, guidance_scale=2.0), pipeline("image", folder)
    [found] = generator.generate(generator.condition(["cat"]), [1])
    draw = [torch.Generator().manual_seed(1)]
    expected = library(["cat"], num_inference_steps=3, guidance_scale=2.0, generator=draw).images[0]
    np.testing.assert_array_equal(found.array, np.asarray(expected))


def test_a_prompt_of_no_words_is_encoded_where_the_checkpoint_says_so(build_newer: Any, copied_newer: Any) -> None:
    silent, spoken = (
        build_newer("xl"),
        build_newer("xl", copied_newer("xl", index={"force_zeros_for_empty_prompt": False})),
    )
    assert not silent._unconditional(2).tokens.any() and silent._unconditional(2).pooled.shape == (2, 10)
    empty = spoken.condition([""])
    assert torch.equal(spoken._unconditional(2).tokens, empty.tokens.expand(2, -1, -1))
    assert torch.equal(spoken._unconditional(2).pooled, empty.pooled.expand(2, -1))


def test_sounds_that_say_no_token_still_hear_one(build_newer: Any) -> None:
    generator = build_newer("audioldm2", num_inference_steps=1)
    condition = generator.condition(["cat"])
    condition.pooled = torch.full_like(condition.pooled, -1.0)
    assert generator._split(condition)[2].tolist() == [[1] + [0] * 11]
    assert np.isfinite(generator.generate(condition, [0])[0].array).all()
