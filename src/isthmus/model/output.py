"""What the forward gives, and the scores of a batch's answers that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from isthmus.backbones.base import BackboneOutput
from isthmus.batch_layout import known_layout
from isthmus.layout import on_device
from isthmus.losses import AlignmentForm
from isthmus.model.output_side import OutputSide
from isthmus.types import IGNORED, Batch, Condition, Modality


@dataclass
class Output(BackboneOutput):
    """What :class:`~isthmus.model.AnyToAny` gives for a batch, beside the text loss and S of the backbone.

    Attributes:
        batch: the one that was run, packed over positions that media didn't take, with its layout.
        projected: by modality P (n, M, E) and its mask.
        conditions: by modality H of its r runs, of the modalities that were asked for.
    """

    batch: Batch = field(kw_only=True)
    projected: dict[Modality, tuple[Tensor, Tensor]] = field(kw_only=True)
    conditions: dict[Modality, Condition] = field(kw_only=True)


@dataclass
class Scores:
    """Scores of a batch's answers: log-probabilities of their tokens, denoising errors of their media.

    Attributes:
        batch: the one that was scored, packed over positions that media didn't take.
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


def scores_of(output: Output, side: OutputSide | None, contents: bool, aligned: int, form: AlignmentForm) -> Scores:
    """The scores of a forward with losses by token.

    Args:
        output: the forward's.
        side: the model's output side.
        contents: whether media that bring their file are denoised too.
        aligned: the runs of so many rows, from the first on, are compared with their captions' conditions.
        form: of the distance.
    """
    batch, layout = output.batch, known_layout(output.batch)
    assert output.token_losses is not None, "the forward was by token"
    targets = batch.labels != IGNORED
    nothing = output.token_losses.new_zeros(targets.numel())
    tokens = nothing.index_copy(0, layout.targets, -output.token_losses).view(targets.shape)
    scores = Scores(batch, tokens, targets, output.correct)
    if side is None:
        return scores
    if contents:
        signals = {modality: own for modality, own in output.signals.items() if batch.signals[modality].contents}
        for modality, condition in side(signals).items():
            of = layout.runs[modality].contents
            scores.denoising[modality] = side.denoising(modality, condition, batch.signals[modality], of)
    if aligned:
        runs = {m: [run for run, row in enumerate(layout.runs[m].rows) if row < aligned] for m in batch.signals}
        signals = {m: output.signals[m][on_device(own, tokens.device)] for m, own in runs.items() if own}
        for modality, condition in side(signals).items():
            captions = [batch.signals[modality].captions[run] for run in runs[modality]]
            scores.alignment[modality] = side.distance(modality, captions, condition, form)[0]
    return scores
