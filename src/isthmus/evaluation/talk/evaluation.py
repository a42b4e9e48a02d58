"""A callback of ``train.py test``: natural requests, plain questions and perplexity, printed and saved."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from isthmus.backbones import CausalBackbone
from isthmus.data.conversations.schema import MediumItem, Message, TextItem
from isthmus.data.plain import passages, reference_sections, states_one
from isthmus.evaluation.matrix.judge import Judge
from isthmus.evaluation.matrix.measurement import of_text
from isthmus.evaluation.processes import from_all, process_place
from isthmus.evaluation.prompts import batch_messages
from isthmus.evaluation.report.report_file import write_report
from isthmus.evaluation.talk.perplexity import TextLoss, text_losses
from isthmus.evaluation.talk.report import REQUESTS, talk_report, talk_table
from isthmus.evaluation.talk.scoring import Judged, Wanted, judge_natural
from isthmus.model import AnyToAny, Reply
from isthmus.paths import user_path
from isthmus.training.module import training_module
from isthmus.types import Batch

log = logging.getLogger(__name__)

TALK = "talk.json"


class TalkEvaluation(pl.Callback):
    """Scores replies in plain conversation, prints the figures, and writes ``talk.json`` with every prompt and reply.

    Of ``data.test`` three kinds of prompts are its own, by ``task`` in their details; it leaves others to others.

    - ``natural`` and ``spoken``: requests in natural wordings, written or spoken. The reply must hold exactly the media
      asked for (*intent*), and they must show what was asked for (*attributes*, by the judges); words are read where
      words were asked for.
    - ``plain``: questions with exact facts (:class:`isthmus.data.plain.PlainQuestions`), answered in words. The LLM as
      it was before tuning (no adapters, no media) answers them too, so that what it knew is compared with itself.

    The perplexity of plain text that no training set has is measured before and after likewise, where the LLM is a
    decoder-only one.

    Args:
        judges: by modality, ``text`` for words.
        folder: where the file is written; the Trainer's ``default_root_dir`` if None.
        perplexity: whether to measure perplexities.

    Attributes:
        report: the figures of the last run.
    """

    def __init__(self, judges: Mapping[str, Judge], folder: Path | None = None, perplexity: bool = True) -> None:
        self.judges = dict(judges)
        self.folder = None if folder is None else user_path(folder)
        self.perplexity = perplexity
        self.report: dict[str, Any] | None = None
        self._samples: list[dict[str, Any]] = []

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forgets an earlier run's replies and figures."""
        self._samples, self.report = [], None

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Scores the batch's replies to natural requests and plain questions."""
        replies: Sequence[Reply] = outputs
        messages = batch_messages(trainer, batch_idx)

        def rows_of(task: str) -> list[int]:
            own = enumerate(batch.details)
            return [row for row, details in own if details.get("task") == task and not details.get("repeated")]

        def asked(row: int) -> str:
            return "" if messages is None else _transcript(messages(row))

        requests = [row for task in REQUESTS for row in rows_of(task)]
        wanted = [Wanted.of(batch.details[row]) for row in requests]
        judged = judge_natural(wanted, [replies[row] for row in requests], self.judges)
        for row, own in zip(requests, judged, strict=True):
            self._samples.append(_sample(own, batch.details[row], asked(row), replies[row]))
        plain = rows_of("plain")
        if plain:
            before = _untuned(training_module(pl_module).model, batch, plain)
            for row, earlier in zip(plain, before, strict=True):
                self._samples.append(_plain_sample(batch.details[row], asked(row), replies[row], earlier))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gathers the processes' samples, measures perplexities, prints the figures and writes them.

        Without any prompt of its own it says so and leaves the run to other evaluations.
        """
        samples = [sample for part in from_all(self._samples) for sample in part]
        if not samples:
            log.warning(
                "TalkEvaluation measured nothing: found no natural request and no plain question; expected some. Fix: "
                "give data.test isthmus.data.plain.PlainQuestions or a source of natural requests, or remove it."
            )
            return
        is_trial = trainer.fast_dev_run  # type: ignore[attr-defined]  # set by a connector
        losses = {}
        if self.perplexity and not is_trial and process_place()[0] == 0:
            losses = _losses(training_module(pl_module).model)
        self.report = talk_report(samples, losses)
        if trainer.is_global_zero:
            print(f"\n{talk_table(self.report)}\n")
            report = {**self.report, "samples": samples}
            write_report(trainer, self.folder, TALK, report, "the talk test's figures and replies")


def _losses(model: AnyToAny) -> dict[str, list[TextLoss]]:
    language_model = model.backbone.language_model
    if not isinstance(language_model, CausalBackbone):
        return {}
    texts = {"our own prose": passages(), "Python's reference": reference_sections()}
    return {name: text_losses(language_model, own) for name, own in texts.items()}


@torch.no_grad()
def _untuned(model: AnyToAny, batch: Batch, rows: list[int]) -> list[Reply]:
    """The replies to these rows by the LLM before tuning."""
    with model.backbone.language_model.adapters_disabled():
        return model.answer(of_text(batch, rows), allowed=())


def _sample(judged: Judged, details: Mapping[str, Any], asked: str, reply: Reply) -> dict[str, Any]:
    return {
        "task": details["task"],
        "id": details.get("id"),
        "kind": judged.wanted.kind,
        "asked": asked,
        "replied": _written(reply),
        "media": list(map(str, judged.wanted.media)),
        "expect": [dict(values) for values in judged.wanted.attributes],
        "read": [dict(reading) for reading in judged.readings],
        "intent": judged.intent,
        "attributes": judged.attributes,
        "right": judged.right,
    }


def _plain_sample(details: Mapping[str, Any], asked: str, reply: Reply, before: Reply) -> dict[str, Any]:
    answers: list[str] = details["answers"]
    return {
        "task": "plain",
        "id": details.get("id"),
        "kind": str(details.get("kind")),
        "asked": asked,
        "replied": _written(reply),
        "before": _written(before),
        "answers": answers,
        "made": [str(medium.modality) for medium in reply.media()],
        "before_right": states_one(before.text, answers),
        "right": states_one(reply.text, answers),
    }


def _written(reply: Reply) -> str:
    """The reply in one line, its media in angle brackets."""
    pieces = (piece.strip() if isinstance(piece, str) else f"<{piece.modality}>" for piece in reply.content)
    return " ".join(piece for piece in pieces if piece)


def _transcript(messages: Sequence[Message]) -> str:
    """The prompt's turns as lines, its media in angle brackets."""

    def told(message: Message) -> str:
        pieces = (
            item.text.strip() if isinstance(item, TextItem) else f"<{item.modality}>"
            for item in message.content
            if isinstance(item, TextItem | MediumItem)
        )
        return " ".join(pieces)

    if len(messages) == 1:
        return told(messages[0])
    return "\n".join(f"{message.role}: {told(message)}" for message in messages)
