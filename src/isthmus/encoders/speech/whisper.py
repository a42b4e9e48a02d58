"""Whisper's encoder as a frozen expert: speech -> frames (Radford et al., arXiv 2212.04356).

Code and weights: MIT; transformers' class, and its copies of the weights: Apache-2.0.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.encoders.audio_frames import AudioFrameEncoder, Tokens, first_valid
from isthmus.encoders.transformers_folder import read_model, read_settings
from isthmus.layout import on_device
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
    silence itself are masked. Time and memory are those of the whole length, whatever a recording's own: fewer
    ``seconds`` make the encoder as many times faster, and several lengths do so for the short ones among recordings, at
    features that differ a little from the published ones, which a bridge trained on them doesn't mind.

    Args:
        checkpoint: a folder in the format of ``openai/whisper-large-v3``: config, feature extractor and weights. The
            decoder's aren't read.
        tokens: ``frame``, one token every 20 ms; ``pooled``, one token, their mean.
        dtype: the type of the weights, in which the encoder computes. Features are float32 for the bridge in any case.
        seconds: the length that is read, in whole tokens; the checkpoint's by default, which is the longest. Of several
            lengths each recording is read at the shortest that holds it, whatever else is in its batch.

    Raises:
        ValueError: the folder is missing or another model's, its feature extractor doesn't fit its encoder, or a length
            is longer than its positions or shorter than one token.
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
        seconds: float | Sequence[float] | None = None,
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
        places = [config.max_source_positions]
        if seconds is not None:
            lengths = sorted([seconds] if isinstance(seconds, int | float) else seconds)
            if not lengths or lengths[-1] > longest:
                raise ValueError(
                    f"{path}: seconds: found {lengths[-1] if lengths else 'no length'}; expected at most {longest:g}, "
                    "the length that it was trained with. Fix: lower it, and cut recordings into pieces."
                )
            self.fix = AudioFrameEncoder.fix
            places = [int(length * extractor.sampling_rate) // token for length in lengths]
            extractor.n_samples, extractor.nb_max_frames = places[-1] * token, places[-1] * FRAMES_PER_TOKEN
        self.places = tuple(places)
        read = extractor.n_samples / extractor.sampling_rate
        super().__init__(path, tokens, extractor.sampling_rate, read, extractor.n_fft, dtype)
        if places[0] < 1:
            raise ValueError(
                f"seconds: found {min(lengths)}; expected at least {token / self.sample_rate:g}, one token's worth"
            )
        self.config, self.extractor = config, extractor

    def materialize(self) -> None:
        """Builds the encoder alone, of as many positions as it reads, and for shorter recordings of fewer."""
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        self.model = read_model(
            self.checkpoint,
            WhisperEncoder,
            key_mapping={r"^(model\.)?encoder\.": ""},
            unused=("model.decoder.", "decoder.", "proj_out."),
            dtype=self.dtype,
        )
        shorter = [
            self.model if each == self.config.max_source_positions else _cut(self.model, each) for each in self.places
        ]
        self.model = shorter.pop()
        self.shorter = nn.ModuleList(shorter)

    @property
    def passes_vary(self) -> bool:
        """Whether recordings are read at one of several lengths."""
        return len(self.places) > 1

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
        images = inputs["features"].to(self.model.layer_norm.weight.dtype)
        counts: list[int] = inputs["count"].tolist()
        longest = max(counts)
        read = [bisect_left(self.places, count) for count in counts]  # at the shortest length that holds it
        if len(set(read)) == 1:
            tokens = self._read(read[0], images)[:, :longest]
        else:
            tokens = images.new_zeros(len(counts), longest, self.config.d_model)
            for which in sorted(set(read)):
                rows = on_device([row for row, own in enumerate(read) if own == which], images.device)
                own = self._read(which, images[rows])[:, :longest]
                tokens[rows, : own.shape[1]] = own
        return tokens, first_valid(counts, tokens.shape[1], tokens.device)

    def _read(self, which: int, images: Tensor) -> Tensor:
        """Images (b, bins, frames), cut to one of the lengths -> hidden states (b, places, D)."""
        model = self.model if which == len(self.shorter) else self.shorter[which]
        read: Tensor = model(images[..., : FRAMES_PER_TOKEN * self.places[which]]).last_hidden_state
        return read


def _cut(model: WhisperEncoder, places: int) -> WhisperEncoder:
    """The same encoder, of the same weights, for recordings of fewer places."""
    cut = copy(model)
    cut.config = copy(model.config)
    cut.config.max_source_positions = places
    cut._modules = dict(model._modules)
    cut.embed_positions = nn.Embedding(places, model.config.d_model, device="meta")
    cut.embed_positions.weight = nn.Parameter(model.embed_positions.weight[:places].clone(), requires_grad=False)
    return cut
