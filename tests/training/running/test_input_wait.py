"""The share of waiting: that of a slow source is seen, and all of it is between nothing and everything."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
from pytorch_lightning.loggers import CSVLogger
from runs import fit

from isthmus.data.batching.fetch import Fetched, Steps
from isthmus.training.running.input_wait import InputWait


@pytest.mark.parametrize("delay", [0.0, 0.3])
def test_waiting_for_a_slow_source_is_seen(
    experts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delay: float
) -> None:
    plain = Steps.__getitem__

    def slow(self: Steps, step: int) -> Fetched:
        time.sleep(delay)
        return plain(self, step)

    monkeypatch.setattr(Steps, "__getitem__", slow)
    wait = InputWait()
    options = {"saves": False, "extra": [wait], "logger": CSVLogger(tmp_path), "log_every_n_steps": 2}
    fit(experts, tmp_path, ["decoder_alignment"], **options)  # type: ignore[arg-type]  # the Trainer's own
    with next(tmp_path.rglob("metrics.csv")).open() as file:
        shares = [float(row["train/input_wait"]) for row in csv.DictReader(file) if row["train/input_wait"]]
    assert len(shares) == 2 and all(0 <= share < 1 for share in shares)
    # Four steps, of which the first one's batch isn't counted.
    assert 3 * delay <= wait.waited < wait.seconds
