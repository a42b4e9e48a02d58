"""Point clouds compared point by point, without a network: Chamfer, F-score, coverage, MMD and 1-NN accuracy."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from isthmus.data.conversations.sources import ConversationSource
from isthmus.evaluation.intervals import bootstrap_interval, wilson_interval
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.distances.extraction import digest_of
from isthmus.evaluation.metrics.distances.media import Held, Pair, made_media, pairs_of, real_media
from isthmus.evaluation.metrics.scores import owners_figure
from isthmus.evaluation.predictions.answered import Answered
from isthmus.types import Modality

log = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]
Scale = Literal["unit_sphere", "unit_cube", "as_is"]
CHUNK = 8
"""Clouds of which a process computes all distances at once."""


class CloudDistances(Metric):
    """The shapes of made clouds against those of real ones. Colours don't count.

    Of each answer and its own reference, where there is one: ``chamfer``, the mean squared distance of each point from
    the nearest of the other cloud, both ways added; and ``f_score``, the harmonic mean of the shares of points that
    have one of the other cloud within ``threshold``. Of both sets, by the Chamfer distance: ``mmd_cd``, the mean
    distance of a real cloud from the nearest made one; ``coverage_cd``, the share of real clouds that are the nearest
    to a made one; ``nearest_accuracy_cd``, how often a cloud's nearest other is of its own side: 0.5 where the sets
    can't be told apart, 1 where they are apart.
    Sources: Achlioptas et al., arXiv 1707.02392 (coverage, MMD); Yang et al., arXiv 1906.12320 (1-NN accuracy);
    Tatarchenko et al., arXiv 1905.03678 (F-score).

    Args:
        reference: a source whose clouds stand for real ones in comparisons of sets; the answers' own references if
            None.
        points: clouds of more are thinned to so many.
        scale: each cloud is centred and brought into the unit sphere (radius 1) or cube (side 1); or left as it is.
        threshold: of the F-score, in the scaled cloud's unit.
        most: clouds of each side in comparisons of sets, which take time with its square.
        seed: of the thinning.

    Raises:
        ValueError: an unknown scale, or a number that is too small.
    """

    def __init__(
        self,
        reference: ConversationSource | None = None,
        points: int = 2048,
        scale: Scale = "unit_sphere",
        threshold: float = 0.02,
        most: int = 256,
        seed: int = 0,
    ) -> None:
        if scale not in get_args(Scale):
            raise ValueError(f"scale: found {scale!r}; expected {', '.join(get_args(Scale))}. Fix: name one.")
        for name, value in (("points", points - 1), ("threshold", threshold), ("most", most - 1)):
            if not value > 0:
                raise ValueError(f"{name}: found {value}; expected more. Fix: raise it.")
        self.reference = reference
        self.points = points
        self.scale = scale
        self.threshold = threshold
        self.most = most
        self.seed = seed

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figures; those of pairs, of sets, or both, as there are references.

        Raises:
            DataError: a file is absent or damaged.
        """
        answers = list(answers)  # each is read from its source and the files once
        made = made_media(answers, Modality.POINTS)
        if not made:
            return {}
        found = self._of_pairs(pairs_of(answers, Modality.POINTS), processes)
        real = real_media(answers, self.reference, Modality.POINTS)[: self.most]
        n = min(len(made), len(real))
        if n < 2:
            log.warning("points: found %d made and %d real clouds; coverage, MMD and 1-NN need 2", len(made), len(real))
            return found
        # What was compared with is the same for models that made more clouds or fewer.
        own = {"reference_size": len(real), "reference_contents": digest_of([one.content for one in real])}
        return found | self._of_sets(made[:n], real[:n], processes, self._own() | own)

    def _own(self) -> dict[str, Any]:
        named = "expected" if self.reference is None else self.reference.name
        own = {"points": self.points, "scale": self.scale, "most": self.most, "seed": self.seed, "reference": named}
        return own | {"distance": "Chamfer, squared, both ways added"}

    def _cloud(self, held: Held) -> Array:
        points = held.read().array[:, :3].astype(np.float64)
        if len(points) > self.points:
            points = points[np.random.default_rng(self.seed).permutation(len(points))[: self.points]]
        return scaled(points, self.scale)

    def _of_pairs(self, pairs: Sequence[Pair], processes: Processes) -> dict[str, Figure]:
        """``chamfer`` and ``f_score`` of each answer and its own reference."""
        if not pairs:
            return {}

        def compared(chunk: Sequence[Pair]) -> list[tuple[float, float]]:
            trees = [(tree(self._cloud(pair.made)), tree(self._cloud(pair.expected))) for pair in chunk]
            return [(chamfer(*both), f_score(*both, self.threshold)) for both in trees]

        scores = processes.map(compared, pairs, CHUNK, "points: answers and references")
        owners, apart, near = [pair.owner for pair in pairs], [one for one, _ in scores], [one for _, one in scores]
        protocol = self._own() | {"reference": "expected"}
        return {
            "points/chamfer": owners_figure(owners, apart, protocol, better="lower"),
            "points/f_score": owners_figure(owners, near, protocol | {"threshold": self.threshold}),
        }

    def _of_sets(
        self, made: Sequence[Held], real: Sequence[Held], processes: Processes, own: Mapping[str, Any]
    ) -> dict[str, Figure]:
        """``mmd_cd``, ``coverage_cd`` and ``nearest_accuracy_cd`` of as many made clouds as real ones."""
        clouds = [*made, *real]
        trees = [tree(cloud) for cloud in processes.map(lambda own: [self._cloud(one) for one in own], clouds, CHUNK)]

        def row(places: Sequence[int]) -> list[list[float]]:
            return [[chamfer(trees[at], trees[to]) for to in range(at + 1, len(trees))] for at in places]

        n = len(made)
        apart = np.zeros((2 * n, 2 * n))
        for at, later in enumerate(processes.map(row, range(2 * n), 1, "points: clouds against clouds")):
            apart[at, at + 1 :] = later
        apart += apart.T
        np.fill_diagonal(apart, np.inf)
        between = apart[:n, n:]
        nearest = between.min(0)
        covered = len(set(between.argmin(1).tolist()))
        own_side = (apart.argmin(1) < n) == (np.arange(2 * n) < n)
        return {
            "points/mmd_cd": Figure(
                float(nearest.mean()), n, "lower", bootstrap_interval(nearest.tolist()), protocol=own
            ),
            "points/coverage_cd": Figure(covered / n, n, "higher", wilson_interval(covered, n), protocol=own),
            "points/nearest_accuracy_cd": Figure(
                float(own_side.mean()), n, "lower", wilson_interval(int(own_side.sum()), 2 * n), protocol=own
            ),
        }


def scaled(points: Array, scale: Scale) -> Array:
    """(P, 3) -> (P, 3), centred and scaled; of a cloud of one place, centred alone."""
    if scale == "as_is":
        return points
    if scale == "unit_sphere":
        points = points - points.mean(0)
        size = float(np.linalg.norm(points, axis=1).max())
    else:
        low, high = points.min(0), points.max(0)
        points = points - (low + high) / 2
        size = float((high - low).max())
    return points / size if size > 0 else points


def tree(points: Array) -> Any:
    """(P, 3) -> a tree in which nearest points are found, with its points in ``data``."""
    from scipy.spatial import cKDTree

    return cKDTree(points)


def chamfer(first: Any, second: Any) -> float:
    """Of two trees: mean squared distances of nearest points, both ways added."""
    there, back = second.query(first.data)[0], first.query(second.data)[0]
    return float((there**2).mean() + (back**2).mean())


def f_score(first: Any, second: Any, threshold: float) -> float:
    """Of two trees: the harmonic mean of the shares of points that have a point of the other within the threshold."""
    precision = float((second.query(first.data)[0] <= threshold).mean())
    recall = float((first.query(second.data)[0] <= threshold).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
