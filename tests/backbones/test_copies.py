"""A backbone can be copied, pickled and sharded, whatever runs its layers: no module's ``forward`` is replaced."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from forked import run
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from isthmus.backbones import CausalBackbone, FusionSettings
from isthmus.backbones.adapters.gated_fusion import decoder_layers

Build = Callable[..., CausalBackbone]
FUSION = FusionSettings(["image", "audio"], every=1, heads=2, head_width=3, feed_forward=2)
WAYS: dict[str, dict[str, Any]] = {
    "packed": {},
    "padded": {"packing": False},
    "checkpointed": {"checkpointed_layers": 2},
    "checkpointed, padded": {"checkpointed_layers": 1, "packing": False},
    "compiled": {"compiled": True},
    "compiled, checkpointed": {"compiled": True, "checkpointed_layers": 2},
    "fused": {"fusion": FUSION},
    "fused, checkpointed": {"fusion": FUSION, "checkpointed_layers": 2},
}
READ = """
import sys, torch
from isthmus.backbones.causal import CausalBackbone
for backbone, batch, loss in torch.load(sys.argv[1], weights_only=False):
    assert backbone(batch, {}).text_loss.item() == loss
"""


@pytest.fixture(autouse=True)
def eager_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are captured as for any compiler, and run as they are."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def made(build: Build, kit: Any, way: str) -> tuple[CausalBackbone, Any, Any]:
    """A backbone whose adapters, and new layers if it has any, do something; a batch, and its projected media."""
    torch._dynamo.reset()
    backbone = kit["awaken"](build(lora=kit["lora"](), **WAYS[way]))
    if backbone.fusion is None:
        return backbone, *kit["conversation_batch"](backbone, text=20)
    with torch.no_grad():
        for parameter in backbone.fusion.parameters():
            parameter.normal_(0, 0.6)
    return backbone, *fused(*kit["conversation_batch"](backbone, text=20))


def fused(batch: Any, media: Any) -> tuple[Any, Any]:
    """The batch without media positions: words in their places."""
    none = {modality: replace(own, lengths=torch.zeros_like(own.lengths)) for modality, own in batch.media.items()}
    return replace(batch, ids=batch.ids.where(batch.ids >= 0, 7), media=none), media


def learn(backbone: CausalBackbone, batch: Any, media: Any) -> tuple[Tensor, list[Tensor]]:
    """The loss, and the gradients of what learns."""
    output = backbone(batch, media)
    total = output.text_loss + sum(states.square().sum() for states in output.signals.values())
    wanted = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    return total.detach(), [own.detach() for own in torch.autograd.grad(total, wanted)]


def test_every_way_learns_the_same(build: Build, kit: Any) -> None:
    plain = learn(*made(build, kit, "packed"))
    for way in WAYS:
        if "fused" not in way:
            torch.testing.assert_close(learn(*made(build, kit, way)), plain)
    torch.testing.assert_close(learn(*made(build, kit, "fused, checkpointed")), learn(*made(build, kit, "fused")))


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_has_layers_of_its_own(way: str, build: Build, kit: Any) -> None:
    backbone, batch, media = made(build, kit, way)
    early = copy.deepcopy(backbone)  # before any pass
    loss, gradients = learn(backbone, batch, media)
    for twin in (early, copy.deepcopy(backbone)):
        same, own = learn(twin, batch, media)
        torch.testing.assert_close((same, own), (loss, gradients))
        with torch.no_grad():
            for parameter in decoder_layers(twin.llm)[0].parameters():
                parameter.mul_(0.5)
        assert (learn(twin, batch, media)[0] - loss).abs() > 1e-3 * loss
    again, own = learn(backbone, batch, media)
    torch.testing.assert_close((again, own), (loss, gradients), rtol=0, atol=0)
    assert not [name for name, module in backbone.named_modules() if "forward" in vars(module)]
    assert not any(layer.training for layer in decoder_layers(backbone.llm))


@pytest.mark.parametrize("way", WAYS)
def test_a_pickled_one_says_the_same(way: str, build: Build, kit: Any) -> None:
    backbone, batch, media = made(build, kit, way)
    loss, gradients = learn(backbone, batch, media)
    stream = io.BytesIO()
    torch.save(backbone, stream)
    stream.seek(0)
    torch.testing.assert_close(learn(torch.load(stream, weights_only=False), batch, media), (loss, gradients))


@pytest.mark.slow
def test_another_process_reads_it(build: Build, kit: Any, tmp_path: Path) -> None:
    batch = kit["text_batch"]([9, 3, 30, 5])
    stored = []
    for way in ("packed", "checkpointed", "fused"):
        backbone, _, _ = made(build, kit, way)
        stored.append((backbone, batch, backbone(batch, {}).text_loss.item()))
    torch.save(stored, tmp_path / "backbones.pt")
    program = tmp_path / "read.py"
    program.write_text(READ)
    run(program, str(tmp_path / "backbones.pt"))


@pytest.mark.parametrize("way", [pytest.param(way, marks=[pytest.mark.slow] * ("compiled" in way)) for way in WAYS])
def test_sharded_layers_learn_the_same(way: str, build: Build, kit: Any, group: None) -> None:
    backbone, batch, media = made(build, kit, way)
    expected = learn(backbone, batch, media)
    mesh = init_device_mesh("cpu", (1,))
    torch._dynamo.reset()
    backbone, _, _ = made(build, kit, way)
    for layer in decoder_layers(backbone.llm):
        fully_shard(layer, mesh=mesh)
    output = backbone(batch, media)
    total = output.text_loss + sum(states.square().sum() for states in output.signals.values())
    total.backward()
    found = [own.grad for own in backbone.parameters() if own.requires_grad]
    whole = [own.full_tensor() if hasattr(own, "full_tensor") else own for own in found]
    torch.testing.assert_close((total.detach(), whole), expected)
