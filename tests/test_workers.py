"""Data workers get small, picklable things: no weights travel, however a worker starts."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_world import OUTPUTS, tiny_experts, tiny_model
from training.runs import stages

from isthmus.cache.frozen import CacheSettings
from isthmus.data.module import ConversationDataModule
from isthmus.input_projectors import CrossAttention
from isthmus.model import AnyToAny
from isthmus.model.positions import weightless
from isthmus.pocket import tasks
from isthmus.training import LossWeights, Stage, TrainingModule
from isthmus.types import Batch, Modality

EVERYTHING = LossWeights(alignment=1.0, denoising=1.0)
MOST = 100_000
"""Bytes that a pickled collator may take."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_experts(tmp_path_factory.mktemp("experts"))


@pytest.fixture(scope="module")
def module(paths: dict[str, Path]) -> TrainingModule:
    """Everything is loaded, and every worker's job is to be done: media, denoising targets."""
    model = tiny_model(paths, max_tokens=1024)
    model.configure_model()
    assert model.input_side is not None and model.output_side is not None
    for expert in (*model.input_side.encoders, *model.output_side.generators):
        expert.load()  # type: ignore[operator]
    return TrainingModule(model, Stage(["lora"], EVERYTHING, steps=1))


@pytest.fixture(scope="module")
def model(module: TrainingModule) -> AnyToAny:
    return module.model


def data(**options: Any) -> ConversationDataModule:
    """Two batches of every medium, given and made."""
    source = tasks.AnyToAny(size=20, outputs=("text", *OUTPUTS))
    module = ConversationDataModule({"mix": source}, batch_size=4, seed=3, **options)
    module.set_stage("one", steps=2)
    return module


def batches(module: TrainingModule, **options: Any) -> list[Batch]:
    found = data(**options)
    found.collator_factory = module.collator
    return list(found.train_dataloader())


def tensors(batch: Batch) -> dict[str, Any]:
    """Every tensor of a batch, by where it stands."""
    found: dict[str, Any] = {"ids": batch.ids, "mask": batch.mask, "labels": batch.labels}
    for kind in (batch.media, batch.signals):
        for modality, own in kind.items():  # type: ignore[attr-defined]
            for name, value in vars(own).items():
                held = value if isinstance(value, dict) else {"": value}
                found |= {f"{modality}.{name}.{key}": each for key, each in held.items()}
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("objective", [None, "preference_tuning", "reward_tuning"])
def test_a_collator_is_small_with_everything_loaded(
    module: TrainingModule, objective: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = module.model
    if objective is not None:
        monkeypatch.setattr(module, "stage", replace(stages()[objective], losses=EVERYTHING))
    monkeypatch.setattr(model, "cache_settings", CacheSettings(tmp_path))
    pickled = pickle.dumps(module.collator("train"))
    # A tokenizer of megabytes stays in its folder.
    assert len(pickled) < MOST and b"added_tokens" not in pickled
    again = pickle.loads(pickled)
    assert not any(encoder.is_loaded for encoder in again.positions.encoders.values())
    conversation = tasks.AnyToAny(size=20, outputs=("text", *OUTPUTS))[3]
    plan = model.backbone.planner.plan(conversation)
    assert again.planner.plan(conversation) == plan


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_give_the_same_batches_however_they_start(module: TrainingModule, method: Any) -> None:
    here, there = batches(module), batches(module, num_workers=1, multiprocessing_context=method)
    assert len(here) == len(there) == 2
    for one, other in zip(here, there, strict=True):
        own, found = tensors(one), tensors(other)
        assert own.keys() == found.keys() and len(own) > 15
        assert all(torch.equal(value, found[name]) for name, value in own.items())


def test_a_start_method_that_python_hasnt_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"multiprocessing_context: found 'thread'; expected fork, spawn, forkserver\. Fix: "
    ):
        data(multiprocessing_context="thread")


def test_an_expert_is_pickled_unloaded_and_copied_whole(model: AnyToAny) -> None:
    assert model.input_side is not None
    encoder = model.input_side.encoder(Modality.POINTS)
    fresh, copied = pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)
    assert not fresh.is_loaded and not list(fresh.parameters()) and fresh.checkpoint == encoder.checkpoint
    assert copied.is_loaded
    own, other = encoder.state_dict(), copied.state_dict()
    assert own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
    assert all(own[name].data_ptr() != other[name].data_ptr() for name in own)
    fresh.load()
    assert all(torch.equal(own[name], tensor) for name, tensor in fresh.state_dict().items())


def test_a_projector_without_weights_still_counts_its_positions() -> None:
    class Twice(CrossAttention):
        """A projector over a projector."""

        def __init__(self, in_width: int, out_width: int) -> None:
            super().__init__(in_width, out_width, queries=3, width=8, heads=2)
            self.inner = CrossAttention(in_width, out_width, queries=5, width=8, heads=2)

        def positions(self, tokens: int) -> int:
            return super().positions(tokens) + self.inner.positions(tokens)

    projector = Twice(4, 6)
    projector.register_forward_hook(partial(print))
    bare = weightless(projector)
    assert bare.positions(9) == projector.positions(9) == 8
    assert all(parameter.is_meta for parameter in bare.parameters())
    assert len(list(bare.parameters())) < len(list(projector.parameters())) and not bare._forward_hooks
