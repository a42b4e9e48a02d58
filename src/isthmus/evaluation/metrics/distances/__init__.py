"""Distances between made and real media; configs name them by ``class_path``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.exports import lazy

if TYPE_CHECKING:
    from isthmus.evaluation.metrics.distances.classes import ClassDivergence as ClassDivergence
    from isthmus.evaluation.metrics.distances.classes import InceptionScore as InceptionScore
    from isthmus.evaluation.metrics.distances.clouds import CloudDistances as CloudDistances
    from isthmus.evaluation.metrics.distances.diversity import Diversity as Diversity
    from isthmus.evaluation.metrics.distances.frechet import Frechet as Frechet
    from isthmus.evaluation.metrics.distances.kernels import GaussianKernel as GaussianKernel
    from isthmus.evaluation.metrics.distances.kernels import PolynomialKernel as PolynomialKernel
    from isthmus.evaluation.metrics.distances.metric import Distances as Distances
    from isthmus.evaluation.metrics.distances.neighbours import DensityCoverage as DensityCoverage
    from isthmus.evaluation.metrics.distances.neighbours import PrecisionRecall as PrecisionRecall

_ROOM = "isthmus.evaluation.metrics.distances"
_HOMES = {
    "Distances": f"{_ROOM}.metric",
    "CloudDistances": f"{_ROOM}.clouds",
    "Frechet": f"{_ROOM}.frechet",
    "PolynomialKernel": f"{_ROOM}.kernels",
    "GaussianKernel": f"{_ROOM}.kernels",
    "InceptionScore": f"{_ROOM}.classes",
    "ClassDivergence": f"{_ROOM}.classes",
    "PrecisionRecall": f"{_ROOM}.neighbours",
    "DensityCoverage": f"{_ROOM}.neighbours",
    "Diversity": f"{_ROOM}.diversity",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = lazy(__name__, _HOMES)
