"""The HuBERT expert: equal to the library's own model on each recording alone, and its refusals."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import HubertConfig, HubertForCTC, HubertModel, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from isthmus.encoders.speech.hubert import Hubert
from isthmus.types import Media, Modality

SIZES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "conv_dim": (8, 8, 8), "conv_kernel": (10, 3, 2), "conv_stride": (5, 4, 2), "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2, "vocab_size": 12,
}  # fmt: skip
BASE = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
FIELD = 10 + (3 - 1) * 5 + (2 - 1) * 20
"""Samples that the first token sees."""


def save(folder: Path, kind: Any, extractor: Wav2Vec2FeatureExtractor, **fields: Any) -> None:
    """A small model, in which each weight matters."""
    torch.manual_seed(5)
    model = kind(HubertConfig(**SIZES, **fields))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)


@pytest.fixture(scope="module", params=["base", "large"])
def checkpoint(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """As the base model, normalised over whole recordings, and as the large one, normalised frame by frame."""
    folder = tmp_path_factory.mktemp(request.param)
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=request.param == "large")
    save(folder, HubertModel, extractor, **(BASE if request.param == "base" else LARGE))
    return folder


def recording(samples: int, rate: float = 16000.0, seed: int = 0) -> Media:
    noise = np.random.default_rng(seed).normal(size=samples) * 0.1 + 0.02
    return Media(Modality.AUDIO, noise.astype(np.float32), rate=rate, source="talk.wav")


MEDIA = [recording(3000), recording(5000, seed=1), recording(3000, seed=2), recording(777, seed=3)]


def stacked(encoder: Hubert, media: list[Media]) -> dict[str, Tensor]:
    inputs = [encoder.preprocess(medium) for medium in media]
    return {key: torch.stack([one[key] for one in inputs]) for key in inputs[0]}


def test_sizes_are_known_before_weights(checkpoint: Path) -> None:
    encoder = Hubert(checkpoint, seconds=0.4)
    encoder = pickle.loads(pickle.dumps(encoder))  # as a data worker receives it
    inputs = encoder.preprocess(MEDIA[0])
    assert inputs["waveform"].shape == (6400,) and inputs["sample_count"] == 3000
    # (3000 - 10) // 5 + 1 = 599, (599 - 3) // 4 + 1 = 150, (150 - 2) // 2 + 1 = 75
    assert encoder.token_count(Modality.AUDIO, inputs) == 75
    assert encoder.width(Modality.AUDIO) == 16
    assert not encoder.is_loaded and not list(encoder.parameters())
    assert Hubert(checkpoint, tokens="pooled").token_count(Modality.AUDIO, inputs) == 1


@pytest.mark.parametrize("tokens", ["frame", "pooled"])
@torch.no_grad()
def test_equals_the_librarys_model_on_each_recording_alone(checkpoint: Path, tokens: Any) -> None:
    encoder = Hubert(checkpoint, tokens, seconds=0.5)
    features = encoder(Modality.AUDIO, stacked(encoder, MEDIA))
    counts = [encoder.token_count(Modality.AUDIO, encoder.preprocess(medium)) for medium in MEDIA]
    assert features.mask.sum(1).tolist() == counts and features.tokens.shape == (4, max(counts), 16)
    model = HubertModel.from_pretrained(checkpoint, local_files_only=True).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(checkpoint, local_files_only=True)
    for row, mask, medium in zip(features.tokens, features.mask, MEDIA, strict=True):
        values = extractor(medium.array, sampling_rate=16000, return_tensors="pt")["input_values"]
        alone = model(values).last_hidden_state[0]
        expected = alone.mean(0, keepdim=True) if tokens == "pooled" else alone
        torch.testing.assert_close(row[mask], expected, atol=1e-5, rtol=1e-4)
    assert not features.tokens.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters()) and not encoder.model.training


def test_whether_recordings_are_grouped_by_length_is_known(tmp_path: Path) -> None:
    for norm, sizes in (("group", BASE), ("layer", LARGE)):
        save(tmp_path / norm, HubertModel, Wav2Vec2FeatureExtractor(), **sizes)
        assert Hubert(tmp_path / norm).passes_vary == (norm == "group")


@torch.no_grad()
def test_equals_the_librarys_padded_batch(tmp_path: Path) -> None:
    save(tmp_path, HubertModel, Wav2Vec2FeatureExtractor(return_attention_mask=True), **LARGE)
    encoder = Hubert(tmp_path, seconds=0.5)
    features = encoder(Modality.AUDIO, stacked(encoder, MEDIA))
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path, local_files_only=True)
    batch = extractor([medium.array for medium in MEDIA], padding=True, sampling_rate=16000, return_tensors="pt")
    model = HubertModel.from_pretrained(tmp_path, local_files_only=True).eval()
    expected = model(**batch).last_hidden_state
    torch.testing.assert_close(features.tokens[features.mask], expected[features.mask], atol=1e-5, rtol=1e-4)


def test_a_fine_tuned_checkpoints_head_is_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, HubertForCTC, Wav2Vec2FeatureExtractor(), **BASE)
    capfd.readouterr()
    encoder = Hubert(tmp_path, seconds=0.5)
    found = encoder(Modality.AUDIO, stacked(encoder, MEDIA[:1])).tokens
    assert not any("lm_head" in key for key in encoder.state_dict())
    output = capfd.readouterr()
    assert "UNEXPECTED" not in output.out + output.err
    inner = HubertForCTC.from_pretrained(tmp_path, local_files_only=True).eval().hubert
    values = encoder.extractor(MEDIA[0].array, sampling_rate=16000, return_tensors="pt")["input_values"]
    with torch.no_grad():
        torch.testing.assert_close(found, inner(values).last_hidden_state, atol=1e-5, rtol=1e-4)


def test_half_precision(checkpoint: Path) -> None:
    encoder = Hubert(checkpoint, seconds=0.5)
    inputs = stacked(encoder, MEDIA)
    full = encoder(Modality.AUDIO, inputs)
    half = encoder.to(torch.bfloat16)(Modality.AUDIO, inputs)
    assert half.tokens.dtype is torch.bfloat16
    torch.testing.assert_close(half.tokens[half.mask].float(), full.tokens[full.mask], atol=0.2, rtol=0)


def test_longer_recordings_are_cut_and_other_rates_resampled(checkpoint: Path) -> None:
    encoder = Hubert(checkpoint, seconds=0.25)
    assert torch.equal(
        encoder.preprocess(MEDIA[1])["waveform"],
        encoder.preprocess(Media(Modality.AUDIO, MEDIA[1].array[:4000], rate=16000.0))["waveform"],
    )
    tones = []
    for rate in (16000, 48000):
        tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(rate // 5) / rate)
        inputs = encoder.preprocess(Media(Modality.AUDIO, tone.astype(np.float32), rate=float(rate)))
        assert inputs["sample_count"] == 3200
        tones.append(inputs["waveform"])
    torch.testing.assert_close(tones[0][100:3100], tones[1][100:3100], atol=0.02, rtol=0)


def test_media_that_cannot_be_used(checkpoint: Path) -> None:
    encoder = Hubert(checkpoint)
    assert encoder.token_count(Modality.AUDIO, encoder.preprocess(recording(FIELD))) == 1
    with pytest.raises(ValueError, match=rf"talk\.wav: audio of {FIELD - 1} samples at 16000 Hz; .* least {FIELD}"):
        encoder.preprocess(recording(FIELD - 1))
    with pytest.raises(ValueError, match="image: this encoder serves audio"):
        encoder.preprocess(Media(Modality.IMAGE, np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(ValueError, match=r"seconds: found 0\.0; expected at least"):
        Hubert(checkpoint, seconds=0.0)


def edited(checkpoint: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **changes}))
    return folder


def test_checkpoints_that_do_not_fit(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: found no such folder; expected .*hf download facebook/hubert"):
        Hubert(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="model_type: found 'wav2vec2'; expected 'hubert'"):
        Hubert(edited(checkpoint, tmp_path / "other", model_type="wav2vec2"))
    with pytest.raises(ValueError, match=r"\d+ missing: encoder\.layers\.2\."):
        Hubert(edited(checkpoint, tmp_path / "deep", num_hidden_layers=3)).load()
    with pytest.raises(ValueError, match=r"\d+ unexpected: encoder\.layers\.1\."):
        Hubert(edited(checkpoint, tmp_path / "shallow", num_hidden_layers=1)).load()
    with pytest.raises(ValueError, match="its weights can't be read as HubertModel"):
        Hubert(edited(checkpoint, tmp_path / "wide", intermediate_size=32)).load()
    WhisperFeatureExtractor().save_pretrained(edited(checkpoint, tmp_path / "ears"))
    with pytest.raises(ValueError, match="found 'WhisperFeatureExtractor'; expected 'Wav2Vec2FeatureExtractor'"):
        Hubert(tmp_path / "ears")
