"""Measurements of an answer's words against references: captions, questions, choices, transcripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.exports import lazy

if TYPE_CHECKING:
    from isthmus.evaluation.metrics.texts.bert_score import BertScore as BertScore
    from isthmus.evaluation.metrics.texts.captions import CaptionMetrics as CaptionMetrics
    from isthmus.evaluation.metrics.texts.choices import MultipleChoice as MultipleChoice
    from isthmus.evaluation.metrics.texts.fense import Fense as Fense
    from isthmus.evaluation.metrics.texts.matches import Anls as Anls
    from isthmus.evaluation.metrics.texts.matches import ExactMatch as ExactMatch
    from isthmus.evaluation.metrics.texts.meteor import Meteor as Meteor
    from isthmus.evaluation.metrics.texts.spice import Spice as Spice
    from isthmus.evaluation.metrics.texts.transcripts import WordErrors as WordErrors
    from isthmus.evaluation.metrics.texts.vqa import VqaAccuracy as VqaAccuracy
    from isthmus.evaluation.metrics.texts.yes_no import YesNo as YesNo

_ROOM = "isthmus.evaluation.metrics.texts"
_HOMES = {
    "Anls": f"{_ROOM}.matches",
    "BertScore": f"{_ROOM}.bert_score",
    "CaptionMetrics": f"{_ROOM}.captions",
    "ExactMatch": f"{_ROOM}.matches",
    "Fense": f"{_ROOM}.fense",
    "Meteor": f"{_ROOM}.meteor",
    "MultipleChoice": f"{_ROOM}.choices",
    "Spice": f"{_ROOM}.spice",
    "VqaAccuracy": f"{_ROOM}.vqa",
    "WordErrors": f"{_ROOM}.transcripts",
    "YesNo": f"{_ROOM}.yes_no",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = lazy(__name__, _HOMES)
