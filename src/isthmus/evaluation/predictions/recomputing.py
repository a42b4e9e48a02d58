"""Figures of stored answers, a test run's or anybody's, without a model."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.conversations.sources import ConversationSource
from isthmus.evaluation.comparing.stored import FOLDER
from isthmus.evaluation.metrics.base import Figure, Processes
from isthmus.evaluation.predictions.answers import read_answers, stored_answers
from isthmus.evaluation.predictions.evaluation import Evaluation, check_sources
from isthmus.evaluation.predictions.measuring import figures_table, measure, write_figures
from isthmus.evaluation.predictions.origin import ORIGIN, read_origin, told_differences
from isthmus.evaluation.report.protocol import test_sets

log = logging.getLogger(__name__)

OF_MODEL = ("weights", "experts", "precision")
"""What an origin says of the model, which isn't part of how its answers were measured."""


def measure_stored(
    evaluations: Sequence[Evaluation], test: Mapping[str, ConversationSource], predictions: Path, out: Path
) -> dict[str, Figure]:
    """Computes, prints and writes the figures into ``out/evaluation``, or each evaluation's own folder.

    A test run's own answers may be to a part of the conversations, where it passed over bad ones or was broken off.
    Others' have to be to all.

    Args:
        evaluations: whose metrics are computed.
        test: the conversations that were answered, by the sources' names.
        predictions: a folder of JSON lines (:mod:`isthmus.evaluation.predictions.lines`).
        out: see above.

    Raises:
        ValueError: answers and conversations don't belong together, or an answer lacks what a metric measures.
    """
    made = read_origin(predictions / ORIGIN)
    answers = (read_answers if made is None else stored_answers)(predictions, test)
    for name, answered in answers.items():
        if len(answered) < len(test[name]):
            log.warning("'%s': %d of %d conversations have an answer", name, len(answered), len(test[name]))
    protocol = _protocol(predictions, made, {name: test[name] for name in answers})
    processes = Processes(shows=True)
    written: dict[Path, dict[str, Figure]] = {}
    for evaluation in evaluations:
        check_sources(test, evaluation.sources)
        own = measure(evaluation.metrics, answers, evaluation.sources, processes)
        folder = (evaluation.folder or out) / FOLDER
        written[folder] = written.get(folder, {}) | own
        if processes.rank == 0:
            print(f"\n{figures_table(own)}\n")
            write_figures(folder, written[folder], protocol, answers, predictions)
            log.info("the figures are in %s", folder)
    return {name: figure for own in written.values() for name, figure in own.items()}


def _protocol(
    predictions: Path, made: Mapping[str, Any] | None, test: Mapping[str, ConversationSource]
) -> dict[str, Any]:
    """How a test run's own answers were made, or of others' answers the test sets alone.

    Raises:
        ValueError: a test run has answered other data.
    """
    sets = json.loads(json.dumps(test_sets(test), default=str, sort_keys=True))
    if made is None:
        return {"test": sets}
    answered = {name: own for name, own in made["test"].items() if name in sets}
    if differs := told_differences(answered, sets):
        raise ValueError(
            f"{predictions}: found answers to other data: {'; '.join(differs)} (answered -> given); expected the data "
            "that was answered. Fix: name it under data.test."
        )
    return {name: own for name, own in made.items() if name not in OF_MODEL} | {"test": sets}
