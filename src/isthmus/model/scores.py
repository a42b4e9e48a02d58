"""What a model holds each answer of a batch for: log-probabilities of its tokens, denoising errors of its media."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from isthmus.types import IGNORED, Batch, Modality

if TYPE_CHECKING:
    from isthmus.model.any_to_any import AnyToAny


@dataclass
class Scores:
    """Scores of a batch's answers.

    Attributes:
        batch: the one that was scored, closed over positions that media didn't take.
        tokens: (B, T) log-probability of each target, 0 elsewhere.
        targets: (B, T) bool, where the targets are.
        correct: (P,) bool, which targets were the likeliest token; None where that isn't known.
        denoising: by modality (c,), the denoising error of each content.
    """

    batch: Batch
    tokens: Tensor
    targets: Tensor
    correct: Tensor | None
    denoising: dict[Modality, Tensor] = field(default_factory=dict)

    @property
    def text(self) -> Tensor:
        """(B,) log-probability of each answer: of its words, its end and its runs' first signal tokens."""
        return self.tokens.sum(1)

    @property
    def counts(self) -> Tensor:
        """(B,) how many targets each has."""
        return self.targets.sum(1)


def score(model: AnyToAny, batch: Batch, contents: bool = False) -> Scores:
    """Scores a batch's answers; ``contents``: those of media that bring their file too."""
    projected = {} if model.input_side is None else model.input_side(batch.media)
    closed = batch if model.input_side is None else model.input_side.closed(batch, projected)
    output = model.backbone(closed, projected, by_token=True)
    targets = closed.labels != IGNORED
    assert output.token_losses is not None
    tokens = output.token_losses.new_zeros(targets.shape).masked_scatter(targets, -output.token_losses)
    scores = Scores(closed, tokens, targets, output.correct)
    if contents and model.output_side is not None:
        signals = {modality: own for modality, own in output.signals.items() if closed.signals[modality].contents}
        for modality, heard in model.output_side(signals).items():
            scores.denoising[modality] = model.output_side.denoising(modality, heard, closed.signals[modality])
    return scores
