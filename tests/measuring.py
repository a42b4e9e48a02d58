"""A test run of a tiny model under the evaluation, in a process of its own, or in several:

python measuring.py EXPERTS FOLDER DEVICES
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from tiny_world import tiny_model

from isthmus.data.module import ConversationDataModule
from isthmus.evaluation import MatrixEvaluation
from isthmus.evaluation.matrix.judge import Reading
from isthmus.pocket.cells import MatrixCells
from isthmus.pocket.references import References
from isthmus.training import TrainingModule

SOURCE = MatrixCells(per_cell=3, outputs=["text", "image"], text_skill=1)


class Length:
    """Reads a digit from an answer's length: something that differs from answer to answer, whatever it says."""

    attributes = ("digit", "colour", "motion")

    def many(self, media: Any) -> list[Reading]:
        return [{"digit": len(answer) % 10, "colour": None, "motion": None} for answer in media]


class Brightness:
    """Reads a digit from how bright a picture is."""

    attributes = ("digit", "colour")

    def many(self, media: Any) -> list[Reading]:
        return [{"digit": int(medium.array.mean() / 8) % 10, "colour": None} for medium in media]


def main(experts: Path, folder: Path, devices: int) -> MatrixEvaluation:
    """Measures, and writes the matrix and the gallery to the folder."""
    torch.set_num_threads(1)
    names = ("imagebind", "point_bert", "llama", "image", "video", "audio")
    model = tiny_model({name: experts / name for name in names}, outputs=("image",))
    evaluation = MatrixEvaluation(
        {"text": Length(), "image": Brightness()},
        {"digit": 10, "colour": 6, "motion": 4},
        folder,
        References(size=14, modalities=["text", "image"]),
        folder / "ceilings.json",
        samples=1,
    )
    # The last batch has fewer prompts than there are processes.
    size = 4
    assert len(SOURCE) % size == 1 or devices == 1, len(SOURCE)
    data = ConversationDataModule({}, test={"matrix": SOURCE}, batch_size=size)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        callbacks=[evaluation],
    )
    trainer.test(TrainingModule(model), datamodule=data, verbose=False)
    return evaluation


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
