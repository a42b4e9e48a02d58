"""Vision towers of transformers: equal to the library's own model on the same weights, and their refusals."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_vision import LAYERS, LEADING, PATCH, SIDE, WIDTH, picture, save_model, stacked
from transformers import (
    AutoImageProcessor,
    BertConfig,
    CLIPVisionConfig,
    PixtralImageProcessorPil,
    ViTImageProcessorPil,
)

from isthmus.encoders.vision.transformers_vision import TransformersVision
from isthmus.frozen import shapes_only
from isthmus.types import Media, Modality

IMAGES = [picture(50, 70), picture(32, 32, seed=1), picture(3, 90, seed=2)]
PATCHES = (SIDE // PATCH) ** 2
VITS = sorted(LEADING)


class Saved:
    """Each small model, saved once, and its tower as the library built it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.towers: dict[str, Any] = {}

    def __getitem__(self, name: str) -> tuple[Path, Any]:
        if name not in self.towers:
            self.towers[name] = save_model(name, self.folder / name)
        return self.folder / name, self.towers[name]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return Saved(tmp_path_factory.mktemp("vision"))


@torch.no_grad()
@pytest.mark.parametrize("name", VITS)
def test_equals_the_librarys_model(saved: Saved, name: str) -> None:
    folder, tower = saved[name]
    encoder = TransformersVision(folder)
    inputs = stacked(encoder, IMAGES)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    for image, pixels in zip(IMAGES, inputs["pixels"], strict=True):
        made = processor(image.array, return_tensors="pt", input_data_format="channels_last")["pixel_values"][0]
        assert torch.equal(pixels, made)
    assert not encoder.is_loaded and encoder.token_count(Modality.IMAGE, {"pixels": inputs["pixels"][0]}) == PATCHES
    output = tower(inputs["pixels"], output_hidden_states=True)
    features = encoder(Modality.IMAGE, inputs)
    torch.testing.assert_close(features.tokens, output.last_hidden_state[:, LEADING[name] :], atol=1e-6, rtol=1e-6)
    assert features.mask.shape == (3, PATCHES) and bool(features.mask.all())
    assert encoder.width(Modality.IMAGE) == WIDTH
    for layer in (0, -2, LAYERS):
        chosen = TransformersVision(folder, layer=layer, class_token=True)(Modality.IMAGE, inputs).tokens
        torch.testing.assert_close(chosen, output.hidden_states[layer], atol=1e-6, rtol=1e-6)
    if name != "vit":  # saved from a classifier, it has no pooling layer
        pooled = TransformersVision(folder, tokens="pooled")
        assert pooled.token_count(Modality.IMAGE, {}) == 1
        found = pooled(Modality.IMAGE, inputs).tokens
        torch.testing.assert_close(found[:, 0], output.pooler_output, atol=1e-6, rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", VITS)
def test_twice_the_resolution(saved: Saved, name: str) -> None:
    """224 -> 448 in small: four times the patches, position embeddings interpolated as the library does it."""
    folder, tower = saved[name]
    encoder = TransformersVision(folder, image_size=2 * SIDE)
    inputs = stacked(encoder, IMAGES)
    assert inputs["pixels"].shape == (3, 3, 2 * SIDE, 2 * SIDE)
    given = {} if name == "dinov2" else {"interpolate_pos_encoding": True}
    expected = tower(inputs["pixels"], **given).last_hidden_state[:, LEADING[name] :]
    tokens = encoder(Modality.IMAGE, inputs).tokens
    assert tokens.shape == (3, 4 * PATCHES, WIDTH) == (3, *encoder.shape)
    torch.testing.assert_close(tokens, expected, atol=1e-6, rtol=1e-6)


def test_a_larger_picture_shows_the_same_part_of_an_image(saved: Saved) -> None:
    """DINOv2 resizes to 40 and crops 32: at 64 that is 80, and the same share is cropped."""
    folder, _ = saved["dinov2"]
    columns, rows = np.meshgrid(np.arange(80), np.arange(120))
    smooth = np.stack([columns * 3, rows * 2, rows + columns], axis=-1).astype(np.uint8)
    small, large = (TransformersVision(folder, image_size=size).picture(smooth) for size in (32, 64))
    halved = torch.nn.functional.avg_pool2d(large, 2)
    torch.testing.assert_close(halved, small, atol=0.1, rtol=0)


def test_a_processor_that_crops_never_makes_a_thread_large(saved: Saved) -> None:
    folder, _ = saved["clip"]
    thin = Media(Modality.IMAGE, np.zeros((1, 2_000_000, 3), np.uint8))
    assert TransformersVision(folder).preprocess(thin)["pixels"].shape == (3, SIDE, SIDE)


@torch.no_grad()
def test_a_feature_map_is_read_row_by_row(saved: Saved) -> None:
    folder, tower = saved["convnext"]
    encoder = TransformersVision(folder, image_size=48)
    inputs = stacked(encoder, IMAGES[:1])
    expected = tower(inputs["pixels"]).last_hidden_state
    tokens = encoder(Modality.IMAGE, inputs).tokens
    assert tokens.shape == (1, expected.shape[2] * expected.shape[3], 16) == (1, *encoder.shape)
    torch.testing.assert_close(tokens[0, expected.shape[3]], expected[0, :, 1, 0], atol=1e-6, rtol=1e-6)


def test_only_the_tower_is_built(saved: Saved) -> None:
    encoder = TransformersVision(saved["clip"][0])
    encoder = pickle.loads(pickle.dumps(encoder))  # as a data worker receives it
    encoder.load()
    assert not any("text" in key or "projection" in key or "logit" in key for key in encoder.state_dict())
    assert not any(parameter.requires_grad for parameter in encoder.parameters()) and not encoder.model.training
    encoder.release()
    assert not encoder.state_dict() and not encoder.is_loaded
    half = encoder.to(torch.bfloat16)
    half.load()
    assert half.to(torch.bfloat16)(Modality.IMAGE, stacked(encoder, IMAGES)).tokens.dtype is torch.bfloat16


def test_weights_can_be_counted_without_reading_them(saved: Saved) -> None:
    folder, tower = saved["clip"]
    with shapes_only():
        encoder = TransformersVision(folder)
        encoder.load()
    assert all(parameter.is_meta for parameter in encoder.parameters())
    assert sum(map(torch.numel, encoder.parameters())) == sum(map(torch.numel, tower.parameters()))


def test_published_sizes_on_the_meta_device(tmp_path: Path) -> None:
    """CLIP ViT-L/14 at 336, from its configuration alone."""
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    CLIPVisionConfig(image_size=336, patch_size=14, **sizes).save_pretrained(tmp_path)
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 336, "crop_size": 336, "do_center_crop": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    assert TransformersVision(tmp_path, layer=-2).shape == (576, 1024)
    assert TransformersVision(tmp_path, class_token=True, image_size=448).shape == (1025, 1024)


def edited(source: Path, folder: Path, name: str, **changes: Any) -> Path:
    shutil.copytree(source, folder, dirs_exist_ok=True)
    content = json.loads((folder / name).read_text())
    for key, value in changes.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    (folder / name).write_text(json.dumps(content))
    return folder


def test_folders_that_cannot_be_used(saved: Saved, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: found no such folder; .*hf download openai/clip"):
        TransformersVision(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"found a folder without config\.json"):
        TransformersVision(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json can't be read"):
        TransformersVision(tmp_path)
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model_type: found 'bert'; expected a model of images"):
        TransformersVision(tmp_path)
    CLIPVisionConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"found no preprocessor_config\.json that transformers can read"):
        TransformersVision(tmp_path)
    PixtralImageProcessorPil().save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"PixtralImageProcessorPil makes \(3, 64, 32\) of .*; expected \(3, side, side\), one square"
    ):
        TransformersVision(tmp_path)
    ViTImageProcessorPil(do_resize=False).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"ViTImageProcessorPil makes \(3, 64, 32\) of an image of \(64, 32\)"):
        TransformersVision(tmp_path)


