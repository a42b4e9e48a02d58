"""A model in shares: its layers called as modules, built without whole weights, the same losses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import supervised
import torch
import torch.distributed as distributed
from model.talks import mixed, talk
from tiny_world import tiny_model, write_t5
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from isthmus.backbones import EncoderDecoderBackbone, LoraSettings
from isthmus.backbones.base import Sampling
from isthmus.backbones.owned_state import whole_of
from isthmus.model import AnyToAny, Backbone
from isthmus.training import LossWeights
from isthmus.training.engines.units import build_sharded
from isthmus.training.trainable import set_trainable

STAGES = {
    1: (["input_projectors", "media_tags"], LossWeights()),
    2: (["output_projectors", "signal_rows"], LossWeights(alignment=1.0)),
    3: (
        ["input_projectors", "output_projectors", "media_tags", "signal_rows", "lora"],
        LossWeights(alignment=1.0, denoising=0.5),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """A process group of this process."""
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    yield
    distributed.destroy_process_group()


def learn(model: AnyToAny, stage: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and every gradient."""
    trains, weights = STAGES[stage]
    set_trainable(model, trains, "stage")
    loss = supervised.loss(model, weights, mixed())
    loss.backward()
    return loss.detach(), {name: whole_of(own.grad) for name, own in model.named_owned() if own.grad is not None}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("each", [False, True], ids=["by layer", "every module"])
def test_a_sharded_models_step_is_the_whole_models(stage: int, each: bool, experts: dict[str, Path]) -> None:
    loss, gradients = learn(plain(experts), stage)
    model = plain(experts)
    language_model: Any = model.backbone.language_model
    parts = [*language_model.layers()]
    if each:  # what is sharded by itself is whole while it is called, and at no other time
        parts += [language_model.rows.starts, language_model.llm.get_output_embeddings()]
        assert model.input_side is not None and model.output_side is not None
        parts += [*model.input_side.projectors.values(), *model.output_side.projectors.values(), language_model.rows]
        parts += [language_model.llm.get_input_embeddings()]
    for part in parts:
        fully_shard(part)
    fully_shard(model)
    assert all(isinstance(own, DTensor) for own in model.parameters())
    found, shares = learn(model, stage)
    torch.testing.assert_close(found, loss, rtol=0, atol=0)
    assert shares.keys() == gradients.keys() and len(shares) > 4
    for name, own in gradients.items():
        torch.testing.assert_close(shares[name], own, rtol=1e-5, atol=1e-6, msg=name)


def plain(experts: dict[str, Path]) -> AnyToAny:
    model = tiny_model(experts)
    model.configure_model()
    return model


def with_t5(experts: dict[str, Path], folder: Path) -> AnyToAny:
    sides = tiny_model(experts, inputs=("image",), outputs=("image",))
    language_model = EncoderDecoderBackbone(folder, None, LoraSettings(r=2, lora_alpha=4, lora_dropout=0.0))
    return AnyToAny(Backbone(language_model, 512), sides.input_side, sides.output_side)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_weights_that_are_read_in_shares_are_the_whole_models(
    kind: str, experts: dict[str, Path], tmp_path: Path
) -> None:
    write_t5(tmp_path)
    whole, shared = (with_t5(experts, tmp_path) if kind == "t5" else tiny_model(experts) for _ in range(2))
    whole.configure_model()
    build_sharded(shared, init_device_mesh("cpu", (1,)))
    held, shares = dict(whole.named_parameters()), dict(shared.named_parameters())
    assert held.keys() == shares.keys() and all(isinstance(own, DTensor) for own in shares.values())
    assert all(torch.equal(whole_of(shares[name]), own) for name, own in held.items())
    buffers = dict(shared.named_buffers())
    assert all(torch.equal(buffers[name], own) for name, own in whole.named_buffers())
    prompts = whole.prompts([talk([("image", 3), "which?"], ["."]), talk(["hi"], ["hi"])])
    found, expected = (model.eval().answer(prompts, Sampling(max_new_tokens=6)) for model in (shared, whole))
    assert [reply.ids for reply in found] == [reply.ids for reply in expected]


def test_what_cant_be_shared_is_named(experts: dict[str, Path], tmp_path: Path) -> None:
    mesh = init_device_mesh("cpu", (1,))
    with pytest.raises(ValueError, match=r"found lora.method dora.* and a strategy that shards.*Fix: "):
        build_sharded(tiny_model(experts, lora=LoraSettings(r=2, lora_alpha=4, method="dora")), mesh)
    folder = tmp_path / "llama"
    folder.mkdir()
    for file in experts["llama"].iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"found no safetensors, of which each process reads its share.*Fix: "):
        build_sharded(tiny_model({**experts, "llama": folder}), mesh)
