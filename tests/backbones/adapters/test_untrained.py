"""LoRA that adds nothing isn't computed: the pass is the LLM's own, until the adapters train or are loaded."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from isthmus.backbones import LoraSettings
from isthmus.backbones.pretrained import PretrainedLanguageModel

Build = Callable[..., PretrainedLanguageModel]
LORA = LoraSettings(r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear")


def flops(backbone: PretrainedLanguageModel, batch: Any) -> int:
    backbone(batch, {})  # the first pass also tries whether rows can be packed
    with FlopCounterMode(display=False) as counter:
        backbone(batch, {})
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_frozen_adapters_cost_nothing_until_they_add_something(family: str, build: Build, kit: Any) -> None:
    batch = kit["text_batch"]([8, 6])
    plain, adapted = (build(family, lora=lora).requires_grad_(False) for lora in (None, LORA))
    assert flops(adapted, batch) == flops(plain, batch)
    assert torch.equal(adapted(batch, {}).text_loss, plain(batch, {}).text_loss)

    trained = kit["awaken"](build(family, lora=LORA)).requires_grad_(False)
    expected = trained(batch, {}).text_loss
    adapted.load_owned_state(trained.owned_state())
    assert torch.equal(adapted(batch, {}).text_loss, expected)
    assert not torch.equal(expected, plain(batch, {}).text_loss)


def test_adapters_that_train_are_computed_and_a_copy_has_its_own(build: Build, kit: Any) -> None:
    batch = kit["text_batch"]([8, 6])
    backbone = build("llama", lora=LORA).requires_grad_(False)
    resting = flops(backbone, batch)
    other = copy.deepcopy(backbone)
    for parameter in other.parts()["lora"]:
        parameter.requires_grad_(True)
    assert flops(other, batch) > resting
    other(batch, {}).text_loss.backward()
    assert any(parameter.grad.any() for parameter in other.parts()["lora"])
    assert flops(backbone, batch) == resting


def test_the_reference_is_without_adapters_also_after_a_rest(build: Build, kit: Any) -> None:
    batch = kit["text_batch"]([8, 6])
    backbone = build("llama", lora=LORA).requires_grad_(False)
    expected = backbone(batch, {}).text_loss
    with backbone.adapters_disabled():
        assert torch.equal(backbone(batch, {}).text_loss, expected)
    kit["awaken"](backbone)
    backbone.requires_grad_(False)
    assert not torch.equal(backbone(batch, {}).text_loss, expected)
    with backbone.adapters_disabled():
        assert torch.equal(backbone(batch, {}).text_loss, expected)


def test_what_was_learnt_without_a_trace_in_versions_is_computed(build: Build, kit: Any) -> None:
    """Some optimizers write to ``.data``, which leaves a tensor's version as it was."""
    batch = kit["text_batch"]([8, 6])
    backbone = build("llama", lora=LORA).requires_grad_(False)
    expected = backbone(batch, {}).text_loss
    adapters = backbone.parts()["lora"]
    for parameter in adapters:
        parameter.requires_grad_(True)
    backbone(batch, {})
    for parameter in adapters:
        parameter.data.fill_(0.3)
        parameter.requires_grad_(False)
    assert not torch.equal(backbone(batch, {}).text_loss, expected)
