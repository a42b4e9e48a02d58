"""Augmentation of real media in each batch, so that an encoder doesn't memorise them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.pocket.experts.handwriting import bent_grid, rotated, uniform
from isthmus.pocket.world import SIZE


def warped(pictures: Tensor, strength: float) -> Tensor:
    """Pictures (B, C, SIZE, SIZE) in [0, 1], all channels alike -> rotated, sheared, stretched and bent."""
    fine = bent_grid(len(pictures), strength).permute(0, 3, 1, 2)
    grid = F.interpolate(fine, size=(SIZE, SIZE), mode="area").permute(0, 2, 3, 1)
    bent = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    weight = torch.exp(uniform(-0.4, 0.4, len(pictures), 1, 1, 1) * strength)
    return bent.clamp(0, 1).pow(weight)


def shifted_sounds(views: Tensor) -> Tensor:
    """Log-mel views (B, 1, 1, bins, frames), normalised -> stretched and shifted in time and pitch, partly masked."""
    images = views.flatten(1, 2)
    count, _, bins, frames = images.shape
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0] = torch.exp(0.12 * torch.randn(count))
    maps[:, 0, 2] = maps[:, 0, 0] - 1 - 0.1 * torch.rand(count)
    maps[:, 1, 1] = torch.exp(0.04 * torch.randn(count))
    maps[:, 1, 2] = 0.03 * torch.randn(count)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    moved = moved + 0.15 * torch.randn(count, 1, 1, 1) + 0.05 * torch.randn_like(moved)
    quiet = moved.amin((2, 3), keepdim=True)
    band, moment = torch.randint(bins, (count, 1, 1, 1)), torch.randint(frames, (count, 1, 1, 1))
    masked = (torch.arange(bins).view(1, 1, -1, 1) - band).abs() < 3
    masked = masked | ((torch.arange(frames).view(1, 1, 1, -1) - moment).abs() < 3)
    return torch.where(masked, quiet, moved).view(views.shape)


def turned_clouds(clouds: Tensor) -> Tensor:
    """Clouds (B, P, 3) -> rotated about all axes by up to a seventh of a circle, stretched, with jittered points."""
    count = len(clouds)
    places = rotated(clouds, uniform(-0.2, 0.2, count), 0, 1)
    places = rotated(places, uniform(-math.pi / 7, math.pi / 7, count), 2, 0)
    places = rotated(places, uniform(-0.2, 0.2, count), 1, 2)
    places = places * torch.exp(uniform(-0.2, 0.2, count, 1, 3))
    return places + 0.02 * torch.randn_like(places)
