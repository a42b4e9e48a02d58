"""Accumulates scored replies and gives the matrix and samples of each cell, with or without a Trainer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from isthmus.data.conversations.schema import Message
from isthmus.data.sampling.seeds import derive_seed
from isthmus.evaluation.matrix.ceilings import Ceiling
from isthmus.evaluation.matrix.judge import Judge
from isthmus.evaluation.matrix.scoring import BEFORE, TALK_TASKS, Expectation, Verdict, judge_replies
from isthmus.evaluation.matrix.table import matrix_report
from isthmus.evaluation.matrix.tally import Place, Tally
from isthmus.modalities import is_medium, known_media
from isthmus.model import AnyToAny, Reply
from isthmus.types import Batch, Modality


@dataclass(frozen=True)
class JudgedReply:
    """A conversation with its reply, for the gallery.

    Attributes:
        verdict: the reply's scores.
        reply: the model's.
        messages: the messages before the reply; empty if they aren't known.
    """

    verdict: Verdict
    reply: Reply
    messages: Sequence[Message] = ()


class Measurement:
    """Counts scored replies.

    Args:
        judges: by output modality.
        values: the number of values of each attribute.
        samples: number of conversations of each cell that are kept for the gallery.

    Raises:
        ValueError: an unknown modality, an attribute without its number of values, or a number out of range.
    """

    def __init__(self, judges: Mapping[str, Judge], values: Mapping[str, int], samples: int = 0) -> None:
        if unknown := [name for name in judges if name != "text" and not is_medium(name)]:
            known = ", ".join(("text", *known_media()))
            raise ValueError(f"judges: found '{unknown[0]}'; expected {known}. Fix: rename it.")
        attributes = [name for judge in judges.values() for name in judge.attributes]
        for name in attributes:
            if values.get(name, 0) < 1:
                raise ValueError(
                    f"values: found {values.get(name)} for {name}, which a judge reads; expected how many values "
                    "it has. Fix: give the number; the chance level is its reciprocal."
                )
        if samples < 0:
            raise ValueError(f"samples: found {samples}; expected at least 0. Fix: raise it.")
        self.judges = dict(judges)
        self.values = dict(values)
        self.tally = Tally(attributes)
        self.most = samples
        self._counts: Counter[Place] = Counter()
        self._kept: dict[Place, list[tuple[int, JudgedReply]]] = {}

    @property
    def samples(self) -> list[JudgedReply]:
        """The kept conversations: a random choice for each cell, the same in every run."""
        return [sample for kept in self._kept.values() for _, sample in kept]

    @torch.no_grad()
    def add(
        self,
        model: AnyToAny,
        batch: Batch,
        replies: Sequence[Reply],
        messages: Callable[[int], Sequence[Message]] | None = None,
    ) -> list[Verdict]:
        """Scores the replies to a batch of prompts, whose ``details`` hold the expected attributes.

        Text-only prompts are also answered with the LLM's adapters off and no media allowed: the LLM before tuning.
        Prompts that pad a batch (``details["repeated"]``) aren't counted, nor those that a talk test measures.

        Args:
            model: the model that replied.
            batch: the prompts.
            replies: one for each prompt.
            messages: row of the batch -> its conversation, called only for samples that are kept.

        Raises:
            ValueError: details are incomplete, or a judge is missing.
        """
        assert len(replies) == len(batch.details), "one reply for each prompt"
        rows = [row for row, details in enumerate(batch.details) if self._counts_in(details)]
        if not rows:
            self.tally.update([])  # torchmetrics warns of a metric that is computed and never had an update
            return []
        expectations = [Expectation.of(batch.details[row]) for row in rows]
        verdicts = judge_replies(expectations, [replies[row] for row in rows], self.judges)
        for row, verdict in zip(rows, verdicts, strict=True):
            self._keep(verdict, replies[row], partial(messages, row) if messages else tuple)
        text_only = [index for index, expected in enumerate(expectations) if expected.task == "text_only"]
        if text_only:
            before = [replace(expectations[index], cell=BEFORE) for index in text_only]
            with model.backbone.language_model.adapters_disabled():
                untuned = model.answer(of_text(batch, [rows[index] for index in text_only]), allowed=())
            self.tally.update(judge_replies(before, untuned, self.judges))
        self.tally.update(verdicts)
        return verdicts

    @staticmethod
    def _counts_in(details: Mapping[str, Any]) -> bool:
        return not details.get("repeated") and details.get("task") not in TALK_TASKS

    def _keep(self, verdict: Verdict, reply: Reply, messages: Callable[[], Sequence[Message]]) -> None:
        """Keeps a cell's conversations with the lowest random numbers so far."""
        place = (verdict.expectation.task, verdict.expectation.cell)
        number = derive_seed("sample", *place, self._counts[place])
        self._counts[place] += 1
        kept = self._kept.setdefault(place, [])
        if len(kept) < self.most or (kept and number < kept[-1][0]):
            kept.append((number, JudgedReply(verdict, reply, messages())))
            kept.sort(key=lambda pair: pair[0])
            del kept[self.most :]

    def matrix(self, ceilings: Mapping[Modality, Ceiling] | None = None) -> dict[str, Any]:
        """The matrix over all processes; all must call this.

        See :func:`~isthmus.evaluation.matrix.table.matrix_report`.

        Raises:
            ValueError: nothing was added.
        """
        cells = self.tally.cells()
        if not cells:
            raise ValueError("evaluation: found no prompts; expected some. Fix: give data.test a source of prompts.")
        return matrix_report(cells, self.judges, self.values, ceilings or {})


def of_text(batch: Batch, rows: list[int]) -> Batch:
    """These rows of the batch, which have no media."""
    for modality, own in batch.media.items():
        assert not set(own.rows.tolist()) & set(rows), f"a text-only prompt with {modality}"
    length = int(batch.mask[rows].sum(1).max())
    return Batch(
        batch.ids[rows, :length],
        batch.mask[rows, :length],
        batch.labels[rows, :length],
        details=[batch.details[row] for row in rows],
    )
