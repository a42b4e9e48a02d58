"""Distances of features whose answer is known, and against plain re-computations and torchmetrics' own classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore as TorchScore
from torchmetrics.image.kid import KernelInceptionDistance

from isthmus.evaluation.metrics.distances import (
    ClassDivergence,
    DensityCoverage,
    Diversity,
    Frechet,
    GaussianKernel,
    InceptionScore,
    PolynomialKernel,
    PrecisionRecall,
)
from isthmus.evaluation.metrics.distances.base import Distance, Features, TooFewError
from isthmus.evaluation.metrics.distances.frechet import Given

Array = np.ndarray[Any, Any]


def side(values: Array, logits: Array | None = None, owners: list[str] | None = None) -> Features:
    rows = [str(row) for row in range(len(values))]
    names = rows if owners is None else owners
    places = [names[:row].count(name) for row, name in enumerate(names)]
    return Features(values.astype(np.float64), logits, names, names, places, rows)


def repeated(values: Array, times: int) -> Features:
    """Each row several times, as the same medium."""
    rows = np.repeat(np.arange(len(values)), times)
    return replace(side(values[rows]), contents=[str(row) for row in rows])


def gaussian(n: int, width: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(shift, scale, (n, width))


MADE, REAL = gaussian(90, 6, 0, 0.4, 1.3), gaussian(110, 6, 1)


def value(distance: Distance, made: Features, real: Features, name: str) -> float:
    return distance.measure(made, real)[name].value


def test_frechet_distance_of_a_set_from_itself_is_0() -> None:
    assert value(Frechet(), side(REAL), side(REAL), "fd") == pytest.approx(0.0, abs=1e-9)


def test_frechet_distance_of_shifted_gaussians_is_the_closed_form() -> None:
    figure = Frechet(draws=20).measure(side(gaussian(4000, 3, 2, 1.0, 2.0)), side(gaussian(4000, 3, 3)))["fd"]
    expected = 3 * 1.0**2 + 3 * (2.0 - 1.0) ** 2  # |shift|² + sum of (s - s')²
    assert figure.value == pytest.approx(expected, rel=0.05)
    assert figure.interval is not None and figure.interval[0] < expected < figure.interval[1]
    assert figure.interval[1] - figure.interval[0] < 0.2 * expected


def test_frechet_distance_is_torchmetrics_and_a_plain_recomputation() -> None:
    found = value(Frechet(), side(MADE), side(REAL), "fd")
    theirs = FrechetInceptionDistance(feature=Given(6)).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(REAL), real=True)
    theirs.update(torch.from_numpy(MADE), real=False)
    assert found == float(theirs.compute())
    means, covariances = zip(*((one.mean(0), np.cov(one, rowvar=False)) for one in (MADE, REAL)), strict=True)
    root = np.trace(sqrtm(covariances[0] @ covariances[1]).real)
    plain = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1]) - 2 * root
    assert found == pytest.approx(float(plain), rel=1e-9)


def test_kernel_distance_is_torchmetrics() -> None:
    found = PolynomialKernel(subsets=7, subset_size=40, seed=3).measure(side(MADE), side(REAL))["kid"]
    theirs = KernelInceptionDistance(feature=Given(6), subsets=7, subset_size=40)
    theirs.update(torch.from_numpy(REAL), real=True)
    theirs.update(torch.from_numpy(MADE), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        mean, _ = theirs.compute()
    assert found.value == pytest.approx(float(mean), rel=1e-12)
    assert found.protocol["subset_size"] == 40
    few = PolynomialKernel().measure(side(MADE[:9]), side(REAL))["kid"]
    assert few.protocol == PolynomialKernel().measure(side(MADE), side(REAL))["kid"].protocol, "models may make fewer"


def test_intervals_of_kernel_distances_cover_0_on_halves_of_one_set() -> None:
    whole = gaussian(400, 8, 5)
    halves = side(whole[::2]), side(whole[1::2])
    for distance, name in ((PolynomialKernel(), "kid"), (GaussianKernel(), "kad")):
        figure = distance.measure(*halves)[name]
        assert figure.interval is not None and figure.interval[0] < 0 < figure.interval[1]
        apart = distance.measure(halves[0], side(gaussian(200, 8, 6, 0.7)))[name]
        assert apart.interval is not None and apart.interval[0] > 0


def test_audio_kernel_distance_is_a_plain_recomputation() -> None:
    bandwidth = np.median(cdist(REAL, REAL)[np.triu_indices(len(REAL), 1)])

    def kernel(first: Array, second: Array) -> Array:
        similar: Array = np.exp(-cdist(first, second, "sqeuclidean") / (2 * bandwidth**2))
        return similar

    def of_others(one: Array) -> float:
        return float((kernel(one, one).sum() - len(one)) / (len(one) * (len(one) - 1)))

    plain = 100 * (of_others(MADE) + of_others(REAL) - 2 * kernel(MADE, REAL).mean())
    assert value(GaussianKernel(), side(MADE), side(REAL), "kad") == pytest.approx(float(plain), rel=1e-9)
    biased = kernel(MADE, MADE).mean() + kernel(REAL, REAL).mean() - 2 * kernel(MADE, REAL).mean()
    own = GaussianKernel("cmmd", float(bandwidth), 1000.0, unbiased=False)
    assert value(own, side(MADE), side(REAL), "cmmd") == pytest.approx(1000 * float(biased), rel=1e-9)


def test_inception_score_is_torchmetrics() -> None:
    logits = gaussian(60, 5, 7, scale=3.0)
    figure = InceptionScore(splits=4, seed=2).measure(side(MADE[:60], logits), side(REAL))["is"]
    theirs = TorchScore(feature=Given(5), splits=4)
    theirs.update(torch.from_numpy(logits))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        mean, _ = theirs.compute()
    assert figure.value == float(mean)
    assert figure.interval is not None and figure.interval[0] < figure.value < figure.interval[1]


def test_inception_score_has_as_many_splits_as_are_asked_for() -> None:
    logits = gaussian(15, 5, 7, scale=3.0)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(2)).numpy()
    scores = []
    for part in np.array_split(logits[order], 10):
        shares = np.exp(part) / np.exp(part).sum(1, keepdims=True)
        scores.append(np.exp((shares * np.log(shares / shares.mean(0))).sum(1).mean()))
    figure = InceptionScore(seed=2).measure(side(MADE[:15], logits), side(REAL))["is"]
    assert figure.value == pytest.approx(float(np.mean(scores)))
    reach = 2.262157 * np.std(scores, ddof=1) / 10**0.5  # Student's t with 9 degrees of freedom
    assert figure.interval == pytest.approx((np.mean(scores) - reach, np.mean(scores) + reach))


@pytest.mark.parametrize(("classes", "expected"), [(range(4), 4.0), ([0] * 4, 1.0)], ids=["all", "one"])
def test_inception_score_counts_classes(classes: Any, expected: float) -> None:
    logits = 50.0 * np.eye(4)[list(classes) * 5]
    single = InceptionScore(splits=1).measure(side(MADE[:20], logits), side(REAL))["is"]
    assert single.value == pytest.approx(expected, rel=1e-4) and single.interval is None


def test_class_divergence_pairs_an_answer_with_its_own_reference() -> None:
    ours, theirs = gaussian(3, 4, 8), gaussian(4, 4, 9)
    made = side(MADE[:3], ours, ["a", "b", "b"])
    figure = ClassDivergence().measure(made, side(REAL[:4], theirs, ["b", "c", "b", "a"]))["kl"]

    def divergence(first: Array, second: Array) -> float:
        p, q = (np.exp(one) / np.exp(one).sum() for one in (second, first))
        return float((p * np.log(p / q)).sum())

    expected = {
        "a": divergence(ours[0], theirs[3]),
        "b": (divergence(ours[1], theirs[0]) + divergence(ours[2], theirs[2])) / 2,
    }
    assert figure.scores == pytest.approx(expected)
    assert figure.value == pytest.approx(sum(expected.values()) / 2) and figure.n == 2
    same = ClassDivergence().measure(side(MADE, gaussian(90, 4, 1)), side(MADE, gaussian(90, 4, 1)))["kl"]
    assert same.value == pytest.approx(0.0, abs=1e-12)


def balls(centres: Array, values: Array, neighbours: int) -> Array:
    """Which of ``values`` (columns) lie in the ball of each centre (rows)."""
    radii = np.sort(cdist(centres, centres), axis=1)[:, neighbours]
    held: Array = cdist(centres, values) <= radii[:, None]
    return held


def test_neighbours_are_a_plain_recomputation() -> None:
    found = PrecisionRecall(3).measure(side(MADE), side(REAL))
    assert found["precision"].value == balls(REAL, MADE, 3).any(0).mean()
    assert found["recall"].value == balls(MADE, REAL, 3).any(0).mean()
    found = dict(DensityCoverage(5).measure(side(MADE), side(REAL)))
    assert found["density"].value == pytest.approx(balls(REAL, MADE, 5).sum(0).mean() / 5)
    assert found["coverage"].value == balls(REAL, MADE, 5).any(1).mean()
    for figure in found.values():
        assert figure.interval is not None and figure.interval[0] <= figure.value <= figure.interval[1]


def test_collapse_is_told_from_quality() -> None:
    """All answers are one real medium: precise, without recall and without diversity."""
    collapsed = side(np.repeat(REAL[:1], 50, axis=0))
    found = PrecisionRecall().measure(collapsed, side(REAL)) | dict(Diversity().measure(collapsed, side(REAL)))
    assert found["precision"].value == 1.0 and found["recall"].value <= 1 / len(REAL)
    assert found["diversity"].value == 0.0
    fresh = Diversity().measure(side(gaussian(90, 6, 11)), side(REAL))["diversity"]
    assert fresh.interval is not None and fresh.interval[0] < 1.0 < fresh.interval[1]


def test_diversity_within_a_prompt() -> None:
    values = np.concatenate([REAL[:4], np.repeat(REAL[4:5], 2, axis=0)])
    prompts = ["first", "first", "second", "third", "fourth", "fourth"]
    made = replace(side(values), prompts=prompts)
    figure = Diversity().measure(made, side(REAL))["diversity_in_prompt"]
    between = cdist(REAL, REAL)[np.triu_indices(len(REAL), 1)].mean()
    assert figure.value == pytest.approx((np.linalg.norm(REAL[0] - REAL[1]) + 0.0) / 2 / between)
    assert figure.n == 2
    assert "diversity_in_prompt" not in Diversity().measure(side(MADE), side(REAL))


@pytest.mark.parametrize(
    "distance", [Frechet(), PolynomialKernel(), GaussianKernel(), PrecisionRecall(), DensityCoverage(), Diversity()]
)
def test_too_few_media_are_told(distance: Distance) -> None:
    with pytest.raises(TooFewError, match="found 1 made and 110 real media; expected at least"):
        distance.measure(side(MADE[:1]), side(REAL))


@pytest.mark.parametrize("distance", [InceptionScore(), ClassDivergence()])
def test_an_extractor_without_logits_is_told(distance: Distance) -> None:
    with pytest.raises(ValueError, match="found an extractor without class logits"):
        distance.measure(side(MADE), side(REAL))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: PolynomialKernel(subsets=1), "kid: subsets, subset_size: found 1 and 1000"),
        (lambda: GaussianKernel(bandwidth=0.0), "kad: bandwidth: found 0.0; expected a number above 0"),
        (lambda: InceptionScore(splits=0), "is: splits: found 0"),
        (lambda: PrecisionRecall(0), "neighbours: found 0"),
    ],
)
def test_settings_are_checked(made: Callable[[], Distance], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()


def test_references_that_are_all_alike_are_told() -> None:
    alike = side(np.ones((20, 6)))
    with pytest.raises(TooFewError, match="most are alike"):
        GaussianKernel().measure(side(MADE), alike)
    for own in (alike, repeated(np.ones((1, 6)), 8)):
        with pytest.raises(TooFewError, match="all alike"):
            Diversity().measure(side(MADE), own)
    with pytest.raises(ValueError, match="no answer whose own conversation has a reference"):
        ClassDivergence().measure(side(MADE, MADE), side(REAL, REAL, ["other"] * len(REAL)))


@pytest.mark.parametrize("distance", [PrecisionRecall(), DensityCoverage(), Diversity()])
def test_a_reference_of_several_answers_counts_once(distance: Distance) -> None:
    assert distance.measure(side(MADE), repeated(REAL, 6)) == distance.measure(side(MADE), side(REAL))


def test_halves_without_spread_are_skipped() -> None:
    real = side(np.repeat(np.eye(6), (6, 1, 1, 1, 1, 1), axis=0)[:8])  # unlike media that look alike
    figure = Diversity(draws=40).measure(side(MADE), real)["diversity"]
    assert np.isfinite(figure.value) and (figure.interval is None or np.isfinite(figure.interval).all())


def test_class_divergence_knows_which_reference_is_absent() -> None:
    made = side(MADE[:2], gaussian(2, 4, 8), ["a", "a"])
    second = replace(side(REAL[:1], made.logits[1:] if made.logits is not None else None, ["a"]), places=[1])
    assert ClassDivergence().measure(made, second)["kl"].value == pytest.approx(0.0, abs=1e-12)