def test_choices_that_cannot_be_served(saved: Saved) -> None:
    folder, _ = saved["clip"]
    with pytest.raises(ValueError, match="tokens: found 'grid'"):
        TransformersVision(folder, tokens="grid")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="class_token: found true beside tokens 'pooled'"):
        TransformersVision(folder, tokens="pooled", class_token=True)
    with pytest.raises(ValueError, match="layer: found -2 beside tokens 'pooled'"):
        TransformersVision(folder, tokens="pooled", layer=-2)
    with pytest.raises(ValueError, match="layer: found 9; expected -4 to 3"):
        TransformersVision(folder, layer=9)
    with pytest.raises(ValueError, match="image_size: found 0"):
        TransformersVision(folder, image_size=0)
    with pytest.raises(ValueError, match=r"image_size: CLIPVisionModel can't take 4 pixels .* trained at, 32"):
        TransformersVision(folder, image_size=4)
    with pytest.raises(ValueError, match="video: this encoder serves images"):
        TransformersVision(folder).preprocess(Media(Modality.VIDEO, np.zeros((2, 8, 8, 3), np.uint8), rate=2.0))


def test_weights_that_do_not_fit(saved: Saved, tmp_path: Path) -> None:
    clip, vit = saved["clip"][0], saved["vit"][0]
    with pytest.raises(ValueError, match=r"\d+ missing: encoder\.layers\.3\."):
        TransformersVision(edited(clip, tmp_path / "a", "config.json", vision_config={"num_hidden_layers": 4})).load()
    for number, (folder, change) in enumerate(
        [(clip, {"vision_config": {"num_hidden_layers": 2}}), (vit, {"num_hidden_layers": 2})]
    ):
        with pytest.raises(ValueError, match=r"\d+ unexpected: .*layers\.2\."):
            TransformersVision(edited(folder, tmp_path / f"b{number}", "config.json", **change)).load()
    with pytest.raises(ValueError, match="its weights can't be read as CLIPVisionModel"):
        TransformersVision(edited(clip, tmp_path / "c", "config.json", vision_config={"hidden_size": 32})).load()
    with pytest.raises(ValueError, match=r"2 missing: pooler\."):
        TransformersVision(vit, tokens="pooled").load()
