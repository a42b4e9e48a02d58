"""What a source holds in memory doesn't grow with what its records say."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.growth import step
from benchmarks.measuring import flops
from benchmarks.miniature import write_llm
from benchmarks.reading import start_up

from isthmus.backbones import CausalBackbone


def test_a_record_costs_its_offset_alone(tmp_path: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is read from /proc")
    few, many = start_up(tmp_path, (1_000, 50_000), repetitions=1)
    assert (many["MB held"] - few["MB held"]) * 1e6 / 49_000 < 100
    assert not list(tmp_path.iterdir()), "large files are cleared away"


def test_work_grows_linearly_with_the_batch_and_little_more_with_length(tmp_path: Path) -> None:
    backbone = CausalBackbone(write_llm(tmp_path, 64, 2))
    backbone.materialize()
    step_once(backbone, 2, 8)  # the first forward also tries whether the LLM runs packed rows
    one = flops(lambda: step_once(backbone, 2, 64))
    assert flops(lambda: step_once(backbone, 4, 64)) == 2 * one
    assert 2 * one < flops(lambda: step_once(backbone, 2, 128)) < 2.6 * one


def step_once(backbone: CausalBackbone, size: int, tokens: int) -> None:
    backbone.rows.run_starts.requires_grad_(True)
    step(backbone, size, tokens)()
