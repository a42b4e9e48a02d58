"""The ImageBind expert: from media to features, and its refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.imagebind.model import ImageBindModel
from isthmus.types import Media, Modality

RANDOM = np.random.default_rng(0)
MEDIA = {
    Modality.IMAGE: Media(Modality.IMAGE, RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)),
    Modality.VIDEO: Media(Modality.VIDEO, RANDOM.integers(0, 256, (8, 18, 16, 3), dtype=np.uint8), rate=8.0),
    Modality.AUDIO: Media(Modality.AUDIO, RANDOM.normal(size=9600).astype(np.float32) * 0.1, rate=16000.0),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, small_imagebind: ImageBindConfig) -> Path:
    """A small model's folder, with a tokenizer of letters."""
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("imagebind")
    torch.manual_seed(3)
    save_checkpoint(folder, "imagebind", small_imagebind, ImageBindModel(small_imagebind).state_dict())
    words = [*"abcdef", *(f"{letter}</w>" for letter in "abcdef"), "<|startoftext|>", "<|endoftext|>"]
    CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[]).save_pretrained(
        folder / "tokenizer"
    )
    return folder


@pytest.fixture(scope="module")
def original(checkpoint: Path, small_imagebind: ImageBindConfig) -> ImageBindModel:
    torch.manual_seed(3)
    return ImageBindModel(small_imagebind).eval()


def batch_of(encoder: ImageBind, medium: Media, count: int = 2) -> dict[str, Tensor]:
    inputs = encoder.preprocess(medium)
    return {key: torch.stack([value] * count) for key, value in inputs.items()}


@pytest.mark.parametrize("tokens", ["pooled", "patch"])
@pytest.mark.parametrize("modality", MEDIA)
def test_widths_and_counts_are_known_before_weights(
    checkpoint: Path, modality: Modality, tokens: Literal["pooled", "patch"]
) -> None:
    encoder = ImageBind(checkpoint, tokens=tokens)
    inputs = encoder.preprocess(MEDIA[modality])
    width, count = encoder.width(modality), encoder.token_count(modality, inputs)
    assert not encoder.is_loaded and not list(encoder.parameters())
    features = encoder(modality, batch_of(encoder, MEDIA[modality]))
    assert features.tokens.shape == (2, count, width)
    assert features.mask.shape == (2, count) and bool(features.mask.all())
    assert encoder.is_loaded and not features.tokens.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@torch.no_grad()
def test_pooled_is_the_average_of_unit_embeddings(checkpoint: Path, original: ImageBindModel) -> None:
    encoder = ImageBind(checkpoint)
    for modality, medium in MEDIA.items():
        inputs = encoder.preprocess(medium)
        tower = "audio" if modality is Modality.AUDIO else "vision"
        views = inputs[tower][None] if modality is Modality.IMAGE else inputs[tower]
        hidden = original.trunk(tower, original.stem(tower, views))
        unit = torch.nn.functional.normalize(original.head(tower, hidden, views), dim=-1)
        found = encoder(modality, {tower: inputs[tower][None]}).tokens[0, 0]
        torch.testing.assert_close(found, unit.mean(dim=0))


@torch.no_grad()
def test_patch_tokens_are_the_trunks_clip_after_clip(checkpoint: Path, original: ImageBindModel) -> None:
    encoder = ImageBind(checkpoint, tokens="patch")
    views = encoder.preprocess(MEDIA[Modality.VIDEO])["vision"]
    found = encoder(Modality.VIDEO, {"vision": views[None]}).tokens[0]
    expected = torch.cat([original.trunk("vision", original.stem("vision", view[None]))[0] for view in views])
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_golden_through_the_expert(
    tmp_path: Path, golden_file: Callable[[str], Any], assert_close: Callable[[Tensor, Tensor, str], None]
) -> None:
    golden = golden_file("imagebind")
    sizes = {key: value for key, value in golden.about["config"].items() if key != "kernel_size"}
    save_checkpoint(tmp_path, "imagebind", ImageBindConfig(**sizes), golden.state)
    inputs = {"vision": golden.inputs["vision_video"]}
    assert_close(ImageBind(tmp_path)(Modality.VIDEO, inputs).tokens[:, 0], golden.outputs["vision_video.out"], "video")
    image = {"vision": golden.inputs["vision_image"]}
    found = ImageBind(tmp_path, tokens="patch")(Modality.IMAGE, image).tokens
    assert_close(found, golden.outputs["vision_image.trunk"], "image")
    found = ImageBind(tmp_path).encode_text(golden.inputs["text"])
    scale = golden.state["modality_postprocessors.text.1.log_logit_scale"].exp().clamp(max=100)
    assert_close(found * scale, golden.outputs["text.out"], "text")


