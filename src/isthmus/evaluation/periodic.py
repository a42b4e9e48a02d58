"""A callback of ``fit``: metrics and the matrix on a few conversations at each validation, to be monitored."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

from isthmus.data.conversations.schema import MediumItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.module import ConversationDataModule
from isthmus.evaluation.matrix.judge import Judge
from isthmus.evaluation.matrix.measurement import Measurement
from isthmus.evaluation.matrix.table import attribute_names
from isthmus.evaluation.metrics.base import Metric, Processes
from isthmus.evaluation.predictions.answered import Answered, answered, conversation_id
from isthmus.evaluation.processes import from_all, process_place
from isthmus.evaluation.samples.callback import aside
from isthmus.modalities import known_media
from isthmus.model import AnyToAny, Reply
from isthmus.training.engines.units import gathered
from isthmus.training.module import training_module
from isthmus.training.watching.plain_text import source_of
from isthmus.types import Modality

log = logging.getLogger(__name__)

FOLDER = "evaluation/training"
WORST = 1e30
"""What a monitored figure counts as, up or down, that the answers don't give: finite, and so for a sum over processes.
"""
Kept = tuple[int, str, list[tuple[str, str]]]
"""An answer as processes hand it on: its place, its words, and its media's modalities and files."""


class PeriodicEvaluation(pl.Callback):
    """Answers a few conversations at each validation and logs what metrics say, as ``evaluation/SOURCE/...``.

    Validation comes every ``trainer.val_check_interval`` steps. The figures are there before ``EarlyStopping`` and
    ``ModelCheckpoint`` look, so that these may monitor any of them: ``evaluation/SOURCE/text/exact_match``; one that a
    validation's answers don't give, as they hold no such media, counts as the worst there. Of each
    medium that references hold, ``evaluation/SOURCE/MEDIUM/made`` is the share of the answers that hold it too. With
    ``judges``, ``evaluation/SOURCE/matrix/ATTRIBUTE`` is the mean over the matrix's cells, and each cell has its own.
    Training goes on as if nothing had been asked; a stage's averaged weights are measured where it has some.

    Args:
        source: name of a source under ``data``: for validation, tests or training.
        metrics: by name, such as :class:`isthmus.evaluation.Evaluation` takes them.
        judges: by output modality, for a source of the matrix's prompts.
        values: the number of values of each attribute that judges read.
        size: conversations, spread evenly over the source.
        batch_size: conversations that are answered together.
        num_inference_steps: of the generators; each one's own if None.

    Attributes:
        figures: of the latest validation, by the names that are logged.
        told: monitored figures that answers lacked, which was said once.

    Raises:
        ValueError: a size below 1, or nothing of the judges' attributes is known.
    """

    def __init__(
        self,
        source: str,
        metrics: Mapping[str, Metric] | None = None,
        judges: Mapping[str, Judge] | None = None,
        values: Mapping[str, int] | None = None,
        size: int = 32,
        batch_size: int = 8,
        num_inference_steps: int | None = None,
    ) -> None:
        if size < 1 or batch_size < 1:
            raise ValueError(
                f"PeriodicEvaluation: found size {size} and batch_size {batch_size}; expected at least 1 of both. Fix: "
                "raise them."
            )
        self.source = source
        self.metrics = dict(metrics or {})
        self.judges, self.values = dict(judges or {}), dict(values or {})
        Measurement(self.judges, self.values)  # says what is wrong with them
        self.size, self.batch_size = size, batch_size
        self.num_inference_steps = num_inference_steps
        self.figures: dict[str, float] = {}
        self.told: set[str] = set()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks whether it will be asked.

        Raises:
            ValueError: there is no validation, or no such source.
        """
        data = _data(trainer)
        source_of(data, self.source)
        if not data.validation or trainer.limit_val_batches == 0:
            raise ValueError(
                "PeriodicEvaluation: found no validation; expected some, since it measures at each of them. Fix: name "
                "a source under data.validation and set trainer.val_check_interval to a number of steps."
            )

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Answers, measures and logs."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        source, module = source_of(_data(trainer), self.source), training_module(pl_module)
        count = min(self.size, len(source))
        indices = [place * len(source) // count for place in range(count)]
        measurement = Measurement(self.judges, self.values)
        measurement.tally.to(pl_module.device)
        folder = Path(trainer.default_root_dir, FOLDER)
        # Weights that are read under inference mode couldn't be learnt through later.
        with (
            _emptied(folder),
            torch.inference_mode(False),
            torch.no_grad(),
            aside(module.model),
            gathered(module.model),
        ):
            own = list(self._answered(module.model, source, indices, folder, measurement))
            kept = sorted(each for part in from_all(own) for each in part)
            answers = [self._read(source, indices[place], text, files, folder) for place, text, files in kept]
            self.figures = self._measured(answers, measurement)
        logged = self.figures | self._absent(trainer)
        pl_module.log_dict(logged, sync_dist=trainer.world_size > 1, batch_size=count)

    def _absent(self, trainer: pl.Trainer) -> dict[str, float]:
        """Figures that callbacks monitor and these answers lack, as bad as can be: they end training without one."""
        found: dict[str, float] = {}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a connector
            name, mode = str(getattr(callback, "monitor", None)), getattr(callback, "mode", "")
            is_own = name.startswith(f"evaluation/{self.source}/")
            if is_own and name not in self.figures and mode in ("min", "max") and getattr(callback, "strict", True):
                found[name] = WORST if mode == "min" else -WORST
        if new := found.keys() - self.told:
            self.told |= new
            log.warning(
                "PeriodicEvaluation: found no %s in a validation's answers, which is monitored; it counts as the "
                "worst. Where that isn't for lack of media in the answers: found figures are %s",
                " and no ".join(sorted(new)),
                ", ".join(sorted(self.figures)) or "none",
            )
        return found

    def _answered(
        self,
        model: AnyToAny,
        source: ConversationSource,
        indices: Sequence[int],
        folder: Path,
        measurement: Measurement,
    ) -> Iterator[Kept]:
        """This process's share of the answers; media are written into files."""
        rank, world = process_place()
        own = list(range(len(indices)))[rank::world]
        for start in range(0, len(own), self.batch_size):
            places = own[start : start + self.batch_size]
            conversations = [source[indices[place]] for place in places]
            batch = model.prompts(conversations)
            seeds = [
                int(one.details.get("seed", place)) % 2**31 for place, one in zip(places, conversations, strict=True)
            ]
            replies = model.answer(batch, seeds=seeds, num_inference_steps=self.num_inference_steps)
            if self.judges:
                measurement.add(model, batch, replies)
            for place, reply in zip(places, replies, strict=True):
                yield place, reply.text, _written(reply, folder, place)

    def _read(
        self, source: ConversationSource, index: int, text: str, files: Sequence[tuple[str, str]], folder: Path
    ) -> Answered:
        conversation = source[index]
        media = [(Modality(name), folder / file) for name, file in files]
        own = conversation_id(self.source, index, conversation.details)
        return answered(self.source, index, own, conversation, text, media)

    def _measured(self, answers: Sequence[Answered], measurement: Measurement) -> dict[str, float]:
        found: dict[str, float] = {}
        for metric in self.metrics.values():
            found |= {name: figure.value for name, figure in metric.measure(answers, Processes()).items()}
        for modality in known_media():
            asked = [own for own in answers if own.expected is not None and _holds(own.expected.content, modality)]
            if asked:
                found[f"{modality}/made"] = sum(any(m == modality for m, _ in own.files) for own in asked) / len(asked)
        if self.judges:
            report = measurement.matrix()
            cells = {cell: entry for cell, entry in report["cells"].items() if entry is not None}
            for name in attribute_names(report):
                shares = {cell: entry[name] for cell, entry in cells.items() if entry.get(name) is not None}
                found |= {f"{cell}/{name}": share for cell, share in shares.items()}
                if shares:
                    found[f"matrix/{name}"] = sum(shares.values()) / len(shares)
        return {f"evaluation/{self.source}/{name}": float(value) for name, value in found.items()}


def _holds(content: Sequence[Any], modality: Modality) -> bool:
    return any(isinstance(item, MediumItem) and item.modality == modality for item in content)


def _written(reply: Reply, folder: Path, place: int) -> list[tuple[str, str]]:
    """A reply's media as files that lose nothing; their modalities and names."""
    names = []
    for number, medium in enumerate(reply.media()):
        name = f"{place:04}-{number}{medium.modality.spec.exact_ending}"
        medium.modality.spec.write_exactly(medium, folder / name)
        names.append((str(medium.modality), name))
    return names


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """A folder for the block's length, of all processes."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
        from_all(None)  # all have read
    finally:
        if process_place()[0] == 0:
            shutil.rmtree(folder, ignore_errors=True)


def _data(trainer: pl.Trainer) -> ConversationDataModule:
    data: Any = getattr(trainer, "datamodule", None)
    if not isinstance(data, ConversationDataModule):
        raise ValueError(
            f"PeriodicEvaluation: found {type(data).__name__} as data; expected a ConversationDataModule. Fix: "
            "trainer.fit(module, datamodule=ConversationDataModule(...))."
        )
    return data
