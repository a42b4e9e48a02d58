"""Who computes slowly is measured where there are others to wait, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from runs import fit

from isthmus.training import SlowRanks


def test_one_process_measures_nothing(experts: dict[str, Path], tmp_path: Path) -> None:
    slow, read = SlowRanks(), list[float]()

    def clock() -> float:
        read.append(0.0)
        return 0.0

    slow._clock = clock
    fit(experts, tmp_path, ["encoder_alignment"], extra=[slow], saves=False, log_every_n_steps=1)
    assert not read
