"""The Whisper expert: equal to the library's own encoder, and its refusals."""

from __future__ import annotations

import json
import pickle
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    HubertConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperModel,
    WhisperProcessor,
)

from isthmus.encoders.speech.whisper import Whisper
from isthmus.types import Media, Modality

SMALL = WhisperConfig(
    d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24, decoder_layers=1,
    decoder_attention_heads=2, decoder_ffn_dim=24, num_mel_bins=8, vocab_size=20, max_source_positions=50,
    max_target_positions=4, pad_token_id=1, bos_token_id=1, eos_token_id=1, decoder_start_token_id=1,
    suppress_tokens=None, begin_suppress_tokens=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def whole() -> WhisperForConditionalGeneration:
    """A small model with its decoder; what starts at 0 or 1 is drawn too, so that each weight matters."""
    torch.manual_seed(5)
    model = WhisperForConditionalGeneration(SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, whole: WhisperForConditionalGeneration) -> Path:
    """The whole model's folder, which hears one second."""
    folder = tmp_path_factory.mktemp("whisper")
    whole.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)
    return folder


def recording(seconds: float, rate: float = 16000.0, seed: int = 0) -> Media:
    samples = np.random.default_rng(seed).normal(size=round(seconds * rate)) * 0.1
    return Media(Modality.AUDIO, samples.astype(np.float32), rate=rate, source="talk.wav")


MEDIA = [recording(0.5), recording(1.4, seed=1), recording(0.101, seed=2)]


def stacked(encoder: Whisper, media: list[Media]) -> dict[str, Tensor]:
    inputs = [encoder.preprocess(medium) for medium in media]
    return {key: torch.stack([one[key] for one in inputs]) for key in inputs[0]}


def test_sizes_are_known_before_weights(checkpoint: Path) -> None:
    encoder = Whisper(checkpoint)
    encoder = pickle.loads(pickle.dumps(encoder))  # as a data worker receives it
    counts = [encoder.token_count(Modality.AUDIO, encoder.preprocess(medium)) for medium in MEDIA]
    assert counts == [25, 50, 6]  # 20 ms each, a begun one counts, and only one second is heard
    assert encoder.width(Modality.AUDIO) == 16
    assert not encoder.is_loaded and not list(encoder.parameters())
    pooled = Whisper(checkpoint, tokens="pooled")
    assert pooled.token_count(Modality.AUDIO, pooled.preprocess(MEDIA[0])) == 1


@torch.no_grad()
def test_equals_the_librarys_encoder(checkpoint: Path, whole: WhisperForConditionalGeneration) -> None:
    encoder = Whisper(checkpoint)
    features = encoder(Modality.AUDIO, stacked(encoder, MEDIA))
    extractor = WhisperFeatureExtractor.from_pretrained(checkpoint, local_files_only=True)
    expected = whole.model.encoder(
        extractor([medium.array for medium in MEDIA], sampling_rate=16000, return_tensors="pt")["input_features"]
    ).last_hidden_state
    torch.testing.assert_close(features.tokens, expected, atol=1e-5, rtol=1e-5)
    assert features.mask.sum(1).tolist() == [25, 50, 6]
    assert all(row == sorted(row, reverse=True) for row in features.mask.tolist())
    pooled = Whisper(checkpoint, tokens="pooled")(Modality.AUDIO, stacked(encoder, MEDIA))
    means = torch.stack([row[:count].mean(0) for row, count in zip(expected, (25, 50, 6), strict=True)])
    torch.testing.assert_close(pooled.tokens[:, 0], means, atol=1e-5, rtol=1e-5)
    assert pooled.mask.tolist() == [[True]] * 3


def test_tokens_end_with_the_batchs_longest(checkpoint: Path) -> None:
    encoder = Whisper(checkpoint)
    alone = encoder(Modality.AUDIO, stacked(encoder, MEDIA[:1]))
    beside = encoder(Modality.AUDIO, stacked(encoder, MEDIA))
    assert alone.tokens.shape == (1, 25, 16) and bool(alone.mask.all())
    torch.testing.assert_close(alone.tokens[0], beside.tokens[0, :25], atol=1e-5, rtol=1e-5)


