"""At the first step policy and reference are the same function: ratios of 1, a KL of 0, whatever dropout is set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pairs import text_pairs
from runs import fit
from test_group_policy import policy, prompts, step
from tiny_world import tiny_model
from torch import nn

from isthmus.backbones import LoraSettings
from isthmus.training import GroupPolicy, Preference, Stage, TrainingModule
from isthmus.training.objectives.base import Objective
from isthmus.training.objectives.reference import Reference
from isthmus.training.trainable import set_trainable

TRAINS = ["lora", "signal_rows", "media_tags"]


def entered(experts: dict[str, Path], objective: Objective, trains: list[str] = TRAINS, **model: Any) -> TrainingModule:
    """A model of words at the first step of a stage, its adapters away from zero and with dropout."""
    made = tiny_model(
        {"llama": experts["llama"]}, (), (), LoraSettings(2, 4, lora_dropout=0.1), max_tokens=1024, **model
    )
    made.configure_model()
    module = TrainingModule(made, Stage(trains, objective=objective, steps=1))
    set_trainable(made, trains, "tuning", objective.dropout)
    torch.manual_seed(1)
    with torch.no_grad():
        for _, own in made.named_owned():
            own.add_(torch.randn_like(own), alpha=0.1)
    module.reference = Reference.of(made)
    return module


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pairs_are_undecided_at_first(experts: dict[str, Path], dtype: str, autocast: bool) -> None:
    model = entered(experts, Preference(), dtypes={"llm": dtype})
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        shared = step(model, model.collator("train")(text_pairs())).figures()
    assert shared["chosen_ratio"] == shared["rejected_ratio"] == shared["reward_margin"] == 0


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_answers_have_no_divergence_at_first(experts: dict[str, Path], dtype: str, autocast: bool) -> None:
    model = entered(experts, policy(kl=0.5, mixed=0.5), dtypes={"llm": dtype})
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assert step(model, model.collator("train")(prompts())).figures()["kl"] == 0


@pytest.mark.parametrize("objective", [Preference(dropout=True), policy(dropout=True)], ids=["pairs", "answers"])
def test_dropout_stays_where_it_is_asked_for(experts: dict[str, Path], objective: Objective) -> None:
    is_policy = isinstance(objective, GroupPolicy)
    model = entered(experts, objective)
    shared = step(model, model.collator("train")(prompts() if is_policy else text_pairs())).figures()
    assert shared["kl" if is_policy else "chosen_ratio"].abs() > 1e-4


def test_under_autocast_the_reference_isnt_the_policy(experts: dict[str, Path]) -> None:
    """Half-precision copies of weights, which autocast keeps, aren't used for the other model's pass."""
    model = entered(experts, Preference())
    with torch.no_grad():
        for _, own in model.model.named_owned():
            own.add_(torch.randn_like(own), alpha=0.1)
    batch = model.collator("train")(text_pairs())
    ratios = []
    for keeps in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=keeps):
            ratios.append(step(model, batch).figures()["chosen_ratio"])
    assert torch.equal(*ratios) and ratios[0].abs() > 0.1


def test_projectors_rest_too(experts: dict[str, Path], tmp_path: Path) -> None:
    import pytorch_lightning as pl

    first: dict[str, float] = {}

    class First(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            for module in pl_module.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.1

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                first.update({name: float(value) for name, value in trainer.callback_metrics.items()})

    fit(experts, tmp_path, ["preference_tuning"], extra=[First()], saves=False)
    assert first["train/chosen_ratio"] == first["train/rejected_ratio"] == 0
    assert first["train/media_loss"] == pytest.approx(0.6931472, abs=1e-6)
