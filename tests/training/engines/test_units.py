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
from isthmus.cache.frozen import CacheSettings
from isthmus.model import AnyToAny, Backbone
from isthmus.training import LossWeights, TrainingModule
from isthmus.training.engines.experts import frozen_experts, shard_experts
from isthmus.training.engines.units import FrozenSharding, Sharding, begin_stage, build_sharded
from isthmus.training.touching import touched
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


def plain(experts: dict[str, Path], **options: Any) -> AnyToAny:
    model = tiny_model(experts, **options)
    model.configure_model()
    return model


def sharded(experts: dict[str, Path], sharding: Sharding, **options: Any) -> AnyToAny:
    model = tiny_model(experts, **options)
    build_sharded(model, init_device_mesh("cpu", (1,)), sharding)
    return model


def test_adapters_are_float32_in_units_of_bfloat16(experts: dict[str, Path]) -> None:
    """FSDP2 looks once at what trains in a unit, and only LoRA's factors may: not the base, and not in each stage."""
    types = {"dtypes": {"llm": "bfloat16"}}
    whole, shares = plain(experts, **types), sharded(experts, Sharding(reduce_dtype=torch.bfloat16), **types)
    for stage in STAGES:
        begin_stage(shares)
        loss, gradients = learn(whole, stage)
        found, own = learn(shares, stage)
        torch.testing.assert_close(found, loss, rtol=2e-2, atol=2e-2)
        assert own.keys() == gradients.keys()
        assert all(gradient.dtype == torch.float32 for gradient in own.values())
        whole.zero_grad()
        shares.zero_grad()


@pytest.mark.parametrize("frozen", ["root", "per_layer"])
def test_frozen_experts_rest_in_shards(frozen: FrozenSharding, experts: dict[str, Path]) -> None:
    loss, gradients = learn(plain(experts), 3)
    model = sharded(experts, Sharding(frozen))
    held = [own for expert in frozen_experts(model) for own in expert.parameters() if own.ndim]
    assert held and all(isinstance(own, DTensor) for own in held)
    assert model.output_side is not None and model.input_side is not None
    model.output_side.release()  # a stage without generators; shards stay
    found, own = learn(model, 3)
    torch.testing.assert_close(found, loss, rtol=0, atol=0)
    for name, gradient in gradients.items():
        torch.testing.assert_close(own[name], gradient, rtol=1e-5, atol=1e-6, msg=name)
    held = [own for expert in frozen_experts(model) for own in expert.parameters() if own.ndim]
    assert all(isinstance(own, DTensor) for own in held)  # after the backward pass they rest again
    model.input_side.encode(model.collator()([talk([("image", 3), "which?"], ["."])]).media)  # outside of a pass
    model.cache_settings = CacheSettings(experts["llama"])
    with pytest.raises(ValueError, match=r"found per_layer and model.cache.*Fix: "):
        shard_experts(model, {}, True, (0, 1))


def test_an_encoder_that_runs_once_a_length_is_not_sharded_by_layer(
    experts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = plain(experts)
    assert model.input_side is not None
    encoder = next(iter(model.input_side.encoders))
    monkeypatch.setattr(type(encoder), "passes_vary", True)
    with pytest.raises(ValueError, match=rf"found per_layer and {type(encoder).__name__} of .*Fix: "):
        shard_experts(model, {}, True, (0, 1))
    assert not encoder.is_loaded


def test_batches_of_words_alone_take_the_same_passes(experts: dict[str, Path]) -> None:
    """Each layer is in each forward and backward pass once, whatever trains, and what trains has a gradient."""
    model = sharded(experts, Sharding(activation_checkpointing=True))
    module, passes = TrainingModule(model), [0, 0]
    supervised.loss(model, LossWeights(), mixed())  # the first pass of all tries how rows are packed
    language_model: Any = model.backbone.language_model
    layer = language_model.layers()[0]
    layer.mlp.register_forward_pre_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
    layer.register_full_backward_hook(lambda *_: passes.__setitem__(1, passes[1] + 1))
    for batch in ([talk(["hi"], ["hi"])] * 2 + [talk(["hi " * 40], ["hi"])], mixed()):
        set_trainable(model, ["input_projectors"], "stage")
        passes[:] = 0, 0
        loss = supervised.loss(model, LossWeights(), batch)
        trained = [own for own in module.parameters() if own.requires_grad]
        touched(loss, trained).backward()
        assert passes == [2, 1]  # the second forward is the recomputation
        assert all(own.grad is not None for own in model.parameters() if own.requires_grad)
        model.zero_grad()


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
