"""The data module under a real Trainer: stages, and runs that are broken off and resumed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from data.conversations import Numbers
from jsonargparse import ArgumentParser
from pytorch_lightning.callbacks import ModelCheckpoint

from isthmus.data import module as data_module
from isthmus.data.batching.collate import Collator
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.module import ConversationDataModule
from isthmus.training import Stage
from isthmus.types import Batch, Modality

LINE = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


@dataclass(frozen=True)
class Frozen:
    """What Lightning would refuse to copy to a device."""

    value: int


class Expecting(Numbers):
    def __getitem__(self, index: int) -> Any:
        conversation = super().__getitem__(index)
        conversation.details["expected"] = Frozen(index)
        return conversation


class Model(pl.LightningModule):
    """Learns from means of what it is shown, and keeps a diary."""

    def __init__(self, collator: Collator, stop_after: int | None = None) -> None:
        super().__init__()
        self.make = collator
        self.layer = torch.nn.Linear(2, 2)
        self.stop_after = stop_after
        self.seen: list[list[tuple[str, int, int]]] = []
        self.validated: list[int] = []

    def collator(self, split: str) -> Collator:
        return self.make

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.stop_after is not None and len(self.seen) == self.stop_after:
            raise KeyboardInterrupt
        seeds = batch.signals[Modality.IMAGE].seeds.tolist()
        assert all(d["expected"] == Frozen(d["index"]) for d in batch.details)
        self.seen.append([(d["source"], d["index"], seed) for d, seed in zip(batch.details, seeds, strict=True)])
        means = batch.media[Modality.IMAGE].inputs["mean"]
        inputs = torch.stack([means / 10, batch.ids.float().mean(dim=1) / 100], dim=1)
        return self.layer(inputs).square().mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validated += [d["index"] for d in batch.details]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Switch(pl.Callback):
    """Two stages of different lengths, each an epoch."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.enter(trainer, 0)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Any) -> None:
        self.enter(trainer, checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
        if epoch.restarted_on_train_batch_end and epoch.batch_progress.is_last_batch:
            # The checkpoint is of a stage's last batch. Lightning takes the next epoch for a new one only if it is no
            # longer than the finished one; otherwise it would begin it where that one ended.
            epoch.batch_progress.increment_completed()
            for progress in (
                epoch.batch_progress,
                epoch.scheduler_progress,
                epoch.automatic_optimization.optim_progress,
            ):
                progress.reset_on_run()
            epoch.reset_restart_stage()
            fit.reset_restart_stage()
            self.enter(trainer, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.enter(trainer, trainer.current_epoch + 1)

    def enter(self, trainer: pl.Trainer, number: int) -> None:
        if number == 0:
            trainer.datamodule.set_stage("first", {"a": 2.0, "b": 1.0}, steps=6)  # type: ignore[attr-defined]
        elif number == 1:
            trainer.datamodule.set_stage("second", {"b": 1.0}, epochs=2, batch_size=2)  # type: ignore[attr-defined]


def module(workers: int = 0, **changes: Any) -> ConversationDataModule:
    sources: dict[str, ConversationSource] = {"a": Expecting("a", 10), "b": Expecting("b", 7)}
    return ConversationDataModule(sources, batch_size=4, num_workers=workers, seed=3, **changes)


def fit(folder: Path, model: Model, data: ConversationDataModule, resume: str | None = None) -> None:
    torch.manual_seed(0)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        default_root_dir=folder,
        callbacks=[
            Switch(),
            ModelCheckpoint(
                folder, filename="{step}", every_n_train_steps=2, save_top_k=-1, enable_version_counter=False
            ),
        ],
    )
    try:
        trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=False)
    except (KeyboardInterrupt, SystemExit):
        assert model.stop_after is not None


