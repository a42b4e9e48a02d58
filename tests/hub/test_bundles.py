"""Models of experts on the hub: bundles name the commits, and find them again; caches keep to what was chosen."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
from huggingface_hub import constants
from loopback_hub import LoopbackHub
from tiny_parts import write_imagebind
from tiny_world import write_llm

from isthmus.cache.fingerprint import fingerprint
from isthmus.cache.identity import identity
from isthmus.encoders import ImageBind
from isthmus.hub.address import _commit
from isthmus.model import AnyToAny
from isthmus.model.bundle import compose, read_manifest
from isthmus.model.sharing.export import export

CONFIGURATION = {
    "backbone": {
        "class_path": "isthmus.model.Backbone",
        "init_args": {
            "language_model": {
                "class_path": "isthmus.backbones.CausalBackbone",
                "init_args": {"checkpoint": "hf://org/llm", "signals": {"image": 2}},
            }
        },
    },
    "input_side": {
        "class_path": "isthmus.model.InputSide",
        "init_args": {
            "encoders": [
                {
                    "class_path": "isthmus.encoders.ImageBind",
                    "init_args": {"checkpoint": "hf://org/imagebind", "modalities": ["image"]},
                }
            ],
            "projectors": {"image": {"class_path": "isthmus.input_projectors.MLP", "init_args": {"hidden": 8}}},
        },
    },
}


def test_a_bundle_is_opened_with_the_commits_that_it_was_trained_beside(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_llm(tmp_path / "llm")
    write_imagebind(tmp_path / "imagebind")
    llm = hub.add("org/llm", tmp_path / "llm", licence="apache-2.0")
    encoder = hub.add("org/imagebind", tmp_path / "imagebind")
    model = compose(AnyToAny, deepcopy(CONFIGURATION), tmp_path)
    model.configuration = CONFIGURATION
    model.configure_model()
    bundle = model.save(tmp_path / "bundle", "encoder_alignment")

    manifest = read_manifest(bundle)
    assert manifest["experts"]["backbone"]["checkpoint"] == f"hf://org/llm@{llm}"
    assert manifest["experts"]["backbone"]["fingerprint"] == fingerprint(tmp_path / "llm")  # a copy is the same expert
    written = json.dumps(manifest["configuration"])
    assert f"hf://org/llm@{llm}" in written and f"hf://org/imagebind@{encoder}" in written

    (tmp_path / "llm/config.json").write_text("{}")
    hub.add("org/llm", tmp_path / "llm")  # main moves on, and is broken
    _commit.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    opened = AnyToAny.from_checkpoint(bundle)
    assert opened.backbone.language_model.checkpoint.name == llm
    assert opened.save(tmp_path / "again", "encoder_alignment").is_dir()
    assert read_manifest(tmp_path / "again")["experts"] == manifest["experts"]
    card = (export(bundle, tmp_path / "handed", "mit") / "README.md").read_text()
    assert f"hf://org/llm@{llm}" in card and "apache-2.0" in card


def test_what_another_program_leaves_in_the_cache_changes_no_expert(hub: LoopbackHub, tmp_path: Path) -> None:
    write_imagebind(tmp_path / "imagebind")
    hub.add("org/imagebind", tmp_path / "imagebind")
    encoder = ImageBind("hf://org/imagebind")
    before = fingerprint(encoder.checkpoint), identity(encoder)
    (encoder.checkpoint / "pytorch_model.bin").write_bytes(b"a pickle")
    (encoder.checkpoint / "onnx").mkdir()
    (encoder.checkpoint / "onnx" / "config.json").write_text("{}")
    assert (fingerprint(encoder.checkpoint), identity(encoder)) == before
    encoder.load()  # one weights file is found, as before
