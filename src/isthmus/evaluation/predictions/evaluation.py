"""A callback of ``train.py test``: stores the answers as they come, and measures any metrics over them."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from isthmus.data.batching.loader import ConversationLoader
from isthmus.data.module import ConversationDataModule
from isthmus.data.sampling.schedule import Reference
from isthmus.evaluation.comparing.stored import FOLDER
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.predictions.answers import Answers, check_same, details_digest
from isthmus.evaluation.predictions.measuring import figures_table, measure, write_figures
from isthmus.evaluation.predictions.origin import ORIGIN, bind, origin
from isthmus.evaluation.predictions.store import AnswerStore
from isthmus.evaluation.processes import from_all, from_first
from isthmus.evaluation.report.protocol import protocol
from isthmus.model import Reply
from isthmus.paths import user_path
from isthmus.training.module import training_module
from isthmus.training.running.run_folder import RunLock
from isthmus.types import Batch

log = logging.getLogger(__name__)

PREDICTIONS, EARLIER = "predictions", "previous"


class Evaluation(pl.Callback):
    """Stores the answers of a test run in ``evaluation/predictions``, and writes what metrics say of them.

    A run that was broken off is started again by the same command: answers that are stored aren't generated anew, as
    long as weights, settings and data are the same. Several test sets, one after another, share a folder.

    Args:
        metrics: by a name of your choice.
        folder: that holds ``evaluation/``; the Trainer's ``default_root_dir`` if None.
        sources: metric -> the names of the test sources that it is measured on; a metric that isn't named here is
            measured on all.

    Attributes:
        overwrite: whether earlier answers are set aside, as ``evaluation/previous-N``, and everything is answered anew.
        figures: of the last run, by ``source/modality/metric``.

    Raises:
        ValueError: ``sources`` names a metric that there isn't.
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric],
        folder: Path | None = None,
        sources: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.metrics = dict(metrics)
        self.folder = None if folder is None else user_path(folder)
        self.sources = dict(sources or {})
        if unknown := sorted(self.sources.keys() - self.metrics.keys()):
            raise ValueError(
                f"sources: found '{unknown[0]}'; expected metrics: {', '.join(self.metrics)}. Fix: rename it."
            )
        self.overwrite = False
        self.figures: dict[str, Figure] = {}
        self._store = AnswerStore(Path())
        self._lock: RunLock | None = None
        self._temporary: Path | None = None

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens the folder of answers, and lets the model pass over what is in it.

        Raises:
            ValueError: there is nothing to answer, or the folder is of another model, other settings or data.
        """
        data, _ = _tested(trainer)
        check_sources(data.test, self.sources)
        module = training_module(pl_module)
        folder = self._folder(trainer)
        made = origin(trainer)
        said, dropped = None, 0
        if trainer.is_global_zero:
            try:
                dropped = self._prepare(trainer, folder, made)
            except ValueError as error:
                said = str(error)
        if (said := from_first(said)) is not None:
            raise ValueError(said)
        store = self._store = AnswerStore(folder / PREDICTIONS, trainer.global_rank)
        if not (store.folder / ORIGIN).is_file():
            raise ValueError(
                f"{store.folder}: process {trainer.global_rank} finds nothing there, where the first one has written; "
                "expected one folder for all processes. Fix: choose a folder on a file system that they share."
            )
        store.read()
        from_all(None)  # all have read, before one writes
        if store.found or dropped:
            torn = f"; {dropped} unfinished lines were dropped" if dropped else ""
            log.info("%s: %d answers are taken up%s", store.folder, len(store.found), torn)
        module.known = lambda batch, batch_idx: self._known(trainer, batch, batch_idx)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stores the batch's answers."""
        replies: Sequence[Reply] = outputs
        answers = []
        for reference, reply, details in zip(_own(trainer, batch_idx), replies, batch.details, strict=True):
            place = (reference.source, reference.index)
            if not details.get("repeated") and not self._store.has(place):
                answers.append((place, str(details["id"]), details_digest(details), reply))
        self._store.add(answers)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measures the answers of all processes, prints the figures and writes them.

        Raises:
            ValueError: no conversation could be answered, or an answer lacks what a metric measures.
        """
        training_module(pl_module).known = None
        self._store.close()
        from_all(None)  # all have stored theirs
        self._store.read()
        answers = self._answers(trainer)
        if trainer.is_global_zero:
            log.info("the answers are in %s", self._store.folder)
        self.figures = measure(self.metrics, answers, self.sources, Processes(shows=True))
        if trainer.is_global_zero:
            print(f"\n{figures_table(self.figures)}\n")
            if self._temporary is None:
                folder = self._store.folder.parent
                write_figures(folder, self.figures, protocol(trainer, {}), answers, self._store.folder)
                log.info("the figures are in %s", folder)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """What is stored stays for the next run."""
        self._release()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The folder is free again."""
        self._release()

    def _release(self) -> None:
        self._store.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _folder(self, trainer: pl.Trainer) -> Path:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a connector
            made = Path(tempfile.mkdtemp(prefix="isthmus-trial-")) if trainer.is_global_zero else None
            self._temporary = from_first(made)
            assert self._temporary is not None
            return self._temporary
        return (Path(trainer.default_root_dir) if self.folder is None else self.folder) / FOLDER

    def _prepare(self, trainer: pl.Trainer, folder: Path, made: Mapping[str, Any]) -> int:
        """What the first process does with the folder; returns how many torn lines were dropped."""
        self._lock = RunLock(folder, "evaluation folder")
        self._lock.acquire()
        if self.overwrite:
            set_aside(folder)
        store = AnswerStore(folder / PREDICTIONS)
        dropped = store.mend()
        bind(store.folder, made)
        return dropped

    def _known(self, trainer: pl.Trainer, batch: Batch, batch_idx: int) -> list[Reply] | None:
        """The batch's answers where those of all processes are stored, so that none computes while another doesn't.

        Raises:
            ValueError: an answer is to another conversation.
        """
        _, loader = _tested(trainer)
        found = self._store.found
        if not all((each.source, each.index) in found for each in loader.schedule.batch(batch_idx)):
            return None
        own = _own(trainer, batch_idx)
        for reference, details in zip(own, batch.details, strict=True):
            if not details.get("repeated"):
                stored = found[reference.source, reference.index]
                check_same(stored, reference.source, reference.index, details)
        return [self._store.reply((reference.source, reference.index)) for reference in own]

    def _answers(self, trainer: pl.Trainer) -> dict[str, Answers]:
        """By source the answers to what this run has read."""
        data, loader = _tested(trainer)
        total: Any = trainer.num_test_batches
        steps = range(int(sum(total) if isinstance(total, list) else total))
        asked = [(each.source, each.index) for step in steps for each in loader.schedule.batch(step)]
        found = self._store.found
        absent = [f"{source}/{index}" for source, index in asked if (source, index) not in found]
        if absent:
            log.warning("%d of %d conversations have no answer: %s ...", len(absent), len(asked), ", ".join(absent[:3]))
        stored: dict[str, dict[int, Any]] = {}
        for source, index in asked:
            if (source, index) in found:
                stored.setdefault(source, {})[index] = found[source, index]
        if not stored:
            raise ValueError("evaluation: found no conversation that could be answered; expected some in data.test.")
        return {name: Answers(name, data.test[name], own) for name, own in stored.items()}


