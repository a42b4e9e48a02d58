"""What a model holds each answer of a batch for: log-probabilities of its tokens, denoising errors of its media."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from isthmus.layout import on_device
from isthmus.model.counting import layout_within
from isthmus.model.losses import distance_to
from isthmus.types import IGNORED, Batch, Features, Modality

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
        alignment: by modality (r,), the distance of each run to its caption's condition.
    """

    batch: Batch
    tokens: Tensor
    targets: Tensor
    correct: Tensor | None
    denoising: dict[Modality, Tensor] = field(default_factory=dict)
    alignment: dict[Modality, Tensor] = field(default_factory=dict)

    @property
    def text(self) -> Tensor:
        """(B,) log-probability of each answer: of its words, its end and its runs' first signal tokens."""
        return self.tokens.sum(1)

    @property
    def counts(self) -> Tensor:
        """(B,) how many targets each has."""
        return self.targets.sum(1)


def score(
    model: AnyToAny,
    batch: Batch,
    contents: bool = False,
    aligned: int = 0,
    temperature: float = 1.0,
    projected: Mapping[Modality, tuple[Tensor, Tensor]] | None = None,
    features: Mapping[Modality, Features] | None = None,
) -> Scores:
    """Scores a batch's answers.

    Args:
        model: whose they are, or might be.
        batch: conversations with answers.
        contents: whether media that bring their file are denoised too.
        aligned: the runs of so many rows, from the first on, are compared with their captions' conditions.
        temperature: of the log-probabilities.
        projected: P and its mask by modality, where they are known; or
        features: F by modality. Without either, the batch's media are encoded.
    """
    if projected is None:
        projected = {} if model.input_side is None else model.input_side(batch.media, features)
    closed = batch if model.input_side is None else model.input_side.closed(batch, projected)
    closed = model.backbone.language_model.laid_out(closed)
    layout = layout_within(closed)
    output = model.backbone(closed, projected, by_token=True, temperature=temperature)
    targets = closed.labels != IGNORED
    assert output.token_losses is not None
    nothing = output.token_losses.new_zeros(targets.numel())
    tokens = nothing.index_copy(0, layout.targets, -output.token_losses).view(targets.shape)
    scores = Scores(closed, tokens, targets, output.correct)
    if contents and model.output_side is not None:
        signals = {modality: own for modality, own in output.signals.items() if closed.signals[modality].contents}
        for modality, heard in model.output_side(signals).items():
            runs = closed.signals[modality]
            of = layout.runs[modality].contents
            scores.denoising[modality] = model.output_side.denoising(modality, heard, runs, of)
    if aligned and model.output_side is not None:
        own = {
            modality: [run for run, row in enumerate(layout.runs[modality].rows) if row < aligned]
            for modality in closed.signals
        }
        signals = {m: output.signals[m][on_device(runs, model.device)] for m, runs in own.items() if runs}
        for modality, heard in model.output_side(signals).items():
            captions = [closed.signals[modality].captions[run] for run in own[modality]]
            target = model.output_side.target(modality, captions)
            scores.alignment[modality] = distance_to(target, heard, model.loss_weights.alignment_form)
    return scores
