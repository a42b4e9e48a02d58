"""Videos in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from isthmus.types import Media, Modality


@pytest.mark.parametrize(("count", "chosen"), [(3, [0, 1, 2]), (9, [0, 4, 8]), (1, [0, 0, 0]), (2, [0, 0, 1])])
def test_frames_are_spread_over_the_video(count: int, chosen: list[int], build: Any) -> None:
    frames = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.full((16, 16, 3), 20, np.uint8)
    clip = build("video").prepare(Media(Modality.VIDEO, frames, 8))["clip"]
    assert clip.shape == (3, 3, 16, 16)
    expected = torch.tensor(chosen) * 20 / 127.5 - 1
    torch.testing.assert_close(clip[:, 0, 0, 0], expected.float())


def test_a_clip_has_the_asked_frames_and_rate(build: Any) -> None:
    generator = build("video", num_frames=4, fps=6.0, num_inference_steps=1)
    [medium] = generator.generate(generator.condition(["cat"]), [0])
    assert medium.array.shape == (4, 16, 16, 3) and medium.rate == 6.0
    assert generator.prepare(medium)["clip"].shape == (4, 3, 16, 16)


def test_posterior_keeps_frames_apart(build: Any, media: Any) -> None:
    generator = build("video", batch_size=2)
    generator.load_denoiser()
    clips = torch.stack([generator.prepare(medium)["clip"] for medium in media("video", 2)])
    with torch.no_grad():
        mean, deviation = generator._posterior({"clip": clips})
        one = generator.vae.encode(clips[1, 2][None]).latent_dist
    assert mean.shape == deviation.shape == (2, 4, 3, 8, 8)
    torch.testing.assert_close(mean[1, :, 2], one.mean[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(deviation[1, :, 2], one.std[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"num_frames": 0}, {"fps": 0.0}])
def test_no_frames_or_rate_is_refused(options: dict[str, Any], build: Any) -> None:
    with pytest.raises(ValueError, match="num_frames: found"):
        build("video", **options)
