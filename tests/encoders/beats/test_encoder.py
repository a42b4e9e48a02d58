"""The BEATs expert: published files, recordings of different lengths, and its refusals."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus.data.media.audio.files import resample
from isthmus.encoders.beats.config import FIXED, BeatsConfig
from isthmus.encoders.beats.encoder import BANK_MEAN, BANK_SCALE, FULL_SCALE, SAMPLE_RATE, Beats, beats_banks
from isthmus.encoders.beats.model import BeatsModel
from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.encoders.mel import POVEY
from isthmus.types import Media, Modality

SMALL = BeatsConfig(
    encoder_layers=2, encoder_embed_dim=16, encoder_ffn_embed_dim=24, encoder_attention_heads=2, embed_dim=8,
    conv_pos=6, conv_pos_groups=4, num_buckets=8, max_distance=20,
)  # fmt: skip
UNREAD = {"dropout": 0.0, "encoder_layerdrop": 0.05, "dropout_input": 0.0, "layer_wise_gradient_decay_ratio": 0.6}


def cfg_of(config: BeatsConfig, **changes: Any) -> dict[str, Any]:
    """A published file's ``cfg``: sizes, what all have in common, and what only training reads."""
    sizes = dataclasses.asdict(config)
    if not config.finetuned_model:
        del sizes["predictor_class"]
    return {**sizes, **FIXED, **UNREAD, **changes}


