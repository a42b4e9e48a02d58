"""How the terms of the objective are weighed, and how sums become means over the global batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor

from isthmus.layout import on_device
from isthmus.losses import AlignmentForm
from isthmus.modalities import is_medium, known_media
from isthmus.training.objectives.teaching import Described, Teaching
from isthmus.types import Batch, Modality
from isthmus.vocabulary import Vocabulary

TERMS = ("text", "alignment", "denoising", "teaching", "imitation", "spelling", "keeping")
"""The terms of the supervised loss."""

COUNTS = (
    *("targets", "aligned runs", "denoised contents", "taught texts", "their tokens", "described media"),
    "kept targets",
)
"""What the terms' sums are divided by, in the order in which they are counted."""


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
        spelling: of how far P is from saying, in the LLM's own embeddings, what is said of a medium
            (:mod:`isthmus.training.objectives.spelling`). Where nothing but this or ``imitation`` weighs anything, the
            LLM isn't run.
        keeping: of how far the LLM's predictions have moved from those of the LLM as it was published, without its
            adapters: the Kullback-Leibler divergence, a target, of conversations of ``kept_sources`` that are in words
            alone.
        kept_sources: the training sources whose conversations ``keeping`` is about, such as the LLM's own answers.
    """

    text: float = 1.0
    alignment: float = 0.0
    denoising: float = 0.0
    alignment_form: AlignmentForm = "mse"
    modalities: Mapping[str, float] = field(default_factory=dict)
    teaching: float = 0.0
    imitation: float = 0.0
    spelling: float = 0.0
    keeping: float = 0.0
    kept_sources: Sequence[str] = ("replay",)

    def __post_init__(self) -> None:
        for name in TERMS:
            if getattr(self, name) < 0:
                raise ValueError(f"losses.{name}: found {getattr(self, name)}; expected a weight of at least 0")
        if not any(getattr(self, name) for name in TERMS):
            raise ValueError(f"losses: every weight is 0, nothing would be learnt; give one of {', '.join(TERMS)} one")
        if self.alignment_form not in ("mse", "norm"):
            raise ValueError(f"losses.alignment_form: found '{self.alignment_form}'; expected mse or norm")
        for modality, factor in self.modalities.items():
            if not is_medium(modality) or factor < 0:
                raise ValueError(
                    f"losses.modalities: found {modality}: {factor}; "
                    f"expected a factor of at least 0 for {', '.join(known_media())}"
                )

    @property
    def is_text_alone(self) -> bool:
        """Whether media have no part in the objective: only the teacher learns."""
        return not self._beside("teaching")

    @property
    def is_projection_alone(self) -> bool:
        """Whether the objective is about P: the LLM isn't run, and nothing is made."""
        return self.imitation + self.spelling > 0 and not self._beside("imitation", "spelling", "teaching")

    @property
    def is_drawing_alone(self) -> bool:
        """Whether the objective is about H: of the LLM nothing but S is wanted."""
        return not self._beside("alignment", "denoising")

    def _beside(self, *names: str) -> bool:
        """Whether a term other than these weighs anything."""
        return any(getattr(self, name) for name in TERMS if name not in names)

    def factor(self, modality: Modality) -> float:
        """The factor on this modality's alignment and denoising terms."""
        return self.modalities.get(modality, 1.0)


def called_runs(vocabulary: Vocabulary, batch: Batch, labels: Tensor, correct: Tensor) -> dict[Modality, Tensor]:
    """By modality (2,): runs whose first signal token was the likeliest, and all runs, of labels (P,) and hits (P,)."""
    found = {}
    for modality in batch.signals:
        first = labels == vocabulary.signal_ids(modality)[0]
        found[modality] = torch.stack([(correct & first).sum(), first.sum()])
    return found


