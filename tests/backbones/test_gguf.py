"""An LLM from a `.gguf` file: the same model as its folder, adapted and trained alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType
from tiny_gguf import TEMPLATE, write_gguf

from isthmus.backbones import CausalBackbone, LoraSettings, QuantizationSettings
from isthmus.cache.fingerprint import fingerprint

IDS = torch.tensor([[1, 40, 41, 42, 2]])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A tiny llama in float32."""
    write_gguf(tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


def test_it_is_the_model_that_the_file_was_made_of(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    original = write_gguf(file)
    backbone = CausalBackbone(file, {"image": 2})
    assert backbone.tokenizer.chat_template == TEMPLATE and backbone.ends() == {2}
    assert backbone.vocabulary.base_size == original.config.vocab_size and backbone.dtype == torch.float32
    backbone.materialize()
    with torch.no_grad():
        torch.testing.assert_close(backbone.llm(IDS).logits, original(IDS).logits)
    assert len(fingerprint(file)) == 32


def test_blocks_are_unpacked_to_the_dtype_and_adapters_train(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    original = write_gguf(file, GGMLQuantizationType.Q8_0)
    backbone = CausalBackbone(file, {"image": 2}, LoraSettings(r=2), dtype="bfloat16")
    backbone.materialize()
    kinds = {type(module.base_layer) for module in backbone.llm.modules() if hasattr(module, "base_layer")}
    assert kinds == {torch.nn.Linear} and backbone.llm.get_input_embeddings().weight.dtype == torch.bfloat16
    found = backbone.llm(IDS).logits
    wanted = original(IDS).logits
    assert (found - wanted).abs().max() < 0.1 * wanted.abs().max()
    found.float().sum().backward()
    lora = backbone.parts()["lora"]
    assert lora and all(own.grad is not None and own.dtype == torch.float32 for own in lora)


def test_its_faults_are_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"absent\.gguf: found no such file; expected an LLM's \.gguf"):
        CausalBackbone(file.with_name("absent.gguf"))
    with pytest.raises(ValueError, match=r"quantization: found one beside .*tiny\.gguf"):
        CausalBackbone(file, quantization=QuantizationSettings())
    cut = file.with_name("cut.gguf")
    cut.write_bytes(file.read_bytes()[:1000])
    other = file.with_name("other.gguf")
    other.write_bytes(b"PK" + bytes(100))
    for broken in (cut, other):
        with pytest.raises(ValueError, match=rf"{broken.name}: it can't be read as GGUF"):
            CausalBackbone(broken)
    monkeypatch.setattr("isthmus.backbones.checkpoint.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'isthmus\[gguf\]'"):
        CausalBackbone(file)
