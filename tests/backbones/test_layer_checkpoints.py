"""Checkpointed layers: the same loss and gradients, from fewer kept numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from isthmus.backbones import CausalBackbone, LoraSettings

Build = Callable[..., CausalBackbone]


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt", "gemma2"])
@pytest.mark.parametrize("trains", ["lora", "signal_rows"])
def test_same_loss_and_gradients_and_less_kept(family: str, trains: str, build: Build, kit: Any) -> None:
    results = []
    for layers in (2, 0):
        # With dropout: what is computed again has to drop the same.
        lora = LoraSettings(r=2, lora_alpha=4, lora_dropout=0.5)
        backbone = build(family, lora=lora, skip_prefix_gradients=False, checkpointed_layers=layers)
        batch, media = kit["conversation_batch"](backbone, text=20)
        torch.manual_seed(5)
        kit["awaken"](backbone)
        backbone.train()
        for part, parameters in backbone.parts().items():
            for parameter in parameters:
                parameter.requires_grad_(part == trains)
        wanted = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
        kept = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        torch.manual_seed(6)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            output = backbone(batch, media)
        total = output.text_loss + sum(states.square().sum() for states in output.signals.values())
        results.append((total.detach(), torch.autograd.grad(total, wanted), kept))
    (loss, gradients, kept), (plain_loss, plain_gradients, plain_kept) = results
    torch.testing.assert_close(loss, plain_loss, rtol=1e-6, atol=1e-6)
    for gradient, plain in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(gradient, plain, rtol=1e-5, atol=1e-5)
    assert kept < 0.6 * plain_kept


def test_a_prefix_is_still_reused(build: Build, kit: Any) -> None:
    found = []
    for layers in (2, 1, 0):
        backbone = build("llama", checkpointed_layers=layers)
        batch, media = kit["conversation_batch"](backbone, text=20)
        rows = backbone.rows.signal_rows
        runs: list[int] = []
        backbone.llm.model.layers[0].mlp.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        loss = backbone(batch, media).text_loss
        before = len(runs)
        found.append(torch.autograd.grad(loss, rows)[0])
        assert len(runs) - before == (layers > 0)  # the pass that learns is run again, though a prefix went before it
    torch.testing.assert_close(found[0], found[2])
    torch.testing.assert_close(found[1], found[2])


def test_layers_that_arent_there_are_refused(build: Build) -> None:
    with pytest.raises(ValueError, match=r"checkpointed_layers: found 3; the LLM of .* has 2 layers"):
        build("llama", checkpointed_layers=3)
    with pytest.raises(ValueError, match=r"checkpointed_layers: found -1; expected at least 0"):
        build("llama", checkpointed_layers=-1)
