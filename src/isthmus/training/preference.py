"""Preference tuning: pairs of answers, text and media, against the model as the stage began (DPO)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from isthmus.data.collate import Collator
from isthmus.data.pairs import PairCollator
from isthmus.losses import PreferenceForm, diffusion_preference_loss, preference_loss
from isthmus.model import AnyToAny
from isthmus.model.objective import Objective, Outcome, over_processes
from isthmus.model.scores import Scores, score
from isthmus.types import Batch, SignalBatch


class Preference(Objective):
    """DPO over words and media. Batches are pairs of :mod:`isthmus.data.preferences`, both sides in one pass.

    An answer's log-probability is that of its words, its end, and the first signal token of each run: whether a medium
    is called for is learnt like a word. What a medium looks like is learnt by the media term: a content of the chosen
    answer stands against the one in the same place of the rejected answer, with the same noise and timestep; its
    gradient reaches the output projectors and, through the signals, the LLM.

    Args:
        form: of the text term, see :func:`isthmus.losses.preference_loss`.
        beta: of the text term.
        text: weight of the text term.
        media: weight of the media term (diffusion-DPO); 0 leaves media's content out.
        media_beta: of the media term.
        chosen: weight of the chosen answers' cross-entropy beside them, which keeps their probability from falling
            along with the rejected ones' (arXiv 2404.19733).
        alignment: weight of the chosen answers' alignment: what that is to words, this is to media. The distance of
            their projected signals to their captions' conditions, as in the stages before.

    Raises:
        ValueError: a number that makes no sense, or nothing to learn.
    """

    def __init__(
        self,
        form: PreferenceForm = "sigmoid",
        beta: float = 0.1,
        text: float = 1.0,
        media: float = 0.0,
        media_beta: float = 2000.0,
        chosen: float = 0.0,
        alignment: float = 0.0,
    ) -> None:
        if form not in get_args(PreferenceForm):
            raise ValueError(
                f"preference.form: found {form!r}; expected {', '.join(get_args(PreferenceForm))}. Mend: choose one."
            )
        for name, value in (("beta", beta), ("media_beta", media_beta)):
            if value <= 0:
                raise ValueError(f"preference.{name}: found {value}; expected a number above 0. Mend: raise it.")
        if min(text, media, chosen, alignment) < 0 or text + media == 0:
            raise ValueError(
                f"preference: found weights text {text}, media {media}, chosen {chosen}, alignment {alignment}; "
                "expected none below 0, and text or media above. Mend: give one a weight."
            )
        self.form: PreferenceForm = form
        self.beta = beta
        self.text = text
        self.media = media
        self.media_beta = media_beta
        self.chosen = chosen
        self.alignment = alignment
        self.prepares = media > 0
        self.makes = media + alignment > 0

    @property
    def collator(self) -> Callable[..., Collator]:
        return partial(PairCollator, targets="last")

    def step(self, model: AnyToAny, batch: Batch) -> Outcome:
        assert model.reference is not None, "the stage switch takes the reference"
        with model.reference(model):
            before = score(model, batch, self.prepares)
        pairs = len(batch) // 2
        now = score(model, batch, self.prepares, pairs if self.alignment else 0)
        chosen, rejected = (now.text - before.text).chunk(2)
        tokens = now.counts.chunk(2)
        losses, margins = preference_loss((chosen, rejected), (tokens[0], tokens[1]), self.beta, self.form)
        media, media_margins = self._media(now, before, pairs)
        likelihood = -now.text[:pairs].sum()

        distances = torch.cat([losses.new_zeros(0), *now.alignment.values()])
        sizes = losses.new_tensor([pairs, len(media)], dtype=torch.float64)
        counts, world = over_processes(
            model, torch.cat([sizes, tokens[0].sum().double()[None], sizes.new_tensor([len(distances)])])
        )
        counts = counts.to(losses.dtype)
        text_loss, media_loss = losses.sum() / counts[0] * world, media.sum() / counts[1] * world
        chosen_loss = likelihood / counts[2] * world
        loss = self.text * text_loss + self.media * media_loss + self.chosen * chosen_loss
        loss = loss + self.alignment * distances.sum() / counts[3].clamp(min=1) * world
        shared = {
            "loss": loss,
            "preference_loss": text_loss,
            "preference_accuracy": (margins > 0).float().mean(),
            "reward_margin": margins.mean(),
            "chosen_ratio": chosen.mean(),
            "rejected_ratio": rejected.mean(),
            "chosen_loss": chosen_loss,
            "chosen_length": tokens[0].float().mean(),
            "rejected_length": tokens[1].float().mean(),
        }
        own = _health(model, now, pairs)
        own |= {f"alignment_{modality}": values.mean() for modality, values in now.alignment.items()}
        if len(media):
            own |= {"media_loss": media.mean(), "media_accuracy": (media_margins > 0).float().mean()}
        return Outcome(loss, shared, own)

    def _media(self, now: Scores, before: Scores, pairs: int) -> tuple[Tensor, Tensor]:
        """(c,) losses and margins of the pairs of contents; those that stand alone count for nothing."""
        losses, margins = [now.tokens.new_zeros(0)], [now.tokens.new_zeros(0)]
        for modality, errors in now.denoising.items():
            chosen, rejected = content_pairs(now.batch.signals[modality], pairs)
            rise = errors - before.denoising[modality]
            loss, margin = diffusion_preference_loss(rise[chosen], rise[rejected], self.media_beta)
            losses.append(loss)
            margins.append(margin)
        return torch.cat(losses), torch.cat(margins)


def content_pairs(runs: SignalBatch, pairs: int) -> tuple[list[int], list[int]]:
    """Which contents of chosen answers (rows below ``pairs``) stand against which of rejected ones (``pairs`` on).

    They are of the same pair, and of the same run of the modality, counted from the answer's beginning.
    """
    rows = runs.rows.tolist()
    places = {}
    for content, run in enumerate(runs.content_runs.tolist()):
        places[rows[run], rows[:run].count(rows[run])] = content
    both = [(row, rank) for row, rank in places if row < pairs and (row + pairs, rank) in places]
    return [places[key] for key in both], [places[row + pairs, rank] for row, rank in both]


def _health(model: AnyToAny, now: Scores, pairs: int) -> dict[str, Tensor]:
    """By modality, the share of the chosen answers' runs whose first signal token was the likeliest."""
    if now.correct is None:
        return {}
    is_chosen = now.targets.nonzero()[:, 0] < pairs
    labels = now.batch.labels[now.targets][is_chosen]
    called = model.called(now.batch, labels, now.correct[is_chosen])
    return {f"signal_called_{modality}": share for modality, share in called.items()}
