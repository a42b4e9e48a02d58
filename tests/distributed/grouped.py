"""Reward tuning of a tiny model of words, in processes of its own; rank r leaves what it did in FOLDER/rank_r.pt:

python grouped.py EXPERTS FOLDER '{"devices": 2, "mixed": 0.0, "batch_size": 3}'
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from tiny_world import tiny_model

from isthmus.backbones import LoraSettings
from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.module import ConversationDataModule
from isthmus.model import AnyToAny, Reply
from isthmus.training import GroupPolicy, Stage, StageSwitch, TrainingModule

GROUP, KL, TEMPERATURE = 3, 0.3, 1.3
TRAINS = ["signal_rows", "lora"]
ASKED = [(words, "") for words in ("say a word", "what is it?", "and then?", "who?", "a seven and a two?", "more")]
TOLD = [("say it", "a seven"), ("a colour", "red"), ("again", "a two, I think")]


class Said(ConversationSource):
    """Prompts, or instruction data where they have an answer."""

    def __init__(self, name: str, turns: list[tuple[str, str]]) -> None:
        self.name = name
        self.turns = turns

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, index: int) -> Conversation:
        words, answer = self.turns[index]
        said = (Message("assistant", (TextItem(answer),)),) if answer else ()
        return Conversation((Message("user", (TextItem(words),)), *said), {"id": words})


class Recorder(pl.Callback):
    """A reward that keeps what it was asked about, and a callback that keeps what came of it."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = [{"answers": []}]

    def __call__(self, prompt: Conversation, reply: Reply) -> float:
        """A reward that answers differ in."""
        value = sum(reply.ids) % 10 / 10
        self.steps[-1]["answers"].append((prompt.details["id"], list(reply.ids), value))
        return value

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.steps[-1]["gradients"] = {
            name: own.grad.clone() for name, own in pl_module.model.named_owned() if own.grad is not None
        }

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        mixed = [] if batch.mixed is None else [own["id"] for own in batch.mixed.details]
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        weights = {name: own.detach().clone() for name, own in pl_module.model.named_owned() if own.requires_grad}
        self.steps[-1] |= {"loss": float(outputs["loss"]), "mixed": mixed, "logged": logged, "weights": weights}
        self.steps.append({"answers": []})


def words_alone(experts: Path) -> AnyToAny:
    """The tiny model without media, the same each time."""
    return tiny_model(
        {"llama": experts / "llama"}, (), (), LoraSettings(r=2, lora_alpha=4, lora_dropout=0.0), max_tokens=256
    )


def main() -> None:
    """The run."""
    experts, folder, options = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    torch.set_num_threads(1)
    recorder = Recorder()
    settings = {
        "num_generations": GROUP,
        "max_new_tokens": 6,
        "kl": KL,
        "temperature": TEMPERATURE,
        "mixed": options["mixed"],
    }
    stage = Stage(
        TRAINS,
        data=dict.fromkeys(["asked", "told"], 1.0) if options["mixed"] else None,
        objective=GroupPolicy({"digits": recorder}, **settings),
        steps=3,
        batch_size=options["batch_size"],
        micro_batches=options.get("micro_batches", 1),
        optimizer=partial(torch.optim.SGD, lr=0.5),
        warmup_ratio=0.0,
        lr_scheduler_type="constant",
    )
    switch = StageSwitch({"reward_tuning": stage}, ["reward_tuning"], folder)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=options["devices"],
        strategy=DDPStrategy(process_group_backend="gloo"),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        default_root_dir=folder,
        callbacks=[switch, recorder],
    )
    sources: dict[str, ConversationSource] = {"asked": Said("asked", ASKED)}
    if options["mixed"]:
        sources["told"] = Said("told", TOLD)
    data = ConversationDataModule(sources, seed=5)
    trainer.fit(TrainingModule(words_alone(experts)), datamodule=data)
    torch.save(recorder.steps[:-1], folder / f"rank_{trainer.global_rank}.pt")


if __name__ == "__main__":
    main()
