"""The interface of an encoder: media -> F (B, N, D). In every stage it is frozen, in eval mode and without gradient."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from isthmus.frozen import FrozenExpert
from isthmus.precision import own_precision
from isthmus.request import Request
from isthmus.types import Features, Media, Modality


class Encoder(FrozenExpert):
    """A frozen expert that turns media into tokens.

    Attributes:
        modalities: those that it encodes.
        checkpoint: where its weights come from; a part of the fingerprint that a trained bridge is tied to.
        counts_are_bounds: whether ``token_count`` is only an upper bound. The mask then has the actual number, one or
            more, and the batch is packed accordingly before the LLM reads it.
    """

    modalities: tuple[Modality, ...]
    checkpoint: Path
    counts_are_bounds: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """:meth:`forward`, in the encoder's own type whatever the Trainer's precision."""
        with own_precision(self.dtype):
            return super().__call__(*args, **kwargs)

    @property
    def passes_vary(self) -> bool:
        """Whether the media of a batch decide how often the layers run, as where they are grouped by length.

        Such an encoder's layers can't be in shards of their own, which all processes gather together. No attribute, as
        those are a part of what cached features are told apart by.
        """
        return False

    def width(self, modality: Modality) -> int:
        """D, the width of this modality's tokens."""
        raise NotImplementedError

    def preprocess(self, medium: Media) -> dict[str, Tensor]:
        """One medium -> tensors without a batch axis, ready to be stacked. Runs in data workers, without weights.

        A tensor whose name ends in ``count`` stays on the CPU, where :meth:`forward` may read it.
        """
        raise NotImplementedError

    def request(self, modality: Modality) -> Request | None:
        """The part of a medium that :meth:`preprocess` reads, so that no more of a file is decoded.

        :meth:`preprocess` then gets only those frames of a video, and finds them by ``Media.frame_count`` and
        ``Media.rows``. None stands for the whole medium.
        """
        return None

    def token_count(self, modality: Modality, inputs: Mapping[str, Tensor]) -> int:
        """N for one preprocessed medium, known without running the encoder; see ``counts_are_bounds``."""
        raise NotImplementedError

    def forward(self, modality: Modality, inputs: Mapping[str, Tensor]) -> Features:
        """Stacked inputs of one modality -> tokens (B, N, D), mask (B, N)."""
        raise NotImplementedError
