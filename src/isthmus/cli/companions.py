"""The callbacks that every run of the command line has."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import LearningRateMonitor, ModelSummary, ProgressBar

from isthmus.training import RunRecord, SkipNonFinite, SlowRanks, StageProgressBar, TokenRate
from isthmus.training.running.input_wait import InputWait
from isthmus.training.running.monitors import GradientNorms, MemoryUse
from isthmus.training.running.summary import PartsSummary
from isthmus.training.watching.collapse import CollapseWatch


def companions(trainer: Any) -> list[pl.Callback]:
    """What every run shows and logs, unless its config brings the like."""
    own = [callback for callback in trainer.callbacks or [] if isinstance(callback, pl.Callback)]
    added: list[pl.Callback] = [TokenRate(), RunRecord()]
    for kind in (CollapseWatch, SkipNonFinite, SlowRanks):
        if not any(isinstance(each, kind) for each in own):
            added.append(kind())
    if trainer.enable_progress_bar is not False and not any(isinstance(each, ProgressBar) for each in own):
        added.append(StageProgressBar())
    if trainer.enable_model_summary is not False and not any(isinstance(each, ModelSummary) for each in own):
        added.append(PartsSummary())
    if trainer.logger is not False:
        if not any(isinstance(each, LearningRateMonitor) for each in own):
            added.append(LearningRateMonitor("step"))
        added += [InputWait(), GradientNorms(), MemoryUse()]
    return added
