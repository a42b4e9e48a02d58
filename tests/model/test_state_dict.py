"""The state dict has torch's protocol: prefixes, destinations, wrapping modules, distributed checkpoints."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed
import torch.distributed.checkpoint as checkpoint
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

from isthmus.model import AnyToAny
from isthmus.training import TrainingModule

State = dict[str, torch.Tensor]


def paths(model: AnyToAny) -> set[str]:
    """Where the model holds what it owns."""
    return {path for names in model.owned().values() for path in names.values()}


def same(found: State, expected: State) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], own) for name, own in expected.items())


def test_it_holds_every_owned_tensor_under_its_path_and_nothing_frozen(model: AnyToAny) -> None:
    state = model.state_dict()
    assert set(state) == paths(model)
    held = dict(model.named_parameters())
    assert all(state[path].data_ptr() == held[path].data_ptr() for path in state if path in held)
    assert set(model.state_dict(keep_vars=True).values()) >= {own for _, own in model.named_owned()}


def test_wrapping_modules_see_it_under_their_prefix(model: AnyToAny, build: Callable[..., AnyToAny]) -> None:
    wrapped, other = nn.ModuleDict({"m": model}), nn.ModuleDict({"m": build(seed=9)})
    state = wrapped.state_dict()
    assert set(state) == {f"m.{path}" for path in paths(model)}
    into: Any = OrderedDict(held=torch.zeros(1))
    assert model.state_dict(destination=into, prefix="p.") is into
    assert set(into) == {"held", *(f"p.{path}" for path in paths(model))}
    result = other.load_state_dict(state)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert same(other.state_dict(), state)


def test_each_part_has_its_own(model: AnyToAny) -> None:
    assert model.input_side is not None and model.output_side is not None
    model.input_side.encoders[0].load()  # type: ignore[operator]
    assert all(name.startswith("projectors.") for name in model.input_side.state_dict())
    assert all(name.startswith(("projectors.", "standards.")) for name in model.output_side.state_dict())
    assert {name.split(".")[0] for name in model.backbone.language_model.state_dict()} == {"rows", "llm"}
    assert all("lora_" in name or "rows" in name for name in model.backbone.state_dict())


def test_without_strictness_a_part_of_it_loads_and_says_what_was_missing(model: AnyToAny) -> None:
    wrapped = nn.ModuleDict({"m": model})
    state = {name: torch.zeros_like(own) for name, own in wrapped.state_dict().items() if "rows" in name}
    result = wrapped.load_state_dict(state, strict=False)
    assert set(result.missing_keys) == set(wrapped.state_dict()) - set(state)
    assert not model.backbone.language_model.parts()["media_tags"][0].any()
    with pytest.raises(RuntimeError, match="Missing key"):
        wrapped.load_state_dict(state)


def test_a_copy_loads_into_itself_alone(model: AnyToAny) -> None:
    copied, before = copy.deepcopy(model), {name: own.clone() for name, own in model.state_dict().items()}
    copied.load_state_dict({name: own + 1 for name, own in before.items()})
    assert same(model.state_dict(), before) and not same(copied.state_dict(), before)


@pytest.mark.parametrize("prefix", ["", "m."])
def test_states_of_earlier_versions_load(prefix: str, model: AnyToAny, build: Callable[..., AnyToAny]) -> None:
    state = {
        f"{prefix}{part}:{name}": own.clone()
        for part, names in model.owned_state().items()
        for name, own in names.items()
    }
    assert f"{prefix}signal_rows:run_starts" in state and f"{prefix}input_projectors.image:layers.0.weight" in state
    other = build(seed=9)
    (nn.ModuleDict({"m": other}) if prefix else other).load_state_dict(state)
    assert same(other.state_dict(), model.state_dict())
    in_training = TrainingModule(build(seed=8))
    in_training.load_state_dict({name.removeprefix(prefix): own for name, own in state.items()})
    assert same(in_training.model.state_dict(), model.state_dict())


def test_distributed_checkpoints_hold_and_restore_it(
    model: AnyToAny, build: Callable[..., AnyToAny], tmp_path: Path
) -> None:
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    try:
        state = get_model_state_dict(model)
        assert set(state) == paths(model)
        checkpoint.save({"model": state}, checkpoint_id=tmp_path / "saved")
        other = build(seed=9)
        held = {"model": get_model_state_dict(other)}
        checkpoint.load(held, checkpoint_id=tmp_path / "saved")
        result = set_model_state_dict(other, held["model"])
        assert (result.missing_keys, result.unexpected_keys) == ([], [])
        assert same(other.state_dict(), model.state_dict())
    finally:
        distributed.destroy_process_group()
