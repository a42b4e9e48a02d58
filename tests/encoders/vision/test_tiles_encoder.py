"""Large images as tiles: LLaVA-NeXT's choice of grids, the tokens of each view, and batches of differing grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_vision import SIDE, WIDTH, picture, save_model, stacked
from transformers.image_processing_utils import select_best_resolution

from isthmus.encoders.vision.frames_encoder import FramesEncoder
from isthmus.encoders.vision.tiles_encoder import LLAVA_NEXT, TilesEncoder, best_grid, tiles_of
from isthmus.encoders.vision.transformers_vision import TransformersVision
from isthmus.types import Media, Modality

IMAGE = Modality.IMAGE
# A screenshot of 1300 x 800 in small, a page, an icon, and a strip.
IMAGES = [picture(50, 81), picture(90, 60, seed=1), picture(20, 30, seed=2), picture(30, 200, seed=3)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    save_model("clip", folder)
    return folder


def test_thumbnail_and_tiles(clip: Path) -> None:
    """Each view's tokens are those of its pixels alone, whatever stands beside it in the batch."""
    encoder, inner = TilesEncoder(TransformersVision(clip), SIDE), TransformersVision(clip)
    inputs = [encoder.preprocess(image) for image in IMAGES]
    assert all(one["view.pixels"].shape == (5, 3, SIDE, SIDE) for one in inputs)
    counts = [encoder.token_count(IMAGE, one) for one in inputs]
    assert counts == [16 * 5, 16 * 5, 16, 16 * 4] and not encoder.is_loaded
    features = encoder(IMAGE, stacked(encoder, IMAGES))
    assert features.mask.sum(1).tolist() == counts and features.tokens.shape == (4, 80, WIDTH)
    assert not features.tokens[~features.mask].any()
    for row, image in enumerate(IMAGES):
        views = [Media(IMAGE, view) for view in encoder.views(image.array)]
        expected = inner(IMAGE, stacked(inner, views)).tokens.flatten(0, 1)
        torch.testing.assert_close(features.tokens[row][features.mask[row]], expected, atol=1e-5, rtol=1e-5)
    icon = encoder(IMAGE, stacked(encoder, IMAGES[2:3]))
    assert icon.tokens.shape == (1, 16, WIDTH)


def test_tiles_are_the_resized_image_cut_up() -> None:
    image = picture(70, 110).array
    tiles = tiles_of(image, (2, 3), 16)
    whole = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.BICUBIC))
    assert len(tiles) == 6 and all(tile.shape == (16, 16, 3) for tile in tiles)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, 3)
        assert np.array_equal(tile, whole[16 * row : 16 * row + 16, 16 * column : 16 * column + 16])


@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_the_grid_is_llava_nexts(height: int, width: int) -> None:
    resolutions = [(336 * rows, 336 * columns) for rows, columns in LLAVA_NEXT]
    best = select_best_resolution((height, width), resolutions)
    if best is not None:  # the library has no answer where a side shrinks to nothing
        assert best_grid(height, width, LLAVA_NEXT, 336) == (best[0] // 336, best[1] // 336)


def test_a_screenshot_and_a_4k_photograph() -> None:
    assert best_grid(800, 1300, LLAVA_NEXT, 336) == (2, 2)
    monkey = [(rows, columns) for rows in range(1, 7) for columns in range(1, 7) if rows * columns <= 12]
    assert best_grid(800, 1300, monkey, 336) == (3, 4)
    assert best_grid(2160, 3840, monkey, 336) in monkey


def test_the_largest_grid_makes_the_room(clip: Path) -> None:
    encoder = TilesEncoder(TransformersVision(clip), SIDE, grids=[(1, 1), (3, 4)])
    inputs = encoder.preprocess(picture(100, 130))
    assert inputs["view.pixels"].shape[0] == 13 and encoder.token_count(IMAGE, inputs) == 16 * 13


def test_tiles_of_a_videos_frames(clip: Path) -> None:
    """Wrappers nest: two frames, each with its own tiles."""
    encoder = FramesEncoder(TilesEncoder(TransformersVision(clip), SIDE, grids=[(1, 2)]), num_frames=2)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 70, 3), dtype=np.uint8)
    media = [Media(Modality.VIDEO, pixels, rate=4.0), Media(Modality.VIDEO, pixels[:1, :20, :20], rate=4.0)]
    features = encoder(Modality.VIDEO, stacked(encoder, media))
    counts = [encoder.token_count(Modality.VIDEO, encoder.preprocess(medium)) for medium in media]
    assert counts == [2 * 3 * 16, 16] == features.mask.sum(1).tolist()


def test_release_keeps_the_settings(clip: Path) -> None:
    encoder = TilesEncoder(TransformersVision(clip), SIDE)
    before = encoder(IMAGE, stacked(encoder, IMAGES)).tokens
    encoder.stays = True
    encoder.release()
    assert encoder.is_loaded and list(encoder.parameters()), "shards stay"
    encoder.stays = False
    encoder.release()
    assert not list(encoder.parameters())
    torch.testing.assert_close(encoder(IMAGE, stacked(encoder, IMAGES)).tokens, before)


def test_what_cannot_be_served(clip: Path) -> None:
    inner = TransformersVision(clip)
    with pytest.raises(ValueError, match="tile_size: found 0"):
        TilesEncoder(inner, 0)
    with pytest.raises(ValueError, match=r"grids: found \[\]; expected pairs"):
        TilesEncoder(inner, SIDE, grids=[])
    with pytest.raises(ValueError, match=r"grids: found \[\(0, 2\)\]"):
        TilesEncoder(inner, SIDE, grids=[(0, 2)])
    with pytest.raises(ValueError, match="FramesEncoder serves video; expected an encoder of images"):
        TilesEncoder(FramesEncoder(inner), SIDE)
    with pytest.raises(ValueError, match="audio: this encoder serves images"):
        TilesEncoder(inner, SIDE).preprocess(Media(Modality.AUDIO, np.zeros(9, np.float32), rate=9.0))
