"""Which files of published layouts are fetched, and why others are refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from isthmus.hub.selection import chosen, read_files, refusal

LLM = [
    "README.md", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "merges.txt",
    "chat_template.jinja", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
]  # fmt: skip
OTHERS = [
    "pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.safetensors", "model.fp16.safetensors",
    "onnx/model.onnx", "onnx/config.json", "original/params.json", "modeling_own.py", "tf_model.h5", ".gitattributes",
    "coreml/a/tokenizer/vocab.json", "training_args.bin",
]  # fmt: skip
PIPELINE = [
    "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "text_encoder/model.safetensors",
    "tokenizer/merges.txt", "tokenizer/vocab.json", "unet/config.json",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors", "vae/diffusion_pytorch_model.safetensors",
]  # fmt: skip
BESIDE = [
    "sd_xl_base_1.0.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin",
    "vae/diffusion_pytorch_model.non_ema.safetensors", "safety_checker/model.safetensors", "vae_decoder/model.onnx",
    "text_encoder/openvino_model.xml", "safety_checker/config.json", "unet/own.py",
]  # fmt: skip


def test_of_an_llm_its_settings_and_its_own_weights() -> None:
    assert chosen(LLM + OTHERS) == sorted(set(LLM) - {"README.md"})


def test_of_a_pipeline_what_its_parts_read() -> None:
    assert chosen(PIPELINE + BESIDE) == sorted(PIPELINE)


def test_within_a_folder_and_one_file() -> None:
    names = [*PIPELINE, "small/config.json", "small/a.safetensors", "small/b/c.safetensors", "q4.gguf", "q8.gguf"]
    assert chosen(names, "small") == ["small/a.safetensors", "small/config.json"]
    assert chosen(names, "q4.gguf") == ["q4.gguf"]
    assert chosen(["a.pth", "config.json"], "a.pth") == []


def test_an_encoders_one_file_and_the_tokenizer_beside_it() -> None:
    names = ["config.json", "imagebind.safetensors", "tokenizer/vocab.json", "tokenizer/merges.txt", "imagebind.pth"]
    assert chosen(names) == sorted(names[:-1])


@pytest.mark.parametrize(
    ("names", "path", "says"),
    [
        (["config.json", "pytorch_model.bin"], "", r"found weights as pytorch_model\.bin alone, which can run code"),
        (["README.md", "a.q4.gguf", "a.q8.gguf"], "", r"found a\.q4\.gguf, a\.q8\.gguf; expected one.*as /a\.q4\.gguf"),
        (["README.md"], "", r"found README\.md, and no weights"),
        (["unet/model.safetensors"], "vea", r"found nothing there; expected a file or folder of unet"),
        (["a.pth", "model.safetensors"], "a.pth", r"found weights as a\.pth alone"),
        (["config.json", "a.safetensors", "b.safetensors"], "", r"found a\.safetensors, b\.safetensors; expected one"),
        (
            [*PIPELINE, "vocoder/config.json", "vocoder/pytorch_model.bin"],
            "",
            r"weights of the part vocoder as vocoder/pytorch_model\.bin alone, which can run code",
        ),
    ],
)
def test_what_has_no_safe_weights_is_refused_with_the_fix(names: list[str], path: str, says: str) -> None:
    assert re.search(says, refusal(names, path) or "")
    assert refusal(LLM, "") is None and refusal(PIPELINE + BESIDE, "") is None
    assert refusal([*PIPELINE, "safety_checker/pytorch_model.bin"]) is None


def test_of_a_folder_of_the_cache_what_another_program_left_there_isnt_read(tmp_path: Path) -> None:
    own = tmp_path / "own"
    cached = tmp_path / "models--org--name/snapshots" / ("a" * 40)
    for folder in (own, cached):
        folder.mkdir(parents=True)
        for name in ("config.json", "model.safetensors", "pytorch_model.bin"):
            (folder / name).write_text("x")
    assert [file.name for file in read_files(own)] == ["config.json", "model.safetensors", "pytorch_model.bin"]
    assert [file.name for file in read_files(cached)] == ["config.json", "model.safetensors"]
