"""Whisper's encoder as a frozen expert: speech -> frames (Radford et al., arXiv 2212.04356).

Code and weights: MIT; transformers' class, and its copies of the weights: Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.encoders.audio_frames import AudioFrameEncoder, Tokens, first_valid
from isthmus.encoders.transformers_folder import read_model, read_settings
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.precision import Dtype
from isthmus.types import Modality

if TYPE_CHECKING:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

FRAMES_PER_TOKEN = 2
"""The stride of the second convolution; the first has stride 1."""

Array = np.ndarray[Any, Any]


class Whisper(AudioFrameEncoder):
    """Speech in many languages.

    The encoder always reads a fixed length, 30 seconds in all published models: longer recordings are cut to it.
    Shorter ones are padded with silence, as in its training. Valid tokens attend to that silence; the tokens of the
    silence itself are masked. Time and memory are those of the whole length, whatever a recording's own: where all are
    short, fewer ``seconds`` make the encoder as many times faster, at features that differ a little from the published
    ones, which a bridge trained on them doesn't mind.

    Args:
        checkpoint: a folder in the format of ``openai/whisper-large-v3``: config, feature extractor and weights. The
            decoder's aren't read.
        tokens: ``frame``, one token every 20 ms; ``pooled``, one token, their mean.
        dtype: the type of the weights, in which the encoder computes. Features are float32 for the bridge in any case.
        seconds: the length that is read, in whole tokens; the checkpoint's by default, which is the longest.

    Raises:
        ValueError: the folder is missing or another model's, its feature extractor doesn't fit its encoder, or
            ``seconds`` is longer than its positions or shorter than one token.
    """

    card = PartCard(
        takes="audio (speech)",
        gives="F (B, N, D): 50 tokens a second, or 1",
        widths="1280",
        code="Apache-2.0 (transformers)",
        weights="Apache-2.0",
        checkpoint="a folder as of openai/whisper-large-v3",
    )

    model: WhisperEncoder
    fix = "Cut recordings into pieces"

    def __init__(
        self,
        checkpoint: str | Path,
        tokens: Tokens = "frame",
        dtype: Dtype = "float32",
        seconds: float | None = None,
    ) -> None:
        from transformers import WhisperConfig, WhisperFeatureExtractor

        path = checkpoint_path(checkpoint)
        config, extractor = read_settings(path, WhisperConfig, WhisperFeatureExtractor, "openai/whisper-large-v3")
        made = (extractor.feature_size, extractor.nb_max_frames)
        read = (config.num_mel_bins, FRAMES_PER_TOKEN * config.max_source_positions)
        if made != read:
            raise ValueError(
                f"{path}: preprocessor_config.json: feature_size and nb_max_frames are {made}; config.json's "
                f"num_mel_bins and twice max_source_positions are {read}: take both files from one checkpoint"
            )
        token = FRAMES_PER_TOKEN * extractor.hop_length  # in samples
        longest = extractor.n_samples / extractor.sampling_rate
        if seconds is not None:
            if seconds > longest:
                raise ValueError(
                    f"{path}: seconds: found {seconds}; expected at most {longest:g}, the length that it was trained "
                    "with. Fix: lower it, and cut recordings into pieces."
                )
            self.fix = AudioFrameEncoder.fix
            self.places = int(seconds * extractor.sampling_rate) // token
            extractor.n_samples, extractor.nb_max_frames = self.places * token, self.places * FRAMES_PER_TOKEN
        else:
            self.places = config.max_source_positions
        read = extractor.n_samples / extractor.sampling_rate
        super().__init__(path, tokens, extractor.sampling_rate, read, extractor.n_fft, dtype)
        self.config, self.extractor = config, extractor

    def materialize(self) -> None:
        """Builds the encoder alone, with as many positions as it reads."""
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        self.model = read_model(
            self.checkpoint,
            WhisperEncoder,
            key_mapping={r"^(model\.)?encoder\.": ""},
            unused=("model.decoder.", "decoder.", "proj_out."),
            dtype=self.dtype,
        )
        positions = self.model.embed_positions
        if self.places < positions.num_embeddings:
            positions.weight = nn.Parameter(positions.weight[: self.places].clone(), requires_grad=False)
            positions.num_embeddings = self.model.config.max_source_positions = self.places

    def width(self, modality: Modality) -> int:
        """D, the width of the encoder."""
        self._check(modality)
        return int(self.config.d_model)

    def inputs_of(self, waveform: Array) -> dict[str, Tensor]:
        """(L,) -> features (bins, frames), the feature extractor's log-mel image, and the number of valid tokens."""
        features = self.extractor(waveform, sampling_rate=self.sample_rate, return_tensors="np")["input_features"][0]
        count = -(-waveform.shape[0] // (FRAMES_PER_TOKEN * self.extractor.hop_length))
        return {"features": torch.from_numpy(features), "count": torch.tensor(count)}

    def valid_count(self, inputs: Mapping[str, Tensor]) -> int:
        """The number of tokens that begin within the recording."""
        return int(inputs["count"])

    def frames(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features (B, bins, frames), count (B,) -> tokens (B, N, D), mask (B, N)."""
        hidden = self.model(inputs["features"].to(self.model.layer_norm.weight.dtype)).last_hidden_state
        counts: list[int] = inputs["count"].tolist()
        tokens = hidden[:, : max(counts)]
        return tokens, first_valid(counts, tokens.shape[1], tokens.device)
