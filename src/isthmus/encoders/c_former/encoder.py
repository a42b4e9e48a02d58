"""C-Former's speech side as a frozen expert: speech -> one token for each spoken unit (X-LLM, arXiv 2305.04160).

Its other half, the projector, is :class:`isthmus.input_projectors.CFormerProjector`. No weights are published: train
them on transcribed speech with :func:`isthmus.encoders.c_former.losses.speech_losses`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.encoders.audio_frames import AudioFrameEncoder, Tokens, first_valid
from isthmus.encoders.c_former.model import CFormerConfig, CFormerModel, frame_counts
from isthmus.encoders.checkpoint import load_weights, read_config, read_weights, weights_file
from isthmus.encoders.mel import HOP_SECONDS, POVEY, WINDOW_SECONDS, filter_banks
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.precision import Dtype
from isthmus.types import Modality

SAMPLE_RATE = 16000
WINDOW, HOP = round(WINDOW_SECONDS * SAMPLE_RATE), round(HOP_SECONDS * SAMPLE_RATE)

Array = np.ndarray[Any, Any]


def speech_banks(waveform: Array, config: CFormerConfig) -> Array:
    """(L,) in [-1, 1] at 16 kHz -> normalised log-mel filter banks (frames, bins) float32, a frame every 10 ms."""
    banks = filter_banks(waveform, SAMPLE_RATE, config.bins, POVEY)
    return (banks - np.float32(config.bank_mean)) / np.float32(config.bank_deviation)


class CFormer(AudioFrameEncoder):
    """Speech. The number of tokens depends on the content, so that only an upper bound is known before encoding.

    Args:
        checkpoint: a folder of ``config.json`` (a section ``c_former`` with any fields of
            :class:`~isthmus.encoders.c_former.model.CFormerConfig`) and a weights file; or that file alone, at the
            default sizes.
        tokens: ``frame``, all that fired; ``pooled``, one token, their mean.
        seconds: the length that is encoded: longer recordings are cut to it, shorter ones padded.
        max_tokens: the most tokens of a recording; more are cut off. A planned batch reserves this many positions, and
            the LLM reads only those that are filled.
        dtype: the type of the weights, in which the encoder computes. Features are float32 for the bridge in any case.

    Raises:
        ValueError: a checkpoint whose sizes can't be read, or an unknown choice.
    """

    card = PartCard(
        takes="audio (speech)",
        gives="F (B, N, D): a token for each unit said, or 1",
        widths="512",
        weights="none published: train it",
        checkpoint="a folder of config.json and weights",
    )

    model: CFormerModel

    def __init__(
        self,
        checkpoint: str | Path,
        tokens: Tokens = "frame",
        seconds: float = 30.0,
        max_tokens: int = 128,
        dtype: Dtype = "float32",
    ) -> None:
        path = checkpoint_path(checkpoint)
        super().__init__(path, tokens, SAMPLE_RATE, seconds, WINDOW, dtype)
        if max_tokens < 1:
            raise ValueError(f"max_tokens: found {max_tokens}; expected at least 1")
        self.config = read_config(path, "c_former", CFormerConfig())
        self.max_tokens = max_tokens
        self.counts_are_bounds = tokens == "frame"

    def materialize(self) -> None:
        """Builds the network, including the heads, which :meth:`transcribe` needs."""
        file = weights_file(self.checkpoint)
        weights = read_weights(file)
        self.model = CFormerModel(self.config)
        load_weights(self.model, weights, file, self.dtype)

    def width(self, modality: Modality) -> int:
        """D, the conformer's width."""
        self._check(modality)
        return self.config.width

    def inputs_of(self, waveform: Array) -> dict[str, Tensor]:
        """(L,) -> banks (frames, bins), and how many of the frames aren't padding."""
        banks = speech_banks(waveform, self.config)
        padded = np.zeros((1 + (self.longest - WINDOW) // HOP, self.config.bins), np.float32)
        padded[: banks.shape[0]] = banks
        return {"banks": torch.from_numpy(padded), "count": torch.tensor(banks.shape[0])}

    def valid_count(self, inputs: Mapping[str, Tensor]) -> int:
        """The most tokens that can fire: one for each frame of the conformer, and at most ``max_tokens``."""
        return min(int(frame_counts(inputs["count"])), self.max_tokens)

    def frames(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Banks (B, frames, bins), count (B,) -> tokens (B, N, D), mask (B, N), with one valid token or more a row."""
        fired = self.model.tokens(*self._banks_and_mask(inputs))
        return fired.tokens[:, : self.max_tokens], fired.mask[:, : self.max_tokens]

    @torch.no_grad()
    def transcribe(self, inputs: Mapping[str, Tensor]) -> list[list[str]]:
        """Stacked inputs -> the piece that each token stands for, by the head that it was trained with."""
        if not self.is_loaded:
            self.load(inputs["banks"].device)
        spoken = self.model(*self._banks_and_mask(inputs))
        best, counts = spoken.token_logits.argmax(-1).tolist(), spoken.fired.mask.sum(1).tolist()
        return [[self.config.pieces[p] for p in row[:count]] for row, count in zip(best, counts, strict=True)]

    def _banks_and_mask(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The batch's banks, cut to its longest recording, and their mask."""
        counts: list[int] = inputs["count"].tolist()
        banks = inputs["banks"][:, : max(counts)].to(self.model.token_head.weight.dtype)
        return banks, first_valid(counts, banks.shape[1], banks.device)
