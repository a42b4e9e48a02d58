"""What nearest neighbours say: whether made media lie among the real ones, and whether all real ones are met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.evaluation.intervals import bootstrap_interval, wilson_interval
from isthmus.evaluation.metrics.base import Figure
from isthmus.evaluation.metrics.distances.base import Distance, Features, require

Array = np.ndarray[Any, Any]
BLOCK = 1024
"""Rows of a matrix of distances that are in memory at once."""


class PrecisionRecall(Distance):
    """The share of made media within the real ones' neighbourhoods (precision), and the reverse (recall).

    A neighbourhood is a ball around a medium, up to its ``neighbours``-th nearest of its own side. A real medium that
    occurs several times counts once: balls around its copies would hold nothing else. The intervals are Wilson's of a
    share, for these neighbourhoods.
    Source: Kynkäänniemi et al., arXiv 1904.06991.

    Args:
        neighbours: how many span a ball.
    """

    def __init__(self, neighbours: int = 3) -> None:
        self.neighbours = at_least_one(neighbours)

    def measure(self, made: Features, real: Features) -> Mapping[str, Figure]:
        ours, theirs = torch.from_numpy(made.values), torch.from_numpy(real.distinct())
        require(len(ours), len(theirs), self.neighbours + 1, "precision and recall")
        own = {"neighbours": self.neighbours}
        return {
            "precision": _share(inside(ours, theirs, radii(theirs, self.neighbours)) > 0, own),
            "recall": _share(inside(theirs, ours, radii(ours, self.neighbours)) > 0, own),
        }


class DensityCoverage(Distance):
    """Density, how many real balls a made medium lies in, and coverage, the share of real balls that hold a made one.

    Density is counted in ``neighbours``. Unlike precision and recall, neither is swayed by single outliers. A real
    medium that occurs several times counts once.
    Source: Naeem et al., arXiv 2002.09797.

    Args:
        neighbours: how many span a ball.
    """

    def __init__(self, neighbours: int = 5) -> None:
        self.neighbours = at_least_one(neighbours)

    def measure(self, made: Features, real: Features) -> Mapping[str, Figure]:
        ours, theirs = torch.from_numpy(made.values), torch.from_numpy(real.distinct())
        require(len(ours), len(theirs), self.neighbours + 1, "density and coverage")
        own = {"neighbours": self.neighbours}
        reach = radii(theirs, self.neighbours)
        density = [count / self.neighbours for count in inside(ours, theirs, reach).tolist()]
        covered = nearest(theirs, ours) <= reach
        return {
            "density": Figure(
                float(np.mean(density)), len(density), "higher", bootstrap_interval(density), protocol=own
            ),
            "coverage": _share(covered, own),
        }


def at_least_one(neighbours: int) -> int:
    """The number as it is.

    Raises:
        ValueError: it is below 1.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours: found {neighbours}; expected at least 1. Fix: raise it.")
    return neighbours


def radii(values: Tensor, neighbours: int) -> Tensor:
    """(n, d) -> (n,) the distance of each from its ``neighbours``-th nearest other."""
    # The nearest of all is the medium itself.
    found = [torch.cdist(rows, values).kthvalue(neighbours + 1).values for rows in values.split(BLOCK)]
    return torch.cat(found)


def inside(values: Tensor, centres: Tensor, reach: Tensor) -> Tensor:
    """(n, d), (m, d), radii (m,) -> (n,) in how many centres' balls each of ``values`` lies."""
    return torch.cat([(torch.cdist(rows, centres) <= reach).sum(1) for rows in values.split(BLOCK)])


def nearest(values: Tensor, others: Tensor) -> Tensor:
    """(n, d), (m, d) -> (n,) the distance of each of ``values`` from the nearest of ``others``."""
    return torch.cat([torch.cdist(rows, others).amin(1) for rows in values.split(BLOCK)])


def _share(right: Tensor, own: Mapping[str, Any]) -> Figure:
    count, n = int(right.sum()), len(right)
    return Figure(count / n, n, "higher", wilson_interval(count, n), protocol=own)
