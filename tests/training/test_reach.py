"""A part that trains, and that no gradient reaches during a whole stage, is told at its end."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from tiny_world import tiny_model
from torch import nn

from isthmus.data.module import ConversationDataModule
from isthmus.model import AnyToAny
from isthmus.pocket import tasks
from isthmus.training import Stage, StageSwitch, TrainingModule
from isthmus.training.reach import Reach


class Parts(nn.Module):
    """Parts of one parameter each."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.own = {name: nn.Parameter(torch.ones(2)) for name in names}

    def parts(self) -> dict[str, dict[str, nn.Parameter]]:
        return {name: {"weight": own} for name, own in self.own.items()}


def test_zeros_and_absent_gradients_reach_nothing() -> None:
    names = ["none", "zeros", "late", "nan", "once"]
    parts, reach = Parts(names), Reach(names)
    for step in range(12):
        grad = {
            "zeros": torch.zeros(2),
            "late": torch.full((2,), 1e-30) if step == 10 else torch.zeros(2),
            "nan": torch.tensor([0.0, float("nan")]),
            "once": torch.ones(2) if step == 2 else None,  # between two readings
        }
        for name, own in parts.own.items():
            own.grad = grad.get(name)
        reach.look(parts)  # type: ignore[arg-type] # its parts alone are read
    assert reach.reached() == ["late", "nan", "once"]
    assert reach.unreached(torch.device("cpu")) == ["none", "zeros"]


def run(experts: dict[str, Path], folder: Path, resume: str | None = None) -> AnyToAny:
    """Five steps in words, then one with images alone; all input projectors train."""
    stage = {
        "trains": ["input_projectors", "lora"],
        "optimizer": partial(torch.optim.AdamW, lr=1e-2),
        "batch_size": 2,
    }
    stages = {
        "words": Stage(**stage, data={"text": 1.0}, steps=5),
        "images": Stage(**stage, data={"images": 1.0}, steps=2),
    }
    sources = {"text": tasks.TextOnly(size=20), "images": tasks.Describe(size=20, modalities=("image",))}
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        default_root_dir=folder,
        callbacks=[
            StageSwitch(stages, folder=folder),
            ModelCheckpoint(folder / "saved", filename="{step}", every_n_train_steps=1, save_top_k=-1),
        ],
    )
    model = tiny_model(experts, inputs=("image", "video", "audio"), outputs=(), max_tokens=1024)
    trainer.fit(
        TrainingModule(model), datamodule=ConversationDataModule(sources, seed=5), ckpt_path=resume, weights_only=True
    )
    return model


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "found no gradient" in record.getMessage()]


def test_a_part_that_learnt_nothing_in_a_stage_is_told_once(
    experts: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    run(experts, tmp_path)
    words, images = told(caplog)
    assert "stage 'words': found no gradient for input_projectors.image, input_projectors.video, " in words
    assert "stage 'images': found no gradient for input_projectors.video, input_projectors.audio in any" in images
    assert "lora" not in words + images and "Fix: give the stage data" in words
    caplog.clear()
    # What a stage's first steps reached is in its checkpoints.
    saved = torch.load(tmp_path / "saved" / "step=6.ckpt", weights_only=True)
    state = next(own for own in saved["callbacks"].values() if "reached" in own)
    assert state["reached"] == ["input_projectors.image", "lora"]
    run(experts, tmp_path / "again", str(tmp_path / "saved" / "step=6.ckpt"))
    assert told(caplog) == [images]
