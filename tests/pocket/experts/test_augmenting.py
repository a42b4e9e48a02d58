"""Augmentation moves media and keeps what they are."""

from __future__ import annotations

import torch

from isthmus.pocket.experts.augmenting import shifted_sounds, turned_clouds, warped


def test_warping_by_nothing_changes_nothing() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(4, 6, 32, 32)
    assert torch.allclose(warped(pictures, 0.0), pictures, atol=1e-4)
    moved = warped(pictures, 1.0)
    assert moved.shape == pictures.shape and 0 <= float(moved.min()) <= float(moved.max()) <= 1
    assert not torch.allclose(moved, pictures, atol=0.1)


def test_channels_of_a_picture_move_together() -> None:
    torch.manual_seed(1)
    pictures = torch.rand(3, 1, 32, 32).expand(3, 5, 32, 32)
    moved = warped(pictures, 1.0)
    assert torch.allclose(moved, moved[:, :1].expand_as(moved))


def test_sounds_keep_their_range_and_shape() -> None:
    torch.manual_seed(2)
    views = torch.randn(4, 1, 1, 64, 64)
    moved = shifted_sounds(views)
    assert moved.shape == views.shape and torch.isfinite(moved).all()
    assert float(moved.abs().max()) < float(views.abs().max()) + 1.5


def test_clouds_keep_their_distances_roughly() -> None:
    torch.manual_seed(3)
    clouds = torch.rand(5, 40, 3) * 2 - 1
    turned = turned_clouds(clouds)
    ratio = torch.cdist(turned, turned).flatten() / torch.cdist(clouds, clouds).flatten().clamp(min=0.3)
    assert turned.shape == clouds.shape and float(ratio.max()) < 1.6
