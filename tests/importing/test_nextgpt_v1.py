"""What is refused before anything is written, what is left out, and the release's own names and shapes at full size."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_nextgpt import CONDITIONS, WIDTH, delta, write_release
from tiny_world import tiny_experts

from isthmus.importing.nextgpt_delta import delta_of, read_delta
from isthmus.importing.nextgpt_v1 import Source, fitted, import_nextgpt_v1
from isthmus.model import AnyToAny
from isthmus.model.bundle import read_manifest
from isthmus.training.rehearsal.published_nextgpt import NEXTGPT
from isthmus.types import Modality

LLM = "llama_model.base_model.model."
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A tiny world, and what the release would save of it."""
    folder = tmp_path_factory.mktemp("release")
    paths = tiny_experts(folder)
    write_release(paths, folder / "pytorch_model.pt")
    generators = {kind: paths[kind] for kind in CONDITIONS}
    return Source(folder / "pytorch_model.pt", paths["llama"], paths["imagebind"], generators)


def changed(source: Source, folder: Path, change: Callable[[State], Any]) -> Source:
    state = torch.load(source.delta, weights_only=True)
    change(state)
    torch.save(state, folder / "changed.pt")
    return replace(source, delta=folder / "changed.pt")


def without(*names: str) -> Callable[[State], Any]:
    return lambda state: [state.pop(name) for name in list(state) if name.startswith(names)]


def cut(name: str) -> Callable[[State], Any]:
    return lambda state: state.update({name: state[name][1:]})


