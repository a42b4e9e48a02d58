"""How figures were measured: those of two files are compared only where this is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl

from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.module import ConversationDataModule
from isthmus.training.module import training_module
from isthmus.training.provenance import provenance

_OF_SPEED = {"batch_size"}


def test_sets(test: Mapping[str, ConversationSource]) -> dict[str, dict[str, Any]]:
    """By test source its class, size and a hash of its files, but not where these lie."""
    sets = provenance(test)
    return {name: {key: one[key] for key in one.keys() - {"files"}} for name, one in sets.items()}


def protocol(trainer: pl.Trainer, own: Mapping[str, Any]) -> dict[str, Any]:
    """What decides over figures beside the weights, as plain data.

    Args:
        trainer: of the test run: its test sets, by class, size and a hash of their files, how much of them is read, the
            sampling of text, and the generators' settings.
        own: what the evaluation adds, such as its judges.
    """
    found: dict[str, Any] = dict(own)
    data: Any = getattr(trainer, "datamodule", None)
    if isinstance(data, ConversationDataModule):
        found["test"] = test_sets(data.test)
    limit = trainer.limit_test_batches
    if limit != 1.0 or isinstance(limit, int):  # 1.0 is all batches, 1 is one
        found["limit_test_batches"] = limit
    model = training_module(trainer.lightning_module).model
    found["sampling"] = asdict(model.sampling)
    side = model.output_side
    found["generators"] = {
        str(modality): {name: getattr(made, name) for name in made.sampling_settings if name not in _OF_SPEED}
        for modality in model.outputs
        if side is not None and (made := side.generator(modality))
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str, sort_keys=True))
    return plain
