"""Retrieval metrics in both directions: recall and the median rank."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import torch
from torch import Tensor

from isthmus.evaluation.intervals import wilson_interval

CUTS = (1, 5, 10)


def retrieval_report(similarity: Tensor, captions: Sequence[str]) -> dict[str, object]:
    """Recall@1, 5 and 10 with their intervals and chance levels, and the median rank.

    Items with equal captions match each other, and the best-ranked match counts. Ties are broken against the model, so
    that one that gives all items the same similarity finds nothing.

    Args:
        similarity: (n, n), of medium i and caption j.
        captions: n, caption j.

    Raises:
        ValueError: another shape, no captions, or a similarity that isn't finite.
    """
    n = len(captions)
    if n == 0 or tuple(similarity.shape) != (n, n):
        raise ValueError(
            f"similarity: found {tuple(similarity.shape)} for {n} captions; expected ({n}, {n}), n at least 1. "
            "Fix: give one row for each medium and one column for each caption."
        )
    if not bool(torch.isfinite(similarity).all()):
        raise ValueError("similarity: found values that aren't finite; expected numbers. Fix: check the encoder.")
    places = {caption: place for place, caption in enumerate(dict.fromkeys(captions))}
    groups = torch.tensor([places[caption] for caption in captions], device=similarity.device)
    matches = groups[:, None] == groups[None, :]
    return {
        "n": n,
        "medium_to_caption": _direction(similarity, matches),
        "caption_to_medium": _direction(similarity.t(), matches),
    }


def ranks(similarity: Tensor, matches: Tensor) -> Tensor:
    """(n,) the rank, from 1 on, of each row's best match: 1 + the number of non-matches at least as similar."""
    best = similarity.masked_fill(~matches, -torch.inf).amax(dim=1, keepdim=True)
    return ((similarity >= best) & ~matches).sum(dim=1) + 1


def chance(n: int, right: int, cut: int) -> float:
    """The probability that one of ``right`` matches is among the first ``cut`` of ``n`` items in random order."""
    return 1.0 - comb(n - right, min(cut, n)) / comb(n, min(cut, n))


def _direction(similarity: Tensor, matches: Tensor) -> dict[str, object]:
    found = ranks(similarity, matches)
    report: dict[str, object] = {"median_rank": float(found.double().quantile(0.5))}
    for cut in CUTS:
        right = int((found <= cut).sum())
        report[f"recall_at_{cut}"] = right / len(found)
        report[f"recall_at_{cut}_interval"] = wilson_interval(right, len(found))
        report[f"recall_at_{cut}_chance"] = sum(chance(len(found), int(own), cut) for own in matches.sum(1)) / len(
            found
        )
    return report