def check_sources(test: Mapping[str, Any], sources: Mapping[str, Sequence[str]]) -> None:
    """Refuses test sources whose names would make figures' names ambiguous, and metrics of sources that aren't there.

    Raises:
        ValueError: there is one.
    """
    if odd := [name for name in test if "/" in name]:
        raise ValueError(f"data.test: found the name '{odd[0]}'; expected none with '/'. Fix: rename it.")
    for metric, names in sources.items():
        if unknown := [name for name in names if name not in test]:
            raise ValueError(
                f"sources.{metric}: found '{unknown[0]}'; expected test sources: {', '.join(test)}. Fix: rename it."
            )


def set_aside(folder: Path) -> None:
    """Moves an earlier evaluation's files into ``FOLDER/previous-N``."""
    own = [path for path in folder.iterdir() if not path.name.startswith((f"{EARLIER}-", "."))]
    if own:
        number = 1
        while (target := folder / f"{EARLIER}-{number}").exists():
            number += 1
        target.mkdir()
        for path in own:
            path.rename(target / path.name)
        log.info("%s: the earlier evaluation is now under %s", folder, target)


def _tested(trainer: pl.Trainer) -> tuple[ConversationDataModule, ConversationLoader]:
    data: Any = getattr(trainer, "datamodule", None)
    loader = trainer.test_dataloaders
    if not isinstance(data, ConversationDataModule) or not isinstance(loader, ConversationLoader):
        raise ValueError(
            "evaluation: found a Trainer without a ConversationDataModule; expected one, whose test sources are "
            "answered. Fix: trainer.test(module, datamodule=ConversationDataModule({}, test={...}))."
        )
    return data, loader


def _own(trainer: pl.Trainer, batch_idx: int) -> list[Reference]:
    """This process's conversations of a batch; the first, repeated, where there are fewer than processes."""
    _, loader = _tested(trainer)
    references = loader.schedule.batch(batch_idx)
    return references[trainer.global_rank :: trainer.world_size] or references[:1]
