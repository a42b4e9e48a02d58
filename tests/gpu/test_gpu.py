"""On a GPU: every stage and an answer as on the CPU, no step that waits for the device, and what needs one.

`make test-gpu` runs these and prints the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu.comparing import HALF, HEADER, STAGES, Compared, check, compare_answer, compare_stage, learnt, model_of
from tiny_world import tiny_experts

from isthmus.backbones import QuantizationSettings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: `make test-gpu` runs this on one")

NEEDS_LIGER = pytest.mark.skipif(find_spec("liger_kernel") is None, reason="Liger-Kernel isn't installed")
NEEDS_BITS = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes isn't installed")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_experts(tmp_path_factory.mktemp("experts"))


@pytest.fixture(scope="module")
def table() -> Iterator[list[Compared]]:
    """Rows, printed at the end with `-s`."""
    rows: list[Compared] = []
    yield rows
    print(f"\n{torch.cuda.get_device_name()}\n{HEADER}")
    for row in rows:
        print(row)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_equals_the_cpus(name: str, paths: dict[str, Path], table: list[Compared]) -> None:
    table.append(compare_stage(paths, name, "gpu"))
    check(table[-1])


def test_an_answer_equals_the_cpus(paths: dict[str, Path], table: list[Compared]) -> None:
    table.append(compare_answer(paths, "gpu"))
    check(table[-1])


@pytest.mark.parametrize("name", STAGES)
def test_no_step_waits_for_the_gpu(name: str, paths: dict[str, Path]) -> None:
    """What waits raises, from the second step's forward pass to the end of its backward pass."""

    def mode(kind: str) -> Any:
        return lambda: torch.cuda.set_sync_debug_mode(kind)

    try:
        assert learnt(model_of(paths, HALF), name, "gpu", "bf16-mixed", mode("error"), mode("default")).steps == 2
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "options",
    [
        {"compiled": True},
        {"compiled": True, "checkpointed_layers": 2},
        pytest.param({"cross_entropy": "liger"}, marks=NEEDS_LIGER),
    ],
    ids=str,
)
def test_options_equal_the_plain_step(options: dict[str, Any], paths: dict[str, Path], table: list[Compared]) -> None:
    table.append(compare_stage(paths, "instruction_tuning", "gpu", **options))
    check(table[-1])


@NEEDS_BITS
def test_four_bits_learn(paths: dict[str, Path], table: list[Compared]) -> None:
    """Rounded to four bits the tiny LLM is another one: the loss is near, and gradients point the same way."""
    table.append(compare_stage(paths, "instruction_tuning", "gpu", quantization=QuantizationSettings()))
    check(table[-1], loss=0.3, cosine=0.5)
