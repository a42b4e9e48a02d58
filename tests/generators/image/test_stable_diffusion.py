"""Images in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from isthmus.generators.pixels import pictures_of, pixels_of
from isthmus.types import Media, Modality


def test_pixels_at_their_size_are_exact_and_come_back() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    pixels = pixels_of(image, 16, 24)
    assert pixels.shape == (3, 16, 24) and pixels.min() >= -1 and pixels.max() <= 1
    np.testing.assert_array_equal(pictures_of(pixels / 2 + 0.5), image)


def test_other_sizes_are_cropped_and_resized_bicubically() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    centre = Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC, box=(10, 0, 30, 20))
    torch.testing.assert_close(pixels_of(image, 16, 16), pixels_of(np.asarray(centre), 16, 16))
    thin = np.full((1, 500, 3), 255, np.uint8)
    torch.testing.assert_close(pixels_of(thin, 8, 8), torch.ones(3, 8, 8))


def test_sizes_come_from_the_unet_or_the_user(build: Any, copied: Callable[..., Any]) -> None:
    assert (build("image").height, build("image").width) == (16, 16)
    oblong = build("image", copied("image", unet={"sample_size": [8, 12]}))
    assert (oblong.height, oblong.width) == (16, 24)
    chosen = build("image", height=24, width=32, num_inference_steps=1)
    [medium] = chosen.generate(chosen.condition(["cat"]), [0])
    assert medium.modality == Modality.IMAGE and medium.array.shape == (24, 32, 3)
    assert chosen.prepare(medium)["pixels"].shape == (3, 24, 32)


@pytest.mark.parametrize("size", [{"height": 30}, {"width": 0}])
def test_a_size_that_the_pipeline_refuses_is_named(size: dict[str, int], build: Any) -> None:
    with pytest.raises(ValueError, match=r"(height: found 30|width: found 0); .*multiples of 8 pixels"):
        build("image", **size)


def test_preparing_needs_no_weights(build: Any) -> None:
    generator = build("image")
    generator.prepare(Media(Modality.IMAGE, np.zeros((5, 5, 3), np.uint8)))
    assert not generator._modules
