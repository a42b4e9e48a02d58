"""The 7B system itself, on a GPU: throughput, MFU and peak memory of each stage, and the generators' steps.

``python -m benchmarks.full_size`` writes random experts (25 GB, kept with ``--folder``) and runs the stages in
bfloat16, the third with LoRA, at NExT-GPT's batches and at larger ones. ``--scale small --device cpu`` tries all of it
in minutes.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.captions import alone, conversations, mixed
from benchmarks.full_size_experts import SCALES, Scale, write_experts
from benchmarks.measuring import flops, peak_bytes
from benchmarks.miniature import MAKES
from benchmarks.report import quieten, report
from benchmarks.savings import ReadyFeatures
from benchmarks.stages import BATCH, TRAINS, Contender, conditions, with_features
from isthmus.backbones import CausalBackbone, LoraSettings
from isthmus.generators.audio.audioldm import AudioLDM
from isthmus.generators.diffusion import DiffusionGenerator
from isthmus.generators.image.stable_diffusion import StableDiffusion
from isthmus.generators.video.zeroscope import ZeroScope
from isthmus.input_projectors import Linear
from isthmus.model import AnyToAny, Backbone, InputSide, OutputSide
from isthmus.output_projectors import TinyTransformer
from isthmus.training import LossWeights
from isthmus.training.objectives.supervised import terms_of
from isthmus.training.planning.devices import DEVICES
from isthmus.training.trainable import set_trainable
from isthmus.types import Batch, Condition

LARGER = 8
"""So many times NExT-GPT's batch, which alone doesn't fill a large GPU."""
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "every layer checkpointed": {"checkpointed_layers": None},
    "compiled": {"compiled": True},
    "liger": {"cross_entropy": "liger"},
}
"""Arguments of the backbone; None stands for the number of its layers."""


def peak_tflops(device: torch.device) -> float | None:
    """What the device could do in a second; None if it isn't known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((own.tflops for known, own in DEVICES.items() if known in name), None)


def build(paths: dict[str, Path], scale: Scale, stage: int, device: torch.device, **backbone: Any) -> AnyToAny:
    """The system of a stage, its LLM and encoder loaded on the device."""
    lora = LoraSettings(r=scale.rank, lora_alpha=scale.rank, lora_dropout=0.0) if stage == 3 else None
    if "checkpointed_layers" in backbone:
        backbone["checkpointed_layers"] = scale.layers
    language_model = CausalBackbone(paths["llama"], lora=lora, dtype="bfloat16", **backbone)
    inputs = InputSide([ReadyFeatures(paths["imagebind"])], dict.fromkeys(("image", "video", "audio"), Linear))
    bridge = partial(TinyTransformer, width=scale.projector_width)
    outputs = OutputSide(generators(paths, device), dict.fromkeys(MAKES, bridge))
    model = AnyToAny(Backbone(language_model, max_length=2048), inputs, outputs)
    model.configure_model()
    set_trainable(model, TRAINS[stage], f"stage {stage}")
    return model.to(device)


def generators(paths: dict[str, Path], device: torch.device) -> list[DiffusionGenerator]:
    """The three of NExT-GPT, in half precision on a GPU."""
    precision: Any = "float16" if device.type == "cuda" else "float32"
    return [
        StableDiffusion(paths["stable_diffusion"], dtype=precision),
        ZeroScope(paths["zeroscope"], dtype=precision),
        AudioLDM(paths["audioldm"], dtype=precision),
    ]


def contender(model: AnyToAny, stage: int, rows: int, scale: Scale, encodes: bool) -> Contender:
    """Three batches of ``rows``; conditions are known, and features too unless it ``encodes``."""
    device, weights = model.device, LossWeights(alignment=0.0 if stage == 1 else 1.0)
    samples = conversations(stage, rows, scale.side, scale.words)
    collate = model.collator()
    batches = [collate(own).to(device) for own in (alone if stage == 2 else mixed)(samples, rows)]
    if stage > 1:
        conditions(model, batches)
    assert model.input_side is not None
    if stage != 2 and not encodes:
        batches = [with_features(model, batch) for batch in batches]
        model.input_side.release()

    def step(batch: Batch) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            terms = terms_of(model, weights, batch)
            return terms.total(weights, terms.counts())

    return Contender(step, batches, [model])