def test_the_frames_that_are_masked_are_those_of_silence(checkpoint: Path) -> None:
    """The mask agrees with the library's own mask of feature frames, two of which make a token."""
    encoder = Whisper(checkpoint)
    extractor = WhisperFeatureExtractor.from_pretrained(checkpoint, local_files_only=True)
    for samples in (400, 401, 4799, 4800, 4801, 16000):
        medium = recording(samples / 16000)
        made = extractor(medium.array, sampling_rate=16000, return_attention_mask=True, return_tensors="pt")
        frames = int(made["attention_mask"].sum())
        assert encoder.token_count(Modality.AUDIO, encoder.preprocess(medium)) == -(-frames // 2)


def test_only_the_encoder_is_built_quietly(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoder = Whisper(checkpoint)
    encoder.load()
    assert not any("decoder" in key or "encoder_attn" in key for key in encoder.state_dict())
    assert not any(parameter.requires_grad for parameter in encoder.parameters()) and not encoder.model.training
    output = capfd.readouterr()
    assert "UNEXPECTED" not in output.out + output.err
    encoder.release()
    assert not encoder.state_dict()


def test_every_form_that_is_saved(checkpoint: Path, whole: WhisperForConditionalGeneration, tmp_path: Path) -> None:
    """Without the language-model head, in torch's format and in half precision, as some are published."""
    expected = Whisper(checkpoint)
    inputs = stacked(expected, MEDIA)
    inner = tmp_path / "inner"
    WhisperModel.from_pretrained(checkpoint, local_files_only=True).save_pretrained(inner)
    binary = tmp_path / "binary"
    binary.mkdir()
    stated = json.loads((checkpoint / "config.json").read_text())
    (binary / "config.json").write_text(json.dumps({**stated, "dtype": "float16"}))
    torch.save({key: value.half() for key, value in whole.state_dict().items()}, binary / "pytorch_model.bin")
    for folder, tolerance in ((inner, 1e-6), (binary, 1e-2)):
        shutil.copy(checkpoint / "preprocessor_config.json", folder)
        found = Whisper(folder)(Modality.AUDIO, inputs).tokens
        assert found.dtype is torch.float32
        torch.testing.assert_close(found, expected(Modality.AUDIO, inputs).tokens, atol=tolerance, rtol=tolerance)


def test_a_processors_folder(checkpoint: Path, tmp_path: Path) -> None:
    """Newer versions of the library save the feature extractor within the processor's file."""
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    recipe = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").unlink()
    content = {"feature_extractor": recipe, "processor_class": WhisperProcessor.__name__}
    (tmp_path / "processor_config.json").write_text(json.dumps(content))
    assert Whisper(tmp_path).extractor.nb_max_frames == 100


def test_half_precision(checkpoint: Path) -> None:
    encoder = Whisper(checkpoint)
    inputs = stacked(encoder, MEDIA)
    full = encoder(Modality.AUDIO, inputs).tokens
    half = encoder.to(torch.bfloat16)(Modality.AUDIO, inputs).tokens
    assert half.dtype is torch.bfloat16
    torch.testing.assert_close(half.float(), full, atol=0.1, rtol=0)


def test_media_that_cannot_be_used(checkpoint: Path) -> None:
    encoder = Whisper(checkpoint)
    with pytest.raises(ValueError, match=r"talk\.wav: audio of 399 samples at 16000 Hz; expected at least 400, 25 ms"):
        encoder.preprocess(recording(399 / 16000))
    with pytest.raises(ValueError, match="points: this encoder serves audio"):
        encoder.preprocess(Media(Modality.POINTS, np.zeros((4, 3), np.float32)))
    with pytest.raises(ValueError, match="tokens: found 'patch'"):
        Whisper(checkpoint, tokens="patch")


def test_other_rates_are_resampled(checkpoint: Path) -> None:
    """A tone, which is the same sound at any rate."""
    encoder = Whisper(checkpoint)
    images = []
    for rate in (16000, 44100):
        tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate)
        inputs = encoder.preprocess(Media(Modality.AUDIO, tone.astype(np.float32), rate=float(rate)))
        assert inputs["count"] == 25
        images.append(inputs["features"])
    torch.testing.assert_close(images[0][:, 3:45], images[1][:, 3:45], atol=0.05, rtol=0)


def edited(checkpoint: Path, folder: Path, name: str, **changes: Any) -> Path:
    shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **changes}))
    return folder


