"""Pages as tokens of frequencies: what is kept of each block, and masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_vision import picture, stacked

from isthmus.encoders.vision.block_dct import CHROMA_STEPS, LUMA_STEPS, frequencies, zigzag
from isthmus.encoders.vision.frequency_encoder import FrequencyConfig, FrequencyEncoder
from isthmus.types import Media, Modality

IMAGE = Modality.IMAGE


def folder(path: Path, **fields: Any) -> Path:
    (path / "config.json").write_text(json.dumps({"frequency": fields}))
    return path


SMALL = {"image_size": 64, "blocks": 2, "luma": 6, "chroma": 2}


def test_tokens_hold_the_coefficients_of_their_blocks(tmp_path: Path) -> None:
    encoder = FrequencyEncoder(folder(tmp_path, **SMALL))
    page = picture(64, 64)
    inputs = encoder.preprocess(page)
    assert inputs["coefficients"].shape == (10, 8, 8) and not encoder.is_loaded
    features = encoder(IMAGE, stacked(encoder, [page]))
    assert features.tokens.shape == (1, 16, 40) and encoder.width(IMAGE) == 40
    spectrum = frequencies(page.array)
    block = np.concatenate([
        spectrum[0, 3, 4, :6] / np.array(LUMA_STEPS)[zigzag()][:6],
        *(spectrum[channel, 3, 4, :2] / np.array(CHROMA_STEPS)[zigzag()][:2] for channel in (1, 2)),
    ])  # fmt: skip
    token = features.tokens[0, 1 * 4 + 2].reshape(10, 2, 2)  # blocks (2..3, 4..5): the row below, the first column
    np.testing.assert_allclose(token[:, 1, 0].numpy(), block, atol=0.05)


def test_pages_of_other_shapes(tmp_path: Path) -> None:
    """Beside a page there is nothing; it doesn't change with what stands in its batch."""
    encoder = FrequencyEncoder(folder(tmp_path, **SMALL))
    pages = [picture(128, 60), picture(20, 40, seed=1), picture(64, 64, seed=2)]
    counts = [encoder.token_count(IMAGE, encoder.preprocess(page)) for page in pages]
    assert counts == [4 * 2, 2 * 3, 16]  # 128 x 60 is read as 64 x 30; 20 x 40 keeps its size
    features = encoder(IMAGE, stacked(encoder, pages))
    assert features.mask.sum(1).tolist() == counts
    assert not features.tokens[~features.mask].any()
    for row, page in enumerate(pages):
        alone = encoder(IMAGE, stacked(encoder, [page]))
        assert alone.tokens.shape[1] == counts[row] and bool(alone.mask.all())
        torch.testing.assert_close(features.tokens[row][features.mask[row]], alone.tokens[0])


def test_a_page_of_2560_pixels_in_1600_tokens(tmp_path: Path) -> None:
    encoder = FrequencyEncoder(folder(tmp_path))
    text = np.full((2560, 2560, 3), 255, np.uint8)
    text[100:110, 200:2000] = 0
    inputs = encoder.preprocess(Media(IMAGE, text))
    assert encoder.token_count(IMAGE, inputs) == 1600 and encoder.width(IMAGE) == 64 * 21
    tokens = encoder(IMAGE, {key: value[None] for key, value in inputs.items()}).tokens[0].reshape(40, 40, -1)
    blank = tokens[30, 30]
    written = (tokens - blank).abs().amax(-1) > 0
    assert written[1, 3:32].all() and written.sum() == 29  # the line lies in token row 1, columns 3 to 31


def test_settings_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such checkpoint; expected"):
        FrequencyEncoder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"found 100 and 2; expected an image_size that 8 times blocks divides"):
        FrequencyEncoder(folder(tmp_path, **{**SMALL, "image_size": 100}))
    with pytest.raises(ValueError, match="luma, chroma: found 65 and 0"):
        FrequencyConfig(luma=65, chroma=0)
    with pytest.raises(ValueError, match="unknown frequency fields coefficients"):
        FrequencyEncoder(folder(tmp_path, coefficients=9))
    encoder = FrequencyEncoder(folder(tmp_path, **SMALL))
    with pytest.raises(ValueError, match="video: this encoder serves images"):
        encoder.preprocess(Media(Modality.VIDEO, np.zeros((1, 8, 8, 3), np.uint8), rate=1.0))
