"""Preference tuning: pairs of answers, text and media, against the model as the stage began (DPO)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from isthmus.batch_layout import known_layout, target_labels
from isthmus.data.batching.collate import Collator
from isthmus.data.batching.pairs import PairCollator
from isthmus.earlier.options import takes_present_names
from isthmus.layout import Runs, on_device
from isthmus.losses import PreferenceForm, diffusion_preference_loss, preference_loss
from isthmus.model import AnyToAny
from isthmus.model.output import Scores
from isthmus.training.objectives.base import Counted, Learner, Objective, Outcome
from isthmus.training.objectives.terms import LossWeights, called_runs, detached
from isthmus.types import Batch, Modality

Contents = dict[Modality, tuple[list[int], list[int]]]
"""By modality, which contents of chosen answers stand against which of rejected ones."""
OF_PAIRS = (
    "preference_accuracy",
    "reward_margin",
    "chosen_ratio",
    "rejected_ratio",
    "chosen_length",
    "rejected_length",
)
"""Means over pairs that are logged."""
OF_MEDIA = ("media_loss", "media_accuracy")
"""Means over pairs of contents that are logged."""


@takes_present_names
class Preference(Objective):
    """DPO over words and media. Batches are pairs, both sides in one pass.

    An answer's log-probability is that of its words, its end, and the first signal token of each run: whether a medium
    is called for is learnt like a word. What a medium looks like is learnt by the media term: a content of the chosen
    answer stands against the one in the same place of the rejected answer, with the same noise and timestep; its
    gradient reaches the output projectors and, through the signals, the LLM. A prompt's media are encoded once, for
    both answers, under the policy and the reference.

    Args:
        loss_type: of the text term, see :func:`isthmus.losses.preference_loss`.
        beta: of the text term.
        text: weight of the text term.
        media: weight of the media term (diffusion-DPO); 0 leaves media's content out.
        media_beta: of the media term.
        chosen: weight of the chosen answers' cross-entropy beside them, which keeps their probability from falling
            along with the rejected ones' (arXiv 2404.19733).
        alignment: weight of the chosen answers' alignment: what that is to words, this is to media. The distance of
            their projected signals to their captions' conditions, as in the stages before.
        dropout: whether LoRA and projectors keep their dropout, as ``trl`` has it without ``disable_dropout``. Off, the
            first step's ratios to the reference are 1.

    Raises:
        ValueError: a number that makes no sense, or nothing to learn.
    """

    def __init__(
        self,
        loss_type: PreferenceForm = "sigmoid",
        beta: float = 0.1,
        text: float = 1.0,
        media: float = 0.0,
        media_beta: float = 2000.0,
        chosen: float = 0.0,
        alignment: float = 0.0,
        dropout: bool = False,
    ) -> None:
        if loss_type not in get_args(PreferenceForm):
            raise ValueError(
                f"preference.loss_type: found {loss_type!r}; expected {', '.join(get_args(PreferenceForm))}. "
                "Fix: choose one."
            )
        for name, value in (("beta", beta), ("media_beta", media_beta)):
            if value <= 0:
                raise ValueError(f"preference.{name}: found {value}; expected a number above 0. Fix: raise it.")
        if min(text, media, chosen, alignment) < 0 or text + media == 0:
            raise ValueError(
                f"preference: found weights text {text}, media {media}, chosen {chosen}, alignment {alignment}; "
                "expected none below 0, and text or media above. Fix: give one a weight."
            )
        self.loss_type: PreferenceForm = loss_type
        self.beta = beta
        self.text = text
        self.media = media
        self.media_beta = media_beta
        self.chosen = chosen
        self.alignment = alignment
        self.dropout = dropout

    def prepares(self, weights: LossWeights) -> bool:
        return self.media > 0

    def makes(self, weights: LossWeights) -> bool:
        return self.media + self.alignment > 0

    def counts(self, model: AnyToAny) -> list[str]:
        drawn = [f"{figure}_{modality}" for modality in model.outputs for figure in ("signal_called", "alignment")]
        return [*OF_PAIRS, *OF_MEDIA, *drawn]

    @property
    def collator(self) -> Callable[..., Collator]:
        return partial(PairCollator, targets="last")

    def step(self, learner: Learner, batch: Batch) -> Outcome:
        model, world = learner.model, learner.world
        laid_out = map(model.backbone.language_model.laid_out, batch.pieces)
        parts = [(part, self._contents(model, part)) for part in laid_out]
        sizes = [sum(own) for own in zip(*(self._counts(model, *part) for part in parts), strict=True)]
        counted = learner.over_processes(sizes)
        learnt: list[_Learnt] = []

        def loss_of(part: Batch, contents: Contents) -> Tensor:
            own = self._learn(learner, part, contents)
            learnt.append(detached(own))
            return world * self._total(own, counted().clamp(min=1))

        loss, _ = learner.in_turn(learner.together([partial(loss_of, *part) for part in parts], compares=True))
        whole = _together(learnt)
        divisors = counted().clamp(min=1).to(whole.losses.dtype)
        shared = {
            "loss": loss,
            "preference_loss": whole.losses.sum() / divisors[0] * world,
            "chosen_loss": whole.likelihood / divisors[2] * world,
        }
        values = (whole.margins > 0, whole.margins, *whole.ratios, *whole.tokens)
        figures: dict[str, Counted] = {n: (own.sum(), len(own)) for n, own in zip(OF_PAIRS, values, strict=True)}
        if whole.correct is not None:
            for part, _ in parts:  # by modality, over all parts
                called = called_runs(model.backbone.language_model.vocabulary, part, whole.labels, whole.correct)
                figures.update({f"signal_called_{modality}": (hits, runs) for modality, (hits, runs) in called.items()})
        figures.update({f"alignment_{modality}": (own.sum(), len(own)) for modality, own in whole.alignment.items()})
        if media := len(whole.media):
            sums = (whole.media.sum(), (whole.media_margins > 0).sum())
            figures.update({name: (own, media) for name, own in zip(OF_MEDIA, sums, strict=True)})
        return Outcome(loss, shared, figures)

    def _contents(self, model: AnyToAny, batch: Batch) -> Contents:
        """By modality, which contents stand against which: see :func:`content_pairs`."""
        if not self.media or model.output_side is None:
            return {}
        pairs, layout = len(batch) // 2, known_layout(batch)
        return {m: content_pairs(layout.runs[m], pairs) for m, runs in batch.signals.items() if runs.contents}

    def _counts(self, model: AnyToAny, batch: Batch, contents: Contents) -> tuple[int, int, int, int]:
        """Pairs, pairs of contents, the chosen answers' targets, and their runs that are aligned."""
        pairs, layout = len(batch) // 2, known_layout(batch)
        aligned = 0
        if self.alignment and model.output_side is not None:
            aligned = sum(row < pairs for own in layout.runs.values() for row in own.rows)
        against = sum(len(chosen) for chosen, _ in contents.values())
        return pairs, against, sum(layout.target_counts[:pairs]), aligned

    def _learn(self, learner: Learner, batch: Batch, contents: Contents) -> _Learnt:
        model, media = learner.model, self.media > 0
        assert learner.reference is not None, "the stage switch takes the reference"
        features = {} if model.input_side is None else model.input_side.encode(batch.media)
        with learner.reference(model):
            before = model.score(batch, media, features=features)
        pairs, form = len(batch) // 2, learner.weights.alignment_form
        now = model.score(batch, media, pairs if self.alignment else 0, features=features, form=form)
        chosen, rejected = (now.text - before.text).chunk(2)
        tokens = now.counts.view(2, -1)
        losses, margins = preference_loss((chosen, rejected), (tokens[0], tokens[1]), self.beta, self.loss_type)
        media_losses, media_margins = self._media(now, before, contents)
        # Chosen answers are the first rows, and targets stand in the order of their rows.
        targets = sum(known_layout(now.batch).target_counts[:pairs])
        return _Learnt(
            losses,
            margins,
            torch.stack([chosen, rejected]),
            tokens,
            -now.text[:pairs].sum(),
            media_losses,
            media_margins,
            now.alignment,
            target_labels(now.batch)[:targets],
            None if now.correct is None else now.correct[:targets],
        )

    def _total(self, own: _Learnt, counts: Tensor) -> Tensor:
        """() the weighed loss, each sum divided by its global count (4,)."""
        counts = counts.to(own.losses.dtype)
        loss = self.text * own.losses.sum() / counts[0] + self.media * own.media.sum() / counts[1]
        loss = loss + self.chosen * own.likelihood / counts[2]
        distances = torch.cat([own.losses.new_zeros(0), *own.alignment.values()])
        return loss + self.alignment * distances.sum() / counts[3]

    def _media(self, now: Scores, before: Scores, contents: Contents) -> tuple[Tensor, Tensor]:
        """(c,) losses and margins of the pairs of contents; those that stand alone count for nothing."""
        losses, margins = [now.tokens.new_zeros(0)], [now.tokens.new_zeros(0)]
        for modality, errors in now.denoising.items():
            chosen, rejected = contents[modality]
            rise = errors - before.denoising[modality]
            ours, theirs = (rise[on_device(own, rise.device, torch.int64)] for own in (chosen, rejected))
            loss, margin = diffusion_preference_loss(ours, theirs, self.media_beta)
            losses.append(loss)
            margins.append(margin)
        return torch.cat(losses), torch.cat(margins)


