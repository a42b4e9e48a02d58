"""The last layer's feed-forward block at those positions alone that somebody reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isthmus.backbones import CausalBackbone, LoraSettings
from isthmus.backbones.gated_fusion import decoder_layers
from isthmus.backbones.last_layer import read_alone
from isthmus.types import IGNORED

Build = Callable[..., CausalBackbone]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("trains", ["lora", "signal_rows"])
def test_unread_positions_are_left_out_and_nothing_changes(family: str, trains: str, build: Build, kit: Any) -> None:
    results = []
    for packing in (True, False):
        backbone = build(family, lora=LoraSettings(rank=2, alpha=4, dropout=0.0, targets="all-linear"), packing=packing)
        batch, media = kit["conversation_batch"](backbone, text=20)
        torch.manual_seed(5)
        kit["awaken"](backbone)
        for part, parameters in backbone.parts().items():
            for parameter in parameters:
                parameter.requires_grad_(part == trains)
        wanted = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
        backbone._try_packing()  # which runs rows of its own
        seen: list[int] = []
        inner = decoder_layers(backbone.llm)[-1].mlp.down_proj
        inner.register_forward_hook(lambda module, given, result, seen=seen: seen.append(given[0].shape[-2]))
        output = backbone(batch, media)
        total = output.text_loss + sum(states.square().sum() for states in output.signals.values())
        results.append((total.detach(), torch.autograd.grad(total, wanted), sum(seen)))
        read = (batch.labels[:, 1:] != IGNORED).sum() + sum(
            states[..., 0].numel() for states in output.signals.values()
        )
    (loss, gradients, positions), (plain_loss, plain_gradients, _) = results
    torch.testing.assert_close(loss, plain_loss, rtol=1e-5, atol=1e-5)
    for gradient, plain in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(gradient, plain, rtol=1e-4, atol=1e-5)
    assert 0 < positions <= int(read) < int(batch.mask.sum())


class Several(nn.Module):
    """A block that gives more than states, as mixtures of experts do."""

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(1, N, E) -> twice as much, and a number."""
        return 2 * states, states.sum()


class Layer(nn.Module):
    """A layer around a block."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.mlp = block

    def forward(self, states: Tensor, packed: Any = None) -> Any:
        """(1, N, E) -> what the block gives."""
        return self.mlp(states)


def test_a_block_that_gives_more_than_states_runs_whole() -> None:
    layer = Layer(Several())
    read_alone(layer)
    states = torch.randn(1, 6, 3)
    packed = type("Pass", (), {"read": torch.tensor([1, 4])})()
    twice, _ = layer(states, packed=packed)
    assert torch.equal(twice, 2 * states)


def test_without_a_pass_all_positions_run() -> None:
    layer = Layer(nn.Linear(3, 3))
    read_alone(layer)
    states = torch.randn(1, 6, 3)
    whole = layer(states)
    packed = type("Pass", (), {"read": torch.tensor([1, 4])})()
    some = layer(states, packed=packed)
    torch.testing.assert_close(some[:, [1, 4]], whole[:, [1, 4]])
    assert not some[:, [0, 2, 3, 5]].any() and torch.equal(layer(states), whole)