@dataclass
class Terms:
    """A batch's loss terms as sums over what each counts, with the counts of this process.

    Attributes:
        text: () summed cross-entropy.
        correct: () likeliest tokens among the targets.
        tokens: target positions.
        alignment: by modality (r,), one a run.
        denoising: by modality (c,), one a content.
        cosine: by modality (), the summed cosine of H and its target, without gradient: how well signals are heard.
        called: by modality (2,), runs whose first signal token was the likeliest (the medium was called for), and all.
        teaching: the teacher's own terms, where they weigh anything.
        imitation: distances to the teacher's prompts, where they weigh anything.
        spelling: how far P is from saying the texts, likewise.
        keeping: () summed divergence from the published LLM's predictions, likewise.
        kept: the targets that it is summed over.
        signals: by modality S (r, S, E) of the runs that were projected; of a part, not added up.
    """

    text: Tensor
    correct: Tensor | None
    tokens: int
    alignment: dict[Modality, Tensor] = field(default_factory=dict)
    denoising: dict[Modality, Tensor] = field(default_factory=dict)
    cosine: dict[Modality, Tensor] = field(default_factory=dict)
    called: dict[Modality, Tensor] = field(default_factory=dict)
    teaching: Teaching | None = None
    imitation: Described | None = None
    spelling: Described | None = None
    keeping: Tensor | None = None
    kept: int = 0
    signals: dict[Modality, Tensor] = field(default_factory=dict)

    def detach(self) -> Terms:
        """The same without gradient."""
        return Terms(**{name: detached(value) for name, value in vars(self).items()})

    def counts(self) -> Tensor:
        """(7,) float64, as :data:`COUNTS` names them, of this process."""
        runs = sum(len(values) for values in self.alignment.values())
        contents = sum(len(values) for values in self.denoising.values())
        taught = (0, 0) if self.teaching is None else (self.teaching.texts, self.teaching.tokens)
        described = self.imitation or self.spelling
        media = 0 if described is None else described.media
        return on_device([self.tokens, runs, contents, *taught, media, self.kept], self.text.device, torch.float64)

    def total(self, weights: LossWeights, counts: Tensor) -> Tensor:
        """() the weighed loss, each sum divided by its global count (7,): the same whatever number of processes."""
        counts = counts.clamp(min=1).to(self.text.dtype)
        loss = weights.text * self.text / counts[0]
        for modality, values in self.alignment.items():
            loss = loss + weights.alignment * weights.factor(modality) * values.sum() / counts[1]
        for modality, values in self.denoising.items():
            loss = loss + weights.denoising * weights.factor(modality) * values.sum() / counts[2]
        if self.teaching is not None:
            terms = (self.teaching.contrastive + self.teaching.vocabulary) / counts[3]
            loss = loss + weights.teaching * (terms + self.teaching.text / counts[4])
        for weight, described in ((weights.imitation, self.imitation), (weights.spelling, self.spelling)):
            for distance in {} if described is None else described.distances.values():
                loss = loss + weight * distance / counts[5]
        if self.keeping is not None:
            loss = loss + weights.keeping * self.keeping / counts[6]
        return loss


def detached(value: Any) -> Any:
    """Tensors without gradient, also those in dictionaries and dataclasses; what else there is as it is."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {key: detached(own) for key, own in value.items()}
    return replace(value, **detached(vars(value))) if is_dataclass(value) and not isinstance(value, type) else value


def together(found: Sequence[Terms]) -> Terms:
    """The terms of a batch, of those of its parts."""
    if len(found) == 1:
        return found[0]

    def of(name: str) -> dict[Modality, list[Tensor]]:
        own: dict[Modality, list[Tensor]] = {}
        for terms in found:
            for modality, values in getattr(terms, name).items():
                own.setdefault(modality, []).append(values)
        return own

    def sum_of(name: str) -> Any:
        own = [getattr(terms, name) for terms in found if getattr(terms, name) is not None]
        return reduce(add, own) if own else None

    correct = [terms.correct for terms in found if terms.correct is not None]
    return Terms(
        torch.stack([terms.text for terms in found]).sum(),
        torch.stack(correct).sum() if correct else None,
        sum(terms.tokens for terms in found),
        {modality: torch.cat(values) for modality, values in of("alignment").items()},
        {modality: torch.cat(values) for modality, values in of("denoising").items()},
        {modality: torch.stack(values).sum() for modality, values in of("cosine").items()},
        {modality: torch.stack(values).sum(0) for modality, values in of("called").items()},
        **{name: sum_of(name) for name in ("teaching", "imitation", "spelling", "keeping")},
        kept=sum(terms.kept for terms in found),
    )
