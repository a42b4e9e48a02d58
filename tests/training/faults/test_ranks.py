"""Two gloo ranks, of which one alone meets a fault: both do the same."""

from __future__ import annotations

import json
import math
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run

from isthmus.training import SlowRanks
from isthmus.training.faults.non_finite import RECORD
from isthmus.training.run_record import RECORD as RUN

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("ranks.py")


@pytest.fixture(scope="module")
def ran(experts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]], str]:
    """The runs' folder, what each rank saw, and what both wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    said = run(SCRIPT, str(experts["llama"].parent), str(folder), ranks=2)
    return folder, [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1)], said


@pytest.mark.parametrize("engine", ["replicated", "sharded"])
def test_both_skip_what_one_cant_learn(engine: str, ran: tuple[Path, list[dict[str, Any]], str]) -> None:
    folder, seen, said = ran
    first, second = (each[engine] for each in seen)
    assert first["skipped"] == second["skipped"] == 1
    assert [math.isfinite(loss) for loss in first["losses"]] == [True, False, True, True, True]
    assert all(torch.equal(own, second["weights"][name]) for name, own in first["weights"].items())
    assert all(bool(own.isfinite().all()) for own in first["weights"].values())
    (line,) = (folder / engine / RECORD).read_text().splitlines()
    shares = json.loads(line)["processes"]
    assert [share["is_finite"] for share in shares] == [True, False]
    told = next(line for line in said.splitlines() if "isn't finite" in line)
    assert shares[1]["conversations"][0] in told and shares[0]["conversations"][0] not in told


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_to_one_ends_both_and_loses_nothing(name: str, ran: tuple[Path, list[dict[str, Any]], str]) -> None:
    """It came in step 3, was exchanged before step 4, and is known to both before step 5."""
    folder, seen, said = ran
    assert [each[name] for each in seen] == ["ended", "ended"]
    last = torch.load(folder / name / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 4
    assert f"{name} ended the run: stage 'encoder_alignment' isn't over (4 of 5 steps)" in said
    assert "last.ckpt holds all 4 steps" in said


def test_a_slow_rank_is_told_by_name(ran: tuple[Path, list[dict[str, Any]], str]) -> None:
    """Exchanged after step 2, known after step 4, and told once."""
    folder, _, said = ran
    (told,) = (line for line in said.splitlines() if "as long as the median" in line)
    host = socket.gethostname()
    assert f"rank 1 on {host} computes 3.0 times as long as the median: 3 s a step against 1 s" in told
    places = json.loads((folder / "replicated" / RUN).read_text())["starts"][0]["places"]
    assert [(place["rank"], place["host"]) for place in places] == [(0, host), (1, host)]


def test_a_factor_that_all_are_beyond_is_refused() -> None:
    with pytest.raises(ValueError, match=r"SlowRanks.times: found 1; expected more than 1.*Fix"):
        SlowRanks(times=1.0)
