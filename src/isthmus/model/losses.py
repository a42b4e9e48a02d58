"""How the terms of the objective are weighed, and how sums become means over the global batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from isthmus.layout import on_device
from isthmus.losses import AlignmentForm, alignment_loss
from isthmus.model.teaching import Imitation, Teaching
from isthmus.types import MEDIA, Condition, Modality

TERMS = ("text", "alignment", "denoising", "teaching", "imitation")
"""The terms of the objective."""


@dataclass(frozen=True)
class LossWeights:
    """The weights of a stage's objective (NExT-GPT, arXiv 2309.05519, section 4).

    Attributes:
        text: of the cross-entropy over target positions.
        alignment: of the distance from H to the generator's own text condition.
        denoising: of the generator's denoising error of the medium itself, where a conversation brings its file.
        alignment_form: ``mse``, the paper's, or ``norm``, the un-squared one of NExT-GPT's first released code.
        modalities: factors on alignment and denoising by modality; 1 where not given. One of 0 leaves a modality's
            runs out of both terms and of their means.
        teaching: of the P-Former's own objective, from text alone (BLIText, arXiv 2307.07063): contrastive, vocabulary
            and text terms in equal parts.
        imitation: of the distance from P to the P-Former's prompt (BLIText: 100 beside the text loss).
    """

    text: float = 1.0
    alignment: float = 0.0
    denoising: float = 0.0
    alignment_form: AlignmentForm = "mse"
    modalities: Mapping[str, float] = field(default_factory=dict)
    teaching: float = 0.0
    imitation: float = 0.0

    def __post_init__(self) -> None:
        for name in TERMS:
            if getattr(self, name) < 0:
                raise ValueError(f"losses.{name}: found {getattr(self, name)}; expected a weight of at least 0")
        if not any(getattr(self, name) for name in TERMS):
            raise ValueError(f"losses: every weight is 0, nothing would be learnt; give one of {', '.join(TERMS)} one")
        if self.alignment_form not in ("mse", "norm"):
            raise ValueError(f"losses.alignment_form: found '{self.alignment_form}'; expected mse or norm")
        for modality, factor in self.modalities.items():
            if modality not in MEDIA or factor < 0:
                raise ValueError(
                    f"losses.modalities: found {modality}: {factor}; "
                    f"expected a factor of at least 0 for {', '.join(MEDIA)}"
                )

    @property
    def is_text_alone(self) -> bool:
        """Whether media have no part in the objective: only the teacher learns."""
        return self.text == self.alignment == self.denoising == self.imitation == 0

    def factor(self, modality: Modality) -> float:
        """The factor on this modality's alignment and denoising terms."""
        return self.modalities.get(modality, 1.0)


def distance_to(target: Condition, heard: Condition, form: AlignmentForm) -> Tensor:
    """(r,) the alignment loss of H's tokens, plus that of its pooled part where the generator takes one."""
    distance = alignment_loss(heard.tokens, target.tokens, form=form)
    if heard.pooled is None or target.pooled is None:
        assert heard.pooled is target.pooled, "H and its target are of one generator"
        return distance
    return distance + alignment_loss(heard.pooled[:, None], target.pooled[:, None], form=form)


@torch.no_grad()
def cosine_to(target: Condition, heard: Condition) -> Tensor:
    """() the cosines of H's tokens and the target's, each condition as one vector, summed over runs."""
    return cosine_similarity(heard.tokens.flatten(1), target.tokens.flatten(1)).sum()


@dataclass
class Terms:
    """A batch's loss terms as sums over what each counts, with the counts of this process.

    Attributes:
        text: () summed cross-entropy.
        correct: () likeliest tokens among the targets.
        tokens: () target positions.
        alignment: by modality (r,), one a run.
        denoising: by modality (c,), one a content.
        cosine: by modality (), the summed cosine of H and its target, without gradient: how well signals are heard.
        called: by modality (), the share of runs whose first signal token was the likeliest: the medium was called for.
        teaching: the teacher's own terms, where they weigh anything.
        imitation: distances to the teacher's prompts, where they weigh anything.
    """

    text: Tensor
    correct: Tensor | None
    tokens: Tensor
    alignment: dict[Modality, Tensor] = field(default_factory=dict)
    denoising: dict[Modality, Tensor] = field(default_factory=dict)
    cosine: dict[Modality, Tensor] = field(default_factory=dict)
    called: dict[Modality, Tensor] = field(default_factory=dict)
    teaching: Teaching | None = None
    imitation: Imitation | None = None

    def detach(self) -> Terms:
        """The text, alignment and denoising terms without gradient."""

        def all_of(values: Mapping[Modality, Tensor]) -> dict[Modality, Tensor]:
            return {modality: own.detach() for modality, own in values.items()}

        alignment, denoising = all_of(self.alignment), all_of(self.denoising)
        return Terms(self.text.detach(), self.correct, self.tokens, alignment, denoising, self.cosine, self.called)

    def counts(self) -> Tensor:
        """(3,) float64: target positions, runs and contents of this process.

        Then, where these terms are there, the texts and tokens of teaching, and the media of imitation.
        """
        runs = sum(len(values) for values in self.alignment.values())
        contents = sum(len(values) for values in self.denoising.values())
        counts = [self.tokens, *on_device([runs, contents], self.tokens.device)]
        if self.teaching is not None:
            counts += [self.teaching.texts, self.teaching.tokens]
        if self.imitation is not None:
            counts += [self.imitation.media]
        return torch.stack([count.double() for count in counts])

    def total(self, weights: LossWeights, counts: Tensor) -> Tensor:
        """() the weighed loss, each sum divided by its global count (3,): the same whatever number of processes."""
        counts = counts.clamp(min=1).to(self.text.dtype)
        loss = weights.text * self.text / counts[0]
        for modality, values in self.alignment.items():
            loss = loss + weights.alignment * weights.factor(modality) * values.sum() / counts[1]
        for modality, values in self.denoising.items():
            loss = loss + weights.denoising * weights.factor(modality) * values.sum() / counts[2]
        if self.teaching is not None:
            told = (self.teaching.contrastive + self.teaching.vocabulary) / counts[3]
            loss = loss + weights.teaching * (told + self.teaching.text / counts[4])
        if self.imitation is not None:
            for distance in self.imitation.distances.values():
                loss = loss + weights.imitation * distance / counts[-1]
        return loss
