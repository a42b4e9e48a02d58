"""How a run's checkpoints are written, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckpointSettings:
    """How checkpoints are written; where and how often is the ``ModelCheckpoint`` callback's.

    Args:
        distributed: whether each is a folder of shards (``torch.distributed.checkpoint``) instead of one file. Engines
            that shard the model always write folders.
        asynchronous: whether training goes on while one is written from a copy in the CPU's memory.
        keep_last: how many of the newest are kept: ``last.ckpt``, and those before it as ``last-STEP.ckpt``.
        tolerated_failures: how many in a row may fail to be written, for example to a full disk, before the run ends.

    Raises:
        ValueError: a number is too small.
    """

    distributed: bool = False
    asynchronous: bool = False
    keep_last: int = 1
    tolerated_failures: int = 0

    def __post_init__(self) -> None:
        for name, least in (("keep_last", 1), ("tolerated_failures", 0)):
            if (found := getattr(self, name)) < least:
                raise ValueError(
                    f"training.checkpoints.{name}: found {found}; expected at least {least}. Fix: raise it."
                )
