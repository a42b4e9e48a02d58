"""Five kills at random moments, on a nearly full disk; ``killed_runs.py`` takes any number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_run_survives_kills_and_a_full_disk(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_runs.py")
    command = [sys.executable, str(script), "--kills", "5", "--folder", str(tmp_path)]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    said = ran.stdout.splitlines()[-1]
    assert said.startswith("killed: 5") or ", killed: 5" in said
    assert "finished, bit for bit: " in said
    assert not list(tmp_path.iterdir())