def weights_of(config: BeatsConfig, seed: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return BeatsModel(config).state_dict()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file in the published nesting."""
    file = tmp_path_factory.mktemp("beats") / "BEATs_small.pt"
    torch.save({"cfg": cfg_of(SMALL), "model": weights_of(SMALL)}, file)
    return file


def recording(seconds: float, rate: float = SAMPLE_RATE, seed: int = 0) -> Media:
    samples = np.random.default_rng(seed).normal(size=int(seconds * rate)) * 0.1
    return Media(Modality.AUDIO, samples.astype(np.float32), rate=rate, source="rain.wav")


def stacked(encoder: Beats, media: list[Media]) -> dict[str, Tensor]:
    inputs = [encoder.preprocess(medium) for medium in media]
    return {key: torch.stack([one[key] for one in inputs]) for key in inputs[0]}


def test_constants() -> None:
    assert (BANK_MEAN, BANK_SCALE, FULL_SCALE, SAMPLE_RATE, POVEY) == (15.41663, 13.11164, 32768, 16000, 0.85)


def test_sizes_are_known_before_weights(checkpoint: Path) -> None:
    encoder = Beats(checkpoint, seconds=1.0)
    encoder = pickle.loads(pickle.dumps(encoder))  # as a data worker receives it
    short, long = (encoder.preprocess(recording(seconds)) for seconds in (0.5, 0.9))
    assert not encoder.is_loaded and not list(encoder.parameters())
    assert encoder.width(Modality.AUDIO) == 16
    # 48 and 88 frames: 3 and 5 rows of 8 patches, of the 6 rows in 98 frames
    assert [encoder.token_count(Modality.AUDIO, inputs) for inputs in (short, long)] == [24, 40]
    assert short["banks"].shape == long["banks"].shape == (96, 128)
    assert Beats(checkpoint, tokens="pooled").token_count(Modality.AUDIO, short) == 1


@pytest.mark.parametrize("tokens", ["frame", "pooled"])
@torch.no_grad()
def test_a_recording_gives_what_it_gives_alone_and_unpadded(checkpoint: Path, tokens: Any) -> None:
    encoder = Beats(checkpoint, tokens, seconds=2.0)
    model = BeatsModel(SMALL).eval()
    model.load_state_dict(weights_of(SMALL))
    media = [recording(seconds, seed=index) for index, seconds in enumerate((0.5, 1.3, 0.2))]
    features = encoder(Modality.AUDIO, stacked(encoder, media))
    counts = [encoder.token_count(Modality.AUDIO, encoder.preprocess(medium)) for medium in media]
    assert features.mask.sum(1).tolist() == counts and features.tokens.shape == (3, max(counts), 16)
    for row, mask, medium in zip(features.tokens, features.mask, media, strict=True):
        alone = model(torch.from_numpy(beats_banks(medium.array))[None])[0][0]
        expected = alone.mean(0, keepdim=True) if tokens == "pooled" else alone
        torch.testing.assert_close(row[mask], expected, atol=1e-5, rtol=1e-4)
    assert not features.tokens.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_the_goldens_features_through_the_expert(
    tmp_path: Path, golden_file: Callable[[str], Any], assert_close: Callable[[Tensor, Tensor, str], None]
) -> None:
    golden = golden_file("beats_finetuned")
    state = golden_file("beats").state
    head = {key: value for key, value in golden.state.items() if key.startswith("predictor.")}
    file = tmp_path / "finetuned.pt"
    torch.save({"cfg": golden.about["config"], "model": {**state, **head}, "label_dict": {0: "/m/09x0r"}}, file)
    encoder = Beats(file, seconds=5.0)  # twice the stored recordings
    waveforms = golden_file("beats").inputs["waveform"].numpy()
    media = [Media(Modality.AUDIO, waveform, rate=16000.0) for waveform in waveforms]
    features = encoder(Modality.AUDIO, stacked(encoder, media))
    assert_close(features.tokens, golden_file("beats").outputs["pre.features"], "features")
    assert "predictor.weight" not in encoder.model.state_dict()


def test_other_rates_are_resampled(checkpoint: Path) -> None:
    encoder = Beats(checkpoint, seconds=1.0)
    medium = recording(0.5, rate=44100.0)
    found, expected = (encoder.preprocess(one) for one in (medium, resample(medium, SAMPLE_RATE)))
    assert found["row_count"] == expected["row_count"] == 3
    torch.testing.assert_close(found["banks"], expected["banks"], atol=1e-3, rtol=0)


def test_longer_recordings_are_cut(checkpoint: Path) -> None:
    encoder = Beats(checkpoint, seconds=0.5)
    long = recording(0.8)
    cut = Media(Modality.AUDIO, long.array[:8000], rate=16000.0)
    assert torch.equal(encoder.preprocess(long)["banks"], encoder.preprocess(cut)["banks"])


def test_a_folder_is_as_good_as_a_file(checkpoint: Path, tmp_path: Path) -> None:
    separate = {key: value.clone() for key, value in weights_of(SMALL).items()}
    save_checkpoint(tmp_path / "safe", "beats", SMALL, separate)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "weights.pt").symlink_to(checkpoint)
    found = []
    for path in (checkpoint, tmp_path / "safe", tmp_path / "plain"):
        encoder = Beats(path, seconds=0.5)
        found.append(encoder(Modality.AUDIO, stacked(encoder, [recording(0.5)])).tokens)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_half_precision(checkpoint: Path) -> None:
    encoder = Beats(checkpoint, seconds=0.5)
    inputs = stacked(encoder, [recording(0.5), recording(0.3)])
    full = encoder(Modality.AUDIO, inputs)
    half = encoder.to(torch.bfloat16)(Modality.AUDIO, inputs)
    assert half.tokens.dtype is torch.bfloat16
    torch.testing.assert_close(half.tokens[half.mask].float(), full.tokens[full.mask], atol=0.1, rtol=0)


def test_media_that_cannot_be_used(checkpoint: Path) -> None:
    encoder = Beats(checkpoint)
    assert encoder.token_count(Modality.AUDIO, encoder.preprocess(recording(2800 / 16000))) == 8
    with pytest.raises(ValueError, match=r"rain\.wav: audio of 2799 samples at 16000 Hz; expected at least 2800, 175"):
        encoder.preprocess(recording(2799 / 16000))
    with pytest.raises(ValueError, match=r"nan\.wav: audio holds values that aren't finite"):
        encoder.preprocess(Media(Modality.AUDIO, np.full(9000, np.nan, np.float32), rate=16000.0, source="nan.wav"))
    image = Media(Modality.IMAGE, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="image: this encoder serves audio"):
        encoder.preprocess(image)
    with pytest.raises(ValueError, match="video: this encoder serves audio"):
        encoder.width(Modality.VIDEO)


def test_unknown_choices(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="tokens: found 'all'"):
        Beats(checkpoint, tokens="all")
    with pytest.raises(ValueError, match=r"seconds: found 0\.1; expected at least 0\.175"):
        Beats(checkpoint, seconds=0.1)
    with pytest.raises(ValueError, match="seconds: found inf"):
        Beats(checkpoint, seconds=float("inf"))


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ({"state_dict": {"a": torch.ones(1)}}, "found 'state_dict'; expected BEATs' 'cfg' and 'model'"),
        ([torch.ones(1)], "found a list; expected BEATs'"),
        ({"model": {}}, "cfg: found NoneType"),
        ({"cfg": {"encoder_layers": 12}, "model": {}}, "cfg.activation_fn: found None; expected 'gelu'"),
        ({"cfg": cfg_of(SMALL, layer_norm_first=True), "model": {}}, "cfg.layer_norm_first: found True"),
        ({"cfg": cfg_of(SMALL, deep_norm=False), "model": {}}, "cfg.deep_norm: found False"),
        ({"cfg": cfg_of(SMALL, conv_pos="128"), "model": {}}, "cfg.conv_pos: found '128'; expected int"),
        ({"cfg": cfg_of(SMALL, conv_pos_groups=5), "model": {}}, "cfg.encoder_embed_dim 16: expected a multiple"),
        ({"cfg": cfg_of(SMALL, finetuned_model=True), "model": {}}, "cfg.predictor_class: found None"),
    ],
)
def test_files_of_other_models(tmp_path: Path, stored: Any, named: str) -> None:
    torch.save(stored, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=rf"other\.pt: {named}"):
        Beats(tmp_path / "other.pt")


def without(weights: dict[str, Tensor]) -> None:
    del weights["encoder.layers.1.fc1.bias"]


def with_one_more(weights: dict[str, Tensor]) -> None:
    weights["encoder.layers.2.fc1.bias"] = torch.ones(1)


def of_another_width(weights: dict[str, Tensor]) -> None:
    weights["layer_norm.bias"] = torch.ones(5)


def with_two_tables(weights: dict[str, Tensor]) -> None:
    key = "encoder.layers.1.self_attn.relative_attention_bias.weight"
    weights[key] = weights[key] + 1


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (without, r"1 missing: encoder\.layers\.1\.fc1\.bias"),
        (with_one_more, r"1 unexpected: encoder\.layers\.2\.fc1\.bias"),
        (of_another_width, r"1 differing: layer_norm\.bias \(5,\) instead of \(8,\)"),
        (with_two_tables, "relative_attention_bias differs from layer to layer"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, spoil: Callable[[dict[str, Tensor]], None], named: str) -> None:
    weights = dict(weights_of(SMALL))
    spoil(weights)
    torch.save({"cfg": cfg_of(SMALL), "model": weights}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=rf"weights\.pt: .*{named}"):
        Beats(tmp_path / "weights.pt").load()


def test_a_file_that_is_not_there_yet_is_taken_for_the_published_one(tmp_path: Path) -> None:
    encoder = Beats(tmp_path / "BEATs_iter3_plus_AS2M.pt")
    assert encoder.width(Modality.AUDIO) == 768
    with pytest.raises(ValueError, match=r"BEATs_iter3_plus_AS2M\.pt: weights files found: none"):
        encoder.load()
