"""Compiled layers: the same loss and gradients to rounding, nothing made anew for a new length, decoding as it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from isthmus.backbones import CausalBackbone, LoraSettings
from isthmus.backbones.base import Sampling

Build = Callable[..., CausalBackbone]


def learn(backbone: CausalBackbone, kit: Any, text: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Loss and gradients of one batch."""
    batch, media = kit["conversation_batch"](backbone, text=text)
    torch.manual_seed(6)
    output = backbone(batch, media)
    total = output.text_loss + sum(states.square().sum() for states in output.signals.values())
    wanted = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    return total.detach(), torch.autograd.grad(total, wanted)


def forget() -> None:
    """Nothing is compiled yet."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


@pytest.fixture
def eager_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are captured as for any compiler, and run as they are."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    forget()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {"checkpointed_layers": 1}),
        ("gemma2", {"packing": False, "skip_prefix_gradients": False}),
    ],
)
def test_same_loss_and_gradients(family: str, options: dict[str, Any], build: Build, kit: Any) -> None:
    found = {}
    for compiled in (False, True):
        forget()
        settings = LoraSettings(r=2, lora_alpha=4, lora_dropout=0.0, target_modules="all-linear")
        backbone = build(family, lora=settings, compiled=compiled, **options)
        torch.manual_seed(5)
        kit["awaken"](backbone)
        backbone.train()
        found[compiled] = [learn(backbone, kit, text) for text in (20, 31)]
        made = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert (made > 0) == compiled
        learn(backbone, kit, 26)
        learn(backbone, kit, 40)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == made, "a new length made new kernels"
    for (loss, gradients), (plain_loss, plain_gradients) in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(loss, plain_loss, rtol=1e-5, atol=1e-5)
        for gradient, plain in zip(gradients, plain_gradients, strict=True):
            torch.testing.assert_close(gradient, plain, rtol=0, atol=1e-5 * float(plain.abs().max()))


@pytest.mark.slow
def test_every_kind_of_pass_finds_room(build: Build, kit: Any, eager_compiler: None) -> None:
    """Stages that train different parts, validation, and a reference without adapters: none is left uncompiled."""
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for settings in (None, LoraSettings(r=2, lora_alpha=4, lora_dropout=0.0)):
            backbone = build("llama", lora=settings, compiled=True).train()
            learn(backbone, kit, 20)
            batch, media = kit["conversation_batch"](backbone, text=20)
            with torch.no_grad(), backbone.adapters_disabled() if settings else nullcontext():
                backbone(batch, media)
            for parameter in backbone.rows.parameters():
                parameter.requires_grad_(settings is None)
            learn(backbone, kit, 31)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                learn(backbone, kit, 31)


def test_padded_rows_break_no_graph(build: Build, kit: Any, eager_compiler: None) -> None:
    learn(build("llama", lora=kit["lora"](), compiled=True, packing=False), kit, 20)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("checkpointed", [0, 2])
def test_packed_rows_break_no_graph(checkpointed: int, build: Build, kit: Any, eager_compiler: None) -> None:
    """All layers share a graph, and rows that stand in other blocks make no new one."""
    backbone = build("llama", lora=kit["lora"](), compiled=True, checkpointed_layers=checkpointed)
    learn(backbone, kit, 20)
    counters = torch._dynamo.utils.counters
    made = counters["stats"]["unique_graphs"]
    for lengths in ([40, 30, 9, 3], [25, 25, 2], [17]):
        backbone(kit["text_batch"](lengths), {}).text_loss.backward()
    assert not counters["graph_break"]
    assert 0 < counters["stats"]["unique_graphs"] == made


@pytest.mark.parametrize("adapts", [False, True])
def test_the_whole_llm_is_one_graph(adapts: bool, build: Build, kit: Any, eager_compiler: None) -> None:
    """Without adapters rows' beginnings are a pass of their own, whose keys each layer of the next pass finds."""
    found = []
    for compiled in (True, False):
        backbone = build("llama", lora=kit["lora"]() if adapts else None)
        learn(backbone, kit, 20)  # whether rows can be packed is found out here
        if compiled:
            backbone.llm.base_model.compile(fullgraph=True, dynamic=True)
        found.append(learn(backbone, kit, 20))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == (1 if adapts else 2)
    torch.testing.assert_close(*found)


def test_decoding_isnt_compiled(build: Build, kit: Any, eager_compiler: None) -> None:
    answers = []
    for compiled in (True, False):
        forget()
        backbone = build("llama", compiled=compiled)
        batch, media = kit["conversation_batch"](backbone, text=20)
        learn(backbone, kit, 20)
        assert (torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0) == compiled
        torch._dynamo.utils.counters.clear()
        answers.append(backbone.generate(batch, media, Sampling(max_new_tokens=6)))
        assert not torch._dynamo.utils.counters["stats"]
    assert answers[0] == answers[1]
