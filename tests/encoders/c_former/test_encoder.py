"""The C-Former expert: tokens that the content decides, each recording on its own; its losses, faults and batches."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.encoders.c_former.encoder import SAMPLE_RATE, CFormer, speech_banks
from isthmus.encoders.c_former.losses import speech_losses
from isthmus.encoders.c_former.model import CFormerConfig, CFormerModel, frame_counts
from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.frozen import shapes_only
from isthmus.types import Media, Modality

CONFIG = CFormerConfig(
    bins=16, bank_mean=-9.0, bank_deviation=4.0, width=16, layers=2, heads=2, feed_forward=24, kernel=5, channels=4,
    pieces=("a", "b", "c"),
)  # fmt: skip
WINDOW = 400
SAMPLES = (8000, 3000, 400, 12345)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, in which each weight and statistic matters."""
    folder = tmp_path_factory.mktemp("c_former")
    torch.manual_seed(5)
    model = CFormerModel(CONFIG)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) if name.endswith("running_var") else torch.randn_like(tensor) * 0.1)
    save_checkpoint(folder, "c_former", CONFIG, model.state_dict())
    return folder


def recording(samples: int, rate: float = SAMPLE_RATE, seed: int = 0) -> Media:
    noise = np.random.default_rng(seed).normal(size=samples) * np.linspace(0.001, 0.3, samples)
    return Media(Modality.AUDIO, noise.astype(np.float32), rate=rate, source="talk.wav")


MEDIA = [recording(samples, seed=seed) for seed, samples in enumerate(SAMPLES)]


def stacked(encoder: CFormer, media: list[Media]) -> dict[str, Tensor]:
    inputs = [encoder.preprocess(medium) for medium in media]
    return {key: torch.stack([one[key] for one in inputs]) for key in inputs[0]}


def test_sizes_are_known_before_weights(checkpoint: Path) -> None:
    encoder = pickle.loads(pickle.dumps(CFormer(checkpoint, seconds=1.0)))  # as a data worker receives it
    inputs = encoder.preprocess(MEDIA[0])
    assert inputs["banks"].shape == (98, 16) and inputs["count"] == 48
    assert not inputs["banks"][48:].any()
    assert encoder.token_count(Modality.AUDIO, inputs) == 12 and encoder.counts_are_bounds
    assert CFormer(checkpoint, max_tokens=5).token_count(Modality.AUDIO, inputs) == 5
    pooled = CFormer(checkpoint, tokens="pooled")
    assert pooled.token_count(Modality.AUDIO, inputs) == 1 and not pooled.counts_are_bounds
    assert encoder.width(Modality.AUDIO) == 16
    assert not encoder.is_loaded and not list(encoder.parameters())


def test_a_recordings_tokens_are_those_that_it_has_alone(checkpoint: Path) -> None:
    encoder = CFormer(checkpoint, seconds=1.0)
    inputs = stacked(encoder, MEDIA)
    features = encoder(Modality.AUDIO, inputs)
    counts = features.mask.sum(1).tolist()
    assert len(set(counts)) > 1 and min(counts) >= 1
    for row, medium in enumerate(MEDIA):
        alone = encoder(Modality.AUDIO, stacked(encoder, [medium]))
        assert alone.mask.all() and alone.tokens.shape[1] == counts[row]
        assert counts[row] <= encoder.token_count(Modality.AUDIO, encoder.preprocess(medium))
        found = features.tokens[row][features.mask[row]]
        torch.testing.assert_close(found, alone.tokens[0], atol=1e-5, rtol=1e-4)
        longer = CFormer(checkpoint, seconds=2.0)
        torch.testing.assert_close(
            found, longer(Modality.AUDIO, stacked(longer, [medium])).tokens[0], atol=1e-5, rtol=1e-4
        )
    assert not features.tokens[~features.mask].any()
    inputs["banks"] = torch.where(
        torch.arange(98)[:, None] < inputs["count"][:, None, None], inputs["banks"], torch.nan
    )
    torch.testing.assert_close(encoder(Modality.AUDIO, inputs).tokens, features.tokens, equal_nan=False)
    assert not features.tokens.requires_grad and not encoder.model.training


