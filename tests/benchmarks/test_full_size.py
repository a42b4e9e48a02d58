"""The benchmark for a GPU, at a small size on a CPU: it runs, and its figures follow from one another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import full_size
from benchmarks.full_size_experts import FULL, SMALL, _pipeline, write_experts
from benchmarks.measuring import flops, peak_bytes
from benchmarks.miniature import POCKET
from transformers import AutoModelForCausalLM, LlamaConfig

from isthmus.generators.image.stable_diffusion import StableDiffusion

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


def test_each_stage_and_generator_has_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, list[dict[str, Any]]] = {}

    def report(name: str, rows: list[dict[str, Any]], **facts: Any) -> Path:
        found[name] = rows
        return tmp_path / name

    monkeypatch.setattr(full_size, "report", report)
    monkeypatch.setattr(full_size, "BATCH", {1: 4, 2: 2, 3: 2})
    full_size.run(tmp_path, repetitions=1, scale="small", device="cpu", peak=0.5)
    by_place = {(row["stage"], row["encoder"]): row for row in found["full_size"]}
    assert set(by_place) == {(1, "-"), (1, "runs"), (2, "-"), (3, "-"), (3, "runs")}
    for row in by_place.values():
        assert row["MFU"] == pytest.approx(row["TFLOP a step"] / (row["ms a step"] / 1e3) / 0.5)
        assert row["samples/s"] == pytest.approx(row["batch"] / (row["ms a step"] / 1e3))
        assert row["tokens/s"] > 10 * row["samples/s"]
        assert 0.01 < row["peak GB"] < 1
    for stage in (1, 3):
        assert by_place[stage, "runs"]["TFLOP a step"] > 2 * by_place[stage, "-"]["TFLOP a step"]
    drawn = found["full_size_generators"]
    assert [row["generator"] for row in drawn] == ["StableDiffusion", "ZeroScope", "AudioLDM"]
    assert all(row["ms a step"] > 0 and row["denoiser, M"] > 1 for row in drawn)


def test_experts_are_written_once_and_read_in_half_precision(tmp_path: Path) -> None:
    paths = write_experts(tmp_path, SMALL, CPU)
    llm = AutoModelForCausalLM.from_pretrained(paths["llama"], local_files_only=True)
    assert llm.dtype == torch.bfloat16 and llm.config.num_hidden_layers == SMALL.layers
    before = (paths["llama"] / "model.safetensors").stat().st_mtime_ns
    write_experts(tmp_path, SMALL, CPU)
    assert (paths["llama"] / "model.safetensors").stat().st_mtime_ns == before
    work, memory = {}, {}
    for name in ("as it is", "every layer checkpointed"):
        model = full_size.build(paths, SMALL, 3, CPU, **full_size.VARIANTS[name])
        found = full_size.contender(model, 3, 2, SMALL, encodes=False)
        assert len(found.batches) == 3 and all(len(batch) == 2 for batch in found.batches)
        work[name], memory[name] = flops(found.epoch), peak_bytes(found.epoch)
    assert work["every layer checkpointed"] > work["as it is"]
    assert memory["every layer checkpointed"] < memory["as it is"]


def test_a_pipelines_configuration_becomes_random_weights_that_draw(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        shutil.copytree(POCKET / "stable_diffusion", folder, ignore=shutil.ignore_patterns("*.safetensors"))

    _pipeline(tmp_path / "image", write, CPU)
    generator = StableDiffusion(tmp_path / "image", num_inference_steps=1)
    with torch.no_grad():
        (medium,) = generator.generate(generator.condition(["a red three"]), [0])
    assert medium.array.dtype == np.uint8
    for part in ("unet", "vae", "text_encoder"):
        stored = sorted((tmp_path / "image" / part).glob("*.safetensors"))
        assert stored, part
        assert json.loads((tmp_path / "image" / part / "config.json").read_text())


def test_full_size_is_vicunas_own() -> None:
    config = LlamaConfig(
        vocab_size=FULL.words + 10,
        hidden_size=FULL.width,
        intermediate_size=FULL.width * 11008 // 4096,
        num_hidden_layers=FULL.layers,
        num_attention_heads=FULL.heads,
    )
    with torch.device("meta"):
        llm = AutoModelForCausalLM.from_config(config)
    assert sum(own.numel() for own in llm.parameters()) == 6_738_415_616


def test_a_device_that_isnt_known_has_no_mfu() -> None:
    assert full_size.peak_tflops(CPU) is None
    assert full_size.peak_tflops(torch.device("meta")) is None
