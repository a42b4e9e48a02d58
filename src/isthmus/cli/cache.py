"""``isthmus cache``: what the stages of a config need of frozen parts, computed ahead of ``fit``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tqdm import tqdm

from isthmus.cli.training import Command, prepare_logging
from isthmus.training import StageSwitch, TrainingModule
from isthmus.training.running.callbacks import callbacks_of
from isthmus.types import Batch


class Fill(Command):
    """Walks through each stage's own batches, and those of validation, without training."""

    typed = "isthmus cache", "Computes what the stages of a config need of frozen parts, ahead of fit."

    def before_instantiate_classes(self) -> None:
        """One process on one device computes all: engines of several have nothing to divide."""
        super().before_instantiate_classes()
        trainer = self.config[self.subcommand].trainer
        devices = trainer.devices
        trainer.devices, trainer.num_nodes = devices[:1] if isinstance(devices, list) else 1, 1
        trainer.strategy = "auto"

    def fit(self, **kwargs: Any) -> None:
        """Fills the cache. Broken off and started again, it computes what isn't there yet.

        Raises:
            ValueError: the model's config has no cache.
        """
        (switch,) = callbacks_of(self.trainer, StageSwitch)
        fill_stages(self.module, self.datamodule, switch, self.trainer)


def fill_stages(module: TrainingModule, data: Any, switch: StageSwitch, trainer: Any) -> None:
    """Computes all that the stages' batches need and the cache doesn't hold, on the trainer's device and precision.

    Raises:
        ValueError: the model's config has no cache.
    """
    if module.model.cache_settings is None:
        raise ValueError("model.cache: found none; expected where to keep results. Give model.cache a folder")
    module.trainer = trainer
    module.configure_model()
    module.to(trainer.strategy.root_device)
    data.collator_factory = module.collator
    for name in switch.names:
        stage = switch.stages[name]
        mixture = None if stage.data is None else dict(stage.data)
        module.enter(stage, name, len(data.set_stage(name, mixture, stage.steps, stage.epochs, stage.batch_size)))
        _walk(module, data.train_dataloader(), name, trainer)
    loader = data.val_dataloader()
    if loader:
        _walk(module, loader, "validation", trainer)
    cache = module.cache()
    assert cache is not None
    print(
        f"{cache.store.folder}: {cache.misses} computed, {cache.hits} found, {len(cache.store)} held, "
        f"{cache.store.size() / 1e6:.1f} MB"
    )


@torch.no_grad()
def _walk(module: TrainingModule, batches: Iterable[Batch], name: str, trainer: Any) -> None:
    model, weights = module.model, module.weights
    for batch in tqdm(batches, desc=name, unit="batch"):
        own = batch.to(trainer.strategy.root_device)
        with trainer.precision_plugin.forward_context():
            for piece in own.pieces:
                if model.input_side is not None and not weights.is_text_alone:
                    for modality, media in piece.media.items():
                        model.input_side.features(modality, media)
                if model.output_side is not None and weights.alignment:
                    for modality, runs in piece.signals.items():
                        if weights.factor(modality):
                            model.output_side.target(modality, runs.captions)


def fill(args: list[str]) -> None:
    """Runs the command; ``args`` are those of ``fit``."""
    prepare_logging()
    Fill(["fit", *args])
