"""What `make test-gpu` compares with, on the CPU: bfloat16 beside float32, and a difference that it must see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from gpu.comparing import STAGES, check, compare_answer, compare_stage
from tiny_world import tiny_experts


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_experts(tmp_path_factory.mktemp("experts"))


@pytest.mark.parametrize("name", [STAGES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in STAGES[1:])])
def test_a_stage_in_half_precision_is_within_bounds(name: str, paths: dict[str, Path]) -> None:
    found = compare_stage(paths, name, "cpu")
    print(found)
    assert found.expected != found.found  # another precision it was
    check(found)
    for wrong in (replace(found, found=found.expected * 1.1), replace(found, cosine=0.9)):
        with pytest.raises(AssertionError, match=name):
            check(wrong)


def test_an_answers_picture_is_within_bounds(paths: dict[str, Path]) -> None:
    found = compare_answer(paths, "cpu")
    print(found)
    check(found)
