"""Lightning's callbacks and arguments that a run of stages can't hold: refused by name before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    SpikeDetection,
    StochasticWeightAveraging,
)
from runs import NAMES, fit


@pytest.mark.parametrize(
    ("callback", "instead"),
    [
        (BatchSizeFinder(), "isthmus rehearse"),
        (LearningRateFinder(), "compare train/loss"),
        (StochasticWeightAveraging(1e-2), "training.stages.NAME.ema"),
        (EMAWeightAveraging(), "training.stages.NAME.ema"),
        (BackboneFinetuning(), "training.stages.NAME.trains"),
        (GradientAccumulationScheduler({0: 2}), "micro_batches"),
        (ModelPruning("l1_unstructured"), "LoRA's rank"),
        (SpikeDetection(), "gradient_clip_val"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, pl.Callback) else "",
)
def test_a_callback_is_refused_by_its_name(
    callback: pl.Callback, instead: str, experts: dict[str, Path], tmp_path: Path
) -> None:
    name = type(callback).__name__
    with pytest.raises(ValueError, match=rf"trainer.callbacks: found {name}; expected none.*Fix: .*{instead}"):
        fit(experts, tmp_path, extra=[callback])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"min_steps": 3}, r"trainer.min_steps: found 3.*Fix: set training.stages.NAME.steps"),
        ({"min_epochs": 2}, r"trainer.min_epochs: found 2.*Fix"),
        (
            {"val_check_interval": 5, "validates": True},
            r"trainer.val_check_interval: found 5, and stage 'decoder_alignment' has 4 steps.*Fix: lower it",
        ),
        (
            {"extra": [EarlyStopping("validation/loss")], "validates": True},
            r"found EarlyStopping on 'validation/loss', which would .* too late.*Fix: set trainer.val_check_interval",
        ),
        (
            {"extra": [EarlyStopping("validation/loss")], "val_check_interval": 2},
            r"found EarlyStopping on 'validation/loss'.*no validation data.*Fix: give data.validation",
        ),
    ],
)
def test_an_argument_is_refused(
    options: dict[str, Any], expected: str, experts: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=expected):
        fit(experts, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_validation_may_count_on_from_stage_to_stage(experts: dict[str, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"val_check_interval": 7, "check_val_every_n_epoch": None, "validates": True}
    _, diary = fit(experts, tmp_path, saves=False, **options)
    assert len(diary.losses) == 15


@pytest.mark.parametrize("is_first", [True, False])
def test_each_stage_keeps_its_own_best_checkpoint(is_first: bool, experts: dict[str, Path], tmp_path: Path) -> None:
    """Whatever its losses are beside those of another stage, and wherever the callback stands in the list."""
    best = ModelCheckpoint(
        tmp_path / "best", "{step}", monitor="validation/loss", mode="max", save_top_k=1, enable_version_counter=False
    )
    found: list[tuple[str, str]] = []

    class Seen(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            found.append((pl_module.name, best.best_model_path))

    options: dict[str, Any] = {"validates": True, "val_check_interval": 2}
    fit(experts, tmp_path, NAMES, extra=[best, Seen()] if is_first else [Seen(), best], **options)
    kept = sorted(int(path.stem.partition("=")[2]) for path in (tmp_path / "best").iterdir())
    assert [sum(low < step <= high for step in kept) for low, high in ((0, 5), (5, 9), (9, 15))] == [1, 1, 1]
