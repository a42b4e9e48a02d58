"""A small curriculum over the tiny experts, run here or in a process of its own:

python runs.py EXPERTS FOLDER '{"names": [...], "resume": ..., "init_from": ..., "devices": 1}'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from tiny_world import OUTPUTS, tiny_experts, tiny_model

from isthmus.backbones import LoraSettings
from isthmus.backbones.owned_state import whole_of
from isthmus.cache.frozen import CacheSettings
from isthmus.data.conversations.schema import Conversation
from isthmus.data.module import ConversationDataModule
from isthmus.evaluation import PeriodicEvaluation
from isthmus.model import AnyToAny, Reply
from isthmus.pocket import tasks
from isthmus.pocket.cells import MatrixCells
from isthmus.pocket.preferences import PreferredAnswers
from isthmus.training import CollapseWatch, GroupPolicy, LossWeights, Preference, Stage, StageSwitch, TrainingModule
from isthmus.training.checkpoints.settings import CheckpointSettings
from isthmus.training.engines import Sharded
from isthmus.training.stage import OptimizerCallable

NAMES = ["encoder_alignment", "decoder_alignment", "instruction_tuning"]
STEPS = {"encoder_alignment": 5, "decoder_alignment": 4, "instruction_tuning": 6}
PREFERENCES = ["decoder_alignment", "preference_tuning", "reward_tuning"]
MADE = ("image", "audio")


def most_tokens(prompt: Conversation, reply: Reply) -> float:
    """A reward for long answers and for media."""
    return float(reply.tokens + 5 * len(reply.media()))


def stages(denoising: float = 0.5) -> dict[str, Stage]:
    """The three stages of the paper, a few steps each, of different lengths."""
    optimizer = partial(torch.optim.AdamW, lr=1e-2)
    return {
        "encoder_alignment": Stage(
            ["input_projectors", "media_tags"], LossWeights(), {"describe": 1.0}, steps=5, optimizer=optimizer
        ),
        "decoder_alignment": Stage(
            ["output_projectors", "signal_rows"],
            LossWeights(alignment=1.0),
            {"draw": 1.0},
            steps=4,
            batch_size=6,
            optimizer=optimizer,
        ),
        "instruction_tuning": Stage(
            ["input_projectors", "output_projectors", "media_tags", "signal_rows", "lora"],
            LossWeights(alignment=1.0, denoising=denoising, modalities={"video": 2.0}),
            {"any_to_any": 2.0, "draw": 1.0},
            steps=6,
            optimizer=optimizer,
            lr_scheduler_type="cosine",
        ),
        "preference_tuning": Stage(
            ["output_projectors", "signal_rows", "lora"],
            objective=Preference(media=float(denoising > 0), media_beta=5.0, chosen=0.1),
            data={"preferences": 1.0},
            steps=4,
            batch_size=4,
            optimizer=optimizer,
        ),
        "reward_tuning": Stage(
            ["signal_rows", "lora"],
            objective=GroupPolicy(
                {"tokens": most_tokens}, num_generations=3, max_new_tokens=6, num_inference_steps=1, mixed=0.5
            ),
            data={"prompts": 1.0, "any_to_any": 1.0},
            steps=3,
            batch_size=4,
            optimizer=optimizer,
        ),
    }


class Diary(pl.Callback):
    """Keeps each step's global loss, and kills the process where it is told to."""

    def __init__(self, folder: Path, kill_at: int | None = None) -> None:
        self.folder = folder
        self.kill_at = kill_at
        self.losses: list[float] = []
        self.stages: list[str] = []
        self.module: TrainingModule | None = None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        switch = next(callback for callback in trainer.callbacks if isinstance(callback, StageSwitch))
        loss = outputs["loss"].detach().double() / trainer.world_size
        self.losses.append(float(trainer.strategy.reduce(loss, reduce_op="sum")))
        self.stages.append(switch.name)
        if len(self.losses) == self.kill_at:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)