def test_only_the_towers_in_use_are_built(checkpoint: Path) -> None:
    encoder = ImageBind(checkpoint, modalities=("audio",))
    encoder.load()
    assert {key.split(".")[2] for key in encoder.state_dict()} == {"audio"}
    encoder.encode_text(torch.tensor([[1, 2, 13]]))
    assert {key.split(".")[2] for key in encoder.state_dict()} == {"audio", "text"}
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    encoder.release()
    assert not encoder.state_dict()


def test_texts(checkpoint: Path) -> None:
    encoder = ImageBind(checkpoint)
    ids = encoder.tokenize(["ab c", "ABCDEF abcdef"])
    start, end = 12, 13
    assert ids.tolist() == [[start, 0, 7, 8, end, 0, 0, 0], [start, 0, 1, 2, 3, 4, 11, end]]
    embeddings = encoder.encode_text(ids)
    assert embeddings.shape == (2, 8)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2))


def test_tokenizers_that_do_not_belong(checkpoint: Path, tmp_path: Path, small_imagebind: ImageBindConfig) -> None:
    from transformers import CLIPTokenizer

    save_checkpoint(tmp_path, "imagebind", small_imagebind, {"none": torch.zeros(1)})
    encoder = ImageBind(tmp_path)
    with pytest.raises(ValueError, match="tokenizer: no tokenizer"):
        encoder.tokenize(["a"])
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="end of text is id 1; expected the largest, 2"):
        encoder.tokenize(["a"])
    vocabulary = {f"t{index}": index for index in range(40)} | {"<|startoftext|>": 40, "<|endoftext|>": 41}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="42 tokens; expected at most text_vocab_size 40"):
        encoder.tokenize(["a"])


def test_half_precision(checkpoint: Path) -> None:
    encoder = ImageBind(checkpoint)
    inputs = batch_of(encoder, MEDIA[Modality.AUDIO])
    full = encoder(Modality.AUDIO, inputs).tokens
    half = encoder.to(torch.bfloat16)(Modality.AUDIO, inputs).tokens
    assert half.dtype is torch.bfloat16
    torch.testing.assert_close(half.float(), full, atol=0.05, rtol=0)


def test_unknown_modalities(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"found \['smell'\]; ImageBind serves image, video, audio"):
        ImageBind(checkpoint, modalities=("smell",))
    encoder = ImageBind(checkpoint, modalities=("image",))
    with pytest.raises(ValueError, match="audio: this encoder serves image"):
        encoder.preprocess(MEDIA[Modality.AUDIO])
    with pytest.raises(ValueError, match="points: this encoder serves image"):
        encoder.width(Modality.POINTS)
    with pytest.raises(ValueError, match="tokens: found 'all'"):
        ImageBind(checkpoint, tokens="all")


def test_towers_that_a_checkpoint_lacks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"imagebind": {"modalities": ["vision"]}}')
    with pytest.raises(ValueError, match="has no tower for audio, only vision"):
        ImageBind(tmp_path)
    with pytest.raises(ValueError, match="has no tower for text, only vision"):
        ImageBind(tmp_path, modalities=("image",)).encode_text(torch.zeros(1, 1, dtype=torch.int64))


def test_weights_of_another_width(checkpoint: Path, tmp_path: Path) -> None:
    config = (checkpoint / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"vision_embed_dim": 16', '"vision_embed_dim": 32'))
    (tmp_path / "model.safetensors").symlink_to(checkpoint / "model.safetensors")
    with pytest.raises(ValueError, match=r"instead of .*correct the sizes in config\.json"):
        ImageBind(tmp_path).load()


def test_a_medium_that_cannot_be_used_is_named(checkpoint: Path) -> None:
    short = Media(Modality.AUDIO, np.zeros(10, np.float32), rate=16000.0, source="click.wav")
    with pytest.raises(ValueError, match=r"click\.wav: audio of 10 samples"):
        ImageBind(checkpoint).preprocess(short)
