"""Folders that are missing, another pipeline's, or damaged: one clear error each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLASSES = {"image": "StableDiffusionPipeline", "video": "TextToVideoSDPipeline", "audio": "AudioLDMPipeline"}


@pytest.mark.parametrize("found", CLASSES)
@pytest.mark.parametrize("expected", CLASSES)
def test_another_pipelines_folder_is_named(expected: str, found: str, build: Any, folders: dict[str, Path]) -> None:
    if expected == found:
        assert build(expected, folders[found]).checkpoint == folders[found]
        return
    with pytest.raises(ValueError) as caught:
        build(expected, folders[found])
    message = str(caught.value)
    assert all(word in message for word in (str(folders[found]), CLASSES[found], CLASSES[expected]))


def test_a_missing_folder_is_named(build: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: no such folder; expected one written by StableDiffusionPipeline"):
        build("image", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize(
    ("content", "message"), [(None, "is missing"), ("{", "can't be read as json"), ("[]", "a list")]
)
def test_damaged_json_is_named(
    name: str, content: str | None, message: str, build: Any, copied: Callable[..., Path]
) -> None:
    folder = copied("image")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        build("image", folder)
    assert name in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize("part", ["text_encoder", "vae", "unet", "tokenizer"])
def test_damaged_parts_are_named(part: str, build: Any, copied: Callable[..., Path]) -> None:
    folder = copied("image")
    if part == "tokenizer":
        (folder / part / "tokenizer.json").write_text("{")
    else:
        [weights] = (folder / part).glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:100])
    generator = build("image", folder)
    with pytest.raises(ValueError, match=f"{part}/ can't be loaded as") as caught:
        generator.load()
    assert str(folder) in str(caught.value)
    assert not generator.is_loaded


def test_a_part_without_weights_is_named(build: Any, copied: Callable[..., Path]) -> None:
    folder = copied("audio")
    shutil.rmtree(folder / "vocoder")
    with pytest.raises(ValueError, match=r"vocoder/config.json is missing"):
        build("audio", folder)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (
            "image",
            {"unet": {"cross_attention_dim": 24}},
            "hidden_size 16, and unet/config.json has cross_attention_dim 24",
        ),
        ("image", {"tokenizer": {"model_max_length": 77}}, "model_max_length 77, and .* has 8 positions"),
        ("image", {"tokenizer": {"model_max_length": None}}, "tokenizer_config.json has no 'model_max_length'"),
        ("audio", {"text_encoder": {"projection_dim": 24}}, "projection_dim 24, .* expected them equal"),
    ],
)
def test_parts_of_different_checkpoints_are_refused(
    kind: str, changes: dict[str, Any], message: str, build: Any, copied: Callable[..., Path]
) -> None:
    with pytest.raises(ValueError, match=message):
        build(kind, copied(kind, **changes))
