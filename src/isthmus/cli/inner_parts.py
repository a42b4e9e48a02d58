"""What a config puts within a part: a teacher, layers of cross-attention, adapters, a form of storage."""

from __future__ import annotations

from isthmus.cli.part_table import OURS, TRAINED, TRANSFORMERS, Part

INNER = (
    Part(
        "isthmus.input_projectors.PFormer",
        takes="text (B, L)",
        gives="prompts (B, M, E), in training alone",
        widths="768 inside (BERT-base)",
        code=TRANSFORMERS,
        weights="trained here; BERT's Apache-2.0",
        checkpoint="a folder as of google-bert/bert-base-uncased",
        within="input_side.teacher",
    ),
    Part(
        "isthmus.backbones.FusionSettings",
        takes="P (B, M, E), text states (B, T, E)",
        gives="text states (B, T, E)",
        widths="512 inside (8 heads of 64)",
        code=OURS,
        weights=TRAINED,
        checkpoint="none",
        within="language_model.fusion",
    ),
    Part(
        "isthmus.backbones.LoraSettings",
        takes="the LLM's linear layers",
        gives="the same, adapted",
        widths="its rank",
        code="Apache-2.0 (peft)",
        weights=TRAINED,
        checkpoint="none",
        within="language_model.lora",
    ),
    Part(
        "isthmus.backbones.QuantizationSettings",
        takes="the LLM's linear layers",
        gives="the same, frozen, in 4 or 8 bits",
        widths="the LLM's",
        code="MIT (bitsandbytes)",
        weights="the LLM's own",
        checkpoint="none; `pip install bitsandbytes`",
        within="language_model.quantization",
    ),
)
"""One entry a class; a test holds each against the argument that takes it."""
