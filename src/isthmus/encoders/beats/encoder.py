"""BEATs as a frozen expert: recordings -> patch tokens (Chen et al., arXiv 2212.09058). Code and weights: MIT."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.encoders.audio_frames import AudioFrameEncoder, Tokens, first_valid
from isthmus.encoders.beats.config import BINS, read_beats_config
from isthmus.encoders.beats.model import BeatsModel
from isthmus.encoders.checkpoint import load_weights, read_weights, weights_file
from isthmus.encoders.mel import HOP_SECONDS, POVEY, WINDOW_SECONDS, filter_banks
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.precision import Dtype
from isthmus.types import Modality

SAMPLE_RATE = 16000
FULL_SCALE = 2**15
"""The value of a full-scale sample in Kaldi, which reads 16-bit integers."""
BANK_MEAN = 15.41663
BANK_SCALE = 2 * 6.55582
"""Twice the banks' standard deviation over AudioSet."""

Array = np.ndarray[Any, Any]


def beats_banks(waveform: Array) -> Array:
    """(L,) in [-1, 1] at 16 kHz -> normalised log-mel filter banks (frames, 128) float32, a frame every 10 ms."""
    banks = filter_banks(waveform * FULL_SCALE, SAMPLE_RATE, BINS, POVEY)
    return (banks - np.float32(BANK_MEAN)) / np.float32(BANK_SCALE)


class Beats(AudioFrameEncoder):
    """Sounds of all kinds.

    A recording's tokens don't depend on the rest of the batch: frames after its last whole row of patches are dropped,
    as in the original code, and padding is masked in every layer.

    Args:
        checkpoint: a published ``.pt`` file, pretrained or fine-tuned (the head isn't read), or a folder of
            ``config.json`` (a section ``beats`` with any fields of
            :class:`~isthmus.encoders.beats.config.BeatsConfig`) and a weights file.
        tokens: ``frame``, all patches, 8 bands for each row of 160 ms, row by row; ``pooled``, one token, their mean.
        seconds: the length that is encoded, 10 in AudioSet: longer recordings are cut to it, shorter ones padded.
        dtype: the type of the weights, in which the encoder computes. Features are float32 for the bridge in any case.

    Raises:
        ValueError: a checkpoint whose sizes can't be read, or an unknown choice.
    """

    card = PartCard(
        takes="audio",
        gives="F (B, N, D): 50 tokens a second, or 1",
        widths="768",
        weights="MIT",
        checkpoint="a published BEATs .pt, or a folder of config.json and weights",
    )

    model: BeatsModel

    def __init__(
        self, checkpoint: str | Path, tokens: Tokens = "frame", seconds: float = 10.0, dtype: Dtype = "float32"
    ) -> None:
        path = checkpoint_path(checkpoint)
        config = read_beats_config(path)
        shortest = _samples(config.input_patch_size)
        super().__init__(path, tokens, SAMPLE_RATE, seconds, shortest, dtype)
        self.config = dataclasses.replace(config, finetuned_model=False)

    def materialize(self) -> None:
        """Builds the transformer; a fine-tuned checkpoint's head is left unread."""
        file = weights_file(self.checkpoint)
        weights = {key: value for key, value in read_weights(file).items() if not key.startswith("predictor.")}
        _require_shared_positions(weights, file)
        with torch.device("meta"):
            model = BeatsModel(self.config)
        load_weights(model, weights, file, self.dtype)
        self.model = model

    def width(self, modality: Modality) -> int:
        """D, the width of the transformer."""
        self._check(modality)
        return self.config.encoder_embed_dim

    def inputs_of(self, waveform: Array) -> dict[str, Tensor]:
        """(L,) -> banks (frames, 128), and how many rows of patches are real."""
        side = self.config.input_patch_size
        banks = beats_banks(waveform)
        rows, most = banks.shape[0] // side, _frames(self.longest) // side
        padded = np.zeros((most * side, BINS), np.float32)
        padded[: rows * side] = banks[: rows * side]
        return {"banks": torch.from_numpy(padded), "row_count": torch.tensor(rows)}

    def valid_count(self, inputs: Mapping[str, Tensor]) -> int:
        """Rows times the patches of a row."""
        return int(inputs["row_count"]) * self.config.patches_per_row

    def frames(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Banks (B, frames, 128), row_count (B,) -> tokens (B, N, D), mask (B, N)."""
        counts = [rows * self.config.input_patch_size for rows in inputs["row_count"].tolist()]
        banks = inputs["banks"][:, : max(counts)].to(self.model.layer_norm.weight.dtype)
        tokens, mask = self.model(banks, first_valid(counts, banks.shape[1], banks.device))
        return tokens, mask


def _frames(samples: int) -> int:
    return 1 + (samples - round(WINDOW_SECONDS * SAMPLE_RATE)) // round(HOP_SECONDS * SAMPLE_RATE)


def _samples(frames: int) -> int:
    return round(WINDOW_SECONDS * SAMPLE_RATE) + (frames - 1) * round(HOP_SECONDS * SAMPLE_RATE)


def _require_shared_positions(weights: Mapping[str, Tensor], file: Path) -> None:
    """All layers share one table of positions; where a file repeats it for each layer, all copies must be equal."""
    tables = [value for key, value in weights.items() if key.endswith("relative_attention_bias.weight")]
    if any(not torch.equal(table, tables[0]) for table in tables[1:]):
        raise ValueError(
            f"{file}: relative_attention_bias differs from layer to layer; expected one table, which BEATs' layers "
            "share: this looks like a checkpoint of another model"
        )
