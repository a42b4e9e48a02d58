"""Weights that make sense, and totals that don't depend on how many processes a batch is spread over."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.training.objectives.terms import LossWeights, Terms
from isthmus.types import Modality

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO
factors = st.sampled_from([0.0, 0.5, 1.0, 3.0])


def terms(
    text: float, tokens: int, alignment: dict[Modality, list[float]], denoising: dict[Modality, list[float]]
) -> Terms:
    return Terms(
        torch.tensor(text),
        None,
        tokens,
        {modality: torch.tensor(values) for modality, values in alignment.items()},
        {modality: torch.tensor(values) for modality, values in denoising.items()},
    )


errors = st.dictionaries(st.sampled_from([IMAGE, AUDIO]), st.lists(st.floats(0, 4, width=16), max_size=3), max_size=2)
processes = st.lists(
    st.builds(terms, st.floats(0, 64, width=16), st.integers(0, 40), errors, errors), min_size=1, max_size=4
)


@given(parts=processes, text=factors, alignment=factors, denoising=st.just(0.25), image=factors)
def test_processes_totals_sum_to_the_whole_batchs_objective(
    parts: list[Terms], text: float, alignment: float, denoising: float, image: float
) -> None:
    weights = LossWeights(text, alignment, denoising, modalities={"image": image})
    counts = torch.stack([part.counts() for part in parts]).sum(0)
    tokens = sum(part.tokens for part in parts)
    aligned = [(m, v) for part in parts for m, values in part.alignment.items() for v in values.tolist()]
    noised = [(m, v) for part in parts for m, values in part.denoising.items() for v in values.tolist()]
    assert counts.tolist() == [tokens, len(aligned), len(noised), 0, 0, 0, 0] and counts.dtype == torch.float64

    def mean(values: list[tuple[Modality, float]]) -> float:
        return sum((image if m is IMAGE else 1.0) * v for m, v in values) / max(len(values), 1)

    expected = text * sum(float(p.text) for p in parts) / max(tokens, 1) + alignment * mean(aligned)
    total = sum(float(part.total(weights, counts)) for part in parts)
    assert total == pytest.approx(expected + denoising * mean(noised), rel=1e-4, abs=1e-4)


def test_gradients_of_processes_sum_to_the_whole_batchs() -> None:
    """What DDP averages, times the number of processes, is the gradient of one process with all of it."""
    weights = LossWeights(alignment=2.0)
    leaf = torch.tensor(1.5, requires_grad=True)
    parts = [
        Terms(leaf * 3, None, 4, {IMAGE: leaf * torch.ones(1)}),
        Terms(leaf * 5, None, 1, {IMAGE: leaf * torch.ones(2), AUDIO: leaf * torch.ones(1)}),
    ]
    counts = torch.stack([part.counts() for part in parts]).sum(0)
    averaged = sum(torch.autograd.grad(part.total(weights, counts) * 2, leaf)[0] for part in parts) / 2
    assert float(averaged) == pytest.approx(8 / 5 + 2.0 * 4 / 4)


def test_a_batch_without_targets_or_runs_is_a_zero() -> None:
    empty = terms(0.0, 0, {IMAGE: []}, {})
    assert float(empty.total(LossWeights(alignment=1.0, denoising=1.0), empty.counts())) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alignment": -1.0}, "losses.alignment: found -1.0; expected a weight of at least 0"),
        ({"text": 0.0}, "every weight is 0, nothing would be learnt"),
        ({"alignment_form": "cosine"}, "losses.alignment_form: found 'cosine'; expected mse or norm"),
        ({"modalities": {"smell": 1.0}}, "found smell: 1.0; expected a factor of at least 0 for image, video"),
        ({"modalities": {"image": -2.0}}, "found image: -2.0"),
        ({"modalities": {"text": 1.0}}, "found text: 1.0"),
    ],
)
def test_weights_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossWeights(**settings)


def test_a_factor_is_one_where_none_is_given() -> None:
    weights = LossWeights(modalities={"image": 0.0})
    assert (weights.factor(IMAGE), weights.factor(AUDIO)) == (0.0, 1.0)
