"""A callback of ``train.py test``: the any-to-any matrix, printed and saved, and the gallery."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from isthmus.data.conversations.sources import ConversationSource
from isthmus.evaluation.matrix.ceilings import measure_ceilings
from isthmus.evaluation.matrix.grid import matrix_grid
from isthmus.evaluation.matrix.judge import Judge
from isthmus.evaluation.matrix.measurement import Measurement
from isthmus.evaluation.matrix.table import matrix_table
from isthmus.evaluation.prompts import batch_messages
from isthmus.evaluation.report.gallery import write_gallery
from isthmus.evaluation.report.report_file import write_report
from isthmus.model import Reply
from isthmus.paths import user_path
from isthmus.training.module import training_module
from isthmus.types import Batch
from isthmus.writing import write_file

log = logging.getLogger(__name__)

MATRIX, TABLE = "matrix.json", "matrix.txt"
GALLERY = "gallery.html"


class MatrixEvaluation(pl.Callback):
    """Scores the replies of a test run, prints the matrix, and writes ``matrix.json``, a table and ``gallery.html``.

    Args:
        judges: by output modality.
        values: the number of values of each attribute, for the chance level.
        folder: where the files are written; the Trainer's ``default_root_dir`` if None.
        references: real media with captions, on which judges and ceilings are measured
            (:func:`isthmus.evaluation.matrix.ceilings.measure_ceilings`); without them, neither is reported.
        ceilings: a file of earlier ceilings, to which new ones are added.
        samples: number of conversations of each cell in the gallery; 0 writes no gallery.

    Attributes:
        report: the matrix of the last run.

    Raises:
        ValueError: see :class:`~isthmus.evaluation.matrix.measurement.Measurement`.
    """

    def __init__(
        self,
        judges: Mapping[str, Judge],
        values: Mapping[str, int],
        folder: Path | None = None,
        references: ConversationSource | None = None,
        ceilings: Path | None = None,
        samples: int = 3,
    ) -> None:
        self.judges = dict(judges)
        self.values = dict(values)
        self.folder = None if folder is None else user_path(folder)
        self.references = references
        self.ceilings = None if ceilings is None else user_path(ceilings)
        self.samples = samples
        self.measurement = Measurement(self.judges, self.values, samples)
        self.report: dict[str, Any] | None = None

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Resets the counts, on the model's device, and the figures."""
        self.report = None
        self.measurement = Measurement(self.judges, self.values, self.samples if trainer.is_global_zero else 0)
        self.measurement.tally.to(pl_module.device)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Scores the batch's replies."""
        model = training_module(pl_module).model
        replies: Sequence[Reply] = outputs
        self.measurement.add(model, batch, replies, batch_messages(trainer, batch_idx))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sums over processes, measures the ceilings, prints the matrix and writes it.

        Without any prompt of its own it says so and leaves the run to other evaluations.
        """
        if not self.measurement.tally.cells():
            log.warning(
                "MatrixEvaluation measured nothing: found no prompt of a matrix; expected some. Fix: give data.test "
                "isthmus.pocket.cells.MatrixCells or a source like it, or remove it."
            )
            return
        model = training_module(pl_module).model
        ceilings = {}
        is_trial = trainer.fast_dev_run  # type: ignore[attr-defined]  # set by a connector
        if self.references is not None and not is_trial:
            ceilings = measure_ceilings(model, self.references, self.judges, self.ceilings)
        self.report = self.measurement.matrix(ceilings)
        if not trainer.is_global_zero:
            return
        print(f"\n{matrix_grid(self.report)}\n")
        how = {"judges": {name: type(judge).__name__ for name, judge in self.judges.items()}}
        write_report(trainer, self.folder, MATRIX, self.report, "the matrix's figures", how)
        if is_trial:
            return
        folder = Path(trainer.default_root_dir) if self.folder is None else self.folder
        write_file(folder / TABLE, (matrix_table(self.report) + "\n").encode())
        log.info("each cell's attributes with their intervals are in %s", folder / TABLE)
        if self.samples:
            gallery = write_gallery(folder / GALLERY, self.measurement.samples, self.report)
            log.info("the gallery is in %s; it opens in any browser, without a network", gallery)
