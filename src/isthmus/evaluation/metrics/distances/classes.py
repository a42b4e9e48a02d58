"""What a classifier says of media: the inception score of a set, and how far each answer's classes are off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.evaluation.intervals import CONFIDENCE
from isthmus.evaluation.metrics.base import Figure
from isthmus.evaluation.metrics.distances.base import Distance, Features, TooFewError, class_logits
from isthmus.evaluation.metrics.scores import owners_figure

Array = np.ndarray[Any, Any]


class InceptionScore(Distance):
    """``exp(E KL(p(class | medium) || p(class)))``, the mean over splits of the made media.

    High where each medium is clearly of one class and all classes occur. It never sees the reference. The interval is
    that of a mean of as many values as there are splits (Student's t).
    Source: Salimans et al., arXiv 1606.03498.

    Args:
        name: of the figure.
        splits: how many parts the media are cut into. The score can't exceed the number of media in a part.
        seed: of their order.

    Raises:
        ValueError: no splits.
    """

    def __init__(self, name: str = "is", splits: int = 10, seed: int = 0) -> None:
        if splits < 1:
            raise ValueError(f"{name}: splits: found {splits}; expected at least 1. Fix: raise it.")
        self.name = name
        self.splits = splits
        self.seed = seed

    def measure(self, made: Features, real: Features) -> Mapping[str, Figure]:
        if len(made) < self.splits:
            raise TooFewError(
                f"{self.name}: found {len(made)} made media; expected at least {self.splits}, one for each split. Fix: "
                "answer more conversations that ask for them, or lower `splits`."
            )
        scores = inception_scores(class_logits(made, self.name), self.splits, self.seed)
        value, interval = float(scores.mean()), None
        if self.splits > 1:
            from scipy.stats import t

            reach = float(t.ppf((1 + CONFIDENCE) / 2, self.splits - 1)) * float(scores.std()) / self.splits**0.5
            interval = value - reach, value + reach
        own = {"splits": self.splits, "seed": self.seed}
        return {self.name: Figure(value, len(made), "higher", interval, protocol=own)}


def inception_scores(logits: Array, splits: int, seed: int) -> Tensor:
    """Logits (n, k) -> the score of each split, whose sizes differ by 1 at most.

    torchmetrics' class isn't called: it makes 8 splits of 15 media where 10 are asked for. Otherwise both are equal.
    """
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    found = []
    for part in torch.from_numpy(logits)[order].tensor_split(splits):
        shares = part.softmax(1)
        found.append((shares * (part.log_softmax(1) - shares.mean(0).log())).sum(1).mean().exp())
    return torch.stack(found)


class ClassDivergence(Distance):
    """``KL(p(class | reference) || p(class | answer))`` of each answer and its own reference, and their mean.

    As for text to audio (Kreuk et al., arXiv 2209.15352), with the softmax over classes. Answers without a medium or
    without a reference aren't counted here; ``made`` counts them.

    Args:
        name: of the figure.
    """

    def __init__(self, name: str = "kl") -> None:
        self.name = name

    def measure(self, made: Features, real: Features) -> Mapping[str, Figure]:
        from scipy.special import log_softmax

        ours, theirs = (log_softmax(class_logits(side, self.name), axis=1) for side in (made, real))
        paired = pairs(made, real)
        if not paired:
            raise TooFewError(
                f"{self.name}: found no answer whose own conversation has a reference medium; expected some. Fix: test "
                "on conversations with expected media, or leave this distance out."
            )
        owners, first, second = map(list, zip(*paired, strict=True))
        scores = (np.exp(theirs[second]) * (theirs[second] - ours[first])).sum(1).tolist()
        own = {"divergence": "KL(reference || answer), softmax"}
        return {self.name: owners_figure(owners, scores, own, better="lower")}


def pairs(made: Features, real: Features) -> list[tuple[str, int, int]]:
    """A conversation's made media beside its real ones of the same place; (owner, row, row)."""
    rows = {own: row for row, own in enumerate(zip(real.owners, real.places, strict=True))}
    found = []
    for row, own in enumerate(zip(made.owners, made.places, strict=True)):
        if own in rows:
            found.append((own[0], row, rows[own]))
    return found
