"""Norms and activations that are computed again: the same numbers, bit for bit, from fewer that are kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isthmus.backbones import CausalBackbone, LoraSettings
from isthmus.backbones.recomputing import is_cheap, recompute_cheap_modules

Build = Callable[..., CausalBackbone]


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt", "gemma2"])
@pytest.mark.parametrize("packing", [True, False])
def test_same_loss_and_gradients(family: str, packing: bool, build: Build, kit: Any) -> None:
    results = []
    for recompute in (True, False):
        lora = LoraSettings(rank=2, alpha=4, dropout=0.5, targets="all-linear")
        backbone = build(family, lora=lora, packing=packing, recompute=recompute)
        batch, media = kit["conversation_batch"](backbone, text=20)
        torch.manual_seed(5)
        kit["awaken"](backbone)
        backbone.train()
        wanted = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
        torch.manual_seed(6)
        output = backbone(batch, media)
        total = output.text_loss + sum(states.square().sum() for states in output.signals.values())
        results.append((total.detach(), torch.autograd.grad(total, wanted)))
    (loss, gradients), (plain_loss, plain_gradients) = results
    assert torch.equal(loss, plain_loss)
    for gradient, plain in zip(gradients, plain_gradients, strict=True):
        assert torch.equal(gradient, plain)


class Layer(nn.Module):
    """A norm and an activation between linear layers that learn, so that autograd wants what both give."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act = nn.LayerNorm(8), nn.SiLU()
        self.into, self.out = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, states: Tensor) -> Tensor:
        """(N, 8) -> (N, 8)."""
        out: Tensor = states + self.out(self.act(self.into(self.norm(states))))
        return out


def test_what_is_cheap_isnt_kept() -> None:
    """The activation's result dies with the forward pass."""
    alive = []
    for recompute in (False, True):
        torch.manual_seed(0)
        layer = Layer()
        results: list[weakref.ref[Any]] = []
        layer.act.register_forward_hook(
            lambda module, given, result, results=results: results.append(weakref.ref(result.untyped_storage()))
        )
        if recompute:
            recompute_cheap_modules([layer])
        out = layer(torch.randn(5, 8, requires_grad=True))
        alive.append(results[0]() is not None)
        out.sum().backward()
        assert layer.out.weight.grad is not None
    assert alive == [True, False]


def test_an_input_changed_in_place_is_told() -> None:
    class Careless(Layer):
        def forward(self, states: Tensor) -> Tensor:
            inner = self.into(states)
            out = self.out(self.act(inner))
            with torch.no_grad():
                inner.data.mul_(2)  # unseen by autograd
                inner += 1
            return out  # type: ignore[no-any-return]

    layer = Careless()
    recompute_cheap_modules([layer])
    with pytest.raises(RuntimeError, match=r"recompute: found .* changed in place|modified by an inplace operation"):
        layer(torch.randn(5, 8, requires_grad=True)).sum().backward()


def test_a_result_changed_in_place_is_kept() -> None:
    class Reusing(Layer):
        def forward(self, states: Tensor) -> Tensor:
            return self.into(self.norm(states).mul_(3.0))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    plain = Reusing()
    states = torch.randn(5, 8, requires_grad=True)
    expected = torch.autograd.grad(plain(states).square().sum(), plain.into.weight)[0]
    recompute_cheap_modules([plain])
    assert torch.equal(torch.autograd.grad(plain(states).square().sum(), plain.into.weight)[0], expected)


def test_precision_is_that_of_the_forward_pass() -> None:
    torch.manual_seed(0)
    layer = Layer()
    states = torch.randn(5, 8, requires_grad=True)
    found = []
    for recompute in (False, True):
        if recompute:
            recompute_cheap_modules([layer])
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(states)
        found.append(torch.autograd.grad(out.float().square().sum(), list(layer.parameters())))
    for own, other in zip(*found, strict=True):
        assert torch.equal(own, other)


def test_cheap_modules_are_norms_and_activations() -> None:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    assert is_cheap(LlamaRMSNorm(4)) and is_cheap(nn.LayerNorm(4)) and is_cheap(nn.GELU())
    assert not is_cheap(nn.Linear(4, 4)) and not is_cheap(nn.Dropout()) and not is_cheap(Layer())
