"""Images and videos to views: against transformers' CLIP image processor, and by their definition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPImageProcessorPil

from isthmus.encoders.image_transform import CLIP_MEAN, CLIP_STD, image_view, middle
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.imagebind.video_frames import clip_frames, video_views
from isthmus.types import Media, Modality

Array = np.ndarray[Any, Any]


def picture(height: int, width: int) -> Array:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pixels(view: torch.Tensor) -> Array:
    """Back to (..., H, W, 3) in [0, 255]."""
    channels_last = view.movedim(-3, -1) * torch.tensor(CLIP_STD) + torch.tensor(CLIP_MEAN)
    return channels_last.numpy() * 255


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (10, 12), (24, 24), (97, 131)])
def test_image_equals_clips_processor(height: int, width: int) -> None:
    # Sizes that leave an even margin: at an odd one, the processor and torchvision round to different sides.
    processor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    image = picture(height, width)
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(image_view(image, 24), expected, atol=1e-5, rtol=0)


def test_image_of_the_right_size_is_only_normalised() -> None:
    image = picture(16, 16)
    np.testing.assert_allclose(pixels(image_view(image, 16)), image, atol=1e-3)


def counting_video(frames: int, height: int, width: int) -> Array:
    """Frame k is all k."""
    return np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, height, width, 3)).copy()


def clip(frames: Array) -> Media:
    return Media(Modality.VIDEO, frames, rate=8.0)


def test_clips_come_in_order_and_cover_the_video(small_imagebind: ImageBindConfig) -> None:
    views = video_views(clip(counting_video(8, 16, 16)), small_imagebind)
    assert views.shape == (2, 3, 2, 16, 16)
    found = pixels(views.transpose(1, 2))[..., 0, 0, 0].round()
    assert found.tolist() == [[0, 3], [4, 7]]


@given(st.integers(1, 90), st.sampled_from([1.0, 8.0, 23.976, 30.0]))
def test_chosen_frames_exist_and_rise(total: int, rate: float) -> None:
    config = ImageBindConfig(modalities=("vision",))
    chosen = clip_frames(total, rate, config)
    assert chosen.shape == (5, 2)
    assert chosen.min() == 0 and chosen.max() < total
    assert (np.diff(chosen, axis=1) >= 0).all() and (np.diff(chosen, axis=0) >= 0).all()
    if total / rate > 2:
        assert chosen.max() == total - 1


@pytest.mark.parametrize("tall", [False, True])
def test_three_crops_lie_along_the_longer_side(small_imagebind: ImageBindConfig, tall: bool) -> None:
    config = replace(small_imagebind, video_crops=3, video_clips=1)
    video = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, None, :, None], (2, 16, 40, 3)).copy()
    if tall:
        video = video.transpose(0, 2, 1, 3).copy()
    views = video_views(clip(video), config)
    assert views.shape == (3, 3, 2, 16, 16)
    found = pixels(views[:, :, 0])[:, 0, 0, 0].round()
    assert found.tolist() == [0, 12, 24]


def test_shorter_side_is_resized_bilinearly(small_imagebind: ImageBindConfig) -> None:
    video = picture(32, 32)[None].repeat(2, axis=0)
    config = replace(small_imagebind, video_clips=1)
    expected = video[0].astype(np.float64).reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(pixels(video_views(clip(video), config)[0, :, 0]), expected, atol=1e-2)


def test_one_frame_is_repeated(small_imagebind: ImageBindConfig) -> None:
    views = video_views(clip(counting_video(1, 16, 16)), small_imagebind)
    assert torch.equal(views, views[:1, :, :1].expand_as(views))


@pytest.mark.parametrize("shape", [(1, 2_000_000), (2_000_000, 1), (3, 5000)])
def test_a_thread_of_pixels_is_cropped_before_it_is_resized(shape: tuple[int, int]) -> None:
    # Resized whole, the two longest ones would take 3 GB here.
    image = np.zeros((*shape, 3), np.uint8)
    long = int(np.argmax(shape))
    half = [slice(None)] * 3
    half[long] = slice(shape[long] // 2, None)
    image[tuple(half)] = 200
    config = ImageBindConfig(modalities=("vision",), image_size=24, vision_patch_size=8, video_crops=1)
    view = pixels(image_view(image, 24))
    video = video_views(clip(image[None]), config)
    along = view[12] if long == 1 else view[:, 12]
    assert view.shape == (24, 24, 3) and along[0].max() < 20 and along[-1].min() > 180
    assert video.shape[-2:] == (24, 24)


def test_up_to_64_times_as_long_nothing_is_cut() -> None:
    for shape in ((2, 128), (128, 2), (5, 7)):
        assert middle(picture(*shape)).shape == (*shape, 3)
    assert middle(picture(2, 131)).shape == (2, 129, 3)  # as much on both sides
