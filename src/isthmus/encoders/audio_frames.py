"""The base of encoders that read a recording from its start: length, masks and pooling.

`preprocess` pads recordings to a fixed length, so that they can be stacked, and gives their true lengths; padding has
no influence on valid tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from isthmus.encoders.base import Encoder
from isthmus.encoders.mel import resampled
from isthmus.encoders.truncation import Truncation
from isthmus.layout import on_device
from isthmus.precision import Dtype, lifted, torch_dtype
from isthmus.request import Request
from isthmus.types import Features, Media, Modality

Array = np.ndarray[Any, Any]
Tokens = Literal["frame", "pooled"]


class AudioFrameEncoder(Encoder):
    """An audio encoder whose tokens follow each other in time.

    Args:
        checkpoint: where its weights come from.
        tokens: ``frame``, tokens along time, as many as the recording fills; ``pooled``, one token, their mean.
        sample_rate: of the waveforms that the expert was trained on, hertz; others are resampled.
        seconds: the length that is encoded: longer recordings are cut to it, shorter ones padded.
        shortest: samples at ``sample_rate`` that one token needs.
        dtype: the type of the weights, in which the encoder computes. Features are float32 for the bridge in any case.

    Raises:
        ValueError: ``tokens`` is unknown, or ``seconds`` too short for one token.
    """

    modalities = (Modality.AUDIO,)
    fix = "Raise the encoder's `seconds`, or cut recordings into pieces"
    """How to have more of a recording encoded."""

    def __init__(
        self,
        checkpoint: Path,
        tokens: Tokens,
        sample_rate: int,
        seconds: float,
        shortest: int,
        dtype: Dtype = "float32",
    ) -> None:
        super().__init__()
        self.dtype = torch_dtype(dtype)
        if tokens not in ("frame", "pooled"):
            raise ValueError(f"tokens: found '{tokens}'; expected 'frame' or 'pooled'")
        if not shortest / sample_rate <= seconds < math.inf:
            raise ValueError(f"seconds: found {seconds}; expected at least {shortest / sample_rate}, one token's worth")
        self.checkpoint = checkpoint
        self.tokens = tokens
        self.sample_rate = sample_rate
        self.longest = int(seconds * sample_rate)
        self.shortest = shortest
        self.truncation = Truncation(f"{type(self).__name__} {checkpoint}")

    def inputs_of(self, waveform: Array) -> dict[str, Tensor]:
        """A recording's first ``seconds`` (L,) float32 at ``sample_rate`` -> the tensors that :meth:`frames` takes."""
        raise NotImplementedError

    def valid_count(self, inputs: Mapping[str, Tensor]) -> int:
        """How many tokens one preprocessed recording fills, known without weights."""
        raise NotImplementedError

    def frames(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Stacked inputs -> all tokens (B, N, D) and mask (B, N). Called once the weights are loaded."""
        raise NotImplementedError

    def preprocess(self, medium: Media) -> dict[str, Tensor]:
        """A recording at any rate -> tensors of a fixed size, and their true length.

        Recordings of which one token or more is cut off are counted, and a warning is logged.

        Raises:
            ValueError: the medium isn't audio, is too short for one token, or holds values that aren't finite; the
                message names its source.
        """
        self._check(medium.modality)
        assert medium.rate is not None
        if not np.isfinite(medium.array).all():
            raise ValueError(
                f"{medium.source}: audio holds values that aren't finite numbers: repair the recording or leave it out"
            )
        whole = resampled(medium.array, medium.rate, self.sample_rate)
        waveform = whole[: self.longest]
        seconds = medium.frame_count / medium.rate
        if round(seconds * self.sample_rate) - self.longest >= self.shortest:
            part = f"the first {self.longest / self.sample_rate:g} s are"
            self.truncation(medium.source, seconds, part, self.fix)
        if waveform.shape[0] < self.shortest:
            raise ValueError(
                f"{medium.source}: audio of {waveform.shape[0]} samples at {self.sample_rate} Hz; expected at least "
                f"{self.shortest}, {1000 * self.shortest / self.sample_rate:g} ms: give a longer recording"
            )
        return self.inputs_of(waveform)

    def request(self, modality: Modality) -> Request | None:
        """The recording's beginning."""
        return Request(seconds=self.longest / self.sample_rate)

    def _check(self, modality: Modality) -> None:
        if modality is not Modality.AUDIO:
            raise ValueError(f"{modality}: this encoder serves audio; give another encoder for it")

    def token_count(self, modality: Modality, inputs: Mapping[str, Tensor]) -> int:
        """1 (``pooled``), or the tokens that the recording fills (``frame``)."""
        self._check(modality)
        return 1 if self.tokens == "pooled" else self.valid_count(inputs)

    @torch.no_grad()
    def forward(self, modality: Modality, inputs: Mapping[str, Tensor]) -> Features:
        """Stacked inputs -> tokens (B, N, D) and mask (B, N); N is that of the batch's longest recording."""
        self._check(modality)
        if not self.is_loaded:
            self.load(next(iter(inputs.values())).device)
        tokens, mask = self.frames(inputs)
        if self.tokens == "pooled":
            tokens, mask = masked_mean(tokens, mask)[:, None], mask[:, :1]
        return Features(tokens, mask)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """(B, N, D), mask (B, N) with at least one valid token a row -> (B, D), summed in float32 or better."""
    return lifted(tokens).masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)


def first_valid(counts: Tensor | Sequence[int], length: int, device: torch.device | None = None) -> Tensor:
    """Counts (B,) -> mask (B, length), True at the first ``count`` steps of each row, on the counts' or this device."""
    where = device or (counts.device if isinstance(counts, Tensor) else torch.device("cpu"))
    held = counts if isinstance(counts, Tensor) else on_device(counts, where)
    return torch.arange(length, device=where) < held[:, None]
