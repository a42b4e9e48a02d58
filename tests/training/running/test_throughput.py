"""Tokens a second: the real tokens of the batches since the last reading, over the time that training took."""

from __future__ import annotations

import csv
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger
from runs import fit

from isthmus.training import TokenRate


class Counted(pl.Callback):
    """Real tokens of each batch."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.tokens.append(sum(int(part.mask.sum()) for part in batch.pieces))


@pytest.mark.parametrize(("every", "micro_batches"), [(1, 1), (2, 3)])
def test_the_rate_is_of_real_tokens(
    experts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, micro_batches: int
) -> None:
    seconds = count()  # each look at the clock is a second later than the last
    monkeypatch.setattr("isthmus.training.running.throughput.time.perf_counter", lambda: float(next(seconds)))
    counted = Counted()
    fit(
        experts,
        tmp_path,
        ["decoder_alignment"],
        saves=False,
        micro_batches=micro_batches,
        extra=[counted, TokenRate()],
        logger=CSVLogger(tmp_path),
        log_every_n_steps=every,
    )
    with next(tmp_path.rglob("metrics.csv")).open() as file:
        rates = [
            float(row["train/tokens_per_second"]) for row in csv.DictReader(file) if row["train/tokens_per_second"]
        ]
    groups = [counted.tokens[start : start + every] for start in range(0, len(counted.tokens), every)]
    assert rates == pytest.approx([sum(group) / every for group in groups])
