"""The block-wise cosine transform: by its definition, without loss, in JPEG's own order and steps."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, JpegImagePlugin
from scipy.fft import idctn
from tiny_vision import picture

from isthmus.encoders.vision.block_dct import CHROMA_STEPS, LUMA_STEPS, frequencies, zigzag


def test_the_transform_by_its_definition() -> None:
    """T.81, A.3.3, written out; the first coefficient is eight times the mean."""
    image = picture(16, 24).array
    spectrum = frequencies(image)
    samples = np.asarray(Image.fromarray(image).convert("YCbCr"), np.float64)[8:16, 16:24, 1] - 128
    angle = np.cos((2 * np.arange(8)[None] + 1) * np.arange(8)[:, None] * np.pi / 16)
    scale = np.where(np.arange(8) == 0, np.sqrt(0.5), 1.0)
    expected = 0.25 * np.outer(scale, scale) * (angle @ samples @ angle.T)
    np.testing.assert_allclose(spectrum[1, 1, 2], expected.reshape(-1)[zigzag()], atol=1e-3)
    np.testing.assert_allclose(spectrum[1, 1, 2, 0], 8 * samples.mean(), atol=1e-3)


def test_nothing_is_lost_in_all_coefficients() -> None:
    image = picture(32, 16).array
    natural = np.empty((3, 4, 2, 64), np.float32)
    natural[..., zigzag()] = frequencies(image)
    blocks = idctn(natural.reshape(3, 4, 2, 8, 8), axes=(-2, -1), norm="ortho")
    pixels = blocks.transpose(1, 3, 2, 4, 0).reshape(32, 16, 3) + 128
    np.testing.assert_allclose(pixels, np.asarray(Image.fromarray(image).convert("YCbCr")), atol=1e-2)


def test_order_and_steps_are_jpegs_own() -> None:
    """Pillow writes the standard's tables at quality 50."""
    file = io.BytesIO()
    Image.fromarray(picture(16, 16).array).save(file, "JPEG", quality=50)
    tables = Image.open(file).quantization  # type: ignore[attr-defined]
    assert list(tables[0]) == list(LUMA_STEPS) and list(tables[1]) == list(CHROMA_STEPS)
    # Pillow counts the other way: the place in the order of each coefficient.
    assert zigzag().argsort().tolist() == list(JpegImagePlugin.zigzag_index)
    assert zigzag()[:6].tolist() == [0, 1, 8, 16, 9, 2]
