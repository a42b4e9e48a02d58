"""Supervised learning: the weighed sum of text, alignment and denoising losses, and of a teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from isthmus.batch_layout import known_layout, target_labels
from isthmus.layout import Places, Runs
from isthmus.model import AnyToAny
from isthmus.model.output import Output
from isthmus.model.output_side import OutputSide
from isthmus.training.objectives.base import Counted, Learner, Objective, Outcome
from isthmus.training.objectives.spelling import spell
from isthmus.training.objectives.teaching import Lesson, imitate, is_described, lesson_of, teach, teacher_of
from isthmus.training.objectives.terms import LossWeights, Terms, called_runs, together
from isthmus.training.standardising import see
from isthmus.types import Batch, Condition, Modality

DRAWN = ("signal_called", "alignment", "signal_cosine", "denoising")
"""Figures of a modality that is made."""

DESCRIBED = ("imitation", "spelling")
"""Figures of a modality that is given."""


class Supervised(Objective):
    """The losses of NExT-GPT (arXiv 2309.05519, section 4), as a stage's :class:`LossWeights` weigh them."""

    dropout = True
    compares = False

    def prepares(self, weights: LossWeights) -> bool:
        return weights.denoising > 0

    def makes(self, weights: LossWeights) -> bool:
        return weights.alignment + weights.denoising > 0

    def counts(self, model: AnyToAny) -> list[str]:
        drawn = [f"{figure}_{modality}" for modality in model.outputs for figure in DRAWN]
        return [*drawn, *[f"{figure}_{modality}" for modality in model.inputs for figure in DESCRIBED]]

    def step(self, learner: Learner, batch: Batch) -> Outcome:
        found: list[Terms] = []
        losses, sizes = part_losses(learner, batch.pieces, found)
        loss, _ = learner.in_turn(learner.together(losses))
        terms, counts, world = together(found), sizes(), learner.world
        if learner.lacking:
            assert learner.model.output_side is not None, "what is lacking is its"
            see(learner.model.output_side, learner.lacking, [part.signals for part in found], world)
        tokens = counts[0].clamp(min=1)
        shared = {"loss": loss}
        if not (learner.weights.is_projection_alone or learner.weights.is_drawing_alone):
            shared["text_loss"] = terms.text * world / tokens
            if terms.correct is not None:
                shared["text_accuracy"] = terms.correct * world / tokens
        if learner.weights.keeping:
            own = terms.text.new_zeros(()) if terms.keeping is None else terms.keeping
            shared["keeping"] = own * world / counts[6].clamp(min=1)
        if terms.teaching is not None:
            for name, count in (("contrastive", counts[3]), ("vocabulary", counts[3]), ("text", counts[4])):
                shared[f"teaching_{name}"] = getattr(terms.teaching, name) * world / count.clamp(min=1)
        counted: dict[str, Counted] = {f"signal_called_{m}": (hits, runs) for m, (hits, runs) in terms.called.items()}
        for modality, distances in terms.alignment.items():
            counted[f"alignment_{modality}"] = (distances.sum(), len(distances))
            counted[f"signal_cosine_{modality}"] = (terms.cosine[modality], len(distances))
        counted.update({f"denoising_{modality}": (own.sum(), len(own)) for modality, own in terms.denoising.items()})
        for figure in DESCRIBED:
            if (own := getattr(terms, figure)) is not None:
                counted.update({f"{figure}_{modality}": (gap, own.media) for modality, gap in own.distances.items()})
        return Outcome(loss, shared, counted)


def part_losses(
    learner: Learner, parts: Sequence[Batch], found: list[Terms]
) -> tuple[list[Callable[[], Tensor]], Callable[[], Tensor]]:
    """What computes the loss () of each of a batch's parts, and what gives the global counts (7,).

    The losses' sum is the loss over the global batch, times the processes: DDP averages gradients over them. What sums
    are divided by is known before the forward, and is added up over processes while the device works.

    Args:
        learner: what learns.
        parts: of this process; it may have none, where others have some.
        found: takes the terms of each part, without gradient, as they are computed.
    """
    model, weights = learner.model, learner.weights
    lessons: list[Lesson | None] = [None] * len(parts)
    if weights.teaching:
        teacher = teacher_of(model.input_side)
        lessons = [lesson_of(teacher, model.backbone.language_model, part.texts) for part in parts]
    counted = learner.over_processes(counts_of(model, weights, parts, lessons))

    def loss_of(part: Batch, lesson: Lesson | None) -> Tensor:
        terms = terms_of(model, weights, part, lesson)
        found.append(terms.detach())
        return terms.total(weights, counted()) * learner.world

    return [partial(loss_of, *each) for each in zip(parts, lessons, strict=True)], counted


