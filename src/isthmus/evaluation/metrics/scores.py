"""Figures from the scores of single answers: their mean or their ratio, with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from isthmus.evaluation.intervals import bootstrap_interval, ratio_interval, wilson_interval
from isthmus.evaluation.metrics.base import Figure
from isthmus.evaluation.predictions.answered import Answered

Better = Literal["higher", "lower"]


def mean_figure(
    answers: Sequence[Answered],
    scores: Sequence[float],
    protocol: Mapping[str, Any],
    better: Better = "higher",
) -> Figure:
    """The mean of scores that are spread over a range, with a bootstrap interval.

    Args:
        answers: what was scored, one or more.
        scores: of each.
        protocol: all that decides over them.
        better: which values are better.
    """
    interval = bootstrap_interval(scores)
    return Figure(float(np.mean(scores)), len(scores), better, interval, by_id(answers, scores), dict(protocol))


def share_figure(answers: Sequence[Answered], right: Sequence[bool], protocol: Mapping[str, Any]) -> Figure:
    """The share of answers that are right, with Wilson's interval."""
    scores = [float(one) for one in right]
    interval = wilson_interval(sum(right), len(right))
    return Figure(sum(scores) / len(scores), len(scores), "higher", interval, by_id(answers, scores), dict(protocol))


def ratio_figure(
    parts: Sequence[float], wholes: Sequence[float], protocol: Mapping[str, Any], better: Better = "higher"
) -> Figure:
    """The sum of parts over the sum of wholes, 0 where there is no whole; answers are drawn with both for the interval.

    Args:
        parts: of each answer.
        wholes: of each answer.
        protocol: all that decides over them.
        better: which values are better.
    """
    total = sum(wholes)
    value = sum(parts) / total if total else 0.0
    return Figure(value, len(parts), better, ratio_interval(parts, wholes), None, dict(protocol))


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


def by_id(answers: Sequence[Answered], scores: Sequence[float]) -> dict[str, float]:
    """The scores under the answers' ids, each of which is of one answer alone."""
    return {answer.id: float(score) for answer, score in zip(answers, scores, strict=True)}


def require_answers(answers: Sequence[Answered]) -> None:
    """Refuses an empty test source.

    Raises:
        ValueError: there are no answers.
    """
    if not answers:
        raise ValueError("answers: found none; expected at least one. Fix: give the test source conversations.")
