"""A callback of ``train.py test`` for captioned media: caption metrics, with the most frequent caption as baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from isthmus.data.conversations.sources import ConversationSource
from isthmus.evaluation.captions.metrics import caption_report
from isthmus.evaluation.novelty import captions_of, new_among
from isthmus.evaluation.processes import from_all
from isthmus.evaluation.report.report_file import write_report
from isthmus.model import Reply
from isthmus.paths import user_path
from isthmus.types import Batch

FILE = "captions.json"
Prediction = tuple[str, str, list[str], str]
"""A sample's id, the model's caption, its references, and its group."""


class CaptionEvaluation(pl.Callback):
    """Compares a test run's replies with the captions in their records, and writes ``captions.json``.

    Args:
        reference: the detail of a conversation that holds its caption, or a list of them; a manifest's records have it
            under ``caption``.
        folder: where the file is written; the Trainer's ``default_root_dir`` if None.
        samples: number of samples that are written with the figures.
        by: a detail by whose values figures are also given, such as ``modality`` if a test has several.
        training: the training split. Figures are also given for new samples, whose captions it lacks.
        twins: ids of samples that resemble training samples; they don't count as new either.

    Attributes:
        report: the figures of the last run: the model's, and those of a baseline that gives the test split's most
            frequent caption for every sample; then those of each group, by ``model, <group>``.

    Raises:
        ValueError: ``samples`` is below 0.
    """

    def __init__(
        self,
        reference: str = "caption",
        folder: Path | None = None,
        samples: int = 20,
        by: str | None = None,
        training: ConversationSource | None = None,
        twins: Sequence[str] = (),
    ) -> None:
        if samples < 0:
            raise ValueError(f"samples: found {samples}; expected at least 0. Fix: raise it.")
        self.reference = reference
        self.folder = None if folder is None else user_path(folder)
        self.samples = samples
        self.by = by
        self.training = training
        self.twins = frozenset(twins)
        self.report: dict[str, Any] | None = None
        self._predictions: list[Prediction] = []

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drops the predictions of an earlier run."""
        self._predictions = []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the batch's predictions.

        Raises:
            ValueError: a record has no reference, or not the detail ``by``.
        """
        replies: Sequence[Reply] = outputs
        for reply, details in zip(replies, batch.details, strict=True):
            if details.get("repeated"):  # padding of the last batch for several processes
                continue
            captions = captions_of(details, self.reference)
            self._predictions.append((str(details.get("id")), reply.text, captions, self._group(details)))

    def _group(self, details: Mapping[str, Any]) -> str:
        if self.by is None:
            return ""
        if details.get(self.by) is None:
            raise ValueError(
                f"{details.get('id')}: found no {self.by!r} among {', '.join(details) or 'no details'}; expected the "
                "detail that the evaluation's 'by' names. Fix: name another in 'by', or leave it out."
            )
        return str(details[self.by])

    def _groups(self, predictions: Sequence[Prediction]) -> dict[str, list[Prediction]]:
        """The samples of each group, by the suffix of its name in the report; all samples first."""
        groups = {"": list(predictions)}
        if self.by is not None:
            names = sorted({one[3] for one in predictions})
            groups |= {f", {name}": [one for one in predictions if one[3] == name] for name in names}
        new = new_among({one[0]: one[2] for one in predictions}, self.training, self.reference, self.twins)
        if new is not None:
            kept = {f"{name}, new": [one for one in own if one[0] in new] for name, own in groups.items()}
            groups |= {name: own for name, own in kept.items() if own}
        return groups

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gathers predictions from all processes, prints the figures and writes them.

        Raises:
            ValueError: there are no predictions, or a training record has no reference.
        """
        predictions = sorted(one for part in from_all(self._predictions) for one in part)
        self.report = {}
        for name, own in self._groups(predictions).items():
            references = [expected for _, _, expected, _ in own]
            frequent = Counter(one for expected in references for one in expected).most_common(1)
            self.report[f"model{name}"] = caption_report([text for _, text, _, _ in own], references)
            self.report[f"most_frequent_caption{name}"] = caption_report(
                [one for one, _ in frequent] * len(own), references
            )
        if not trainer.is_global_zero:
            return
        step = max(1, len(predictions) // max(self.samples, 1))
        chosen = predictions[::step][: self.samples]
        examples = [{"id": name, "said": text, "references": own} for name, text, own, _ in chosen]
        print(f"\n{caption_table(self.report)}\n")
        how = {"reference": self.reference, "by": self.by, "twins": len(self.twins)}
        write_report(trainer, self.folder, FILE, self.report | {"samples": examples}, "the caption metrics", how)


def caption_table(report: dict[str, Any]) -> str:
    """The figures as text, one line for each model."""
    names = ["n", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "exact"]
    width = max(map(len, report)) + 2
    lines = ["".join(["captions".ljust(width), *(name.rjust(9) for name in names)])]
    for model, figures in report.items():
        cells = [f"{figures[name]:9d}" if name == "n" else f"{figures[name]:9.3f}" for name in names]
        lines.append("".join([model.replace("_", " ").ljust(width), *cells]))
    return "\n".join(lines)