def counts_of(
    model: AnyToAny, weights: LossWeights, parts: Sequence[Batch], lessons: Sequence[Lesson | None]
) -> list[int]:
    """What the terms of a batch's parts count, as :data:`~isthmus.training.objectives.terms.COUNTS` names it."""
    is_llm_run = not (weights.is_text_alone or weights.is_projection_alone)
    tokens = sum(part.target_count for part in parts) if is_llm_run else 0
    signals = [pair for part in parts for pair in part.signals.items()] if model.output_side is not None else []
    weighed = [own for modality, own in signals if weights.factor(modality)]
    runs = sum(len(own.captions) for own in weighed) if weights.alignment else 0
    contents = sum(len(own.content_runs) for own in weighed) if weights.denoising else 0
    taught = [lesson.counts for lesson in lessons if lesson is not None]
    media = sum(sum(is_described(part)) for part in parts) if weights.imitation + weights.spelling else 0
    kept = sum(known_layout(part).target_counts[row] for part in parts for row in kept_rows(part, weights) or ())
    return [tokens, runs, contents, sum(texts for texts, _ in taught), sum(words for _, words in taught), media, kept]


def kept_rows(batch: Batch, weights: LossWeights) -> list[int] | None:
    """Rows in words alone of the sources whose predictions are to be kept; None where that weighs nothing."""
    if not weights.keeping:
        return None
    layout = known_layout(batch)
    places: list[Places | Runs] = [*layout.media.values(), *layout.runs.values()]
    others = {row for own in places for row in own.rows}
    sources = [details.get("source") for details in batch.details]
    return [row for row, source in enumerate(sources) if source in weights.kept_sources and row not in others]


def terms_of(model: AnyToAny, weights: LossWeights, batch: Batch, lesson: Lesson | None = None) -> Terms:
    """The loss terms of a batch. What weighs 0, by term or by modality, isn't computed.

    Args:
        model: that learns.
        weights: of the terms.
        batch: of conversations.
        lesson: what the teacher reads of it, where ``teaching`` weighs anything; made here if None.
    """
    language_model, side = model.backbone.language_model, model.output_side
    teaching = None
    if weights.teaching:
        teacher = teacher_of(model.input_side)
        teaching = teach(teacher, language_model, lesson or lesson_of(teacher, language_model, batch.texts))
    if weights.is_text_alone and teaching is not None:
        return Terms(teaching.text.new_zeros(()), None, 0, teaching=teaching)
    # Sharded layers are gathered by all processes together, so that each takes the same passes whatever it holds.
    if weights.is_projection_alone and not isinstance(model, FSDPModule):
        projected = {} if model.input_side is None else model.input_side(batch.media)
        terms = Terms(torch.zeros((), device=batch.ids.device), None, 0, teaching=teaching)
        _describe(terms, model, weights, batch, projected)
        return terms
    draws = [m for m in model.outputs if weights.factor(m)] if weights.alignment + weights.denoising else []
    if batch.states is not None:
        assert side is not None, "runs are of an output side"
        if side.cache is not None:
            side.cache.hits += len(batch)
        terms = Terms(torch.zeros((), device=batch.ids.device), None, 0)
        terms.signals = {modality: states for modality, states in batch.states.items() if modality in draws}
        _draw(terms, side, weights, batch, side(terms.signals))
        return terms
    began = perf_counter()
    keeps = kept_rows(batch, weights)
    output: Output = model(batch, draws, keeps=keeps, measured=not weights.is_drawing_alone)
    layout = known_layout(output.batch)
    if batch.keys and side is not None and side.cache is not None:
        rows = {modality: own.rows for modality, own in layout.runs.items()}
        name = type(language_model).__name__
        side.cache.keep_states(name, batch.keys, rows, output.signals, perf_counter() - began)
    terms = Terms(output.text_loss, None, layout.target_count, teaching=teaching)
    if output.divergence is not None:
        terms.keeping, terms.kept = output.divergence, sum(layout.target_counts[row] for row in keeps or ())
    _describe(terms, model, weights, batch, output.projected)
    if output.correct is not None:
        terms.correct = output.correct.sum()
        labels = target_labels(output.batch)
        terms.called = called_runs(language_model.vocabulary, output.batch, labels, output.correct)
    terms.signals = {modality: output.signals[modality] for modality in output.conditions}
    if side is not None:
        _draw(terms, side, weights, output.batch, output.conditions)
    return terms


def _draw(
    terms: Terms, side: OutputSide, weights: LossWeights, batch: Batch, conditions: Mapping[Modality, Condition]
) -> None:
    """Adds to the terms how far H is from what was to be made, as far as that weighs anything."""
    for modality, condition in conditions.items():
        runs = batch.signals[modality]
        if weights.alignment:
            found = side.distance(modality, runs.captions, condition, weights.alignment_form)
            terms.alignment[modality], terms.cosine[modality] = found
        if weights.denoising and runs.contents:
            of = known_layout(batch).runs[modality].contents
            terms.denoising[modality] = side.denoising(modality, condition, runs, of)


def _describe(
    terms: Terms,
    model: AnyToAny,
    weights: LossWeights,
    batch: Batch,
    projected: Mapping[Modality, tuple[Tensor, Tensor]],
) -> None:
    """Adds to the terms how far P is from what is said of its medium, where that weighs anything."""
    if weights.imitation:
        terms.imitation = imitate(teacher_of(model.input_side), batch, projected)
    if weights.spelling:
        terms.spelling = spell(model.backbone.language_model, batch, projected)