@torch.no_grad()
def test_tokens_are_the_frames_by_their_weights(checkpoint: Path) -> None:
    """Frames from the library's own class without padding; tokens by a plain loop."""
    encoder = CFormer(checkpoint, seconds=1.0)
    found = encoder(Modality.AUDIO, stacked(encoder, MEDIA[:1])).tokens[0]
    model = encoder.model
    banks = torch.from_numpy(speech_banks(MEDIA[0].array, CONFIG))[None]
    frames = model.speech_encoder(input_features=banks).last_hidden_state[0]
    conv = model.cif.conv(frames.T).T
    weights = torch.sigmoid(conv @ model.cif.weight_proj.weight[0] + model.cif.weight_proj.bias)
    sum_, state, expected = torch.zeros(()), torch.zeros(16), []
    for frame, weight in zip(frames, weights, strict=True):
        fires = sum_ + weight >= 0.99
        if fires:
            expected.append(state + (1 - sum_) * frame)
        sum_ = sum_ + weight - float(fires)
        state = sum_ * frame if fires else state + weight * frame
    if sum_ > 0.5:
        expected.append(state / sum_)
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-4)


def test_more_than_the_most_tokens_are_cut(checkpoint: Path) -> None:
    encoder, short = CFormer(checkpoint, seconds=1.0), CFormer(checkpoint, seconds=1.0, max_tokens=2)
    inputs = stacked(encoder, MEDIA)
    features = short(Modality.AUDIO, inputs)
    assert features.tokens.shape[1] == 2 and features.mask.sum(1).tolist() == [2, 2, 1, 2]
    torch.testing.assert_close(features.tokens, encoder(Modality.AUDIO, inputs).tokens[:, :2])


def test_pooled_is_the_mean_of_the_tokens(checkpoint: Path) -> None:
    encoder, pooled = CFormer(checkpoint), CFormer(checkpoint, tokens="pooled")
    inputs = stacked(encoder, MEDIA)
    features, means = encoder(Modality.AUDIO, inputs), pooled(Modality.AUDIO, inputs)
    assert means.tokens.shape == (4, 1, 16) and means.mask.all()
    for row in range(4):
        torch.testing.assert_close(means.tokens[row, 0], features.tokens[row][features.mask[row]].mean(0))


def test_transcripts_are_the_heads_reading(checkpoint: Path) -> None:
    encoder = CFormer(checkpoint)
    inputs = stacked(encoder, MEDIA)
    read = encoder.transcribe(inputs)
    features = encoder(Modality.AUDIO, inputs)
    assert [len(row) for row in read] == features.mask.sum(1).tolist()
    best = encoder.model.token_head(features.tokens).argmax(-1)
    assert [[CONFIG.pieces[p] for p in row[mask]] for row, mask in zip(best, features.mask, strict=True)] == read


def test_frame_counts_are_the_conformers() -> None:
    encoder = CFormerModel(CONFIG).speech_encoder
    lengths = torch.arange(1, 40)
    assert torch.equal(frame_counts(lengths), encoder._get_subsampling_output_length(lengths).long())


def test_default_sizes_are_x_llms() -> None:
    with torch.device("meta"):
        model = CFormerModel(CFormerConfig())
    assert model.cif.weight_proj.in_features == 512 and len(model.speech_encoder.layers) == 12
    # Blocks: two feed-forwards, attention with its positions, convolution, five norms; 6.3M each.
    block = 2 * (2 * 512 * 2048 + 2048 + 512) + 5 * 512 * 512 + 4 * 512 + 2 * 512
    block += 512 * 1024 + 1024 + 512 * 31 + 512 + 2 * 512 + 512 * 512 + 512 + 5 * 2 * 512
    assert sum(p.numel() for p in model.speech_encoder.layers.parameters()) == 12 * block


def test_half_precision(checkpoint: Path) -> None:
    encoder = CFormer(checkpoint, seconds=1.0)
    inputs = stacked(encoder, MEDIA)
    full = encoder(Modality.AUDIO, inputs)
    half = encoder.to(torch.bfloat16)(Modality.AUDIO, inputs)
    assert half.tokens.dtype is torch.bfloat16
    # Rounded weights may fire one token more or less, and each a little sooner or later.
    assert (half.mask.sum(1) - full.mask.sum(1)).abs().max() <= 1
    torch.testing.assert_close(half.tokens[:, 0].float(), full.tokens[:, 0], atol=0.2, rtol=0)


