"""What trains and what is frozen, counted by part."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from runs import fit

from isthmus.training.running.summary import PartsSummary


def test_a_run_says_what_trains_and_what_is_frozen(
    experts: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "isthmus")
    stages = ["encoder_alignment", "decoder_alignment"]
    model, _ = fit(experts, tmp_path, stages, saves=False, extra=[PartsSummary()], enable_model_summary=True)
    table = next(line for line in caplog.messages if line.startswith("part "))
    rows = {line.split()[0]: line for line in table.splitlines()}
    parts = model.parts()
    counts = {name: sum(own.numel() for own in part.values()) for name, part in parts.items()}
    inputs = sum(count for name, count in counts.items() if name.startswith("input_projectors"))
    assert f" {inputs:,} " in rows["input_projectors"] and rows["input_projectors"].endswith("  encoder_alignment")
    assert rows["input_projectors"].startswith("input_projectors (4)")
    assert rows["lora"].endswith("  none") and f" {counts['lora']:,} " in rows["lora"]
    owned = {id(own) for _, own in model.named_owned()}
    llm = sum(own.numel() for own in model.backbone.language_model.parameters() if id(own) not in owned)
    assert f" {llm:,} " in rows["CausalBackbone"]
    assert len(table.splitlines()) < 12
    held = [line for line in caplog.messages if line.startswith("frozen, in memory: ")]
    assert len(held) == 2
    assert "ImageBind" in held[0] and "StableDiffusion" not in held[0] and "StableDiffusion" in held[1]
    assert f"CausalBackbone {llm:,} (" in held[0] and "CausalBackbone" not in held[1], "each is told of once"
    entered = [line for line in caplog.messages if line.startswith("entered stage")]
    trained = inputs + counts["media_tags"]
    assert entered[0].endswith(f"; trains input_projectors, media_tags ({trained:,} parameters)")