@pytest.fixture(scope="module")
def whole(collator: Collator, tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(7)
    model = Model(collator)
    fit(tmp_path_factory.mktemp("whole"), model, module())
    return model


def fresh(collator: Collator, stop_after: int | None = None) -> Model:
    torch.manual_seed(7)
    return Model(collator, stop_after)


def test_a_stage_is_one_epoch(whole: Model) -> None:
    assert len(whole.seen) == 6 + 7
    assert [len(batch) for batch in whole.seen] == [4] * 6 + [2] * 7
    assert {source for batch in whole.seen[6:] for source, _, _ in batch} == {"b"}
    indices = [index for batch in whole.seen[6:] for _, index, _ in batch]
    assert sorted(indices) == sorted([*range(7), *range(7)])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stopped", [3, 6, 9, 12])
def test_a_run_broken_off_goes_on_at_the_exact_batch(
    whole: Model, collator: Collator, tmp_path: Path, workers: int, stopped: int
) -> None:
    """In the first stage, at its last batch, and inside the second."""
    first = fresh(collator, stop_after=stopped)
    fit(tmp_path, first, module(workers))
    saved = stopped - stopped % 2
    second = fresh(collator)
    fit(tmp_path, second, module(workers), resume=str(tmp_path / f"step={saved}.ckpt"))
    assert first.seen == whole.seen[:stopped]
    assert second.seen == whole.seen[saved:]
    for name, parameter in whole.state_dict().items():
        assert torch.equal(parameter, second.state_dict()[name]), name


def test_resuming_with_other_data_is_refused(collator: Collator, tmp_path: Path) -> None:
    fit(tmp_path, fresh(collator, stop_after=5), module())
    other = module()
    other.seed = 4
    with pytest.raises(ValueError, match=r"checkpoint: found the data of first: .*seed 3; expected first: .*seed 4"):
        fit(tmp_path, fresh(collator), other, resume=str(tmp_path / "step=4.ckpt"))


def test_validation_sees_each_item_once(collator: Collator, tmp_path: Path) -> None:
    model = fresh(collator)
    data = module(validation={"v": Expecting("v", 5)}, evaluation_batch_size=2)
    fit(tmp_path, model, data)
    # The sanity check, then each of the two epochs.
    assert model.validated == [0, 1, 2, 3] + [0, 1, 2, 3, 4] * 2


def test_what_is_missing_is_named(collator: Collator) -> None:
    data = module()
    with pytest.raises(ValueError, match="found no stage"):
        data.train_dataloader()
    data.set_stage("one", steps=3)
    with pytest.raises(ValueError, match="found nothing that makes batches for train"):
        data.train_dataloader()
    data.collator_factory = {"train": collator}.__getitem__
    assert len(data.train_dataloader()) == 3 and data.skipped == {}
    assert data.val_dataloader() == [] and data.test_dataloader() == []
    with pytest.raises(ValueError, match="mixture: found 'c'"):
        data.set_stage("one", {"c": 1.0}, steps=3)
    for changes, said in (
        ({"num_workers": -1}, "num_workers: found -1"),
        ({"on_error": "ignore"}, "on_error: found 'ignore'"),
    ):
        with pytest.raises(ValueError, match=said):
            ConversationDataModule({}, **changes)  # type: ignore[arg-type]


def test_the_default_mixture_is_by_size(collator: Collator) -> None:
    data = module()
    stage = data.set_stage("one", epochs=1)
    given = [(r.source, r.index) for step in range(len(stage)) for r in stage.batch(step)]
    assert len(given) == 20 and set(given) == {("a", i) for i in range(10)} | {("b", i) for i in range(7)}


def test_skipped_samples_are_reported_when_a_stage_is_broken_off(
    collator: Collator, caplog: pytest.LogCaptureFixture
) -> None:
    data = ConversationDataModule({"a": Numbers("a", 4, bad=(1,))}, batch_size=4, on_error="skip")
    data.collator_factory = {"train": collator}.__getitem__
    data.set_stage("one", steps=3)
    next(iter(data.train_dataloader()))
    assert data.skipped == {"schema": 1} and not caplog.records
    data.teardown("fit")
    assert "one, rank 0: skipped 1 bad samples: 1 schema" in caplog.text


@pytest.mark.parametrize(("batches", "told"), [("balanced", 2), ("homogeneous", 2), ("mixed", 0)])
def test_what_a_slow_start_was_spent_on_is_told_once_a_source(
    batches: Any, told: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = module(batches=batches)
    with caplog.at_level(logging.INFO, "isthmus"):
        data.set_stage("one", steps=3)
        assert "modalities" not in caplog.text  # it took no second
        monkeypatch.setattr(data_module, "TOLD", 0.0)
        data = module(batches=batches)
        for stage in ("one", "two"):
            data.set_stage(stage, steps=3)
    said = [record.getMessage() for record in caplog.records if "for their modalities, in 0.0 s" in record.getMessage()]
    assert len(said) == told
    assert not told or said[0].startswith("source 'a': went through its 10 conversations")


def test_mixtures_are_told_in_yaml(collator: Collator, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINE * 9, encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(LINE, encoding="utf-8")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ConversationDataModule, "data")
    parser.add_class_arguments(Stage, "stage")
    config = f"""
data:
  sources:
    a: {{class_path: isthmus.data.conversations.sources.JsonLines, init_args: {{path: {tmp_path}/a.jsonl}}}}
    b: {{class_path: isthmus.data.conversations.sources.JsonLines, init_args: {{path: {tmp_path}/b.jsonl}}}}
  batch_size: 2
  temperature: 2.0
  batches: homogeneous
  modality_shares: {{text: 1}}
stage: {{trains: [lora], steps: 3, data: {{a: null, b: null}}}}
"""
    made = parser.instantiate_classes(parser.parse_string(config))
    stage = made.data.set_stage("one", made.stage.data, made.stage.steps)
    assert "{'a': (9, 3), 'b': (1, 1)}, 3 steps of 2, seed 0, homogeneous by {'text': 1}" in stage.fingerprint
    assert "{'a': (9, 9), 'b': (1, 1)}" in module_of(made.data.sources).set_stage("one", steps=3).fingerprint


def module_of(sources: dict[str, ConversationSource]) -> ConversationDataModule:
    return ConversationDataModule(sources, batch_size=2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batches": "sorted"}, "batches: found 'sorted'; expected mixed, balanced, homogeneous"),
        ({"modality_shares": {"image": 1.0}}, "modality_shares: found them with batches = 'mixed'"),
    ],
)
def test_other_batches_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"{said}.* Fix: "):
        ConversationDataModule({}, **changes)