def test_shapes_are_known_without_weights(checkpoint: Path) -> None:
    encoder, real = CFormer(checkpoint), CFormer(checkpoint)
    with shapes_only():
        encoder.load()
    real.load()
    assert all(tensor.is_meta for tensor in encoder.state_dict().values())
    assert {k: v.shape for k, v in encoder.state_dict().items()} == {k: v.shape for k, v in real.state_dict().items()}


# --- losses ---


def test_losses_are_their_definitions() -> None:
    torch.manual_seed(1)
    model = CFormerModel(replace(CONFIG, dropout=0.0)).eval()
    banks, mask = torch.randn(2, 60, 16), torch.arange(60) < torch.tensor([[60], [41]])
    pieces, lengths = torch.tensor([[0, 2, 2, 1], [1, 0, 7, 7]]), torch.tensor([4, 2])
    spoken = model(banks, mask, lengths)
    assert spoken.fired.mask.sum(1).tolist() == [4, 2]
    losses = speech_losses(spoken, pieces, lengths)
    logits = torch.cat([spoken.token_logits[0], spoken.token_logits[1, :2]])
    torch.testing.assert_close(losses.cross_entropy, F.cross_entropy(logits, torch.tensor([0, 2, 2, 1, 1, 0])))
    frames, shown = model.frames_of(banks, mask)
    quantity = (model.cif.weights(frames, shown).sum(1) - lengths).abs().mean()
    torch.testing.assert_close(losses.quantity, quantity)
    ctc = [
        F.ctc_loss(spoken.frame_logits[row, :frame].log_softmax(-1)[:, None], said[None] + 1, (frame,), (len(said),))
        for row, (frame, said) in enumerate([(15, pieces[0]), (11, pieces[1, :2])])
    ]
    torch.testing.assert_close(losses.ctc, torch.stack(ctc).mean())
    torch.testing.assert_close(losses.total, losses.cross_entropy + losses.quantity + 0.25 * losses.ctc)
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_recording_too_short_for_its_text_has_finite_losses() -> None:
    model = CFormerModel(CONFIG).eval()
    banks, mask = torch.randn(1, 6, 16), torch.ones(1, 6, dtype=torch.bool)
    pieces, lengths = torch.zeros(1, 5, dtype=torch.int64), torch.tensor([5])
    losses = speech_losses(model(banks, mask, lengths), pieces, lengths)
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


# --- faults ---


def edited(checkpoint: Path, folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    (folder / "config.json").write_text(json.dumps({"c_former": asdict(CONFIG) | changes}))
    return folder


def test_checkpoints_that_do_not_fit(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: no such checkpoint"):
        CFormer(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"config\.json: kernel: found 4; expected an odd number"):
        CFormer(edited(checkpoint, tmp_path / "even", kernel=4))
    with pytest.raises(ValueError, match=r"width: found 16; expected an even multiple of heads, 3"):
        CFormer(edited(checkpoint, tmp_path / "heads", heads=3))
    with pytest.raises(ValueError, match=r"layers: found 0; expected at least 1"):
        CFormer(edited(checkpoint, tmp_path / "none", layers=0))
    with pytest.raises(ValueError, match=r"dropout 1\.5; expected"):
        CFormer(edited(checkpoint, tmp_path / "dropout", dropout=1.5))
    with pytest.raises(ValueError, match=r"pieces: found \[\]; expected one string or more"):
        CFormer(edited(checkpoint, tmp_path / "pieces", pieces=[]))
    with pytest.raises(ValueError, match=r"missing: speech_encoder\.layers\.2\."):
        CFormer(edited(checkpoint, tmp_path / "deep", layers=3)).load()
    with pytest.raises(ValueError, match=r"2 differing: token_head\.bias \(3,\) instead of \(2,\)|4 differing"):
        CFormer(edited(checkpoint, tmp_path / "fewer", pieces=["a", "b"])).load()


def test_media_and_choices_that_cannot_be_used(checkpoint: Path) -> None:
    encoder = CFormer(checkpoint)
    assert encoder.token_count(Modality.AUDIO, encoder.preprocess(recording(WINDOW))) == 1
    with pytest.raises(ValueError, match=r"talk\.wav: audio of 399 samples at 16000 Hz; expected at least 400"):
        encoder.preprocess(recording(WINDOW - 1))
    with pytest.raises(ValueError, match="image: this encoder serves audio"):
        encoder.preprocess(Media(Modality.IMAGE, np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(ValueError, match="max_tokens: found 0; expected at least 1"):
        CFormer(checkpoint, max_tokens=0)
