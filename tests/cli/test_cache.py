"""Filling the cache ahead of training, broken off and gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
from pytorch_lightning.strategies import SingleDeviceStrategy
from tiny_world import tiny_clone, tiny_experts, tiny_model

from isthmus.cache.frozen import CacheSettings
from isthmus.cli.cache import Fill, fill_stages
from isthmus.data.module import ConversationDataModule
from isthmus.pocket.tasks import Describe, Draw
from isthmus.training import LossWeights, Stage, StageSwitch, TrainingModule


def filled(
    experts: dict[str, Path], settings: CacheSettings | None, folder: Path, micro_batches: int = 1
) -> TrainingModule:
    model = tiny_model(experts, max_tokens=1024)
    model.cache_settings = settings
    data = ConversationDataModule(
        {"describe": Describe(size=8), "draw": Draw(size=8, modalities=("image", "audio"))},
        {"draw": Draw("validation", size=4, modalities=("image",))},
        batch_size=4,
    )
    stages = {
        "one": Stage(["input_projectors"], LossWeights(), {"describe": 1.0}, 2, micro_batches=micro_batches),
        "two": Stage(["output_projectors"], LossWeights(alignment=1.0), {"draw": 1.0}, 2, micro_batches=micro_batches),
    }
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, default_root_dir=folder, enable_checkpointing=False
    )
    module = TrainingModule(model)
    fill_stages(module, data, StageSwitch(stages, folder=folder), trainer)
    return module


def test_fills_what_the_stages_need_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experts = tiny_experts(tmp_path / "experts")
    settings = CacheSettings(tmp_path / "cache", trial=0)
    first = filled(experts, settings, tmp_path, micro_batches=2).cache()
    assert first is not None and first.misses == len(first.store) > 8
    module = filled(experts, settings, tmp_path)
    second, model = module.cache(), module.model
    assert second is not None and second.misses == 0 and second.hits >= first.misses
    assert model.input_side is not None and model.output_side is not None
    assert not any(part.is_loaded for part in [*model.input_side.encoders, *model.output_side.generators])
    assert "0 computed" in capsys.readouterr().out.splitlines()[-1]


def test_asks_for_a_cache(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.cache: found none"):
        filled(tiny_experts(tmp_path / "experts"), None, tmp_path)


def test_one_process_fills_it_whatever_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Path(__file__).resolve().parents[2] / "configs/engines/fsdp2.yaml"
    monkeypatch.chdir(tiny_clone(tmp_path))
    monkeypatch.setattr(Fill, "fit", lambda self, **kwargs: None)
    command = Fill(["fit", "-c", "stage1.yaml", "-c", str(engine), "--trainer.accelerator", "cpu"])
    assert isinstance(command.trainer.strategy, SingleDeviceStrategy) and command.trainer.world_size == 1
