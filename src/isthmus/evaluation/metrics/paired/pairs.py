"""Made media beside their own references, and figures of what is scored so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.evaluation.intervals import bootstrap_interval
from isthmus.evaluation.metrics.base import Figure
from isthmus.evaluation.metrics.distances.media import Held, expected_media, made_media
from isthmus.evaluation.metrics.scores import Better
from isthmus.evaluation.predictions.answered import Answered
from isthmus.types import Modality


@dataclass(frozen=True)
class Pair:
    """A made medium and the one that was expected in its place.

    Attributes:
        owner: the id of the conversation.
        made: the reply's.
        expected: the reference's.
    """

    owner: str
    made: Held
    expected: Held


def pairs_of(answers: Sequence[Answered], modality: Modality) -> list[Pair]:
    """Each reply's media beside its reference's, in order; what one side has more of has no pair."""
    return [
        Pair(answer.id, made, expected)
        for answer in answers
        for made, expected in zip(made_media([answer], modality), expected_media([answer], modality), strict=False)
    ]


def owners_figure(
    owners: Sequence[str], scores: Sequence[float], protocol: Mapping[str, Any], better: Better = "higher"
) -> Figure:
    """The mean over conversations of the mean score of each one's media, with a bootstrap interval.

    Args:
        owners: the conversation of each score, one or more.
        scores: of media.
        protocol: all that decides over them.
        better: which values are better.
    """
    gathered: dict[str, list[float]] = {}
    for owner, score in zip(owners, scores, strict=True):
        gathered.setdefault(owner, []).append(score)
    means = {owner: float(np.mean(own)) for owner, own in gathered.items()}
    values = list(means.values())
    return Figure(float(np.mean(values)), len(values), better, bootstrap_interval(values), means, dict(protocol))