def test_folders_of_other_models(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: found no such folder; expected .*hf download openai/whisper"):
        Whisper(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"found a folder without config\.json"):
        Whisper(tmp_path)
    HubertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"config\.json: model_type: found 'hubert'; expected 'whisper'"):
        Whisper(tmp_path)
    SMALL.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"found no preprocessor_config\.json that can be read"):
        Whisper(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json can't be read"):
        Whisper(tmp_path)


def test_preprocessing_of_other_models(checkpoint: Path, tmp_path: Path) -> None:
    file = "preprocessor_config.json"
    with pytest.raises(ValueError, match="found 'Wav2Vec2FeatureExtractor'; expected 'WhisperFeatureExtractor'"):
        Whisper(edited(checkpoint, tmp_path / "a", file, feature_extractor_type="Wav2Vec2FeatureExtractor"))
    with pytest.raises(ValueError, match=r"nb_max_frames are \(8, 100\); .* are \(8, 200\)"):
        Whisper(edited(checkpoint, tmp_path / "b", "config.json", max_source_positions=100))
    with pytest.raises(ValueError, match=r"nb_max_frames are \(80, 100\); .* are \(8, 100\)"):
        Whisper(edited(checkpoint, tmp_path / "c", file, feature_size=80))


def test_weights_that_do_not_fit(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\d+ missing: layers\.2\."):
        Whisper(edited(checkpoint, tmp_path / "deep", "config.json", encoder_layers=3)).load()
    with pytest.raises(ValueError, match=r"\d+ unexpected: (model\.encoder\.)?layers\.1\."):
        Whisper(edited(checkpoint, tmp_path / "shallow", "config.json", encoder_layers=1)).load()
    with pytest.raises(ValueError, match="its weights can't be read as WhisperEncoder"):
        Whisper(edited(checkpoint, tmp_path / "wide", "config.json", encoder_ffn_dim=32)).load()
    broken = edited(checkpoint, tmp_path / "cut", "config.json")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ValueError, match="cut: its weights can't be read as WhisperEncoder"):
        Whisper(broken).load()
    weights.unlink()
    with pytest.raises(ValueError, match="cut: its weights can't be read as WhisperEncoder"):
        Whisper(broken).load()


def test_fewer_seconds_are_the_same_encoder_with_fewer_positions(
    checkpoint: Path, whole: WhisperForConditionalGeneration, tmp_path: Path
) -> None:
    """Equal to the library's encoder of a checkpoint that was cut by hand; a longer recording is cut."""
    encoder = Whisper(checkpoint, seconds=0.5)
    inputs = stacked(encoder, MEDIA)
    features = encoder(Modality.AUDIO, inputs)
    tokens, mask = features.tokens, features.mask
    config = WhisperConfig(**{**SMALL.to_dict(), "max_source_positions": 25})
    cut = WhisperModel(config).encoder.eval()
    state = whole.model.encoder.state_dict()
    cut.load_state_dict(state | {"embed_positions.weight": state["embed_positions.weight"][:25]})
    images = [encoder.extractor(m.array[:8000], sampling_rate=16000, return_tensors="pt") for m in MEDIA]
    assert images[0]["input_features"].shape[-1] == 50
    with torch.no_grad():
        expected = cut(torch.cat([one["input_features"] for one in images])).last_hidden_state
    assert (
        mask.sum(1).tolist()
        == [25, 25, 6]
        == [encoder.token_count(Modality.AUDIO, one) for one in (encoder.preprocess(medium) for medium in MEDIA)]
    )
    torch.testing.assert_close(tokens, expected)
    assert encoder.request(Modality.AUDIO).seconds == 0.5
    wrong = ((1.5, "expected at most 1, the length"), (0.001, "one token's worth"), ([0.5, 0.001], "one token's worth"))
    for seconds, said in (*wrong, ([], "found no length")):
        with pytest.raises(ValueError, match=said):
            Whisper(checkpoint, seconds=seconds)


def test_of_several_lengths_each_recording_is_read_at_the_shortest_that_holds_it(checkpoint: Path) -> None:
    encoder = Whisper(checkpoint, seconds=[1, 0.2, 0.5])
    assert encoder.passes_vary and not Whisper(checkpoint, seconds=1).passes_vary
    media = [recording(length, seed=at) for at, length in enumerate((0.5, 0.19, 0.9, 0.51, 0.2, 0.05))]
    features = encoder(Modality.AUDIO, stacked(encoder, media))
    for row, (medium, length) in enumerate(zip(media, (0.5, 0.2, 1.0, 1.0, 0.2, 0.2), strict=True)):
        alone = Whisper(checkpoint, seconds=length)
        expected = alone(Modality.AUDIO, stacked(alone, [medium])).tokens[0]
        assert (
            features.mask[row].sum() == len(expected) == encoder.token_count(Modality.AUDIO, encoder.preprocess(medium))
        )
        # The log-mel image is that of the longest length, cut: its last column looks beyond the recording otherwise.
        torch.testing.assert_close(features.tokens[row, : len(expected)], expected, rtol=1e-3, atol=1e-4)
    held = {id(own): own.numel() for own in encoder.parameters()}
    longest = {id(own) for own in encoder.model.parameters()}
    assert sum(held[own] for own in held.keys() - longest) == (10 + 25) * encoder.width(Modality.AUDIO), "positions"
    copied = deepcopy(encoder)
    with torch.no_grad():
        for own in copied.model.layers.parameters():
            own.zero_()
    again = encoder(Modality.AUDIO, stacked(encoder, media)).tokens
    torch.testing.assert_close(again, features.tokens, rtol=0, atol=0)
    assert not torch.equal(copied(Modality.AUDIO, stacked(copied, media)).tokens[1], features.tokens[1]), (
        "its own layers"
    )
    encoder.release()
    assert not list(encoder.parameters())
    torch.testing.assert_close(encoder(Modality.AUDIO, stacked(encoder, media)).tokens, features.tokens)
