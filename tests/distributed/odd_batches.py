"""Each stage over batches whose ranks have nothing in common, in a process of its own; rank r leaves what came of it:

python odd_batches.py EXPERTS FOLDER ENGINE DEVICES
"""

from __future__ import annotations

import string
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from model.talks import talk
from pytorch_lightning.strategies import DDPStrategy, Strategy
from tiny_world import tiny_model

from isthmus.backbones.base import Sampling
from isthmus.backbones.owned_state import whole_of
from isthmus.cli.quiet import hush
from isthmus.data.conversations.schema import Conversation
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.module import ConversationDataModule
from isthmus.evaluation import PeriodicEvaluation
from isthmus.training import LossWeights, Stage, StageSwitch, TrainingModule
from isthmus.training.engines import Sharded

PATIENCE = timedelta(seconds=120)
"""After which a rank that waits for another ends the run."""
LONG = "this is said at some length, so that what comes before a medium is worth a pass of its own: "
CONVERSATIONS = [
    talk(["say hi"], ["hi"]),
    talk([LONG, ("image", 3), "which?"], ["a three, and nothing else that anybody could see in it"]),
    talk(["draw"], [("image", 7)]),
    talk([("audio", 4)], ["look: ", ("image", 2), ("image", 9)], with_content=False),
    talk([LONG + LONG], ["no"]),
]
DESCRIBED = [
    talk(["say hi"], ["hi"]),
    talk([("image", 3)], ["cab"]),
    talk(["draw"], [("image", 7)]),
    talk([("audio", 4)], ["abc"]),
    talk([("image", 2)], ["bca"]),
]
"""Tokens are told from those of a process's own texts, so that these have the same ones."""
LENGTH: dict[str, Any] = {"steps": 5, "batch_size": 2, "optimizer": partial(torch.optim.SGD, lr=0.05)}
STAGES = {
    "spelling": Stage(["input_projectors"], LossWeights(text=0.0, spelling=1.0), **LENGTH),
    "encoder_alignment": Stage(["input_projectors", "media_tags"], LossWeights(), **LENGTH),
    "decoder_alignment": Stage(
        ["output_projectors", "signal_rows"], LossWeights(alignment=1.0, denoising=0.5), **LENGTH
    ),
    "instruction_tuning": Stage(
        ["input_projectors", "output_projectors", "media_tags", "signal_rows", "lora"],
        # Two of the five are in words alone: some ranks have nothing to keep, and take the published LLM's pass too.
        LossWeights(alignment=1.0, keeping=2.0, kept_sources=("said",)),
        **LENGTH,
    ),
}


class Said(ConversationSource):
    """Conversations as they are listed."""

    name = "said"

    def __init__(self, conversations: list[Conversation]) -> None:
        self.conversations = conversations

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, index: int) -> Conversation:
        return self.conversations[index]


class Diary(pl.Callback):
    """Keeps the global loss of each step, and the answers of each test batch."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.answers: list[list[int]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs["loss"].detach().double() / trainer.world_size
        self.losses.append(float(trainer.strategy.reduce(loss, reduce_op="sum")))

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.answers += [
            list(reply.ids) for reply, own in zip(outputs, batch.details, strict=True) if not own.get("repeated")
        ]


def strategy(engine: str) -> Strategy | str:
    """The engine's, with a short patience."""
    if engine == "ddp":
        return DDPStrategy(process_group_backend="gloo", timeout=PATIENCE)
    if engine == "fsdp2":
        return Sharded(process_group_backend="gloo", timeout_seconds=PATIENCE.total_seconds())
    return "auto"


def learn(experts: dict[str, Path], folder: Path, engine: str, devices: int, name: str) -> dict[str, Any]:
    """A stage with validation and a test."""
    model = tiny_model(experts, ("image", "audio"), ("image",), stop_strings=tuple(string.printable[:40]))
    model.sampling = Sampling(max_new_tokens=12, temperature=1.0)
    diary, watch = Diary(), PeriodicEvaluation("said", size=3, batch_size=1, num_inference_steps=1)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=strategy(engine),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=[StageSwitch({name: STAGES[name]}, None, folder), diary, watch],
    )
    conversations = DESCRIBED if name == "spelling" else CONVERSATIONS
    said = Said(conversations)
    data = ConversationDataModule(
        {"said": said}, {"said": Said(conversations[:3])}, {"said": said}, batch_size=2, seed=3
    )
    module = TrainingModule(model)
    trainer.fit(module, datamodule=data)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    weights = {path: whole_of(own).clone() for path, own in model.named_owned()}
    trainer.test(module, datamodule=data, verbose=False)
    figures |= watch.figures
    return {"losses": diary.losses, "figures": figures, "weights": weights, "answers": diary.answers}


def main() -> None:
    """Every stage."""
    experts, folder, engine, devices = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(1)
    paths = {name: experts / name for name in ("imagebind", "llama", "image")}
    found = {name: learn(paths, folder, engine, devices, name) for name in STAGES}
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    torch.save(found, folder / f"rank_{rank}.pt")


if __name__ == "__main__":
    hush()  # as the command line does
    main()
