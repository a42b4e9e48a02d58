"""Finding the caption of a medium among all, and the medium of a caption: recall and the median rank, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import torch
from torch import Tensor

from isthmus.evaluation.intervals import wilson_interval

CUTS = (1, 5, 10)


def retrieval_report(similarity: Tensor, captions: Sequence[str]) -> dict[str, object]:
    """Recall@1, 5 and 10 with their intervals and what chance gives, and the median rank.

    Items with equal captions are each other's matches: a medium is found when any of its matches is. Of several things
    that are equally similar the wrong ones come first, so that a model that says the same of all finds nothing.

    Args:
        similarity: (n, n), of medium i and caption j.
        captions: n, caption j.

    Raises:
        ValueError: another shape, none at all, or a similarity that isn't a number.
    """
    n = len(captions)
    if n == 0 or tuple(similarity.shape) != (n, n):
        raise ValueError(
            f"similarity: found {tuple(similarity.shape)} for {n} captions; expected ({n}, {n}), n at least 1. "
            "Fix: give one row a medium and one column a caption."
        )
    if not bool(torch.isfinite(similarity).all()):
        raise ValueError("similarity: found values that aren't finite; expected numbers. Fix: look at the encoder.")
    places = {caption: place for place, caption in enumerate(dict.fromkeys(captions))}
    groups = torch.tensor([places[caption] for caption in captions], device=similarity.device)
    matches = groups[:, None] == groups[None, :]
    return {
        "n": n,
        "medium_to_caption": _direction(similarity, matches),
        "caption_to_medium": _direction(similarity.t(), matches),
    }


def ranks(similarity: Tensor, matches: Tensor) -> Tensor:
    """(n,) the place, from 1 on, of each row's best match: one more than the others that are at least as similar."""
    best = similarity.masked_fill(~matches, -torch.inf).amax(dim=1, keepdim=True)
    return ((similarity >= best) & ~matches).sum(dim=1) + 1


def chance(n: int, right: int, cut: int) -> float:
    """How likely one of ``right`` matches is among the first ``cut`` of ``n`` things in random order."""
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
