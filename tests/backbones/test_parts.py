"""What a backbone owns: its rows, its adapters, saving and loading them; and which folders it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from safetensors.torch import load_file, save_file

from isthmus.backbones import CausalBackbone, LoraSettings
from isthmus.backbones.base import LanguageModel

Build = Callable[..., CausalBackbone]


def test_parts_and_counts(build: Build, kit: Any) -> None:
    backbone = build(lora=kit["lora"]())
    assert {
        name: [tuple(p.shape) for p in parameters] for name, parameters in backbone.parts().items() if name != "lora"
    } == {
        "media_tags": [(8, 16)],
        "signal_rows": [(8, 16), (4, 16)],
    }
    owned = {id(parameter) for parameters in backbone.parts().values() for parameter in parameters}
    assert owned == {id(parameter) for parameter in backbone.parameters() if parameter.requires_grad}
    assert set(build().parts()) == {"media_tags", "signal_rows"}


def test_rows_look_like_words_and_first_tokens_start_at_the_mean_logit(build: Build) -> None:
    backbone = build("opt-350m")
    words, head = backbone.llm.get_input_embeddings().weight, backbone.llm.get_output_embeddings().weight
    drawn = torch.cat([backbone.rows.media_tags, backbone.rows.signal_rows]).detach()
    scaled = (drawn - words.mean(0)) / words.std(0, correction=0)
    assert abs(scaled.mean()) < 0.25 and 0.8 < scaled.std() < 1.2
    states = torch.randn(3, backbone.width)
    torch.testing.assert_close(backbone.logits(states)[:, -4:].detach(), (states @ head.T).mean(-1, True).expand(3, 4))


def test_what_is_drawn_comes_from_the_seed_alone(build: Build, kit: Any) -> None:
    states = [build(seed=seed, lora=kit["lora"]()).owned_state() for seed in (7, 7, 8)]
    for component in states[0]:
        for name, tensor in states[0][component].items():
            assert torch.equal(tensor, states[1][component][name])
    assert not torch.equal(states[0]["signal_rows"]["signal_rows"], states[2]["signal_rows"]["signal_rows"])
    backbone = build()
    before = backbone.rows
    backbone.materialize()
    assert backbone.rows is before


@pytest.mark.parametrize("family", ["llama", "opt-350m"])
def test_meta_build_has_the_same_parameters_without_weights(
    family: str, build: Build, kit: Any, llm_folder: Any
) -> None:
    real = build(family, lora=kit["lora"]())
    meta = CausalBackbone(llm_folder(family), kit["signals"], lora=kit["lora"]())
    meta.materialize(meta=True)
    shapes = {name: tuple(parameter.shape) for name, parameter in real.named_parameters()}
    assert {name: tuple(parameter.shape) for name, parameter in meta.named_parameters()} == shapes
    assert all(parameter.is_meta for parameter in meta.parameters())
    assert [p.requires_grad for p in meta.parameters()] == [p.requires_grad for p in real.parameters()]


def test_lora_starts_as_the_llm_and_can_be_switched_off(build: Build, kit: Any) -> None:
    batch = kit["text_batch"]([8, 6])
    plain, adapted = build(), build(lora=kit["lora"]())
    expected = plain(batch, {}).text_loss
    torch.testing.assert_close(adapted(batch, {}).text_loss, expected)
    kit["awaken"](adapted)
    assert abs(adapted(batch, {}).text_loss - expected) > 0.1
    first, *others = adapted.parts()["lora"]
    first.requires_grad_(False)
    with adapted.adapters_disabled():
        torch.testing.assert_close(adapted(batch, {}).text_loss, expected)
    assert abs(adapted(batch, {}).text_loss - expected) > 0.1
    assert not first.requires_grad and all(parameter.requires_grad for parameter in others)


def test_adapters_come_back_after_an_error(build: Build, kit: Any) -> None:
    adapted = kit["awaken"](build(lora=kit["lora"]()))
    batch = kit["text_batch"]([8, 6])
    before = adapted(batch, {}).text_loss
    with pytest.raises(RuntimeError, match="inside"), adapted.adapters_disabled():
        raise RuntimeError("inside")
    torch.testing.assert_close(adapted(batch, {}).text_loss, before)


def test_owned_state_survives_files_and_another_seed(build: Build, kit: Any, tmp_path: Path) -> None:
    source = kit["awaken"](build(seed=1, lora=kit["lora"]()))
    batch, media = kit["conversation_batch"](source)
    for component, tensors in source.owned_state().items():
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / f"{component}.safetensors"
        )
    target = build(seed=2, lora=kit["lora"]())
    assert not torch.equal(target(batch, media).text_loss, source(batch, media).text_loss)
    target.load_owned_state({path.stem: load_file(path) for path in tmp_path.iterdir()})
    for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(target(batch, media).text_loss, source(batch, media).text_loss)


def test_load_owned_state_refuses_what_does_not_fit_and_copies_nothing(build: Build, kit: Any) -> None:
    backbone = build(seed=1, lora=kit["lora"]())
    before = {name: parameter.detach().clone() for name, parameter in backbone.named_parameters()}

    def state() -> dict[str, dict[str, torch.Tensor]]:
        return {part: {name: t + 1 for name, t in tensors.items()} for part, tensors in backbone.owned_state().items()}

    longer = state()
    longer["signal_rows"]["signal_rows"] = torch.zeros(44, 16)
    with pytest.raises(
        ValueError, match=r"signal_rows.signal_rows': found shape \(44, 16\); expected \(8, 16\).*signal counts"
    ):
        backbone.load_owned_state(longer)
    renamed = state()
    renamed["lora"]["other"] = renamed["lora"].popitem()[1]
    with pytest.raises(ValueError, match=r"'lora': 1 tensors are missing .* and 1 unknown \['other'\]"):
        backbone.load_owned_state(renamed)
    partial = state()
    del partial["lora"]
    with pytest.raises(
        ValueError, match=r"found components media_tags, signal_rows; expected lora, media_tags, signal_rows"
    ):
        backbone.load_owned_state(partial)
    with pytest.raises(ValueError, match="needs the `lora` setting"):
        build().load_owned_state(state(), strict=False)
    assert all(torch.equal(before[name], parameter) for name, parameter in backbone.named_parameters())
    backbone.load_owned_state(partial, strict=False)
    assert torch.equal(backbone.rows.media_tags, before["rows.media_tags"] + 1)


# Folders and settings that are refused


@pytest.fixture
def copied(llm_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(llm_folder("llama"), tmp_path / "copy"))


def test_unknown_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: found no such folder; expected an LLM saved with save_pretrained"):
        CausalBackbone(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"found a folder without config.json"):
        CausalBackbone(tmp_path)


def test_missing_weights_are_named(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    backbone = CausalBackbone(copied)
    with pytest.raises(ValueError, match="its weights can't be read"):
        backbone.materialize()


def test_a_tokenizer_must_have_a_template_an_end_and_only_ids_of_the_llm(copied: Path, kit: Any) -> None:
    (copied / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="without a chat template"):
        CausalBackbone(copied)
    kit["save_tokenizer"](copied, end=None)
    with pytest.raises(ValueError, match="without eos_token"):
        CausalBackbone(copied)
    kit["save_tokenizer"](copied, words=[*kit["words"], "extra"])
    with pytest.raises(ValueError, match=r"found token id 40 \('extra'\).* below the LLM's vocab_size 40"):
        CausalBackbone(copied)
    (copied / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="its tokenizer can't be read"):
        CausalBackbone(copied)


def test_a_slow_tokenizer_is_refused(copied: Path) -> None:
    # ByT5 has no fast form: its tokens are bytes.
    for file in copied.glob("tokenizer*"):
        file.unlink()
    (copied / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    with pytest.raises(ValueError, match="found ByT5Tokenizer, a slow tokenizer"):
        CausalBackbone(copied)


def test_an_encoder_decoder_is_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({"model_type": "t5", "vocab_size": config["vocab_size"]}))
    with pytest.raises(ValueError, match="encoder-decoder LLM; expected a decoder-only one"):
        CausalBackbone(copied)


def test_weights_of_another_size_are_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"vocab_size": 48}))
    with pytest.raises(ValueError, match="its weights can't be read"):
        CausalBackbone(copied).materialize()


def test_incomplete_weights_are_refused(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"no weights for 1 tensors \['model.layers.1.mlp.up_proj.weight'\]"):
        CausalBackbone(copied).materialize()


def test_the_damaged_file_of_several_is_named(copied: Path) -> None:
    whole = CausalBackbone(copied)
    whole.materialize()
    (copied / "model.safetensors").unlink()
    whole.llm.save_pretrained(copied, max_shard_size="10KB")
    shards = sorted(copied.glob("model-*.safetensors"))
    assert len(shards) > 2
    shards[1].write_bytes(shards[1].read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"backbone checkpoint \S+: can't be read as safetensors .* again") as caught:
        CausalBackbone(copied).materialize()
    assert [str(shard) in str(caught.value) for shard in shards] == [shard == shards[1] for shard in shards]


def test_lora_settings_are_checked(llm_folder: Any, kit: Any) -> None:
    with pytest.raises(ValueError, match="found r 0"):
        LoraSettings(r=0)
    backbone = CausalBackbone(llm_folder("llama"), lora=LoraSettings(target_modules=["query"]))
    with pytest.raises(ValueError, match=r"lora.target_modules: found \['query'\].*LlamaForCausal.*down_proj.*q_proj"):
        backbone.materialize()


def test_a_yaml_config_builds_it(llm_folder: Any) -> None:
    parser = ArgumentParser()
    parser.add_argument("--backbone", type=LanguageModel)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
    config = {"checkpoint": str(llm_folder("llama")), "signals": {"video": 5}, "lora": settings, "dtype": "bfloat16"}
    parsed = parser.parse_object({"backbone": {"class_path": "isthmus.backbones.CausalBackbone", "init_args": config}})
    backbone = parser.instantiate_classes(parsed).backbone
    assert isinstance(backbone, CausalBackbone) and backbone.dtype == torch.bfloat16
    assert backbone.lora == LoraSettings(4, 8, target_modules="all-linear")
    assert backbone.vocabulary.signal_counts["video"] == 5
    named = parser.parse_object(
        {
            "backbone": {
                "class_path": "isthmus.backbones.CausalBackbone",
                "init_args": config | {"lora": {"target_modules": ["q_proj"]}},
            }
        }
    )
    assert parser.instantiate_classes(named).backbone.lora.target_modules == ["q_proj"]


def test_unknown_signals_are_refused(llm_folder: Any) -> None:
    with pytest.raises(ValueError, match="unknown modality 'smell'"):
        CausalBackbone(llm_folder("llama"), {"smell": 3})
