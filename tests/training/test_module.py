"""A model in training: what its figures are means of, and what it adds up over processes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny_world import tiny_model
from torch.utils.data import DataLoader

from isthmus.training.module import TrainingModule
from isthmus.training.objectives.base import Outcome
from isthmus.training.objectives.supervised import Supervised
from isthmus.types import Batch


def batch(*repeated: bool) -> Batch:
    ids = torch.zeros(len(repeated), 2, dtype=torch.int64)
    return Batch(ids, ids.bool(), ids, details=[{"repeated": True} if own else {} for own in repeated])


class Validated(pl.LightningModule):
    """What of the training module validates, without a model."""

    validation_step = TrainingModule.validation_step
    _log = TrainingModule._log

    def learner(self, divided: bool) -> Any:
        return SimpleNamespace(world=1, counts=True)

    def transfer_batch_to_device(self, batch: Batch, *_: Any) -> Batch:
        return batch


def test_repeated_conversations_neither_count_nor_weigh(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 9.0, 4.0])

    def step(*_: Any) -> Outcome:
        loss = torch.tensor(next(losses))
        return Outcome(loss, {"loss": loss})

    monkeypatch.setattr(Supervised, "step", step)
    batches: Any = [batch(False, False), batch(True, True), batch(False)]
    loader = DataLoader(batches, batch_size=None, collate_fn=lambda own: own)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (found,) = trainer.validate(Validated(), loader, verbose=False)
    assert found["validation/loss"] == pytest.approx((2 * 1.0 + 4.0) / 3)


def test_a_model_of_words_alone_is_validated_by_several_processes(experts: dict[str, Path]) -> None:
    """It counts nothing, so that there is nothing to add up."""
    module = TrainingModule(tiny_model({"llama": experts["llama"]}, (), (), max_tokens=256))
    trainer: Any = SimpleNamespace(world_size=2)
    module._trainer = trainer
    module.on_validation_epoch_start()
    module.on_validation_epoch_end()