FAULTS: dict[str, tuple[Callable[[State], Any], str]] = {
    "no projector": (without("llama_proj.bias"), r"without llama_proj.bias; expected .* Fix: give its pytorch_model"),
    "no head": (without(f"{LLM}lm_head"), r"without llama_model.lm_head.weight"),
    "no LoRA factor": (
        without(f"{LLM}model.layers.1.self_attn.v_proj.lora_B"),
        r"1 missing: llama_model.model.layers.1.self_attn.v_proj.lora_B.weight",
    ),
    "part of a projector": (
        without("gen_text_hidden_fcs_video.0.tfm.decoder.layers.3", "gen_text_hidden_fcs_video.0.model"),
        r"2 missing: gen_text_hidden_fcs_video.0.model.weight, gen_text_hidden_fcs_video.0.model.bias",
    ),
    "a projector without its input": (without("gen_text_hidden_fcs.0.fc"), r"missing: gen_text_hidden_fcs.0.fc.weight"),
    "narrow projector": (
        lambda state: state.update({"llama_proj.weight": state["llama_proj.weight"][:, 1:]}),
        r"1 of another size: llama_proj.weight \(16, 7\) instead of \(16, 8\).*ImageBind",
    ),
    "other condition": (
        cut("gen_text_hidden_fcs_audio.0.model.weight"),
        r"gen_text_hidden_fcs_audio.0.model.weight \(15, 16\) instead of \(16, 16\)",
    ),
    "other LLM": (
        cut(f"{LLM}model.embed_tokens.weight"),
        r"embed_tokens.weight \(296, 16\); expected \(297, 16\): the 259 rows of .*, 2 tags, and signal tokens",
    ),
    "two ranks": (
        cut(f"{LLM}model.layers.0.self_attn.q_proj.lora_A.default.weight"),
        r"LoRA of the ranks 3, 4; expected one",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_told_before_anything_is_written(fault: str, source: Source, tmp_path: Path) -> None:
    change, said = FAULTS[fault]
    with pytest.raises(ValueError, match=said):
        import_nextgpt_v1(changed(source, tmp_path, change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_the_releases_are_refused(source: Source, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (print, ("ran",))

    torch.save({"llama_proj.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil.pt: can't be read as weights"):
        read_delta(tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"none.pt: found no such file"):
        read_delta(tmp_path / "none.pt")
    with pytest.raises(ValueError, match=r"none: found no such file or folder; expected ImageBind"):
        import_nextgpt_v1(replace(source, imagebind=tmp_path / "none"), tmp_path / "out")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match=r"used: found files there; expected a new folder"):
        import_nextgpt_v1(source, tmp_path / "used")
    with pytest.raises(ValueError, match=r"no such folder; expected an LLM"):
        import_nextgpt_v1(replace(source, vicuna=tmp_path / "none"), tmp_path / "out")


def test_rows_stand_where_the_release_numbers_them(source: Source, tmp_path: Path) -> None:
    state = torch.load(source.delta, weights_only=True)
    imported = import_nextgpt_v1(source, tmp_path / "out")
    shutil.move(tmp_path / "out", tmp_path / "moved")
    model = AnyToAny.from_checkpoint(tmp_path / "moved" / imported.bundle.name)
    language_model = model.backbone.language_model
    vocabulary, own = language_model.vocabulary, model.owned_state()
    embedding, head = state[f"{LLM}model.embed_tokens.weight"], state[f"{LLM}lm_head.weight"]
    assert [vocabulary.tags(m) for m in (Modality.IMAGE, Modality.AUDIO)] == [(259, 260)] * 2
    runs = [list(vocabulary.signal_ids(m)) for m in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)]
    assert runs == [list(range(261, 265)), list(range(265, 289)), list(range(289, 297))]
    torch.testing.assert_close(language_model.embed(torch.arange(297)), embedding, rtol=0, atol=0)
    torch.testing.assert_close(language_model.logits(torch.eye(WIDTH)), head.T, rtol=1e-6, atol=1e-6)
    assert set(own) == {
        "input_projectors.image",
        *(f"output_projectors.{kind}" for kind in CONDITIONS),
        *("media_tags", "signal_rows", "lora"),
    }
    side = model.input_side
    assert side is not None and len({id(side.projector(m)) for m in side.serving}) == 1
    manifest = read_manifest(tmp_path / "moved" / "instruction_tuning")
    assert manifest["stage"] == "instruction_tuning" and manifest["lora"] == {
        "method": "lora",
        "r": 4,
        "lora_alpha": 32,
    }


def test_earlier_stages_and_absent_generators_leave_their_parts_out(source: Source, tmp_path: Path) -> None:
    first = changed(source, tmp_path, without("gen_text", f"{LLM}model.layers"))
    imported = import_nextgpt_v1(first, tmp_path / "first")
    assert imported.bundle.name == "encoder_alignment" and not imported.outputs and not imported.left_out
    second = replace(
        changed(source, tmp_path, without(f"{LLM}model.layers")), generators={"audio": source.generators["audio"]}
    )
    imported = import_nextgpt_v1(second, tmp_path / "second")
    assert imported.bundle.name == "decoder_alignment" and imported.outputs == ["audio"]
    assert imported.left_out == ["image", "video"]
    assert AnyToAny.from_checkpoint(imported.bundle).outputs == [Modality.AUDIO]


def test_full_size_names_and_shapes_are_the_releases(tmp_path: Path) -> None:
    """Of Vicuna-7B, ImageBind-huge and the published generators: on the meta device, no weight read."""
    for checkpoint, write in NEXTGPT.items():
        write(tmp_path / checkpoint)
    conditions = {"image": (77, 768), "video": (77, 1024), "audio": (1, 512)}
    with torch.device("meta"):
        stored = delta(32_000, 4096, 1024, 32, conditions, rank=32, inner=512)
    assert stored["llama_proj.weight"].shape == (4096, 1024)
    assert stored[f"{LLM}lm_head.weight"].shape == (32_038, 4096)
    folders = {"image": "stable-diffusion-v1-5", "video": "zeroscope_v2_576w", "audio": "audioldm-l-full"}
    source = Source(
        tmp_path / "pytorch_model.pt",
        tmp_path / "vicuna-7b-v1.5",
        tmp_path / "imagebind" / "imagebind_huge.pth",
        {kind: tmp_path / folder for kind, folder in folders.items()},
    )
    state = fitted(source, delta_of(stored, source.delta))
    assert {part: sum(own.numel() for own in tensors.values()) for part, tensors in state.items()} == {
        "input_projectors.image": 1025 * 4096,
        "media_tags": 2 * 4096,
        "signal_rows": (36 + 38) * 4096,
        "lora": 32 * 4 * 2 * 32 * 4096,
        **{f"output_projectors.{kind}": PROJECTOR + 512 * c + 513 * k for kind, (c, k) in conditions.items()},
    }


_ATTENTION, _FORWARD, _NORM = 4 * 512 * 512 + 4 * 512, 2 * 512 * 2048 + 2048 + 512, 2 * 512
PROJECTOR = (
    4097 * 512 + 4 * (_ATTENTION + _FORWARD + 2 * _NORM) + 4 * (2 * _ATTENTION + _FORWARD + 3 * _NORM) + 2 * _NORM
)
"""Weights of an output projector, but for its queries and its last layer: about 32 million."""
