"""Pipelines that generate a log-mel spectrogram and synthesise its waveform: the base of AudioLDM and AudioLDM 2."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.generators.audio.log_mel import log_mel
from isthmus.generators.diffusion import DiffusionGenerator
from isthmus.generators.schedules import Sampler
from isthmus.precision import Dtype
from isthmus.types import Media, Modality


class MelAudio(DiffusionGenerator):
    """The base of AudioLDM and AudioLDM 2: a VAE of log-mel spectrograms, a UNet on its latents, and a vocoder.

    Sample rate, mel bands and hop are the vocoder's; window and range are those of the published checkpoints.

    Args:
        checkpoint: the pipeline's folder.
        num_inference_steps, guidance_scale, scheduler, batch_size, dtype, memo_megabytes: as in
            :class:`DiffusionGenerator`.
        seconds: length of the audio; None is the length that the UNet was trained at.
        fft_size: STFT window, in samples.
        lowest, highest: the mel range in Hz; None for half of the sample rate.
        peak: the amplitude that a denoising target is scaled to after its mean is removed, as in AudioLDM's training;
            None leaves the level unchanged.

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument doesn't fit it.
    """

    modality = Modality.AUDIO

    vocoder: Any

    def __init__(
        self,
        checkpoint: str | Path,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seconds: float | None = None,
        fft_size: int = 1024,
        lowest: float = 0.0,
        highest: float | None = None,
        peak: float | None = 0.5,
        scheduler: Sampler | None = None,
        batch_size: int = 16,
        dtype: Dtype = "float32",
        memo_megabytes: int = 256,
    ) -> None:
        super().__init__(checkpoint, num_inference_steps, guidance_scale, scheduler, batch_size, dtype, memo_megabytes)
        self.sample_rate = int(self.folder.value("vocoder/config.json", "sampling_rate"))
        self.bins = int(self.folder.value("vocoder/config.json", "model_in_dim"))
        self.hop = prod(self.folder.value("vocoder/config.json", "upsample_rates"))
        self.fft_size = fft_size
        self.lowest = lowest
        self.highest = self.sample_rate / 2 if highest is None else highest
        self.peak = peak
        size = self.folder.value("unet/config.json", "sample_size")
        factor = 2 ** (len(self.folder.value("vae/config.json", "block_out_channels")) - 1)
        frame = self.hop / self.sample_rate
        self.seconds = (size if isinstance(size, int) else size[0]) * factor * frame if seconds is None else seconds
        if self.seconds < frame * factor:
            raise ValueError(
                f"seconds: found {self.seconds}; {type(self).__name__} of {self.checkpoint} makes at least "
                f"{frame * factor} ({factor} frames of {frame} s)"
            )
        # Targets have the generated length. The rounding makes 0.29 s 29 frames, although in floats it is 28.99...
        self.frames = ceil(round(self.seconds / frame, 6) / factor) * factor

    def _materialize_denoiser(self) -> None:
        from diffusers import AutoencoderKL
        from transformers import SpeechT5HifiGan

        self.vae = self.folder.read("vae", AutoencoderKL, dtype=self.dtype)
        self.vocoder = self.folder.read("vocoder", SpeechT5HifiGan, dtype=self.dtype)
        self.unet = self.folder.read("unet", self._unet_class(), dtype=self.dtype)

    @abstractmethod
    def _unet_class(self) -> Any:
        """The diffusers class of the UNet."""

    def prepare(self, medium: Media) -> dict[str, Tensor]:
        """``log_mel`` (1, frames, bins) float32 of the first ``seconds``; shorter audio is padded with silence."""
        self._check_modality(medium)
        assert medium.rate is not None  # Media ensures it for audio
        length = self.frames * self.hop
        # A tenth of a second more than is kept, for the resampling filter's tail.
        samples = medium.array[: ceil((length / self.sample_rate + 0.1) * medium.rate)]
        if medium.rate != self.sample_rate:
            import soxr

            samples = soxr.resample(samples, medium.rate, self.sample_rate)
        waveform = torch.tensor(samples[:length], dtype=torch.float32)
        if self.peak is not None:
            waveform = waveform - waveform.mean()
            waveform = waveform * (self.peak / (waveform.abs().max() + 1e-8))
        waveform = functional.pad(waveform, (0, length - len(waveform)))
        mel = log_mel(waveform, self.sample_rate, self.bins, self.fft_size, self.hop, self.lowest, self.highest)
        return {"log_mel": mel[None, : self.frames]}

    def _posterior(self, content: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self._encode_images(content["log_mel"])

    def _pipeline_parts(self) -> dict[str, Any]:
        return {**super()._pipeline_parts(), "vocoder": self.vocoder}

    def _sample(self, pipeline: Any, request: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
        # Half a frame is added because the pipeline rounds down; it doesn't trim the waveform, so this is done here.
        audio = pipeline(audio_length_in_s=(self.frames + 0.5) * self.hop / self.sample_rate, **request).audios
        return list(audio[:, : round(self.seconds * self.sample_rate)])

    def _as_media(self, array: np.ndarray[Any, Any], details: dict[str, Any]) -> Media:
        return Media(self.modality, array, rate=float(self.sample_rate), source=self.checkpoint.name, details=details)
