"""Clouds of any size to the points that Point-BERT takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from isthmus.encoders.point_bert.cloud import prepared_points

Array = np.ndarray[Any, Any]


def cloud(points: int, features: int = 6) -> Array:
    return np.random.default_rng(points).random((points, features), dtype=np.float32)


@pytest.mark.parametrize("name", ["pointbert_colored", "pointbert_xyz"])
def test_normalisation_equals_the_original(
    name: str, golden_file: Callable[[str], Any], assert_close: Callable[[Tensor, Tensor, str], None]
) -> None:
    golden = golden_file(name)
    expected = golden.inputs["points"]
    for raw, points in zip(golden.inputs["points_raw"], expected, strict=True):
        given = torch.cat([raw, points[:, 3:]], dim=1).numpy()
        found = prepared_points(given, 256, 16, colored=points.shape[1] == 6)
        assert_close(torch.from_numpy(found), points, name)


@given(st.integers(8, 200), st.booleans(), st.booleans())
def test_any_size_gives_the_wanted_points(found: int, has_colour: bool, colored: bool) -> None:
    given_points = cloud(found, 6 if has_colour else 3)
    prepared = prepared_points(given_points, 64, 8, colored)
    assert prepared.shape == (64, 6 if colored else 3) and prepared.dtype == np.float32
    np.testing.assert_array_equal(prepared, prepared_points(given_points, 64, 8, colored))
    np.testing.assert_allclose(prepared[:, :3].mean(axis=0), 0, atol=1e-5)
    assert np.linalg.norm(prepared[:, :3], axis=1).max() == pytest.approx(1, abs=1e-5)
    assert len(np.unique(prepared[:, :3], axis=0)) == min(found, 64)
    if colored and not has_colour:
        assert (prepared[:, 3:] == np.float32(0.4)).all()


def test_colour_stays_with_its_point() -> None:
    given_points = cloud(100)
    given_points[:, 3:] = given_points[:, :3]
    prepared = prepared_points(given_points, 64, 8, colored=True)
    places, colours = prepared[:, :3], prepared[:, 3:]
    ratio = (places - places[0])[1:] / (colours - colours[0])[1:]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-2)


def test_a_huge_cloud_keeps_its_shape() -> None:
    """Coordinates near float32's end, whose sums and squares exceed it."""
    given_points = cloud(100, 3) * 2 - 1
    prepared = prepared_points(given_points * np.float32(3e38), 64, 8, colored=False)
    np.testing.assert_allclose(prepared, prepared_points(given_points, 64, 8, colored=False), rtol=1e-4, atol=1e-5)


def moved(row: Array, column: int, value: float) -> Array:
    changed = row.copy()
    changed[0, column] = value
    return changed


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (cloud(7), "found 7; expected at least 8"),
        (moved(cloud(20), 0, np.nan), "finite"),
        (moved(cloud(20), 4, 200.0), "200; expected \\[0, 1\\]: divide bytes by 255"),
        (np.ones((20, 3), np.float32), "one place"),
    ],
)
def test_unusable_clouds(points: Array, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prepared_points(points, 64, 8, colored=True)
