"""A recording -> normalised log-mel images of its clips, ImageBind's input."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.encoders.imagebind.clips import clip_times
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.mel import log_mel_image, resampled

Array = np.ndarray[Any, Any]


def audio_views(waveform: Array, rate: float, config: ImageBindConfig) -> Tensor:
    """(L,) float32 -> (clips, 1, bins, frames) float32.

    Raises:
        ValueError: the recording is shorter than one 25 ms window, or holds values that aren't finite.
    """
    if not np.isfinite(waveform).all():
        raise ValueError("audio holds values that aren't finite numbers: repair the recording or leave it out")
    samples = resampled(waveform, rate, config.audio_sample_rate)
    rate = config.audio_sample_rate
    times = clip_times(samples.shape[0] / rate, config.audio_clip_seconds, config.audio_clips)
    images = [
        log_mel_image(clip, rate, config.audio_num_mel_bins, config.audio_target_len)
        for clip in (samples[int(begin * rate) : int(end * rate)] for begin, end in times)
    ]
    return torch.from_numpy((np.stack(images)[:, None] - np.float32(config.audio_mean)) / np.float32(config.audio_std))
