"""Distances between made and real media of one modality: a metric over stored answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from isthmus.data.conversations.sources import ConversationSource
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.distances.base import Distance, TooFewError
from isthmus.evaluation.metrics.distances.classes import ClassDivergence
from isthmus.evaluation.metrics.distances.diversity import Diversity
from isthmus.evaluation.metrics.distances.extraction import Extraction
from isthmus.evaluation.metrics.distances.frechet import Frechet
from isthmus.evaluation.metrics.distances.kernels import GaussianKernel, PolynomialKernel
from isthmus.evaluation.metrics.distances.media import is_asked, made_media, real_media
from isthmus.evaluation.metrics.distances.neighbours import DensityCoverage, PrecisionRecall
from isthmus.evaluation.metrics.extractors.base import Extractor, served_modality
from isthmus.evaluation.metrics.scores import share_figure
from isthmus.evaluation.predictions.answered import Answered
from isthmus.paths import user_path
from isthmus.types import Modality

log = logging.getLogger(__name__)

FRECHET = {"image": "fid", "video": "fvd", "audio": "fad"}
KERNEL = {"image": "kid", "video": "kvd"}
"""The field's names, as in :data:`FRECHET`; ``fd`` and ``kd`` for other modalities."""


class Distances(Metric):
    """How near the made media of one modality are to real ones, by the features of one network.

    Figures are named ``modality/name``. ``made`` is always among them, the share of conversations that ask for such a
    medium and got one.

    Args:
        modality: of the media.
        extractor: whose features are compared.
        distances: which figures; :func:`usual_distances` of the modality if None.
        reference: a source whose media, given or made, stand for real ones; the answers' own references if None. Paired
            distances need those.
        prefix: put before the names of all figures, where several extractors measure one modality: ``dinov2_``.
        cache: a folder that keeps features, of references and of answers, from run to run.

    Attributes:
        modality: see above.

    Raises:
        ValueError: an unknown modality, one that the extractor doesn't read, or a distance of pairs beside a
            ``reference``.
    """

    def __init__(
        self,
        modality: str,
        extractor: Extractor,
        distances: Sequence[Distance] | None = None,
        reference: ConversationSource | None = None,
        prefix: str = "",
        cache: Path | None = None,
    ) -> None:
        self.modality = served_modality(modality, extractor)
        self.extraction = Extraction(extractor, None if cache is None else user_path(cache))
        self.distances = usual_distances(self.modality) if distances is None else distances
        if reference is not None and any(isinstance(one, ClassDivergence) for one in self.distances):
            raise ValueError(
                "distances: found ClassDivergence beside `reference`; expected the answers' own references, with which "
                "it compares each answer. Fix: leave `reference` out, or measure it by a Distances of its own."
            )
        self.reference = reference
        self.prefix = prefix

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figures; none of a test source that neither asks for the modality nor got it.

        A distance for which there are too few media is left out, with a warning.

        Raises:
            ValueError: there is nothing to compare with, or the extractor has no logits where they are needed.
        """
        answers = list(answers)  # each is read from its source and the files once
        share, held = made_share(answers, self.modality), made_media(answers, self.modality)
        found = {} if share is None else {f"{self.modality}/{self.prefix}made": share}
        if not held:
            if found:
                log.warning("%s: no answer has one: no distance is measured", self.modality)
            return found
        theirs = real_media(answers, self.reference, self.modality)
        if not theirs:
            raise ValueError(
                f"{self.modality}: found no real {self.modality} to compare with; expected some. Fix: give `reference` "
                "a source of such media, or test on conversations whose answers have them."
            )
        name = str(self.modality)
        made, _ = self.extraction.features(held, processes, f"{name}: features of answers")
        real, contents = self.extraction.features(theirs, processes, f"{name}: features of references")
        named = "expected" if self.reference is None else self.reference.name
        common = {
            **self.extraction.identity,
            "reference": named,
            "reference_size": len(real),
            "reference_contents": contents,
            "numpy": np.__version__,
        }
        for distance in self.distances:
            try:
                figures = distance.measure(made, real)
            except TooFewError as error:
                log.warning("%s: %s", name, error)
                continue
            for own, figure in figures.items():
                whole = replace(figure, protocol={**figure.protocol, **common})
                found[f"{name}/{self.prefix}{own}"] = whole
        return found


def usual_distances(modality: Modality) -> list[Distance]:
    """Those that need features alone: Frechet (``fid``, ``fvd``, ``fad``, ``fd``), kernel, neighbours, and diversity.

    The kernel is KID's, of sound that of KAD. Inception scores and divergences of classes, which need a
    classifier, are named where they are wanted.
    """
    kernel: Distance = GaussianKernel() if modality is Modality.AUDIO else PolynomialKernel(KERNEL.get(modality, "kd"))
    return [Frechet(FRECHET.get(modality, "fd")), kernel, PrecisionRecall(), DensityCoverage(), Diversity()]


def made_share(answers: Sequence[Answered], modality: Modality) -> Figure | None:
    """The share of conversations that ask for a medium of the modality and got one; None where none asks."""
    asked = [answer for answer in answers if is_asked(answer, modality)]
    if not asked:
        return None
    return share_figure(asked, [any(own == modality for own, _ in answer.files) for answer in asked], {})
