"""Methods of adaptation: each starts as the LLM, learns, can be switched off, and is saved under peft's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from peft import get_peft_model_state_dict

from isthmus.backbones import LoraSettings
from isthmus.backbones.adapters.lora import Method
from isthmus.backbones.pretrained import PretrainedLanguageModel

Build = Callable[..., PretrainedLanguageModel]
METHODS: tuple[Method, ...] = get_args(Method)
FAMILIES = ["llama", "qwen3", "opt", "opt-350m", "glm", "cohere", "t5"]


def settings(method: Method, **others: Any) -> LoraSettings:
    return LoraSettings(**({"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "method": method} | others))


@pytest.mark.parametrize("family", ["llama", "opt", "flan-t5"])
@pytest.mark.parametrize("method", METHODS)
def test_each_method_starts_as_the_llm_learns_and_is_switched_off(
    method: Method, family: str, build: Build, kit: Any
) -> None:
    batch = kit["text_batch"]([8, 6])
    expected = build(family)(batch, {}).text_loss
    backbone = build(family, lora=settings(method)).train()
    torch.testing.assert_close(backbone(batch, {}).text_loss, expected, rtol=1e-5, atol=1e-5)
    adapters = backbone.parts()["lora"]
    assert adapters and all(parameter.dtype == torch.float32 for parameter in adapters)
    assert {id(p) for p in backbone.llm.parameters() if p.requires_grad} == {id(p) for p in adapters}
    optimizer = torch.optim.Adam(adapters, lr=0.02)
    for _ in range(25):
        optimizer.zero_grad()
        loss = backbone(batch, {}).text_loss
        loss.backward()
        assert all(parameter.grad is not None for parameter in adapters)
        optimizer.step()
    assert backbone(batch, {}).text_loss < 0.9 * expected
    with backbone.adapters_disabled():
        torch.testing.assert_close(backbone(batch, {}).text_loss, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_what_was_learnt_goes_to_another_model(method: Method, build: Build, kit: Any) -> None:
    batch = kit["text_batch"]([8, 6])
    source = kit["awaken"](build("llama", seed=1, lora=settings(method)))
    target = build("llama", seed=2, lora=settings(method))
    target.load_owned_state(source.owned_state())
    assert torch.equal(target(batch, {}).text_loss, source(batch, {}).text_loss)
    state = source.owned_state()["lora"]
    assert len(state) == len(source.parts()["lora"])
    theirs = get_peft_model_state_dict(source.llm, save_embedding_layers=False) if method != "vera" else state
    assert theirs.keys() == state.keys()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("method", METHODS)
def test_a_meta_build_counts_the_same_and_half_precision_works(
    method: Method, build: Build, kit: Any, llm_folder: Any
) -> None:
    real = build("llama", dtype="bfloat16", lora=settings(method))
    meta = type(real)(llm_folder("llama"), kit["signals"], settings(method), "bfloat16")
    meta.materialize(meta=True)
    shapes = [tuple(parameter.shape) for parameter in real.parts()["lora"]]
    assert [tuple(parameter.shape) for parameter in meta.parts()["lora"]] == shapes
    assert all(parameter.is_meta for parameter in meta.parameters())
    real(kit["text_batch"]([8, 6]), {}).text_loss.backward()
    assert all(parameter.dtype == torch.float32 for parameter in real.parts()["lora"])
    assert all(parameter.grad is not None for parameter in real.parts()["lora"])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_targets_are_all_of_attentions_projections(family: str, build: Build) -> None:
    backbone = build(family, lora=settings("lora"))
    adapted = {name.rpartition(".lora_A")[0] for name in backbone.owned_state()["lora"] if ".lora_A" in name}
    layers = 2 if family != "t5" else 3 + 2 * 2  # T5's decoder layers attend twice
    assert len(adapted) == 4 * layers
    assert all("attention" in name.lower() or "attn" in name for name in adapted)


@pytest.mark.parametrize("family", FAMILIES)
def test_ia3_rescales_keys_values_and_the_inner_activations(family: str, build: Build) -> None:
    backbone = build(family, lora=settings("ia3"))
    vectors = {name: tuple(tensor.shape) for name, tensor in backbone.owned_state()["lora"].items()}
    inner = {name: shape for name, shape in vectors.items() if shape[0] == 1}
    if family != "glm":  # whose gate and up projections are one, but whose way out has the usual name
        assert len(vectors) == (6 if family != "t5" else 2 * (3 + 2 * 2) + 5)
    assert inner and all(shape == (1, 24) for shape in inner.values())


def test_rslora_scales_by_the_root_of_the_rank_and_dora_has_a_magnitude_a_row(build: Build) -> None:
    scales = {}
    for method in ("lora", "rslora"):
        layer = build("llama", lora=settings(method)).llm.model.layers[0].self_attn.q_proj
        scales[method] = layer.scaling["default"]
    assert scales == {"lora": 8 / 4, "rslora": 8 / 4**0.5}
    backbone = build("llama", lora=settings("dora"))
    weight = backbone.llm.model.layers[0].self_attn.q_proj.base_layer.weight
    magnitude = backbone.owned_state()["lora"]["model.layers.0.self_attn.q_proj.lora_magnitude_vector"]
    torch.testing.assert_close(magnitude, weight.norm(dim=1))


def test_vera_learns_two_vectors_a_layer_and_its_factors_are_the_same_in_any_process(build: Build) -> None:
    backbones = [build("llama", seed=seed, lora=settings("vera", r=6)) for seed in (1, 2)]
    layers = [backbone.llm.model.layers[1].self_attn.q_proj for backbone in backbones]
    assert torch.equal(layers[0].vera_A["default"], layers[1].vera_A["default"])
    shapes = {tuple(parameter.shape) for parameter in backbones[0].parts()["lora"]}
    assert shapes == {(6,), (16,), (8,)}


@pytest.mark.parametrize("method", ["lora", "vera"])
def test_dropout_is_active_only_in_training(method: Method, build: Build, kit: Any) -> None:
    backbone = kit["awaken"](build("t5", lora=settings(method, lora_dropout=0.5))).train()
    batch = kit["text_batch"]([8, 6])
    assert backbone(batch, {}).text_loss != backbone(batch, {}).text_loss
    backbone.eval()
    assert backbone(batch, {}).text_loss == backbone(batch, {}).text_loss


@pytest.mark.parametrize("method", ["lora", "rslora"])
def test_autocast_alone_casts_the_inputs_of_adapters_in_a_half_precision_llm(
    method: Method, build: Build, kit: Any
) -> None:
    batch = kit["text_batch"]([8, 6])
    backbone = kit["awaken"](build("llama", dtype="bfloat16", lora=settings(method)))
    layer = next(module for module in backbone.llm.modules() if hasattr(module, "lora_A"))
    seen: list[torch.dtype] = []
    layer.lora_A["default"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    outside = backbone(batch, {}).text_loss
    with torch.autocast("cpu", torch.bfloat16):
        inside = backbone(batch, {}).text_loss
        inside.backward()
    again = backbone(batch, {}).text_loss  # the type is chosen anew for each pass
    assert set(seen[:1]) == {torch.float32} and torch.bfloat16 in seen and seen[-1] == torch.float32
    assert torch.equal(again, outside)
    torch.testing.assert_close(inside.float(), outside.float(), rtol=2e-2, atol=2e-2)
    assert all(parameter.grad is not None for parameter in backbone.parts()["lora"])


def test_targets_that_match_nothing_are_refused(build: Build) -> None:
    for method in METHODS:
        with pytest.raises(ValueError, match=r"lora.target_modules: found \['query'\].*T5ForConditionalGeneration.*wi"):
            build("t5", lora=settings(method, target_modules=["query"]))
