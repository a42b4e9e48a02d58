"""What ``isthmus plan`` says of a step on two ranks, beside what two real processes over gloo measure of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from benchmarks.miniature import NARROW, POCKET, WIDE, Size, write_experts
from benchmarks.report import quieten, report
from isthmus.backbones import CausalBackbone, LoraSettings
from isthmus.encoders import ImageBind
from isthmus.generators import StableDiffusion
from isthmus.input_projectors import Linear
from isthmus.model import AnyToAny, Backbone, InputSide, OutputSide
from isthmus.output_projectors import TinyTransformer
from isthmus.training import LossWeights, Stage
from isthmus.training.planning import Cluster, Link, Setting
from isthmus.training.planning.counted import Counted
from isthmus.training.planning.rehearsing import RankData, count_step, rehearse_rank
from isthmus.training.rehearsal.conversations import conversations_of

RANKS, ROWS, WORDS = 2, 4, 24
SIZES = {"narrow": NARROW, "wide": WIDE}
STAGES = {
    "encoder_alignment": Stage(["input_projectors", "media_tags"], steps=2),
    "instruction_tuning": Stage(
        ["input_projectors", "output_projectors", "media_tags", "signal_rows", "lora"],
        LossWeights(alignment=1.0),
        steps=2,
    ),
}
ENGINES = ("ddp", "fsdp2")
CLUSTER = Cluster(RANKS, RANKS, 2**40, 1e12, Link(0.0, 1e9), Link(0.0, 1e9))
PATIENCE = 900.0
UNITS = {"peak": ("peak, MiB", 2**20), "traffic": ("traffic, MB", 1e6), "flops": ("GFLOP", 1e9)}
"""What is compared -> its name in the table, and its unit."""


def model_of(paths: dict[str, Path], size: Size) -> AnyToAny:
    """The miniature of NExT-GPT, for pictures in and out, in float32."""
    language_model = CausalBackbone(paths["llama"], {"image": 4}, LoraSettings(r=8, lora_alpha=8, lora_dropout=0.0))
    bridge = partial(TinyTransformer, width=size.projector_width, heads=size.projector_heads)
    return AnyToAny(
        Backbone(language_model, max_length=1024),
        InputSide([ImageBind(paths["imagebind"], ("image",))], {"image": Linear}),
        OutputSide([StableDiffusion(POCKET / "stable_diffusion")], {"image": bridge}),
    )


def trainer() -> pl.Trainer:
    """What decides of a step."""
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, gradient_clip_val=1.0)


def cases() -> Iterator[tuple[str, str, str]]:
    """Size, engine and stage of each comparison."""
    for size in SIZES:
        for engine in ENGINES:
            for stage in STAGES:
                yield size, engine, stage


def figures(counted: Counted) -> dict[str, float]:
    """What is compared of a step."""
    sent = sum(each.bytes for each in counted.sent.values())
    return {"peak": counted.peak, "traffic": sent, "flops": counted.work}


def planned(paths: dict[str, Path], size: str, engine: Any, stage: str) -> Counted:
    """By rehearsal as rank 0 of two."""
    model = model_of(paths, SIZES[size])
    batch = RANKS * ROWS
    return rehearse_rank(model, stage, STAGES[stage], Setting(engine), CLUSTER, trainer(), batch, WORDS)


def measured(paths: dict[str, Path], size: str, engine: str, stage: str) -> Counted:
    """On this process, as one of two of a gloo group."""
    from pytorch_lightning.strategies import DDPStrategy

    from isthmus.training.engines import Sharded

    model = model_of(paths, SIZES[size])
    strategy = (DDPStrategy if engine == "ddp" else Sharded)(process_group_backend="gloo")
    data = RankData({stage: conversations_of(model, STAGES[stage], WORDS)}, batch_size=RANKS * ROWS)
    data.rows = ROWS
    if engine == "ddp":
        model.configure_model()
    return count_step(model, stage, STAGES[stage], trainer(), data, strategy=strategy, devices=RANKS)


def main() -> None:
    """One of two ranks: python -m benchmarks.cluster.planning FOLDER; rank 0 writes what it measured there."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    quieten()
    warnings.simplefilter("ignore")
    found = []
    for size, engine, stage in cases():
        paths = {name: folder / size / name for name in ("llama", "imagebind")}
        found.append(figures(measured(paths, size, engine, stage)))
    if os.environ["LOCAL_RANK"] == "0":
        (folder / "measured.json").write_text(json.dumps(found), encoding="utf-8")


def run(folder: Path) -> Path:
    """Both, and how far they are apart."""
    quieten()  # Lightning sets the level of its messages when it is imported
    for name, widths in SIZES.items():
        write_experts(folder / name, widths)
    _start(folder)
    rows = []
    for case, real in zip(cases(), json.loads((folder / "measured.json").read_text(encoding="utf-8")), strict=True):
        size, engine, stage = case
        plan = figures(planned({name: folder / size / name for name in ("llama", "imagebind")}, size, engine, stage))
        row: dict[str, Any] = {"size": size, "engine": engine, "stage": stage}
        for name, (label, unit) in UNITS.items():
            row |= {f"planned {label}": plan[name] / unit, f"measured {label}": real[name] / unit}
            row[f"{name} ratio"] = plan[name] / real[name]
        rows.append(row)
    return report("planning", rows, ranks=RANKS, rows_a_rank=ROWS)


def _start(folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(RANKS), "NODE_RANK": "0"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cluster.planning", str(folder)],
            env=os.environ | meeting | {"LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(RANKS)
    ]
    try:
        codes = [process.wait(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(codes):
        raise RuntimeError(f"planning: found the exit codes {codes}; expected 0 of each rank. Fix: see their errors.")


if __name__ == "__main__":
    main()
