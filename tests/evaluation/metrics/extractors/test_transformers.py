"""Extractors of transformers folders, against the library's own classes on what we resized and cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stored_answers import clip, sound
from tiny_vision import SIDE, SQUARE, TOWER, picture, save_model
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapAudioModelWithProjection,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    CLIPVisionModelWithProjection,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessorPil,
    VideoMAEModel,
    ViTForImageClassification,
)

from isthmus.evaluation.metrics.extractors import TransformersAudio, TransformersImages, TransformersVideos
from isthmus.evaluation.metrics.extractors.resizing import Resize
from isthmus.evaluation.metrics.extractors.transformers_videos import places
from isthmus.types import Modality

IMAGES = [picture(40, 60, 0), picture(33, 20, 1)]


def stirred(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("published")
    torch.manual_seed(3)
    for name in ("clip", "vit", "dinov2"):
        save_model(name, root / name)
    video = VideoMAEConfig(**TOWER, intermediate_size=24, num_frames=4, tubelet_size=2, num_labels=5)
    audio = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, max_length=64,
        num_mel_bins=32, num_labels=7,
    )  # fmt: skip
    clap = ClapConfig(
        audio_config={
            "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "hidden_size": 16,
            "num_hidden_layers": 2, "window_size": 4, "spec_size": 64, "num_mel_bins": 16, "enable_fusion": True,
            "projection_hidden_size": 16,
        },
        text_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24},
        projection_dim=6,
    )  # fmt: skip
    size = {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}
    for name, model, reader in (
        ("videomae", VideoMAEForVideoClassification(video), VideoMAEImageProcessorPil(**size)),
        ("videomae_alone", VideoMAEModel(video), VideoMAEImageProcessorPil(**size)),
        ("ast", ASTForAudioClassification(audio), ASTFeatureExtractor(num_mel_bins=32, max_length=64)),
        ("clap", ClapModel(clap), ClapFeatureExtractor(feature_size=16, max_length_s=1, truncation="fusion")),
    ):
        stirred(model).save_pretrained(root / name)
        reader.save_pretrained(root / name)
    return {folder.name: folder for folder in root.iterdir()}


def normalised(pixels: np.ndarray[Any, Any], extractor: Any) -> torch.Tensor:
    return extractor.pixels(pixels)  # type: ignore[no-any-return]


def test_dinov2_is_its_class_token(folders: dict[str, Path]) -> None:
    extractor = TransformersImages(folders["dinov2"])
    features, logits = extractor.extract(IMAGES)
    from transformers import Dinov2WithRegistersModel

    model = Dinov2WithRegistersModel.from_pretrained(folders["dinov2"]).eval()
    pixels = torch.stack([extractor.pixels(one.array) for one in IMAGES])
    with torch.no_grad():
        expected = model(pixels).last_hidden_state[:, 0]
    assert logits is None
    torch.testing.assert_close(torch.from_numpy(features), expected)
    identity = extractor.identity()
    assert identity["layer"] == "pooled" and identity["resize"] == "stretch to 32, bicubic"
    assert identity["antialias"] is True and len(identity["weights"]) == 32


def test_a_classifier_gives_logits_and_what_its_head_is_given(folders: dict[str, Path]) -> None:
    extractor = TransformersImages(folders["vit"], resize=Resize(shape="crop"))
    features, logits = extractor.extract(IMAGES)
    model = ViTForImageClassification.from_pretrained(folders["vit"]).eval()
    pixels = torch.stack([extractor.pixels(one.array) for one in IMAGES])
    with torch.no_grad():
        output = model(pixels, output_hidden_states=True)
        last = model.vit.layernorm(output.hidden_states[-1])[:, 0]
    assert logits is not None
    torch.testing.assert_close(torch.from_numpy(logits), output.logits)
    torch.testing.assert_close(torch.from_numpy(features), last)
    assert extractor.identity()["layer"] == "the classifier's input"


def test_clip_embeds_at_unit_length(folders: dict[str, Path]) -> None:
    extractor = TransformersImages(folders["clip"], layer="projected", unit_length=True)
    features, _ = extractor.extract(IMAGES)
    model = CLIPVisionModelWithProjection.from_pretrained(folders["clip"], projection_dim=8).eval()
    with torch.no_grad():
        expected = model(torch.stack([extractor.pixels(one.array) for one in IMAGES])).image_embeds
    torch.testing.assert_close(torch.from_numpy(features), torch.nn.functional.normalize(expected, dim=1))
    assert extractor.identity()["layer"] == "projected, of unit length"
    pooled = TransformersImages(folders["clip"])
    assert pooled.extract(IMAGES)[0].shape == (2, 16)
    with pytest.raises(ValueError, match="layer: found 'projected'; expected 'pooled'"):
        TransformersImages(folders["vit"], layer="projected")


def test_what_changes_features_changes_the_identity(folders: dict[str, Path]) -> None:
    made = [
        TransformersImages(folders["clip"]),
        TransformersImages(folders["clip"], unit_length=True),
        TransformersImages(folders["clip"], resize=Resize(antialias=False)),
        TransformersImages(folders["clip"], resize=Resize("bilinear")),
        TransformersImages(folders["clip"], resize=Resize(shape="crop")),
        TransformersImages(folders["dinov2"]),
    ]
    values = [extractor.extract(IMAGES)[0] for extractor in made]
    for at, extractor in enumerate(made[1:], 1):
        assert extractor.identity() != made[0].identity() and not np.allclose(values[at], values[0])


def test_resize_is_what_it_says() -> None:
    pixels = IMAGES[0].array
    assert Resize()(pixels[:32, :32], 32).tolist() == pixels[:32, :32].tolist()
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(Resize()(stripes, 16)[4:-4, 4:-4]) < 1  # grey
    assert np.ptp(Resize("bilinear", antialias=False)(stripes[:, :63], 16)) > 100  # moiré
    cropped = Resize(shape="crop")(pixels, 20)
    assert cropped == pytest.approx(Resize()(pixels[:, 10:50], 20))
    with pytest.raises(ValueError, match=r"resize.shape: found 'bend'; expected stretch or crop"):
        Resize(shape="bend")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["videomae", "videomae_alone"])
def test_a_video_is_seen_in_evenly_spread_frames(folders: dict[str, Path], name: str) -> None:
    extractor = TransformersVideos(folders[name])
    media = [clip(0, frames=9), clip(1, frames=3)]
    features, logits = extractor.extract(media)
    chosen = [medium.array[rows] for medium, rows in zip(media, ([0, 3, 5, 8], [0, 1, 1, 2]), strict=True)]
    pixels = torch.stack([torch.stack([extractor.pixels(frame) for frame in frames]) for frames in chosen])
    with torch.no_grad():
        if name == "videomae_alone":
            expected = VideoMAEModel.from_pretrained(folders[name]).eval()(pixels).last_hidden_state.mean(1)
            assert logits is None
        else:
            model = VideoMAEForVideoClassification.from_pretrained(folders[name]).eval()
            expected = model.fc_norm(model.videomae(pixels).last_hidden_state.mean(1))
            assert logits is not None
            torch.testing.assert_close(torch.from_numpy(logits), model(pixels).logits)
    torch.testing.assert_close(torch.from_numpy(features), expected)
    assert extractor.identity()["frames"] == 4 and extractor.identity()["rate"] == "spread evenly"
    asked = extractor.request(Modality.VIDEO)
    assert asked is not None and asked.frames is not None and list(asked.frames(9, 8.0)) == [0, 3, 5, 8]


def test_frames_at_a_rate_begin_with_the_first_and_end_with_the_last() -> None:
    assert places(4, 4.0, total=30, rate=8.0) == [0, 2, 4, 6]
    assert places(4, 4.0, total=5, rate=8.0) == [0, 2, 4, 4]
    assert places(3, None, total=1, rate=8.0) == [0, 0, 0]


def test_a_recording_is_resampled_cut_and_classified(folders: dict[str, Path]) -> None:
    extractor = TransformersAudio(folders["ast"], seconds=0.5)
    features, logits = extractor.extract([sound(0, 0.8), sound(1, 0.3)])
    heard = [sound(0, 0.8).array[:8000], sound(1, 0.3).array]
    inputs = ASTFeatureExtractor.from_pretrained(folders["ast"])(heard, sampling_rate=16000, return_tensors="pt")
    model = ASTForAudioClassification.from_pretrained(folders["ast"]).eval()
    with torch.no_grad():
        expected = model(**inputs).logits
        pooled = model.audio_spectrogram_transformer(**inputs).pooler_output
    assert logits is not None
    torch.testing.assert_close(torch.from_numpy(logits), expected)
    torch.testing.assert_close(torch.from_numpy(features), pooled)
    assert extractor.identity()["rate"] == 16000 and extractor.identity()["seconds"] == 0.5


def test_clap_gives_the_same_each_time(folders: dict[str, Path]) -> None:
    """Its feature extractor calls a random recording longer than it is."""
    extractor = TransformersAudio(folders["clap"], seconds=1.0)
    media = [sound(number, 0.5, 48000) for number in range(4)]
    found = [extractor.extract(media)[0] for _ in range(3)]
    assert found[0].shape == (4, 6) and all(np.array_equal(found[0], one) for one in found[1:])
    model = ClapAudioModelWithProjection.from_pretrained(folders["clap"], projection_dim=6).eval()
    reader = ClapFeatureExtractor.from_pretrained(folders["clap"])
    inputs = dict(reader([one.array for one in media], sampling_rate=48000, return_tensors="pt"))
    with torch.no_grad():
        expected = model(inputs["input_features"], is_longer=torch.zeros(4, 1, dtype=torch.bool)).audio_embeds
    torch.testing.assert_close(torch.from_numpy(found[0]), expected)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda folders, empty: TransformersImages(empty / "absent"), "absent"),
        (lambda folders, empty: TransformersImages(empty), r"config\.json"),
        (lambda folders, empty: TransformersAudio(folders["ast"], seconds=0), "seconds: found 0"),
        (lambda folders, empty: TransformersVideos(folders["vit"]), "frames: found None; expected a number above 0"),
        (lambda folders, empty: TransformersVideos(folders["videomae"], rate=0), "rate: found 0"),
        (lambda folders, empty: TransformersImages(folders["vit"], chunk=0), "chunk: found 0"),
    ],
)
def test_faults(folders: dict[str, Path], tmp_path: Path, made: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(folders, tmp_path)
