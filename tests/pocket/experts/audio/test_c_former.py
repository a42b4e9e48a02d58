"""The embedded C-Former's training: what it is shown, what it saves, and that it learns to count and to name."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.encoders.c_former.encoder import CFormer
from isthmus.encoders.c_former.losses import speech_losses
from isthmus.encoders.c_former.model import CFormerModel
from isthmus.pocket.experts.audio import c_former
from isthmus.pocket.judges.audio import AudioJudge
from isthmus.pocket.world import SAMPLE_RATE, SAMPLES
from isthmus.types import Media, Modality

WORDS = st.lists(st.integers(0, 2), max_size=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The expert after two steps, and its figures."""
    folder = tmp_path_factory.mktemp("c_former")
    return folder, c_former.train(folder, effort=1e-3, seed=3)


# --- what it is shown ---


def test_a_number_is_its_keys_tones_in_order() -> None:
    digits = [3, 3, 0, 9, 7]
    media = c_former.dial(digits, "train", np.random.default_rng(1))
    assert 5 * SAMPLES <= len(media.array) <= c_former.SECONDS * SAMPLE_RATE and media.rate == SAMPLE_RATE
    loud = np.sqrt(np.convolve(media.array**2, np.full(400, 1 / 400), "same")) > 0.02
    edges = np.flatnonzero(np.diff(np.pad(loud.astype(int), 1)))
    parts = [Media(Modality.AUDIO, media.array[a:b], rate=media.rate) for a, b in edges.reshape(-1, 2)]
    assert [reading["digit"] for reading in AudioJudge().many(parts)] == digits


def test_length_does_not_tell_how_many_keys_there_are() -> None:
    random = np.random.default_rng(0)
    lengths = {keys: [len(c_former.dial([5] * keys, "train", random).array) for _ in range(40)] for keys in (2, 3, 4)}
    assert max(lengths[2]) > min(lengths[3]) and max(lengths[3]) > min(lengths[4])


def test_numbers_are_drawn_of_every_length() -> None:
    random = np.random.default_rng(0)
    numbers = [c_former.draw_number(random) for _ in range(500)]
    assert {len(number) for number in numbers} == {1, 2, 3, 4, 5}
    assert {digit for number in numbers for digit in number} == set(range(10))


def test_banks_are_those_that_the_expert_hears(trained: tuple[Path, dict[str, float]]) -> None:
    dialled = c_former.Dialled.drawn(c_former.CONFIG, 6, seed=3)
    random = np.random.default_rng(3)
    numbers = [c_former.draw_number(random) for _ in range(6)]
    mean, deviation = dialled.statistics()
    expert = CFormer(trained[0], seconds=c_former.SECONDS)
    for row, number in enumerate(numbers):
        media = c_former.dial(number, "train", random)
        inputs = expert.preprocess(media)
        count = int(inputs["count"])
        assert count == dialled.counts[row] and len(number) == dialled.lengths[row]
        assert dialled.digits[row].tolist() == number + [0] * (5 - len(number))
        raw = inputs["banks"][:count] * expert.config.bank_deviation + expert.config.bank_mean
        torch.testing.assert_close(raw, dialled.banks[row, :count], atol=1e-4, rtol=1e-4)
        assert not dialled.banks[row, count:].any()
    heard = torch.cat([row[:count] for row, count in zip(dialled.banks, dialled.counts, strict=True)])
    assert (mean, deviation) == (pytest.approx(float(heard.mean())), pytest.approx(float(heard.std())))


# --- what it learns and saves ---


def test_training_ends_in_a_checkpoint_that_the_encoder_reads(trained: tuple[Path, dict[str, float]]) -> None:
    folder, figures = trained
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    expert = CFormer(folder, seconds=c_former.SECONDS)
    assert expert.config.pieces == c_former.DIGITS and expert.config.bank_deviation > 0.5
    media = c_former.dial([1, 2, 3], "test", np.random.default_rng(0))
    inputs = {key: tensor[None] for key, tensor in expert.preprocess(media).items()}
    features = expert(Modality.AUDIO, inputs)
    assert features.mask.all() and features.tokens.isfinite().all()
    assert set(figures) == {"digit_error", "number_accuracy", "count_accuracy", "tone_accuracy"}
    assert figures == c_former.measure(folder, 50)


def test_training_is_repeatable(trained: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    c_former.train(tmp_path, effort=1e-3, seed=3)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (trained[0] / name).read_bytes()


def test_a_few_steps_learn_how_many_keys_there_are() -> None:
    """The quantity is learnt first: the network of a few steps is off by much less than the untaught one."""
    torch.manual_seed(0)
    dialled = c_former.Dialled.drawn(c_former.CONFIG, 32, seed=0)
    mean, deviation = dialled.statistics()
    banks = (dialled.banks - mean) / deviation
    mask = torch.arange(banks.shape[1]) < dialled.counts[:, None]
    model = CFormerModel(c_former.CONFIG)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    seen = []
    for step in range(40):
        chosen = slice(16 * (step % 2), 16 * (step % 2) + 16)
        losses = speech_losses(
            model(banks[chosen], mask[chosen], dialled.lengths[chosen]), dialled.digits[chosen], dialled.lengths[chosen]
        )
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        seen.append((float(losses.quantity.detach()), float(losses.cross_entropy.detach()), float(losses.ctc.detach())))
    (quantity, _, ctc), last = seen[0], seen[-1]
    assert last[0] < quantity / 4 and last[2] < ctc / 2


# --- how it is measured ---


@given(found=WORDS, wanted=WORDS)
def test_edits_are_the_fewest(found: list[int], wanted: list[int]) -> None:
    """By search: every sequence that one edit makes of another, until the wanted one is among them."""
    reached, steps = {tuple(found)}, 0
    while tuple(wanted) not in reached:
        steps += 1
        further = set(reached)
        for one in reached:
            further |= {one[:i] + one[i + 1 :] for i in range(len(one))}
            further |= {(*one[:i], n, *one[i + 1 :]) for i, n in product(range(len(one)), range(3))}
            further |= {(*one[:i], n, *one[i:]) for i, n in product(range(len(one) + 1), range(3)) if len(one) < 4}
        reached = further
    assert c_former.edits(found, wanted) == steps
