"""The embedded tone generator: its parts, what was shipped, and that a short training writes a whole pipeline."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.generators.audio.audioldm import AudioLDM
from isthmus.pocket.experts.audio.audioldm import measure, train
from isthmus.pocket.experts.audio.audioldm_autoencoder import BINS, FRAMES, build_autoencoder, draw_tones, encoded
from isthmus.pocket.experts.audio.audioldm_text import (
    CONTEXT,
    NOTHING,
    WORDS,
    build_tokenizer,
    draw_caption,
    word_merges,
)
from isthmus.pocket.experts.audio.audioldm_vocoder import build_vocoder, spectral_loss
from isthmus.pocket.judges.audio import AudioJudge
from isthmus.pocket.world import DIGITS, SAMPLE_RATE, SAMPLES, Concept, draw
from isthmus.types import Media, Modality


@pytest.fixture(scope="module")
def shipped(repository: Path) -> AudioLDM:
    return AudioLDM(repository / "checkpoints" / "pocket" / "audioldm")


def test_every_word_is_one_token() -> None:
    tokenizer = build_tokenizer()
    for word in WORDS:
        assert tokenizer.tokenize(word) == [word]
        assert tokenizer.tokenize(f"the {word}")[1:] == [f"Ġ{word}"]
    ids = tokenizer("the tone of seven").input_ids
    assert len(ids) == 6
    assert ids[0] == tokenizer.bos_token_id == 0
    assert ids[-1] == tokenizer.eos_token_id == 2
    assert tokenizer.pad_token_id == 1
    assert len(set(tokenizer.get_vocab().values())) == len(tokenizer)


@given(st.text(max_size=20))
def test_any_text_survives_the_tokenizer(text: str) -> None:
    tokenizer = build_tokenizer()
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@given(st.lists(st.text("aeont", min_size=1, max_size=6), max_size=12))
def test_merges_join_every_word_whatever_words_follow(words: list[str]) -> None:
    merges = word_merges(words)
    for word in words:
        pieces = list(word)
        while pairs := [pair for pair in pairwise(pieces) if pair in merges]:
            best = min(pairs, key=merges.index)
            place = next(i for i in range(len(pieces) - 1) if (pieces[i], pieces[i + 1]) == best)
            pieces[place : place + 2] = ["".join(best)]
        assert pieces == [word]


def test_captions_and_classes_agree() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_caption(random) for _ in range(500)]
    tokenizer = build_tokenizer()
    for caption, label in drawn:
        named = [DIGITS.index(word) for word in caption.split() if word in DIGITS]
        assert named == ([] if label == NOTHING else [label])
        assert len(tokenizer(caption).input_ids) <= CONTEXT
    assert {label for _, label in drawn} == set(range(11))


def test_training_spectrograms_are_what_the_expert_prepares(shipped: AudioLDM) -> None:
    sounds, mels, digits = draw_tones(6, "test", 0)
    assert (shipped.frames, shipped.bins, shipped.seconds) == (FRAMES, BINS, SAMPLES / SAMPLE_RATE)
    for sound, mel in zip(sounds, mels, strict=True):
        for level in (1.0, 0.3):
            medium = Media(Modality.AUDIO, (sound * level).numpy(), rate=float(SAMPLE_RATE))
            assert torch.allclose(shipped.prepare(medium)["log_mel"][0], mel, atol=1e-4)
    media = [Media(Modality.AUDIO, sound.numpy(), rate=float(SAMPLE_RATE)) for sound in sounds]
    assert [reading["digit"] for reading in AudioJudge().many(media)] == digits.tolist()


def test_splits_of_tones_differ() -> None:
    waves = {split: draw_tones(2, split, 0)[0] for split in ("train", "validation", "test")}
    assert not torch.equal(waves["train"], waves["test"])
    assert not torch.equal(waves["validation"], waves["test"])
    assert torch.equal(waves["train"], draw_tones(2, "train", 0)[0])


def test_an_untrained_autoencoder_starts_at_the_spectrograms_level() -> None:
    _, mels, _ = draw_tones(8, "train", 0)
    vae = build_autoencoder(mels)
    with torch.no_grad():
        means, _ = encoded(vae, mels)
        hidden = vae.encoder.conv_in(mels[:, None])[:, :, 1:-1, 1:-1]
        made = vae.decode(means).sample
    assert abs(float(hidden.mean())) < 0.3
    assert float((made - mels[:, None]).abs().mean() / mels.std()) < 1.5


def test_an_untrained_vocoder_has_the_right_length_and_passes_gradients() -> None:
    sounds, mels, _ = draw_tones(2, "train", 0)
    vocoder = build_vocoder(mels)
    made = vocoder(mels)
    assert made.shape == sounds.shape
    spectral_loss(made, sounds).backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in vocoder.parameters())


def test_spectral_loss_is_zero_for_the_same_and_deaf_to_sign() -> None:
    sounds, _, _ = draw_tones(2, "train", 0)
    assert float(spectral_loss(sounds, sounds)) == 0.0
    assert float(spectral_loss(-sounds, sounds)) < 1e-4
    assert float(spectral_loss(sounds.flip(0), sounds)) > 0.5


def test_embeddings_tell_the_digits_apart_and_nothing_else(shipped: AudioLDM) -> None:
    captions = [f"the tone of {word}" for word in DIGITS]
    spoken = shipped.condition(captions).tokens[:, 0]
    assert shipped.condition_shape == (1, spoken.shape[1])
    assert torch.allclose(spoken.norm(dim=1), torch.ones(10), atol=1e-5)
    cosines = spoken @ spoken.T - 2 * torch.eye(10)
    assert float(cosines.max()) < 0.3
    other = shipped.condition([f"a red {word} moving left" for word in DIGITS]).tokens[:, 0]
    assert float((other * spoken).sum(1).min()) > 0.9
    empty = shipped.condition([""]).tokens[:, 0]
    assert float((empty @ spoken.T).max()) < 0.3


def test_shipped_latents_have_unit_deviation(shipped: AudioLDM) -> None:
    shipped.load()
    _, mels, _ = draw_tones(40, "test", 0)
    means, deviations = encoded(shipped.vae, mels)
    total = (means.var() + deviations.square().mean()).sqrt() * shipped.vae.config.scaling_factor
    assert 0.9 < float(total) < 1.1


def test_shipped_pipeline_makes_the_tones_it_is_asked_for(shipped: AudioLDM) -> None:
    asked = [*range(10)] * 3
    condition = shipped.condition([Concept(digit).caption(Modality.AUDIO) for digit in asked])
    made = shipped.generate(condition, seeds=range(30))
    assert all(medium.array.shape == (SAMPLES,) and medium.rate == SAMPLE_RATE for medium in made)
    right = [reading["digit"] == digit for reading, digit in zip(AudioJudge().many(made), asked, strict=True)]
    assert np.mean(right) >= 0.95


def test_shipped_denoiser_prefers_the_true_caption(shipped: AudioLDM) -> None:
    media = [draw(Modality.AUDIO, Concept(digit), "test", np.random.default_rng(digit)) for digit in range(10)] * 2
    content = {"log_mel": torch.stack([shipped.prepare(medium)["log_mel"] for medium in media])}
    seeds = torch.arange(20)
    true, wrong = (
        shipped.denoising_loss(
            content, shipped.condition([f"the tone of {DIGITS[(i + by) % 10]}" for i in range(20)]), seeds
        )
        for by in (0, 3)
    )
    assert float(true.mean()) < 0.8 * float(wrong.mean())


def test_a_short_training_writes_a_pipeline(tmp_path: Path) -> None:
    figures = train(tmp_path / "pipeline", effort=0.001)
    assert set(figures) == {"genuine", "vocoder", "autoencoder", "generated"}
    assert figures["genuine"] == 1.0
    again = measure(tmp_path / "pipeline", count=10)
    assert again == figures
    made = AudioLDM(tmp_path / "pipeline")
    media = made.generate(made.condition(["the tone of two"]), seeds=[0], num_inference_steps=2)
    assert media[0].array.shape == (SAMPLES,)
