"""``python -m benchmarks.hostile`` in its short form: the real server, and some requests of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.hostile.cases import Cases
from benchmarks.hostile.running import run


def test_the_server_holds(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(bundle, 120, seed=1)
    assert result.faults == [], capsys.readouterr().err
    kinds = {outcome.case.kind for outcome in result.outcomes}
    assert len(kinds) == 9 and len(result.outcomes) == 120 and len(result.held) == 3
    crowds = {outcome.statuses for outcome in result.outcomes if outcome.case.kind == "many bombs"}
    assert (400,) in crowds <= {(400,), (429,)}, "none was decoded whole"
    assert {status for outcome in result.outcomes for status in outcome.statuses} >= {200, 400, 404}


def test_the_seed_fixes_the_requests() -> None:
    file = ("image", "image/png", bytes(range(100)))
    first, second, other = ([case.pieces for case in Cases("m", [file], [file], seed)(50)] for seed in (1, 1, 2))
    assert first == second != other
