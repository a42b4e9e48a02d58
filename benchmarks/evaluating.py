"""A test run that stores its answers and measures them, against the same run that only answers."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from benchmarks.measuring import interleaved, ratio
from benchmarks.report import report
from isthmus.data.module import ConversationDataModule
from isthmus.encoders import ImageBind, PointBert
from isthmus.evaluation import Evaluation
from isthmus.evaluation.metrics.distances import Distances
from isthmus.evaluation.metrics.extractors import EncoderFeatures
from isthmus.model import AnyToAny
from isthmus.pocket.cells import MatrixCells
from isthmus.pocket.references import References
from isthmus.training import TrainingModule

MODEL = "ISTHMUS_BENCHMARK_MODEL"
"""The variable that names a trained pocket model's folder."""
TRAINED = "runs/curriculum/instruction_tuning"
EXPERTS = Path("checkpoints/pocket")
PER_CELL, BATCH, REFERENCES = 4, 32, 100


def run(folder: Path, repetitions: int = 3) -> Path | None:
    """All cells of the matrix, answered alone; answered, stored and measured; and taken up and measured again."""
    trained = Path(os.environ.get(MODEL, TRAINED))
    if not trained.is_dir():
        print(f"\nevaluation: left out; {trained} isn't there. Train the pocket model, or name one by {MODEL}.")
        return None
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    model = AnyToAny.from_checkpoint(trained)
    data = ConversationDataModule({}, test={"cells": MatrixCells(per_cell=PER_CELL)}, batch_size=BATCH)

    def test(callbacks: list[pl.Callback]) -> None:
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
            default_root_dir=folder,
        )
        trainer.test(TrainingModule(model), datamodule=data, verbose=False)

    def whole() -> None:
        shutil.rmtree(folder / "evaluation", ignore_errors=True)
        test([Evaluation(metrics())])

    works: dict[str, Any] = {
        "answered": lambda: test([]),
        "answered, stored and measured": whole,
        "taken up and measured": lambda: test([Evaluation(metrics())]),
    }
    seconds = interleaved(works, repetitions)
    rows = [
        {"what": name, "time / answering": ratio(own, seconds["answered"]), "seconds": sorted(own)[len(own) // 2]}
        for name, own in seconds.items()
    ]
    return report("evaluation", rows, repetitions=repetitions, conversations=len(data.test["cells"]))


def metrics() -> dict[str, Any]:
    """Of every medium Frechet and kernel distances, precision, recall, density, coverage, diversity; nothing cached."""
    media = ["image", "video", "audio"]
    encoders: dict[str, Any] = {medium: ImageBind(EXPERTS / "imagebind", [medium]) for medium in media}
    encoders["points"] = PointBert(EXPERTS / "point_bert")
    return {
        medium: Distances(medium, EncoderFeatures(encoder), reference=References(size=REFERENCES, modalities=[medium]))
        for medium, encoder in encoders.items()
    }
