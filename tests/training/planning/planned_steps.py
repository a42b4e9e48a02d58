"""A tiny model's step, planned, or measured as one of two gloo ranks: python planned_steps.py EXPERTS FILE ENGINE."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from tiny_world import tiny_model

from isthmus.model import AnyToAny
from isthmus.training import Stage
from isthmus.training.planning import Planner
from isthmus.training.planning.counted import Counted
from isthmus.training.planning.rehearsing import RankData, count_step
from isthmus.training.rehearsal.conversations import conversations_of

BATCH, WORDS = 8, 4
EXPERTS = ("imagebind", "llama")
STAGE = Stage(["input_projectors", "media_tags", "signal_rows", "lora"], steps=2, batch_size=BATCH)


def model_of(paths: Mapping[str, Path]) -> AnyToAny:
    return tiny_model(paths, inputs=("image",), outputs=())


def configured() -> pl.Trainer:
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, gradient_clip_val=1.0)


def planner(paths: Mapping[str, Path]) -> Planner:
    return Planner(lambda: model_of(paths), configured(), BATCH, WORDS)


def without_weights(paths: dict[str, Path]) -> dict[str, Path]:
    """The same folders with their configuration files alone."""
    for folder in paths.values():
        for file in [*folder.rglob("*.safetensors"), *folder.rglob("*.bin")]:
            file.unlink()
    return paths


def counted_on(counted: Counted) -> dict[str, Any]:
    """What is compared of a step."""
    sent = sorted([own.kind, each.count, each.bytes] for own, each in counted.sent.items())
    memory = dict(counted.memory)
    return {"rows": counted.rows, "flops": counted.work, "peak": counted.peak, "memory": memory, "sent": sent}


def main() -> None:
    from pytorch_lightning.strategies import DDPStrategy

    from isthmus.training.engines import Sharded

    experts, file, engine = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    model = model_of({name: experts / name for name in EXPERTS})
    strategy = (DDPStrategy if engine == "ddp" else Sharded)(process_group_backend="gloo")
    data = RankData({"stage": conversations_of(model, STAGE, WORDS)}, batch_size=BATCH)
    data.rows = BATCH // 2
    found = count_step(model, "stage", STAGE, configured(), data, strategy=strategy, devices=2)
    if os.environ["LOCAL_RANK"] == "0":
        file.write_text(json.dumps(counted_on(found)))


if __name__ == "__main__":
    main()
