"""Clouds are compared point by point: known answers, plain re-computations, and sets that can't be told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from stored_answers import Shown, answer, cloud

from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.distances import CloudDistances
from isthmus.evaluation.metrics.distances.clouds import chamfer, f_score, scaled, tree
from isthmus.evaluation.predictions.answered import Answered
from isthmus.types import Modality

Array = np.ndarray[Any, Any]
ONE = Processes()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[Answered]:
    folder = tmp_path_factory.mktemp("clouds")
    return [answer(folder, number, [cloud(number)], [cloud(50 + number)]) for number in range(6)]


def plain_chamfer(first: Array, second: Array) -> float:
    apart = cdist(first, second, "sqeuclidean")
    return float(apart.min(0).mean() + apart.min(1).mean())


def places(seed: int) -> Array:
    return scaled(cloud(seed).array[:, :3].astype(np.float64), "unit_sphere")


def test_distances_of_pairs() -> None:
    first, second = places(1), places(2)
    trees = tree(first), tree(second)
    assert chamfer(*trees) == pytest.approx(plain_chamfer(first, second))
    assert chamfer(trees[0], trees[0]) == 0.0 and f_score(trees[0], trees[0], 1e-9) == 1.0
    near = cdist(first, second) <= 0.1
    precision, recall = near.any(1).mean(), near.any(0).mean()
    assert f_score(*trees, 0.1) == pytest.approx(2 * precision * recall / (precision + recall))
    assert f_score(*trees, 1e-9) == 0.0


def test_scales() -> None:
    points = cloud(3).array[:, :3].astype(np.float64) * 7 + 2
    sphere, cube = scaled(points, "unit_sphere"), scaled(points, "unit_cube")
    assert np.linalg.norm(sphere, axis=1).max() == pytest.approx(1.0) and sphere.mean(0) == pytest.approx(np.zeros(3))
    assert np.ptp(cube, axis=0).max() == pytest.approx(1.0) and cube.max(0) == pytest.approx(-cube.min(0))
    assert scaled(points, "as_is") is points
    assert scaled(np.ones((4, 3)), "unit_sphere").tolist() == [[0.0] * 3] * 4


def test_sets_are_a_plain_recomputation(answers: list[Answered]) -> None:
    found = CloudDistances().measure(answers, ONE)
    assert list(found) == [
        f"points/{n}" for n in ("chamfer", "f_score", "mmd_cd", "coverage_cd", "nearest_accuracy_cd")
    ]
    clouds = [places(number) for number in (*range(6), *range(50, 56))]
    apart = np.array([[plain_chamfer(first, second) for second in clouds] for first in clouds])
    np.fill_diagonal(apart, np.inf)
    assert found["points/mmd_cd"].value == pytest.approx(apart[:6, 6:].min(0).mean())
    assert found["points/coverage_cd"].value == len(set(apart[:6, 6:].argmin(1))) / 6
    is_made = np.arange(12) < 6
    assert found["points/nearest_accuracy_cd"].value == (is_made[apart.argmin(1)] == is_made).mean()
    scores = found["points/chamfer"].scores
    assert scores == pytest.approx({f"set/{number}": apart[number, 6 + number] for number in range(6)})
    assert found["points/chamfer"].value == pytest.approx(np.mean([apart[n, 6 + n] for n in range(6)]))


def test_what_was_made_apart_from_what_is_real(answers: list[Answered]) -> None:
    """Small clouds against large ones, as they are: their nearest others are of their own side."""
    far = Shown([cloud(70 + number, scale=30.0) for number in range(6)])
    found = CloudDistances(far, scale="as_is").measure(answers, ONE)
    assert found["points/nearest_accuracy_cd"].value == 1.0
    same = CloudDistances(Shown([cloud(number) for number in range(6)])).measure(answers, ONE)
    assert same["points/mmd_cd"].value == pytest.approx(0.0, abs=1e-12) and same["points/coverage_cd"].value == 1.0
    assert same["points/mmd_cd"].protocol["reference"] == "shown"


def test_clouds_are_thinned_and_sets_cut(answers: list[Answered]) -> None:
    found = CloudDistances(points=20, most=4).measure(answers, ONE)
    assert found["points/chamfer"].n == 6 and found["points/mmd_cd"].n == 4
    others = Shown([one.expected_media(Modality.POINTS)[0] for one in answers])
    both = [CloudDistances(others, most=4).measure(own, ONE)["points/mmd_cd"] for own in (answers, answers[:3])]
    assert both[0].protocol == both[1].protocol and both[1].n == 3, "models may make fewer"
    assert found["points/chamfer"].value > CloudDistances().measure(answers, ONE)["points/chamfer"].value


def test_answers_without_clouds_have_no_figures(tmp_path: Path) -> None:
    assert CloudDistances().measure([answer(tmp_path, 0, [], [cloud(1)])], ONE) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"scale": "huge"}, "scale: found 'huge'"), ({"threshold": 0.0}, "threshold: found 0.0"), ({"most": 1}, "most")],
)
def test_settings_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CloudDistances(**options)
