"""A user's own documents: interleaved ones and text alone, converted to shards, mixed, and trained upon."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from runs import Diary
from tiny_world import tiny_model

from isthmus import cli
from isthmus.data.media.files import save_media
from isthmus.data.module import ConversationDataModule
from isthmus.data.streaming import Shards
from isthmus.training import LossWeights, Stage, StageSwitch, TrainingModule
from isthmus.types import Media, Modality

WORDS = ["a red seven", "a blue two", "the green four", "a seven and a two"]


def write_sets(folder: Path) -> None:
    """MMC4 and OBELICS documents of two images each, and questions without any."""
    draw = np.random.default_rng(0)
    for i in range(4):
        save_media(Media(Modality.IMAGE, draw.integers(0, 255, (24, 24, 3), np.uint8)), folder / f"{i}.png")
    documents: dict[str, list[object]] = {"mmc4": [], "obelics": [], "text": []}
    for i in range(24):
        one, two = WORDS[i % 4], WORDS[(i + 1) % 4]
        names = [f"{i % 4}.png", f"{(i + 1) % 4}.png"]
        shown = [{"image_name": name, "matched_text_index": at} for at, name in enumerate(names)]
        documents["mmc4"].append({"text_list": [one, two], "image_info": shown})
        documents["obelics"].append(
            {"images": [None, names[0], None, names[1], None], "texts": ["see", None, one, None, two]}
        )
        documents["text"].append({"instruction": f"say {one}", "output": one})
    for name, of in documents.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in of), encoding="utf-8")


def converted(folder: Path, name: str, form: str, window: int | None = None) -> Shards:
    cli.main(["data", "convert", f"{folder}/{name}.jsonl", f"{folder}/{name}", "--format", form, "--largest", "0.02"])
    return Shards(f"{folder}/{name}", window)


def test_documents_train_from_shards(experts: dict[str, Path], tmp_path: Path) -> None:
    write_sets(tmp_path)
    sources = {
        "mmc4": converted(tmp_path, "mmc4", "MMC4", window=2),
        "obelics": converted(tmp_path, "obelics", "Obelics", window=2),
        "text": converted(tmp_path, "text", "Alpaca"),
    }
    assert len(sources["mmc4"].manifest.shards) > 3
    data = ConversationDataModule(
        sources, batch_size=6, temperature=2.0, batches="balanced", modality_shares={"image": 2, "text": 1}
    )
    stage = Stage(
        ["input_projectors", "media_tags", "lora"],
        LossWeights(),
        {"mmc4": None, "obelics": None, "text": 0.3},
        steps=24,
        optimizer=partial(torch.optim.AdamW, lr=2e-2),
    )
    model = tiny_model(experts, inputs=("image",), outputs=(), max_tokens=1024)
    diary = Diary(tmp_path)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        callbacks=[StageSwitch({"documents": stage}, ["documents"], tmp_path / "runs"), diary],
    )
    trainer.fit(TrainingModule(model), datamodule=data)
    assert len(diary.losses) == 24
    assert np.mean(diary.losses[-4:]) < 0.8 * np.mean(diary.losses[:4])
