"""Videos through an image encoder: which frames, what joins them, and that padding changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from tiny_vision import WIDTH, save_model, stacked
from torch import Tensor
from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration, UMT5Config, UMT5ForConditionalGeneration

from isthmus.encoders.base import Encoder
from isthmus.encoders.point_bert.encoder import PointBert
from isthmus.encoders.vision.frames_encoder import FramesEncoder, frame_indices
from isthmus.encoders.vision.transformers_vision import TransformersVision
from isthmus.types import Media, Modality

FRAMES = (9, 2, 5)
VIDEO = Modality.VIDEO
T5_SIZES: dict[str, Any] = {
    "vocab_size": 40, "d_model": WIDTH, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2,
}  # fmt: skip


def video(frames: int, seed: int = 0) -> Media:
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, 40, 50, 3), dtype=np.uint8)
    return Media(VIDEO, pixels, rate=8.0, source="clip.mp4")


VIDEOS = [video(frames, seed) for seed, frames in enumerate(FRAMES)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    save_model("clip", folder)
    return folder


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(1)
    T5ForConditionalGeneration(T5Config(**T5_SIZES)).save_pretrained(folder)
    return folder


def frame_tokens(encoder: TransformersVision, medium: Media, indices: list[int]) -> Tensor:
    """(frames, N, D), each frame as an image by itself."""
    images = [encoder.preprocess(Media(Modality.IMAGE, medium.array[index]))["pixels"] for index in indices]
    return encoder(Modality.IMAGE, {"pixels": torch.stack(images)}).tokens


CHOSEN = [[0, 2, 4, 6, 8], [0, 1], [0, 1, 2, 3, 4]]


def test_tokens_of_all_frames(clip: Path) -> None:
    encoder, images = FramesEncoder(TransformersVision(clip)), TransformersVision(clip)
    inputs = [encoder.preprocess(medium) for medium in VIDEOS]
    assert [encoder.token_count(VIDEO, one) for one in inputs] == [80, 32, 80]
    assert not encoder.is_loaded and encoder.width(VIDEO) == WIDTH
    features = encoder(VIDEO, stacked(encoder, VIDEOS))
    assert features.mask.sum(1).tolist() == [80, 32, 80]
    for row, (medium, indices) in enumerate(zip(VIDEOS, CHOSEN, strict=True)):
        expected = frame_tokens(images, medium, indices).flatten(0, 1)
        torch.testing.assert_close(features.tokens[row][features.mask[row]], expected, atol=1e-5, rtol=1e-5)
    assert not features.tokens[~features.mask].any()
    assert encoder(VIDEO, stacked(encoder, VIDEOS[1:2])).tokens.shape == (1, 32, WIDTH)


def test_mean_over_frames(clip: Path) -> None:
    encoder, images = FramesEncoder(TransformersVision(clip), temporal="mean"), TransformersVision(clip)
    features = encoder(VIDEO, stacked(encoder, VIDEOS))
    assert encoder.token_count(VIDEO, encoder.preprocess(VIDEOS[1])) == 16 and bool(features.mask.all())
    for row, (medium, indices) in enumerate(zip(VIDEOS, CHOSEN, strict=True)):
        expected = frame_tokens(images, medium, indices).mean(0)
        torch.testing.assert_close(features.tokens[row], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_t5_over_the_frames_tokens(clip: Path, t5: Path) -> None:
    """Each video as the library's own encoder reads it alone: what stands beside it doesn't matter."""
    encoder, images = FramesEncoder(TransformersVision(clip), temporal="t5", t5=t5), TransformersVision(clip)
    library = T5EncoderModel.from_pretrained(t5, local_files_only=True).eval()
    features = encoder(VIDEO, stacked(encoder, VIDEOS))
    for row, (medium, indices) in enumerate(zip(VIDEOS, CHOSEN, strict=True)):
        tokens = frame_tokens(images, medium, indices).flatten(0, 1)
        expected = library(inputs_embeds=tokens[None]).last_hidden_state[0]
        torch.testing.assert_close(features.tokens[row][features.mask[row]], expected, atol=1e-4, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(key.startswith("model.decoder") for key in encoder.state_dict())
    encoder.stays = True
    encoder.release()
    assert encoder.is_loaded and list(encoder.parameters()), "shards stay"
    encoder.stays = False
    encoder.release()
    assert not list(encoder.parameters()) and not encoder.is_loaded
    again = encoder(VIDEO, stacked(encoder, VIDEOS))
    torch.testing.assert_close(again.tokens, features.tokens)


def test_other_t5_families(clip: Path, tmp_path: Path) -> None:
    UMT5ForConditionalGeneration(UMT5Config(**T5_SIZES)).save_pretrained(tmp_path)
    encoder = FramesEncoder(TransformersVision(clip), num_frames=2, temporal="t5", t5=tmp_path)
    assert encoder(VIDEO, stacked(encoder, VIDEOS)).tokens.shape == (3, 32, WIDTH)


def test_images_beside_videos(clip: Path) -> None:
    encoder = FramesEncoder(TransformersVision(clip), modalities=["image", "video"])
    image = Media(Modality.IMAGE, VIDEOS[0].array[0])
    inputs = stacked(encoder, [image])
    assert encoder.token_count(Modality.IMAGE, encoder.preprocess(image)) == 16
    expected = frame_tokens(TransformersVision(clip), VIDEOS[0], [0])
    torch.testing.assert_close(encoder(Modality.IMAGE, inputs).tokens, expected)


@given(total=st.integers(1, 400), frames=st.integers(1, 40))
def test_frames_spread_from_the_first_to_the_last(total: int, frames: int) -> None:
    indices = frame_indices(total, frames)
    assert len(indices) == min(total, frames) == len(set(indices.tolist()))
    assert indices[0] == 0 and (indices[-1] == total - 1 or frames == 1)
    if total >= frames:
        assert indices.tolist() == np.linspace(0, total - 1, frames, dtype=int).tolist()
    gaps = np.diff(indices)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_a_config_nests_its_image_encoder(clip: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Encoder, "encoder")
    inner = {
        "class_path": "isthmus.encoders.TransformersVision",
        "init_args": {"checkpoint": str(clip)},
    }
    outer = {"image_encoder": inner, "num_frames": 3, "temporal": "mean"}
    config = {"encoder": {"class_path": "isthmus.encoders.FramesEncoder", "init_args": outer}}
    encoder = parser.instantiate(parser.parse_object(config)).encoder
    assert isinstance(encoder.image_encoder, TransformersVision) and encoder.frame_count == 3
    assert encoder.checkpoint == clip


def test_what_cannot_be_served(clip: Path, t5: Path, tmp_path: Path) -> None:
    images = TransformersVision(clip)
    with pytest.raises(ValueError, match=r"found \(0, 40, 50, 3\) uint8 .* expected a non-empty"):
        video(0)
    with pytest.raises(ValueError, match="image: this encoder serves video"):
        FramesEncoder(images).preprocess(Media(Modality.IMAGE, np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(ValueError, match="frames: found 0"):
        FramesEncoder(images, num_frames=0)
    with pytest.raises(ValueError, match="temporal: found 'max'"):
        FramesEncoder(images, temporal="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="t5: found None beside temporal 't5'"):
        FramesEncoder(images, temporal="t5")
    with pytest.raises(ValueError, match="beside temporal 'mean'"):
        FramesEncoder(images, temporal="mean", t5=t5)
    with pytest.raises(ValueError, match=r"modalities: found \['audio'\]"):
        FramesEncoder(images, modalities=["audio"])
    with pytest.raises(ValueError, match="PointBert serves points; expected an encoder of images"):
        FramesEncoder(PointBert(tmp_path))
    with pytest.raises(ValueError, match=r"found no config\.json; expected one such as google/flan-t5"):
        FramesEncoder(images, temporal="t5", t5=tmp_path)
    with pytest.raises(ValueError, match="model_type: found 'clip'; expected one of t5, mt5, umt5"):
        FramesEncoder(images, temporal="t5", t5=clip)
    T5Config(**{**T5_SIZES, "d_model": 24}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"d_model: found 24; expected 16, the width of TransformersVision's tokens"):
        FramesEncoder(images, temporal="t5", t5=tmp_path)