def data(validates: bool = False, workers: int = 0) -> ConversationDataModule:
    """The pocket world's tasks, with a few to validate on if asked for."""
    sources = {
        "describe": tasks.Describe(size=40),
        "draw": tasks.Draw(size=30, modalities=OUTPUTS, with_content=True),
        "any_to_any": tasks.AnyToAny(size=40, outputs=("text", *OUTPUTS)),
        "preferences": PreferredAnswers(size=40, outputs=MADE),
        "prompts": MatrixCells("train", per_cell=4, outputs=("text", *OUTPUTS)),
    }
    validation = {"describe": tasks.Describe(size=4)} if validates else None
    return ConversationDataModule(sources, validation, batch_size=8, seed=5, num_workers=workers)


def fit(
    paths: dict[str, Path],
    folder: Path,
    names: list[str] | None = None,
    resume: str | None = None,
    init_from: str | None = None,
    kill_at: int | None = None,
    denoising: float = 0.5,
    extra: Sequence[pl.Callback] = (),
    cache: str | None = None,
    micro_batches: int = 1,
    dtypes: Mapping[str, str] | None = None,
    validates: bool = False,
    ema: float | None = None,
    optimizer: OptimizerCallable | None = None,
    checkpoints: Mapping[str, Any] | None = None,
    workers: int = 0,
    **trainer: Any,
) -> tuple[AnyToAny, Diary]:
    """Runs the stages; the model and what happened."""
    lora = LoraSettings(r=2, lora_alpha=4, lora_dropout=0.1 if denoising else 0.0)
    model = tiny_model(paths, lora=lora, max_tokens=1024, dtypes=dtypes)
    model.cache_settings = None if cache is None else CacheSettings(Path(cache), trial=0)
    diary = Diary(folder, kill_at)
    known = stages(denoising)
    for name in known:
        known[name] = replace(known[name], micro_batches=micro_batches, ema=ema)
        if optimizer is not None:
            known[name] = replace(known[name], optimizer=optimizer)
    switch = StageSwitch(
        known,
        NAMES if names is None else names,
        folder,
        None if init_from is None else Path(init_from),
        CheckpointSettings(**checkpoints or {}),
    )
    saver = ModelCheckpoint(
        folder / "checkpoints", filename="{step}", every_n_train_steps=1, save_top_k=-1, enable_version_counter=False
    )
    saves = trainer.pop("saves", True)
    options: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "reload_dataloaders_every_n_epochs": 1,
        "use_distributed_sampler": False,
        "gradient_clip_val": 1.0,
        "default_root_dir": folder,
        "enable_checkpointing": saves,
        "callbacks": [switch, diary, *([saver] if saves else []), *extra],
    }
    diary.module = TrainingModule(model)
    pl.Trainer(**options | trainer).fit(
        diary.module, datamodule=data(validates, workers), ckpt_path=resume, weights_only=True
    )
    return model, diary


def main() -> None:
    """One run in a process of its own; rank r leaves its weights and losses in FOLDER/rank_r.pt."""
    experts, folder, options = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    torch.set_num_threads(1)
    shares = options.pop("shares", None)
    if shares is not None:
        options["strategy"] = Sharded(process_group_backend="gloo", **shares)
    elif options.get("devices", 1) > 1 or options.get("num_nodes", 1) > 1:
        from pytorch_lightning.strategies import DDPStrategy

        options["strategy"] = DDPStrategy(process_group_backend="gloo")
    names = ("imagebind", "point_bert", "llama", "image", "video", "audio")
    extra: list[Any] = []
    if options.pop("watched", False):
        extra = [PeriodicEvaluation("draw", size=3, batch_size=2, num_inference_steps=1)]
        extra += [CollapseWatch(every_n_steps=1, after=0.0, looks=1, called=1.0, spread=1.0)]
    model, diary = fit({name: experts / name for name in names}, folder, extra=extra, **options)
    rank = model.trainer.global_rank
    cache = None if diary.module is None else diary.module.cache()
    found = [] if cache is None else [cache.hits, cache.misses]
    weights = {name: whole_of(own) for name, own in model.state_dict().items()}
    figures = extra[0].figures if extra else {}
    torch.save(
        {"weights": weights, "losses": diary.losses, "found": found, "figures": figures}, folder / f"rank_{rank}.pt"
    )


if __name__ == "__main__":
    main()

__all__ = ["NAMES", "STEPS", "data", "fit", "stages", "tiny_experts"]
