"""Quantised loading: how the settings reach the library, and what is said where its package is absent."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser

from isthmus.backbones import CausalBackbone, QuantizationSettings
from isthmus.backbones.adapters import quantization
from isthmus.backbones.adapters.quantization import library_config
from isthmus.backbones.base import LanguageModel


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration is plain data: it can be built without the package."""
    monkeypatch.setattr(quantization, "find_spec", lambda name: object())


@pytest.mark.usefixtures("installed")
def test_settings_become_the_librarys() -> None:
    config = library_config(QuantizationSettings(4, "fp4", use_double_quant=False), torch.bfloat16)
    assert config.load_in_4bit and not config.load_in_8bit
    assert (config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == ("fp4", False)
    assert config.bnb_4bit_compute_dtype == torch.bfloat16
    default = library_config(QuantizationSettings(), torch.float16)
    assert (default.bnb_4bit_quant_type, default.bnb_4bit_use_double_quant) == ("nf4", True)
    assert default.bnb_4bit_compute_dtype == torch.float16
    eight = library_config(QuantizationSettings(8), torch.bfloat16)
    assert eight.load_in_8bit and not eight.load_in_4bit


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_an_absent_package_is_named_and_shapes_need_none(llm_folder: Any, kit: Any) -> None:
    backbone = CausalBackbone(llm_folder("llama"), kit["signals"], quantization=QuantizationSettings())
    with pytest.raises(ValueError, match=r"quantization: found bits 4, but no bitsandbytes.*pip install bitsandbytes"):
        backbone.materialize()
    backbone.materialize(meta=True)
    assert all(parameter.is_meta for parameter in backbone.parameters())


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes: pip install bitsandbytes")
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("family", ["llama", "qwen3", "opt", "glm", "cohere", "t5"])
def test_a_quantised_llm_is_close_to_the_plain_one_and_adapts(family: str, bits: Any, build: Any, kit: Any) -> None:
    plain = build(family, dtype="bfloat16")
    backbone = build(family, dtype="bfloat16", lora=kit["lora"](), quantization=QuantizationSettings(bits))
    stored = {4: "Linear4bit", 8: "Linear8bitLt"}[bits]
    layers = [name for name, layer in backbone.llm.named_modules() if type(layer).__name__ == stored]
    assert layers and not any("head" in name for name in layers)
    batch = kit["text_batch"]([8, 6])
    output = backbone(batch, {})
    with torch.no_grad():
        expected = plain(batch, {}).text_loss
    torch.testing.assert_close(output.text_loss.detach(), expected, rtol={4: 0.25, 8: 0.03}[bits], atol=0.0)
    output.text_loss.backward()
    assert all(parameter.grad is not None for parameter in backbone.parts()["lora"])


def test_a_config_names_it(llm_folder: Any) -> None:
    parser = ArgumentParser()
    parser.add_argument("--backbone", type=LanguageModel)
    for kind, family in (("CausalBackbone", "llama"), ("EncoderDecoderBackbone", "t5")):
        init = {"checkpoint": str(llm_folder(family)), "quantization": {"bits": 8}, "lora": {"method": "dora"}}
        config = {"backbone": {"class_path": f"isthmus.backbones.{kind}", "init_args": init}}
        backbone = parser.instantiate_classes(parser.parse_object(config)).backbone
        assert backbone.quantization == QuantizationSettings(8) and backbone.lora.method == "dora"
