"""Our decoding and drawing against the bare libraries with the same weights, asked for the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.captions import words
from benchmarks.measuring import interleaved, ratio
from benchmarks.miniature import NARROW, POCKET, write_llm
from benchmarks.report import report
from isthmus.backbones import CausalBackbone
from isthmus.backbones.base import Sampling
from isthmus.generators.image.stable_diffusion import StableDiffusion
from isthmus.types import Batch, Condition

PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 8, 40, 32
DRAWN, STEPS, GUIDANCE = 8, 10, 5.0


class Calls:
    """Counts how often a module runs, while it is entered."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.count = 0

    def __enter__(self) -> Calls:
        self._handle = self.module.register_forward_hook(self._add)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _add(self, *_: Any) -> None:
        self.count += 1


def text_works(folder: Path) -> tuple[dict[str, Any], torch.nn.Module]:
    """Ours and transformers' ``generate``, greedy, for the same prompts; and the LLM that both run."""
    import numpy as np

    backbone = CausalBackbone(write_llm(folder / "llama"))
    backbone.materialize()
    backbone.eval()
    generator = np.random.default_rng(0)
    text = [words(PROMPT_TOKENS, generator, NARROW.words) for _ in range(PROMPTS)]
    ids: Tensor = backbone.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    mask = torch.ones_like(ids, dtype=torch.bool)
    batch = Batch(ids, mask, torch.full_like(ids, -100))

    def ours() -> list[list[int]]:
        return [answer.ids for answer in backbone.generate(batch, {}, Sampling(max_new_tokens=NEW_TOKENS), allowed=[])]

    def bare() -> list[list[int]]:
        found = backbone.llm.generate(ids, attention_mask=mask.long(), max_new_tokens=NEW_TOKENS, do_sample=False)
        answers: list[list[int]] = [row[PROMPT_TOKENS:].tolist() for row in found]
        return [row[: row.index(2) + 1] if 2 in row else row for row in answers]

    return {"ours": ours, "bare": bare}, backbone.llm.base_model


def image_works(compiled: bool = False) -> tuple[dict[str, Any], torch.nn.Module | None]:
    """Ours and diffusers' pipeline, from the same conditions; and the UNet that both run.

    Compiled, ours runs a UNet of its own, and there is none to count.
    """
    generator = StableDiffusion(POCKET / "stable_diffusion", STEPS, GUIDANCE, batch_size=DRAWN)
    generator.load()
    captions = [f"a red {number}" for number in range(DRAWN)]
    with torch.no_grad():
        condition, empty = generator.condition(captions), generator.condition([""])
        generator.generate(condition, list(range(DRAWN)), 1)  # builds the pipeline
    pipeline, unet = generator._pipeline, generator.unet
    if compiled:
        generator.compile_denoiser()

    def ours() -> list[Any]:
        return generator.generate(Condition(condition.tokens), list(range(DRAWN)))

    def bare() -> Any:
        seeds = [torch.Generator().manual_seed(seed) for seed in range(DRAWN)]
        return pipeline(
            prompt_embeds=condition.tokens,
            negative_prompt_embeds=empty.tokens.expand_as(condition.tokens),
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=seeds,
            height=generator.height,
            width=generator.width,
            output_type="pt",
        ).images

    return {"ours": ours, "bare": bare}, None if compiled else unet


def run(folder: Path, repetitions: int = 5) -> Path:
    """Text, then pictures, then pictures by a compiled denoiser."""
    rows = []
    asked = {"text": text_works(folder), "images": image_works(), "images, compiled denoiser": image_works(True)}
    for name, (works, module) in asked.items():
        calls = {}
        for who, work in works.items():
            if module is not None:
                with Calls(module) as counter:
                    work()
                calls[f"calls, {who}"] = counter.count
        seconds = interleaved(works, repetitions)
        rows.append({"what": name, "time, ours / bare": ratio(seconds["ours"], seconds["bare"]), **calls})
    return report("generation", rows, repetitions=repetitions)