def stage_row(found: Contender, device: torch.device, repetitions: int, peak: float | None) -> dict[str, Any]:
    """Throughput, MFU and memory of a pass over the batches."""
    found.epoch()  # kernels are chosen, optimizer states made
    with torch.compiler.set_stance("force_eager"):  # compiled kernels' products can't be counted
        work = flops(found.epoch)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    memory = 0 if device.type == "cuda" else peak_bytes(found.epoch) + found.weights
    seconds = []
    for _ in range(repetitions):
        seconds.append(timed(found.epoch, device))
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device)
    took = statistics.median(seconds)
    samples, tokens = sum(map(len, found.batches)), sum(int(batch.mask.sum()) for batch in found.batches)
    return {
        "samples/s": samples / took,
        "tokens/s": tokens / took,
        "ms a step": took * 1e3 / len(found.batches),
        "TFLOP a step": work / 1e12 / len(found.batches),
        "MFU": None if peak is None else work / took / (peak * 1e12),
        "peak GB": memory / 1e9,
    }


def timed(work: Any, device: torch.device) -> float:
    """Seconds, the device's own work included."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def stage_rows(
    paths: dict[str, Path],
    scale: Scale,
    device: torch.device,
    repetitions: int,
    peak: float | None,
    variants: Sequence[str],
) -> list[dict[str, Any]]:
    """Each stage at two batch sizes, by each variant; where an encoder is needed, also run in each step."""
    rows = []
    for stage, size in BATCH.items():
        for name in variants:
            for factor in (1, LARGER) if scale is SCALES["full"] else (1,):
                for encodes in (False, True) if stage != 2 and name == "as it is" and factor == 1 else (False,):
                    model = build(paths, scale, stage, device, **VARIANTS[name])
                    found = contender(model, stage, size * factor, scale, encodes)
                    row = {
                        "stage": stage,
                        "batch": size * factor,
                        "variant": name,
                        "encoder": "runs" if encodes else "-",
                    }
                    rows.append(row | stage_row(found, device, repetitions, peak))
                    print(rows[-1], flush=True)
                    del model, found
                    gc.collect()
                    if device.type == "cuda":
                        torch.cuda.empty_cache()
    return rows


@torch.no_grad()
def generator_rows(
    paths: dict[str, Path], scale: Scale, device: torch.device, repetitions: int
) -> list[dict[str, Any]]:
    """Milliseconds of a denoising step with guidance, of one medium: between drawings of fewer and more steps."""
    rows = []
    few, many = scale.steps
    for generator in generators(paths, device):
        generator.to(device)
        generator.load(device)
        tokens = torch.zeros(1, *generator.condition_shape, device=device)
        draw = partial(generator.generate, Condition(tokens), [0], guidance_scale=5.0)
        for steps in scale.steps:
            draw(num_inference_steps=steps)
        gaps = []
        for _ in range(repetitions):
            least, most = (timed(partial(draw, num_inference_steps=steps), device) for steps in (few, many))
            gaps.append((most - least) / (many - few))
        weights = sum(own.numel() for own in getattr(generator, generator.denoiser_part).parameters())
        row = {"generator": type(generator).__name__, "denoiser, M": weights / 1e6}
        rows.append(row | {"ms a step": statistics.median(gaps) * 1e3})
        print(rows[-1], flush=True)
        generator.release()
    return rows


def run(
    folder: Path,
    repetitions: int = 5,
    scale: str = "full",
    device: str = "cuda",
    peak: float | None = None,
    variants: Sequence[str] = ("as it is",),
) -> list[Path]:
    """Stages, then generators; the two reports."""
    sizes, where = SCALES[scale], torch.device(device)
    known = peak_tflops(where) if peak is None else peak
    paths = write_experts(folder, sizes, where)
    facts: dict[str, Any] = {"scale": scale, "device": device, "peak TFLOP/s": known, "repetitions": repetitions}
    stages = report("full_size", stage_rows(paths, sizes, where, repetitions, known, variants), **facts)
    return [stages, report("full_size_generators", generator_rows(paths, sizes, where, repetitions), **facts)]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size", description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu")
    parser.add_argument("--folder", type=Path, help="where the experts are written and kept; a temporary one if none")
    parser.add_argument(
        "--peak-tflops", type=float, help="of the device in bfloat16, for the MFU, where it isn't known"
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["as it is"])
    chosen = parser.parse_args()
    quieten()
    if chosen.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("found no GPU; expected one for --device cuda. Try --scale small --device cpu")
    with tempfile.TemporaryDirectory() if chosen.folder is None else nullcontext(chosen.folder) as folder:
        run(Path(folder), chosen.repetitions, chosen.scale, chosen.device, chosen.peak_tflops, chosen.variants)


if __name__ == "__main__":
    main()
