"""The shipped bridges of the talk world: small, safe to read, and those of the shipped config."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[1]
BRIDGES = ROOT / "checkpoints" / "talk"
CONFIG = yaml.safe_load((ROOT / "configs" / "talk.yaml").read_text(encoding="utf-8"))
MANIFEST = json.loads((BRIDGES / "manifest.json").read_text(encoding="utf-8"))
ELSEWHERE = ("dtype", "compiled")
"""What a trained model may have otherwise: it is answered with on other machines than it was trained on."""


def differing(config: Any, shipped: Any, where: str = "") -> Iterator[str]:
    """Where the shipped configuration isn't as the config file says, as far as that says anything."""
    if isinstance(config, dict):
        for name, value in config.items():
            if name not in ELSEWHERE:
                yield from differing(value, shipped.get(name), f"{where}.{name}")
    elif isinstance(config, list):
        if len(config) != len(shipped):
            yield f"{where}: {len(shipped)} of {len(config)}"
        for place, (own, other) in enumerate(zip(config, shipped, strict=False)):
            yield from differing(own, other, f"{where}.{place}")
    elif config != shipped:
        yield f"{where}: {shipped}, not {config}"


def test_they_are_small_and_hold_nothing_but_tensors() -> None:
    files = [file for file in BRIDGES.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".md"}
    assert sum(file.stat().st_size for file in files) < 25e6
    for name in MANIFEST["components"]:
        with safe_open(BRIDGES / f"{name}.safetensors", "pt") as tensors:
            assert tensors.keys(), name
    assert "license: apache-2.0" in (BRIDGES / "README.md").read_text(encoding="utf-8")


def test_they_are_of_the_config() -> None:
    model = {name: part for name, part in CONFIG["model"].items() if name != "cache"}
    assert not list(differing(model["input_side"], MANIFEST["configuration"]["input_side"]))
    assert not list(differing(model["output_side"]["init_args"], MANIFEST["configuration"]["output_side"]["init_args"]))
    own, shipped = (each["backbone"]["init_args"] for each in (model, MANIFEST["configuration"]))
    assert not list(differing(own["language_model"], shipped["language_model"]))
    assert MANIFEST["stage"] == list(CONFIG["training"]["stages"])[-1]


def test_they_take_experts_that_a_clone_has_or_that_are_fetched() -> None:
    for role, expert in MANIFEST["experts"].items():
        folder = Path(expert["checkpoint"])
        assert folder.parts[:2] in (("checkpoints", "pocket"), ("checkpoints", "published")), role
        assert folder.parts[1] == "published" or (ROOT / folder).is_dir(), role
