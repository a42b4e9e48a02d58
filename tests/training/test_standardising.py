"""Training finds what S is standardised by in its first steps; it stays so, and goes wherever the projectors go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from runs import NAMES, fit
from tiny_world import tiny_model

from isthmus.model import AnyToAny
from isthmus.output_projectors.standardisation import ENOUGH
from isthmus.training.objectives.terms import Terms
from isthmus.training.standardising import lacking, standard_of
from isthmus.training.trainable import set_trainable


class Kept(pl.Callback):
    """What the standards hold after each step."""

    def __init__(self) -> None:
        self.held: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.held.append({n: own.clone() for n, own in pl_module.model.output_side.standards.state_dict().items()})


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """S by modality, of each part of each step."""
    found: list[dict[str, torch.Tensor]] = []
    plain = Terms.detach

    def detach(self: Terms) -> Terms:
        found.append({str(m): own.detach().clone() for m, own in self.signals.items()})
        return plain(self)

    monkeypatch.setattr(Terms, "detach", detach)
    return found


@pytest.mark.parametrize("parts", [1, 2])
def test_the_first_runs_are_seen_and_no_others(
    parts: int, experts: dict[str, Path], tmp_path: Path, signals: list[dict[str, torch.Tensor]]
) -> None:
    kept = Kept()
    model, _ = fit(experts, tmp_path, NAMES, extra=[kept], saves=False, denoising=0.0, micro_batches=parts)
    assert model.output_side is not None
    steps = [signals[at : at + parts] for at in range(0, len(signals), parts)]
    assert len(steps) == len(kept.held)
    assert not any(held[name].any() for held in kept.held[:5] for name in held if name.endswith("seen"))
    for modality in model.outputs:
        runs: list[torch.Tensor] = []
        for own, held in zip(steps, kept.held, strict=True):
            if sum(map(len, runs)) < ENOUGH:
                runs += [part[modality] for part in own if modality in part]
            if runs:
                whole = torch.cat(runs)
                assert int(held[f"{modality}.seen"]) == len(whole)
                torch.testing.assert_close(held[f"{modality}.mean"], whole.mean(0), rtol=1e-4, atol=1e-5)
        assert sum(map(len, runs)) >= ENOUGH, "the stages are too short to show it"
        assert not standard_of(model.output_side, modality).lacks


def tiny_built(experts: dict[str, Path]) -> AnyToAny:
    model = tiny_model(experts)
    model.configure_model()
    return model


def test_what_was_found_is_saved_and_read(experts: dict[str, Path], tmp_path: Path) -> None:
    model, other = tiny_built(experts), tiny_built(experts)
    assert model.output_side is not None and other.output_side is not None
    for modality in model.outputs:
        standard = standard_of(model.output_side, modality)
        standard.take(standard.sums([torch.randn(ENOUGH, *standard.mean.shape)]))
    other.load(model.save(tmp_path / "bundle", "test"))
    third = tiny_built(experts)
    third.load_state_dict(model.state_dict())
    for each in (other, third):
        for name, own in model.output_side.standards.state_dict().items():
            assert each.output_side is not None and torch.equal(each.output_side.standards.state_dict()[name], own)


def test_runs_are_seen_only_where_a_projector_learns_of_them(experts: dict[str, Path]) -> None:
    model = tiny_built(experts)
    side = model.output_side
    assert side is not None
    set_trainable(model, ["input_projectors", "lora"], "test")
    assert lacking(side) == [] == lacking(None)
    set_trainable(model, ["output_projectors.image"], "test")
    assert lacking(side) == ["image"]
    standard = standard_of(side, lacking(side)[0])
    standard.take(standard.sums([torch.randn(ENOUGH, *standard.mean.shape)]))
    assert lacking(side) == []
