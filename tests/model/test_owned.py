"""What a model owns: each parameter in one part, its state whole and without frozen experts, loading all or nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import supervised
import torch
from model.talks import mixed

from isthmus.backbones import LoraSettings
from isthmus.model import AnyToAny
from isthmus.training import LossWeights

PARTS = {
    *(f"input_projectors.{name}" for name in ("image", "video", "audio", "points")),
    *(f"output_projectors.{name}" for name in ("image", "video", "audio")),
    *("media_tags", "signal_rows", "lora"),
}
State = dict[str, dict[str, torch.Tensor]]


def shifted(model: AnyToAny) -> State:
    """A state of the model's shape and of other values."""
    return {part: {name: t + 1 for name, t in tensors.items()} for part, tensors in model.owned_state().items()}


def test_every_trained_parameter_is_in_one_part(model: AnyToAny) -> None:
    assert set(model.parts()) == set(model.owned_state()) == PARTS
    owned = Counter(id(parameter) for _, parameter in model.named_owned())
    assert set(owned.values()) == {1}
    assert set(owned) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert all(name.partition(":")[0] in PARTS for name, _ in model.named_owned())


def test_frozen_experts_are_no_part_of_the_state(model: AnyToAny) -> None:
    before = set(model.state_dict())
    supervised.terms(model, LossWeights(alignment=1.0, denoising=1.0), mixed())
    assert len(list(model.parameters())) > 2 * len(list(model.named_owned())), "the experts are there now"
    assert set(model.state_dict()) == before
    shared = {tensor.data_ptr() for tensors in model.owned_state().values() for tensor in tensors.values()}
    assert {parameter.data_ptr() for _, parameter in model.named_owned()} <= shared, "the state is the weights"


def test_a_state_goes_round_bit_for_bit(build: Any) -> None:
    source, by_part, flat = build(seed=1), build(seed=2), build(seed=3)
    conversations = mixed()
    by_part.load_owned_state(source.owned_state())
    result = flat.load_state_dict({name: tensor.clone() for name, tensor in source.state_dict().items()})
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    expected = source(source.collator()(conversations)).text_loss
    for copy in (by_part, flat):
        for (name, mine), (other, theirs) in zip(copy.named_owned(), source.named_owned(), strict=True):
            assert name == other and torch.equal(mine, theirs) and mine.data_ptr() != theirs.data_ptr()
        assert torch.equal(copy(copy.collator()(conversations)).text_loss, expected)


def without_a_tensor(state: State) -> None:
    del state["output_projectors.image"]["project_in.weight"]


def with_a_stranger(state: State) -> None:
    state["lora"]["stranger"] = torch.zeros(1)


def misshapen(state: State) -> None:
    state["media_tags"]["media_tags"] = torch.zeros(8, 99)


def without_a_part(state: State) -> None:
    del state["input_projectors.points"]


def with_a_part(state: State) -> None:
    state["output_projectors.points"] = {"weight": torch.zeros(1)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_a_tensor, r"'output_projectors.image': 1 tensors are missing \['project_in.weight'\]"),
        (with_a_stranger, r"'lora': 0 tensors are missing \[\] and 1 unknown \['stranger'\]"),
        (misshapen, r"'media_tags.media_tags': found shape \(8, 99\); expected \(8, 16\)"),
        (without_a_part, r"found components .*; expected .*input_projectors.points.*configure the same parts"),
        (with_a_part, r"found components .*output_projectors.points.*; expected .*configure the same parts"),
    ],
)
@pytest.mark.parametrize("is_flat", [False, True])
def test_what_does_not_fit_is_named_and_nothing_is_copied(
    model: AnyToAny, spoil: Any, message: str, is_flat: bool
) -> None:
    before = {name: parameter.detach().clone() for name, parameter in model.named_owned()}
    state = shifted(model)
    spoil(state)
    with pytest.raises(ValueError, match=message):
        if is_flat:
            model.load_state_dict({f"{part}:{name}": t for part, own in state.items() for name, t in own.items()})
        else:
            model.load_owned_state(state)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_owned())


def test_a_smaller_models_state_begins_a_larger_one(build: Any) -> None:
    smaller = build(inputs=("image",), outputs=(), lora=None, seed=1)
    larger = build(seed=2)
    before = {name: parameter.detach().clone() for name, parameter in larger.named_owned()}
    with pytest.raises(ValueError, match="without LoRA"):
        larger.load_owned_state(smaller.owned_state())
    larger.load_owned_state(smaller.owned_state(), strict=False)
    loaded = dict(smaller.named_owned())
    assert {name.partition(":")[0] for name in loaded} == {"input_projectors.image", "media_tags", "signal_rows"}
    for name, parameter in larger.named_owned():
        assert torch.equal(parameter, loaded[name] if name in loaded else before[name]), name
    with pytest.raises(ValueError, match=r"found components .*; expected input_projectors.image, media_tags"):
        smaller.load_owned_state(larger.owned_state(), strict=False)


def test_another_rank_of_lora_is_refused(build: Any) -> None:
    state = build(lora=LoraSettings(r=3, lora_alpha=4, lora_dropout=0.0)).owned_state()
    with pytest.raises(ValueError, match=r"'lora\..*': found shape .*3.*; expected .*2.*another LoRA rank"):
        build().load_owned_state(state)


def test_a_rank_may_be_chosen_after_stages_without_lora(build: Any, tmp_path: Path) -> None:
    ranks = [LoraSettings(r=r, lora_alpha=4, lora_dropout=0.0) for r in (2, 3)]
    aligned, other = build(seed=1, lora=ranks[0]), build(seed=2, lora=ranks[1])
    before = {name: tensor.clone() for name, tensor in other.owned_state()["lora"].items()}
    folder = aligned.save(tmp_path / "aligned", "decoder_alignment")
    with pytest.raises(ValueError, match="its LoRA was trained as method lora, r 2"):
        other.load(folder)
    manifest = other.load(folder, strict=False)
    assert "lora" not in manifest["components"] and len(manifest["components"]) == len(other.owned_state()) - 1
    for part, tensors in other.owned_state().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, before[name] if part == "lora" else aligned.owned_state()[part][name]), name
    next(tensor for name, tensor in aligned.owned_state()["lora"].items() if "lora_B" in name)[0] = 1e-3
    with pytest.raises(ValueError, match="its LoRA was trained as method lora, r 2"):
        other.load(aligned.save(tmp_path / "tuned", "instruction_tuning"), strict=False)
