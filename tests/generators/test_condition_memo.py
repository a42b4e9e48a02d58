"""The memo of conditions: bounded, least recently used out first."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.generators.condition_memo import ConditionMemo

CPU = torch.device("cpu")


def spelled(captions: list[str]) -> torch.Tensor:
    return torch.tensor([[[float(ord(caption))]] for caption in captions])


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8), max_size=12), st.integers(1, 5))
def test_answers_are_right_and_bounded(requests: list[list[str]], entries: int) -> None:
    memo = ConditionMemo(entries)
    for captions in requests:
        asked: list[str] = []

        def compute(missing: list[str], asked: list[str] = asked) -> torch.Tensor:
            asked += missing
            return spelled(missing)

        assert torch.equal(memo.look_up(captions, compute, CPU), spelled(captions))
        assert len(asked) == len(set(asked)) and len(memo) <= entries


def test_the_least_recently_used_goes_first() -> None:
    memo, asked = ConditionMemo(2), []

    def compute(missing: list[str]) -> torch.Tensor:
        asked.extend(missing)
        return spelled(missing)

    for caption in "abacab":
        memo.look_up([caption], compute, CPU)
    assert asked == ["a", "b", "c", "b"]


def test_what_is_kept_is_no_view_of_a_batch() -> None:
    memo, batch = ConditionMemo(4), torch.zeros(100, 1, 1)
    found = memo.look_up([chr(97 + index) for index in range(100)], lambda missing: batch, CPU)
    found += 1
    kept = memo.look_up([chr(97 + 99)], spelled, CPU)
    assert kept.item() == 0
    assert all(row.untyped_storage().nbytes() == 4 for row in memo._rows.values())
