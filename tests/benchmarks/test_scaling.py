"""What two hosts send each other in a step, by their own interfaces, against what a plan says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.cluster import scaling
from benchmarks.cluster.hosts import unsupported
from benchmarks.cluster.planning import SIZES
from benchmarks.miniature import write_experts

MISSING = unsupported()


@pytest.mark.slow
@pytest.mark.skipif(MISSING is not None, reason=f"no hosts can be made: {MISSING}")
def test_the_wire_carries_what_is_planned(tmp_path: Path) -> None:
    write_experts(tmp_path, SIZES["narrow"])
    for host in scaling.side_by_side(tmp_path, "narrow", "fsdp2", steps=2):
        assert len(host["seconds"]) == 2
        assert host["sent"] == pytest.approx(scaling.expected(tmp_path, "narrow", "fsdp2"), rel=0.02)
