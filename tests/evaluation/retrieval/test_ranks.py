"""Retrieval against plain sorting and torchmetrics, and where everything is alike."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.retrieval import retrieval_hit_rate

from isthmus.evaluation.retrieval.ranks import CUTS, ranks, retrieval_report


def test_equals_the_hit_rate_of_torchmetrics_both_ways() -> None:
    torch.manual_seed(0)
    captions = [f"caption {number % 40}" for number in range(60)]  # twenty pairs share theirs
    similarity = torch.randn(60, 60) + 2 * torch.eye(60)
    matches = torch.tensor([[one == other for other in captions] for one in captions])
    report = retrieval_report(similarity, captions)
    for name, matrix in (("medium_to_caption", similarity), ("caption_to_medium", similarity.t())):
        found = report[name]
        assert isinstance(found, dict)
        for cut in CUTS:
            rates = [retrieval_hit_rate(row, own, top_k=cut) for row, own in zip(matrix, matches, strict=True)]
            assert found[f"recall_at_{cut}"] == pytest.approx(float(torch.stack(rates).mean()))
            low, high = found[f"recall_at_{cut}_interval"]
            assert low < found[f"recall_at_{cut}"] < high


def test_the_rank_is_the_place_after_sorting() -> None:
    torch.manual_seed(1)
    similarity = torch.randn(20, 20)
    order = similarity.argsort(dim=1, descending=True)
    expected = [int((row == at).nonzero()) + 1 for at, row in enumerate(order)]
    assert ranks(similarity, torch.eye(20, dtype=torch.bool)).tolist() == expected
    report = retrieval_report(similarity, [str(number) for number in range(20)])["medium_to_caption"]
    assert isinstance(report, dict) and report["median_rank"] == sum(sorted(expected)[9:11]) / 2


def test_what_says_the_same_of_all_finds_nothing() -> None:
    report = retrieval_report(torch.ones(30, 30), [str(number) for number in range(30)])["medium_to_caption"]
    assert isinstance(report, dict) and report["recall_at_10"] == 0.0 and report["median_rank"] == 30.0


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"found \(2, 3\) for 2 captions"):
        retrieval_report(torch.zeros(2, 3), ["a", "b"])
    with pytest.raises(ValueError, match="finite"):
        retrieval_report(torch.full((1, 1), torch.nan), ["a"])
