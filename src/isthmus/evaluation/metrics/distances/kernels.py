"""Squared maximum mean discrepancies: KID's polynomial kernel, and Gaussian ones as of CMMD and KAD."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from isthmus.evaluation.metrics.base import Figure
from isthmus.evaluation.metrics.distances.base import Distance, Features, TooFewError, require
from isthmus.evaluation.metrics.distances.halves import around, halves_interval

Array = np.ndarray[Any, Any]
PAIRED = 10_000
"""Rows whose distances from each other are in memory at once, 400 MB."""
BLOCK = 2048
"""Rows of a kernel matrix that are in memory at once."""


class PolynomialKernel(Distance):
    """The kernel inception distance: unbiased MMD² under ``(x·y / d + 1)³``, averaged over subsets; by torchmetrics.

    The interval is 1.96 standard deviations of the subsets' values on each side: right for subsets of half of the
    media, and wider than needed for smaller ones.
    Source: Bińkowski et al., arXiv 1801.01401.

    Args:
        name: of the figure.
        subsets: how many are drawn.
        subset_size: media in each; half of the smaller side where that is less.
        degree: of the polynomial.
        seed: of the draws.
    """

    def __init__(
        self, name: str = "kid", subsets: int = 100, subset_size: int = 1000, degree: int = 3, seed: int = 0
    ) -> None:
        if subsets < 2 or subset_size < 2:
            raise ValueError(
                f"{name}: subsets, subset_size: found {subsets} and {subset_size}; expected 2 or more of each. Fix: "
                "raise them."
            )
        self.name = name
        self.subsets = subsets
        self.subset_size = subset_size
        self.degree = degree
        self.seed = seed

    def measure(self, made: Features, real: Features) -> Mapping[str, Figure]:
        require(len(made), len(real), 4, self.name)
        size = min(self.subset_size, len(made) // 2, len(real) // 2)
        found = kernel_distances(made.values, real.values, self.subsets, size, self.degree, self.seed)
        value = float(np.mean(found))
        own = {
            "distance": "MMD²",
            "kernel": f"polynomial of degree {self.degree}",
            "subsets": self.subsets,
            "subset_size": self.subset_size,
            "seed": self.seed,
            "torchmetrics": version("torchmetrics"),
        }
        return {self.name: Figure(value, len(made), "lower", around(value, found), protocol=own)}


def kernel_distances(made: Array, real: Array, subsets: int, size: int, degree: int, seed: int) -> list[float]:
    """The value of each subset; drawn as torchmetrics' own class does, which keeps only their mean and deviation."""
    from torchmetrics.image.kid import poly_mmd

    generator = torch.Generator().manual_seed(seed)
    ours, theirs = torch.from_numpy(made), torch.from_numpy(real)
    found = []
    for _ in range(subsets):
        of_real = theirs[torch.randperm(len(theirs), generator=generator)[:size]]
        of_made = ours[torch.randperm(len(ours), generator=generator)[:size]]
        found.append(float(poly_mmd(of_real, of_made, degree)))
    return found


class GaussianKernel(Distance):
    """MMD² under ``exp(-|x - y|² / 2s²)``. The defaults are those of the kernel audio distance.

    CMMD is ``bandwidth: 10``, ``scale: 1000``, ``unbiased: false`` on CLIP's unit-length image embeddings.
    Sources: Chung et al., arXiv 2502.15602 (KAD); Jayasumana et al., arXiv 2401.09603 (CMMD).

    Args:
        name: of the figure.
        bandwidth: s; the median distance between two real media if None.
        scale: the figure is MMD² times this.
        unbiased: whether a medium's similarity to itself is left out, so that the figure may fall below 0.
        draws: of halves behind the interval; 0: no interval.
        seed: of the draws.

    Raises:
        ValueError: a bandwidth or scale that isn't above 0.
    """

    def __init__(
        self,
        name: str = "kad",
        bandwidth: float | None = None,
        scale: float = 100.0,
        unbiased: bool = True,
        draws: int = 20,
        seed: int = 0,
    ) -> None:
        for what, found in (("bandwidth", bandwidth), ("scale", scale)):
            if found is not None and not found > 0:
                raise ValueError(f"{name}: {what}: found {found}; expected a number above 0. Fix: raise it.")
        self.name = name
        self.bandwidth = bandwidth
        self.scale = scale
        self.unbiased = unbiased
        self.draws = draws
        self.seed = seed

    def measure(self, made: Features, real: Features) -> Mapping[str, Figure]:
        require(len(made), len(real), 2, self.name)
        bandwidth = median_distance(real.values) if self.bandwidth is None else self.bandwidth
        if not bandwidth > 0:
            raise TooFewError(
                f"{self.name}: bandwidth: found {bandwidth}, the median distance of the real media: most are alike; "
                "expected a number above 0. Fix: give `bandwidth`, or references that differ."
            )

        def statistic(ours: Array, theirs: Array) -> float:
            return self.scale * gaussian_mmd(made.values[ours], real.values[theirs], bandwidth, self.unbiased)

        value = statistic(np.arange(len(made)), np.arange(len(real)))
        own = {
            "distance": "MMD²",
            "kernel": "Gaussian",
            "bandwidth": "the reference's median distance" if self.bandwidth is None else self.bandwidth,
            "scale": self.scale,
            "unbiased": self.unbiased,
            "draws": self.draws,
            "seed": self.seed,
        }
        interval = halves_interval(value, statistic, len(made), len(real), self.draws, self.seed)
        return {self.name: Figure(value, len(made), "lower", interval, protocol=own)}


def median_distance(values: Array) -> float:
    """The median Euclidean distance between two different rows of (n, d), of the first :data:`PAIRED`."""
    from scipy.spatial.distance import pdist

    return float(np.median(pdist(values[:PAIRED])))


def gaussian_mmd(made: Array, real: Array, bandwidth: float, unbiased: bool) -> float:
    """MMD² of features (n, d) and (m, d)."""

    def mean(first: Array, second: Array, without_itself: bool) -> float:
        total = sum(float(_similarities(first[at : at + BLOCK], second, bandwidth).sum()) for at in _starts(first))
        n = len(first)
        return (total - n) / (n * (n - 1)) if without_itself else total / (n * len(second))

    return mean(made, made, unbiased) + mean(real, real, unbiased) - 2 * mean(made, real, False)


def _starts(values: Array) -> range:
    return range(0, len(values), BLOCK)


def _similarities(first: Array, second: Array, bandwidth: float) -> Array:
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T
    similar: Array = np.exp(-squares.clip(min=0.0) / (2 * bandwidth**2))
    return similar
