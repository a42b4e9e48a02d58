"""Depth, thermal pictures and IMU recordings in ImageBind: preprocessing, tokens, and the original's stored outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.imagebind.model import ImageBindModel
from isthmus.encoders.sensors import DepthSettings, depth_view, motion_view, thermal_view
from isthmus.modalities import DEPTH, IMU, THERMAL, Modality
from isthmus.types import Media

RANDOM = np.random.default_rng(0)
CONFIG = ImageBindConfig(
    modalities=("depth", "thermal", "imu"),
    out_embed_dim=8,
    image_size=32,
    depth_embed_dim=8,
    depth_num_blocks=1,
    depth_num_heads=2,
    thermal_embed_dim=12,
    thermal_num_blocks=1,
    thermal_num_heads=2,
    imu_length=48,
    imu_embed_dim=16,
    imu_num_blocks=1,
    imu_num_heads=2,
)
MEDIA = {
    DEPTH: Media(DEPTH, RANDOM.uniform(0.5, 9, (40, 50)).astype(np.float32)),
    THERMAL: Media(THERMAL, RANDOM.uniform(0, 1, (50, 40)).astype(np.float32)),
    IMU: Media(IMU, RANDOM.normal(size=(6, 700)).astype(np.float32), rate=100.0),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sensors")
    torch.manual_seed(3)
    save_checkpoint(folder, "imagebind", CONFIG, ImageBindModel(CONFIG).state_dict())
    return folder


@pytest.mark.parametrize("tokens", ["pooled", "patch"])
@pytest.mark.parametrize("modality", MEDIA)
def test_widths_and_counts_are_known_before_weights(checkpoint: Path, modality: Modality, tokens: Any) -> None:
    encoder = ImageBind(checkpoint, [modality], tokens)
    inputs = encoder.preprocess(MEDIA[modality])
    width, count = encoder.width(modality), encoder.token_count(modality, inputs)
    assert not encoder.is_loaded and encoder.request(modality) is None
    features = encoder(modality, {key: torch.stack([value] * 2) for key, value in inputs.items()})
    assert features.tokens.shape == (2, count, width) and bool(features.mask.all())
    assert count == (1 if tokens == "pooled" else {DEPTH: 1 + 4, THERMAL: 1 + 4, IMU: 1 + 6}[modality])


@pytest.mark.parametrize("name", ["depth", "thermal", "imu"])
def test_the_expert_gives_the_originals_stored_embeddings(
    golden_file: Callable[[str], Any], tmp_path: Path, name: str, assert_close: Callable[..., None]
) -> None:
    golden = golden_file("imagebind")
    sizes = {key: value for key, value in golden.about["config"].items() if key in ImageBindConfig.__dataclass_fields__}
    save_checkpoint(tmp_path, "imagebind", replace(ImageBindConfig(), **sizes), golden.state)
    inputs = {name: golden.inputs[name]}
    found = ImageBind(tmp_path, [name])(Modality(name), inputs).tokens[:, 0]
    assert_close(found, torch.nn.functional.normalize(golden.outputs[f"{name}.head"], dim=-1), name)
    patches = ImageBind(tmp_path, [name], "patch")(Modality(name), inputs).tokens
    assert_close(patches, golden.outputs[f"{name}.trunk"], name)


def test_metres_become_the_cameras_disparities() -> None:
    depth = np.array([[0.0, 2.0], [4.0, 99.0]], np.float32)
    settings = DepthSettings(baseline=0.1, focal=500.0, farthest=50.0)
    wanted = torch.tensor([[75.0, 25.0], [12.5, 1.0]]) / 75  # 0.1 * 500 / depth; what is nearer than 0.67 m is cut off
    torch.testing.assert_close(depth_view(depth, settings, 2), ((wanted - 0.0418) / 0.0295)[None])
    given = depth_view(np.array([[75.0, 25.0], [12.5, 1.0]], np.float32), replace(settings, unit="disparity"), 2)
    torch.testing.assert_close(given, depth_view(depth, settings, 2))


@pytest.mark.parametrize("shape", [(32, 48), (48, 32), (20, 20), (7, 900)])
def test_depth_is_resized_whole_and_cropped_in_the_middle(shape: tuple[int, int]) -> None:
    flat = depth_view(np.full(shape, 2.0, np.float32), DepthSettings(), 16)
    assert flat.shape == (1, 16, 16) and torch.allclose(flat, flat[0, 0, 0].expand_as(flat))


def test_thermal_pictures_are_resized_as_pillow_does() -> None:
    shades = RANDOM.integers(0, 256, (40, 60), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(shades).resize((30, 20), Image.Resampling.BICUBIC))[:, 5:25]
    torch.testing.assert_close(
        thermal_view((shades / 255).astype(np.float32), 20), torch.from_numpy(wanted.astype(np.float32) / 255)[None]
    )


def test_a_recordings_middle_is_spread_over_the_towers_steps() -> None:
    ramp = np.repeat(np.arange(80, dtype=np.float32)[None], 6, axis=0)
    steps = motion_view(ramp, 10.0, 4.8, 6, 48)  # 8 s at 10 a second, 4.8 s in 48 steps: from 1.6 s on, one a sample
    torch.testing.assert_close(steps, torch.arange(16.0, 64).repeat(6, 1))
    short = motion_view(ramp[:, :24], 10.0, 4.8, 6, 48)
    torch.testing.assert_close(short[0], torch.cat([torch.arange(24.0), torch.zeros(24)]))
    with pytest.raises(ValueError, match="found 3 channels; expected 6"):
        motion_view(ramp[:3], 10.0, 4.8, 6, 48)


def test_what_is_longer_is_counted(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = ImageBind(checkpoint, ["imu"], imu_seconds=2.0)
    encoder.preprocess(MEDIA[IMU])
    assert encoder.truncation.count == 1 and "the middle 2 s are" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "feet"}, "depth.unit: found 'feet'; expected metres or disparity"),
        ({"focal": 0.0}, "depth.focal: found 0.0; expected above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DepthSettings(**options)


def test_a_checkpoint_without_the_tower_says_so(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="has no tower for vision, only depth, thermal, imu"):
        ImageBind(checkpoint, ["image", "depth"])
    with pytest.raises(ValueError, match="imu_seconds: found 0"):
        ImageBind(checkpoint, ["imu"], imu_seconds=0)


def test_settings_of_what_is_not_served_leave_the_cache_as_it_is(checkpoint: Path) -> None:
    from isthmus.cache.identity import identity

    plain = ImageBind(checkpoint, ["thermal"])
    assert identity(plain) == identity(ImageBind(checkpoint, ["thermal"], depth=DepthSettings(focal=1.0)))
    one = ImageBind(checkpoint, ["depth"])
    assert identity(one) != identity(ImageBind(checkpoint, ["depth"], depth=DepthSettings(focal=1.0)))
