"""Whether answers differ from each other as much as real media do: the alarm for collapse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isthmus.evaluation.intervals import bootstrap_interval
from isthmus.evaluation.metrics.base import Figure
from isthmus.evaluation.metrics.distances.base import Distance, Features, TooFewError, require
from isthmus.evaluation.metrics.distances.halves import halves_interval

Array = np.ndarray[Any, Any]
PAIRED = 10_000
"""Rows whose distances from each other are in memory at once, 400 MB."""


class Diversity(Distance):
    """The mean distance between two made media's features, as a share of that between two real ones.

    ``diversity`` is of all answers: near 1 they differ as real media do, near 0 they are all alike, whatever was asked.
    ``diversity_in_prompt`` is of several answers to one prompt (in one conversation, or in several of the same prompt),
    averaged over prompts: near 0 a prompt has always the same answer. It is left out where no prompt has two answers.
    A real medium that occurs several times, as the reference of several answers, counts once.

    Args:
        draws: of halves behind the interval of ``diversity``; that of ``diversity_in_prompt`` is by bootstrap over
            prompts.
        seed: of the draws.
    """

    def __init__(self, draws: int = 20, seed: int = 0) -> None:
        self.draws = draws
        self.seed = seed

    def measure(self, made: Features, real: Features) -> Mapping[str, Figure]:
        theirs_once = real.distinct()
        require(len(made), len(real), 2, "diversity")
        among_real = mean_distance(theirs_once) if len(theirs_once) > 1 else 0.0
        if not among_real > 0:
            raise TooFewError(
                "diversity: found real media that are all alike; expected some that differ. Fix: give `reference` a "
                "source of several media."
            )

        def statistic(ours: Array, theirs: Array) -> float:
            spread = mean_distance(theirs_once[theirs])
            return mean_distance(made.values[ours]) / spread if spread > 0 else math.nan

        value = mean_distance(made.values) / among_real
        interval = halves_interval(value, statistic, len(made), len(theirs_once), self.draws, self.seed)
        own = {"distance": "Euclidean", "draws": self.draws, "seed": self.seed}
        found = {"diversity": Figure(value, len(made), "higher", interval, protocol=own)}
        by_prompt = _in_prompt(made.values, made.prompts)
        if by_prompt:
            shares = [each / among_real for each in by_prompt]
            found["diversity_in_prompt"] = Figure(
                float(np.mean(shares)), len(shares), "higher", bootstrap_interval(shares), protocol=own
            )
        return found


def mean_distance(values: Array) -> float:
    """The mean Euclidean distance between two different rows of (n, d), n at least 2; of the first :data:`PAIRED`."""
    from scipy.spatial.distance import pdist

    return float(pdist(values[:PAIRED]).mean())


def _in_prompt(values: Array, prompts: Sequence[str]) -> list[float]:
    rows: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(row)
    return [mean_distance(values[own]) for own in rows.values() if len(own) > 1]
