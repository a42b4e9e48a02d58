"""Shap-E: its condition and its meshes are the library's own, and every answer has its points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generators.conftest import changed_copy
from tiny_shap_e import WIDTH, write_shap_e

from isthmus.frozen import shapes_only
from isthmus.generators.points.mesh_surface import surface_points
from isthmus.generators.points.shap_e import ShapE, linear_to_srgb
from isthmus.types import Condition, Media, Modality

CAPTIONS = ["cat", "a dog", "mouse"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shap_e") / "shap_e"
    write_shap_e(path)
    return path


@pytest.fixture(scope="module")
def library(folder: Path) -> Any:
    from diffusers import ShapEPipeline

    pipeline: Any = ShapEPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def build(folder: Path) -> Callable[..., ShapE]:
    return lambda checkpoint=None, **options: ShapE(
        checkpoint or folder, **{"num_inference_steps": 3, "points": 40, "grid": 12, **options}
    )


def test_the_condition_is_the_pipelines_own(build: Callable[..., ShapE], library: Any) -> None:
    generator = build()
    assert generator.condition_shape == (1, WIDTH) and generator.pooled_width is None
    condition = generator.condition([*CAPTIONS, "cat"])
    assert generator.conditioner_is_loaded and not generator.denoiser_is_loaded
    with torch.no_grad():
        expected = library._encode_prompt(CAPTIONS, "cpu", 1, False)
    torch.testing.assert_close(condition.tokens[:3, 0], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(condition.tokens[3], condition.tokens[0])
    torch.testing.assert_close(condition.tokens.norm(dim=-1), torch.full((4, 1), WIDTH**0.5))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_mesh_is_the_librarys(build: Callable[..., ShapE], library: Any, guidance: float) -> None:
    generator = build()
    seeds = [5, 6, 7]
    heard = generator.condition(CAPTIONS).tokens[:, 0]
    latents = generator.denoise(heard, [torch.Generator().manual_seed(s) for s in seeds], 3, guidance)
    asked: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": guidance, "output_type": "latent"}
    for row, (caption, seed) in enumerate(zip(CAPTIONS, seeds, strict=True)):
        theirs = library([caption], generator=[torch.Generator().manual_seed(seed)], **asked).images
        assert (latents[row : row + 1] - theirs).norm() <= 1e-5 * theirs.norm()
    media = generator.generate(generator.condition(CAPTIONS), seeds, guidance_scale=guidance)
    for row, (medium, seed) in enumerate(zip(media, seeds, strict=True)):
        mesh = library.shap_e_renderer.decode_to_mesh(latents[row][None], "cpu", grid_size=12)
        light = torch.stack([mesh.vertex_channels[channel] for channel in "RGB"], dim=1)
        after = torch.Generator().manual_seed(seed)
        torch.randn(latents[0].numel(), generator=after)
        places, colours = surface_points(mesh.verts, mesh.faces, linear_to_srgb(light), 40, after)
        assert medium.modality is Modality.POINTS and medium.array.shape == (40, 6)
        assert medium.details == {"seed": seed, "num_inference_steps": 3, "guidance_scale": guidance}
        np.testing.assert_allclose(medium.array, torch.cat([places, colours], dim=1).numpy(), atol=1e-3)


def test_a_cloud_doesnt_depend_on_its_batch(build: Callable[..., ShapE]) -> None:
    generator, one_by_one = build(), build(batch_size=1)
    condition = generator.condition(CAPTIONS)
    together = generator.generate(condition, [1, 2, 3])
    alone = one_by_one.generate(condition, [1, 2, 3])
    for first, second in zip(together, alone, strict=True):
        # A random field has waves far finer than the grid: its colours magnify the last bits of a place.
        np.testing.assert_allclose(first.array[:, :3], second.array[:, :3], atol=1e-4)
        np.testing.assert_allclose(first.array[:, 3:], second.array[:, 3:], atol=0.1)
    again = generator.generate(condition, [1, 2, 3])
    assert all(np.array_equal(a.array, b.array) for a, b in zip(together, again, strict=True))
    assert generator.generate(condition[:0], []) == []


def test_an_empty_solid_still_has_points(build: Callable[..., ShapE]) -> None:
    generator = build()
    generator.load()
    generator.shap_e_renderer.mlp.mlp[-1].bias.data[0] = -50.0
    (medium,) = generator.generate(generator.condition(["cat"]), [0])
    assert medium.details["empty"] is True and medium.array.shape == (40, 6)
    assert np.isfinite(medium.array).all() and np.abs(medium.array[:, :3]).max() <= 1.0


def test_points_lie_on_the_surface_uniformly() -> None:
    # Two triangles, one of three times the other's area, in planes of their own.
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5], [3, 0, 5], [0, 1, 5]])
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    places, colours = surface_points(vertices, faces, vertices / 5, 8000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(colours, places / 5)
    upper = places[:, 2] > 2.5
    assert abs(float(upper.float().mean()) - 0.75) < 0.02
    torch.testing.assert_close(places[~upper].mean(0), torch.tensor([1 / 3, 1 / 3, 0]), atol=0.02, rtol=0)
    with pytest.raises(ValueError, match="no area"):
        surface_points(vertices[:3] * 0, faces[:1], vertices[:3], 4, torch.Generator())


def test_colours_are_as_seen() -> None:
    from diffusers.pipelines.shap_e.renderer import _convert_srgb_to_linear

    seen = torch.linspace(0, 1, 101)
    torch.testing.assert_close(linear_to_srgb(_convert_srgb_to_linear(seen)), seen, atol=1e-5, rtol=0)


def test_a_named_sampler_takes_the_schedules_own_numbers(build: Callable[..., ShapE]) -> None:
    generator = build(scheduler="dpmsolver++")
    (medium,) = generator.generate(generator.condition(["cat"]), [0])
    used, shipped = generator._resident_pipeline().scheduler, build()._resident_pipeline().scheduler
    torch.testing.assert_close(used.alphas_cumprod, shipped.alphas_cumprod)
    assert np.isfinite(medium.array).all()


def test_halves_load_and_go_apart(build: Callable[..., ShapE]) -> None:
    generator = build()
    generator.generate(generator.condition(["cat"]), [0])
    assert generator.is_loaded and not any(p.requires_grad for p in generator.parameters())
    generator.release_denoiser()
    assert generator.conditioner_is_loaded and not generator.denoiser_is_loaded
    generator.release()
    assert not list(generator.parameters())
    assert len(generator.generate(generator.condition(["cat"]), [0])) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps: found 0"),
        ({"points": 0}, "points: found 0"),
        ({"grid": 1}, "grid: found 1; expected at least 2"),
        ({"batch_size": 0}, "batch_size: found 0"),
        ({"scheduler": "heun2"}, "scheduler: found 'heun2'"),
        ({"dtype": "int8"}, "dtype: found 'int8'"),
    ],
)
def test_wrong_settings_are_refused(build: Callable[..., ShapE], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_encoder": {"projection_dim": 9}}, "projection_dim 9, and prior/config.json takes 12"),
        ({"shap_e_renderer": {"d_latent": 7}}, "embedding_dim 6, and shap_e_renderer/config.json has d_latent 7"),
        ({"tokenizer": {"model_max_length": 99}}, "model_max_length 99"),
        ({"index": {"_class_name": "ShapEImg2ImgPipeline"}}, "expected ShapEPipeline"),
    ],
)
def test_parts_of_different_checkpoints_are_refused(
    build: Callable[..., ShapE], folder: Path, tmp_path: Path, changes: dict[str, dict[str, Any]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(changed_copy(folder, tmp_path / "changed", changes))


def test_wrong_requests_are_refused(build: Callable[..., ShapE]) -> None:
    generator = build()
    condition = generator.condition(["cat"])
    with pytest.raises(ValueError, match="found 2 for 1 conditions"):
        generator.generate(condition, [1, 2])
    with pytest.raises(ValueError, match=r"expects \(batch, 1, 12\)"):
        generator.generate(Condition(torch.zeros(1, 2, WIDTH)), [1])
    with pytest.raises(ValueError, match="num_inference_steps: found 0"):
        generator.generate(condition, [1], num_inference_steps=0)
    cloud = Media(Modality.POINTS, np.zeros((8, 6), np.float32))
    with pytest.raises(ValueError, match=r"ShapE has no denoising loss\. Fix: leave files out"):
        generator.prepare(cloud)
    with pytest.raises(ValueError, match="no denoising loss"):
        generator.denoising_loss({}, condition, torch.zeros(1, dtype=torch.long))


def test_the_published_size_is_built_in_shapes_alone(tmp_path: Path) -> None:
    """``openai/shap-e``: the paper's text-conditional model of 300 M parameters, under CLIP ViT-L/14's text tower."""
    from transformers import CLIPTextConfig

    from isthmus.training.rehearsal.published_nextgpt import clip_tokenizer, write_parts

    large = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768)
    prior = {
        "_class_name": "PriorTransformer",
        "num_attention_heads": 16,
        "attention_head_dim": 64,
        "num_layers": 24,
        "embedding_dim": 1024,
        "num_embeddings": 1024,
        "additional_embeddings": 0,
        "time_embed_act_fn": "gelu",
        "norm_in_type": "layer",
        "embedding_proj_norm_type": "layer",
        "encoder_hid_proj_type": None,
        "added_emb_type": None,
        "time_embed_dim": 4096,
        "embedding_proj_dim": 768,
        "clip_embed_dim": 2048,
    }
    parts = {
        "prior": prior,
        "text_encoder": large.to_dict(),
        "shap_e_renderer": {"_class_name": "ShapERenderer", "d_latent": 1024},
        "scheduler": {"_class_name": "HeunDiscreteScheduler", "beta_schedule": "exp", "prediction_type": "sample"},
    }
    write_parts(tmp_path, "ShapEPipeline", parts)
    clip_tokenizer(tmp_path / "tokenizer")
    generator = ShapE(tmp_path)
    assert generator.condition_shape == (1, 768)
    with shapes_only():
        generator.to("meta")
        generator.load()
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in generator.named_children()}
    assert round(sizes["prior"] / 1e6, -1) == 320 and round(sizes["text_encoder"] / 1e6, 1) == 123.7
    assert {parameter.device.type for parameter in generator.parameters()} == {"meta"}
