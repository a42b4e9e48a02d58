"""HuBERT as a frozen expert: speech -> frames (Hsu et al., arXiv 2106.07447). Code and weights: Apache-2.0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isthmus.encoders.audio_frames import AudioFrameEncoder, Tokens, first_valid
from isthmus.encoders.transformers_folder import read_model, read_settings
from isthmus.layout import on_device
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.precision import Dtype
from isthmus.types import Modality

if TYPE_CHECKING:
    from transformers import HubertModel

Array = np.ndarray[Any, Any]


class Hubert(AudioFrameEncoder):
    """Speech. A recording's tokens don't depend on the rest of the batch.

    Args:
        checkpoint: a folder in the format of ``facebook/hubert-large-ll60k``: config, feature extractor and weights.
        tokens: ``frame``, one token every 20 ms; ``pooled``, one token, their mean.
        seconds: the length that is encoded: longer recordings are cut to it, shorter ones padded.
        dtype: the type of the weights, in which the encoder computes. Features are float32 for the bridge in any case.

    Raises:
        ValueError: the folder is missing or another model's, or a choice is unknown.
    """

    card = PartCard(
        takes="audio (speech)",
        gives="F (B, N, D): 50 tokens a second, or 1",
        widths="1024",
        code="Apache-2.0 (transformers)",
        weights="Apache-2.0",
        checkpoint="a folder as of facebook/hubert-large-ll60k",
    )

    model: HubertModel

    def __init__(
        self, checkpoint: str | Path, tokens: Tokens = "frame", seconds: float = 30.0, dtype: Dtype = "float32"
    ) -> None:
        from transformers import HubertConfig, Wav2Vec2FeatureExtractor

        path = checkpoint_path(checkpoint)
        config, extractor = read_settings(path, HubertConfig, Wav2Vec2FeatureExtractor, "facebook/hubert-large-ll60k")
        shortest = 1
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            shortest = (shortest - 1) * stride + kernel
        super().__init__(path, tokens, extractor.sampling_rate, seconds, shortest, dtype)
        self.config, self.extractor = config, extractor

    def materialize(self) -> None:
        """Builds the model; a fine-tuned checkpoint's head isn't read."""
        from transformers import HubertModel

        self.model = read_model(
            self.checkpoint,
            HubertModel,
            unused=("lm_head.", "projector.", "classifier.", "layer_weights"),
            dtype=self.dtype,
        )

    @property
    def passes_vary(self) -> bool:
        """Whether recordings are grouped by length, for the group norm of HuBERT base."""
        return bool(self.config.feat_extract_norm == "group")

    def width(self, modality: Modality) -> int:
        """D, the width of the transformer."""
        self._check(modality)
        return int(self.config.hidden_size)

    def inputs_of(self, waveform: Array) -> dict[str, Tensor]:
        """(L,) -> waveform (longest,), normalised by the feature extractor, and how many samples aren't padding."""
        samples = self.extractor(waveform, sampling_rate=self.sample_rate, return_tensors="np")["input_values"][0]
        padded = np.zeros(self.longest, np.float32)
        padded[: samples.shape[0]] = samples
        return {"waveform": torch.from_numpy(padded), "sample_count": torch.tensor(samples.shape[0])}

    def valid_count(self, inputs: Mapping[str, Tensor]) -> int:
        """The number of tokens whose whole receptive field lies within the recording."""
        return self._token_count(int(inputs["sample_count"]))

    def _token_count(self, samples: int) -> int:
        """The number of tokens of so many samples."""
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    def frames(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Waveform (B, longest), sample_count (B,) -> tokens (B, N, D), mask (B, N)."""
        samples: list[int] = inputs["sample_count"].tolist()
        waveforms = inputs["waveform"][:, : max(samples)].to(self.model.dtype)
        counts = [self._token_count(count) for count in samples]
        mask = first_valid(counts, max(counts), waveforms.device)
        if self.config.feat_extract_norm == "group":
            return self._grouped_by_length(waveforms, samples, mask), mask
        valid = first_valid(samples, waveforms.shape[1], waveforms.device).long()
        return self.model(waveforms, attention_mask=valid).last_hidden_state, mask

    def _grouped_by_length(self, waveforms: Tensor, samples: list[int], mask: Tensor) -> Tensor:
        """Encodes recordings of equal length together: HuBERT base's group norm over time would include padding."""
        tokens = torch.zeros(*mask.shape, self.config.hidden_size, dtype=waveforms.dtype, device=waveforms.device)
        for length in sorted(set(samples)):
            alike = [row for row, count in enumerate(samples) if count == length]
            rows = on_device(alike, waveforms.device)
            hidden = self.model(waveforms[rows, :length]).last_hidden_state
            tokens[rows, : hidden.shape[1]] = hidden
        return tokens