@dataclass
class _Learnt:
    """What a part of n pairs is learnt by, and what is logged of it.

    Attributes:
        losses: (n,) of the text term.
        margins: (n,).
        ratios: (2, n), of the chosen and of the rejected answers.
        tokens: (2, n), how many targets they have.
        likelihood: () the chosen answers' cross-entropy.
        media: (c,) losses of the media term.
        media_margins: (c,).
        alignment: by modality (r,), distances of the chosen answers' runs.
        labels: (P,) the chosen answers' targets.
        correct: (P,) which of them were the likeliest token; None where that isn't known.
    """

    losses: Tensor
    margins: Tensor
    ratios: Tensor
    tokens: Tensor
    likelihood: Tensor
    media: Tensor
    media_margins: Tensor
    alignment: dict[Modality, Tensor]
    labels: Tensor
    correct: Tensor | None


def _together(parts: Sequence[_Learnt]) -> _Learnt:
    """The parts as one."""
    alignment: dict[Modality, list[Tensor]] = {}
    for part in parts:
        for modality, values in part.alignment.items():
            alignment.setdefault(modality, []).append(values)
    correct = [part.correct for part in parts if part.correct is not None]
    return _Learnt(
        torch.cat([part.losses for part in parts]),
        torch.cat([part.margins for part in parts]),
        torch.cat([part.ratios for part in parts], 1),
        torch.cat([part.tokens for part in parts], 1),
        torch.stack([part.likelihood for part in parts]).sum(),
        torch.cat([part.media for part in parts]),
        torch.cat([part.media_margins for part in parts]),
        {modality: torch.cat(values) for modality, values in alignment.items()},
        torch.cat([part.labels for part in parts]),
        torch.cat(correct) if correct else None,
    )


def content_pairs(runs: Runs, pairs: int) -> tuple[list[int], list[int]]:
    """Which contents of chosen answers (rows below ``pairs``) stand against which of rejected ones (``pairs`` on).

    They are of the same pair, and of the same run of the modality, counted from the answer's beginning.
    """
    rows, places = runs.rows, {}
    for content, run in enumerate(runs.contents):
        places[rows[run], rows[:run].count(rows[run])] = content
    both = [(row, rank) for row, rank in places if row < pairs and (row + pairs, rank) in places]
    return [places[key] for key in both], [places[row + pairs, rank] for row, rank in both]
