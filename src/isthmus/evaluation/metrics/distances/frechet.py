"""The Frechet distance of two Gaussians fitted to features: FID, FVD, FAD, as the extractor has it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.evaluation.metrics.base import Figure
from isthmus.evaluation.metrics.distances.base import Distance, Features, require
from isthmus.evaluation.metrics.distances.halves import halves_interval

Array = np.ndarray[Any, Any]
USUAL_DRAWS = 20
NARROW = 512
"""Numbers of a feature up to which a figure takes some hundredths of a second; at 2,048 it takes seconds."""


class Given(torch.nn.Module):
    """Stands where torchmetrics has its network: what comes in are features already.

    Args:
        width: of the features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


class Frechet(Distance):
    """``|m - m'|² + tr(C + C' - 2 (C C')^½)`` of means and covariances, by torchmetrics, in float64.

    It falls with the number of media, which is a part of the figure, and needs more of them than features are wide to
    be near its limit.
    Source: Heusel et al., arXiv 1706.08500.

    Args:
        name: of the figure: ``fid`` where the extractor is Inception, ``fvd``, ``fad``, ``fd``.
        draws: of halves behind the interval; 0: no interval. Each takes as long as the figure. If None:
            :data:`USUAL_DRAWS` of features that are at most :data:`NARROW` wide, and none of wider ones.
        seed: of the draws.
    """

    def __init__(self, name: str = "fd", draws: int | None = None, seed: int = 0) -> None:
        self.name = name
        self.draws = draws
        self.seed = seed

    def measure(self, made: Features, real: Features) -> Mapping[str, Figure]:
        require(len(made), len(real), 2, self.name)
        value = frechet_distance(made.values, real.values)
        draws = self.draws
        if draws is None:
            draws = USUAL_DRAWS if real.values.shape[1] <= NARROW else 0
        interval = halves_interval(
            value,
            lambda ours, theirs: frechet_distance(made.values[ours], real.values[theirs]),
            len(made),
            len(real),
            draws,
            self.seed,
        )
        own = {"distance": "Frechet", "draws": draws, "seed": self.seed, "torchmetrics": version("torchmetrics")}
        return {self.name: Figure(value, len(made), "lower", interval, protocol=own)}


def frechet_distance(made: Array, real: Array) -> float:
    """The distance of features (n, d) from features (m, d), float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    # Each process has all features already: summed over processes, they would count several times.
    metric = FrechetInceptionDistance(feature=Given(real.shape[1]), sync_on_compute=False).set_dtype(torch.float64)
    metric.update(torch.from_numpy(np.ascontiguousarray(real)), real=True)
    metric.update(torch.from_numpy(np.ascontiguousarray(made)), real=False)
    return float(metric.compute())
