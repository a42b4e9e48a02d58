"""Real processes on loopback, started by Lightning or by torchrun on two nodes: they learn what one process learns."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run
from tiny_world import tiny_experts

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parent.parent
RUNS = TESTS / "training" / "runs.py"
# Dropout draws by rank and step, so the equality with one process is that of a run without it.
OPTIONS = {"denoising": 0.0, "saves": False}


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(RUNS.parent), str(TESTS), str(TESTS.parent / "src")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_experts(tmp_path_factory.mktemp("experts"))["llama"].parent


@pytest.fixture(scope="module")
def alone(experts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("alone")
    run(RUNS, str(experts), str(folder), json.dumps(OPTIONS))
    return result(folder, 0)


def result(folder: Path, rank: int) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / f"rank_{rank}.pt", weights_only=True)
    return loaded


def assert_like_one_process(folder: Path, alone: dict[str, Any]) -> None:
    first, second = result(folder, 0), result(folder, 1)
    gaps = {name: float((w - second["weights"][name]).abs().max()) for name, w in first["weights"].items()}
    assert max(gaps.values()) == 0.0, gaps
    assert first["losses"] == pytest.approx(alone["losses"], abs=1e-4)


def test_two_ranks_that_lightning_starts_learn_what_one_process_learns(
    experts: Path, alone: dict[str, Any], tmp_path: Path
) -> None:
    options = json.dumps(OPTIONS | {"devices": 2})
    finished = subprocess.run(
        [sys.executable, str(RUNS), str(experts), str(tmp_path), options],
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr.decode()[-3000:]
    assert_like_one_process(tmp_path, alone)


def test_two_torchrun_nodes_learn_what_one_process_learns(experts: Path, alone: dict[str, Any], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [str(RUNS), str(experts), str(tmp_path), json.dumps(OPTIONS | {"devices": 1, "num_nodes": 2})]
    nodes = [
        subprocess.Popen(
            [
                sys.executable,
                *f"-m torch.distributed.run --nnodes 2 --nproc-per-node 1 --node-rank {rank}".split(),
                *f"--master-addr 127.0.0.1 --master-port {port}".split(),
                *arguments,
            ],
            env=environment(),
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    errors = [node.communicate(timeout=300)[1].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(error[-2000:] for error in errors)
    assert_like_one_process(tmp_path, alone)
