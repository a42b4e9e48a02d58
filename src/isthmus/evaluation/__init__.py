"""Evaluates a model: the any-to-any matrix with its upper bounds, caption and retrieval metrics, and a gallery.

The names below load on first use, so that comparing the files of finished runs needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.exports import lazy

if TYPE_CHECKING:
    from isthmus.evaluation.captions.evaluation import CaptionEvaluation as CaptionEvaluation
    from isthmus.evaluation.matrix.evaluation import MatrixEvaluation as MatrixEvaluation
    from isthmus.evaluation.matrix.measurement import Measurement as Measurement
    from isthmus.evaluation.periodic import PeriodicEvaluation as PeriodicEvaluation
    from isthmus.evaluation.predictions.evaluation import Evaluation as Evaluation
    from isthmus.evaluation.retrieval.evaluation import RetrievalEvaluation as RetrievalEvaluation
    from isthmus.evaluation.samples.callback import Prompt as Prompt
    from isthmus.evaluation.samples.callback import SampleLog as SampleLog
    from isthmus.evaluation.talk.evaluation import TalkEvaluation as TalkEvaluation

_HOMES = {
    "CaptionEvaluation": "isthmus.evaluation.captions.evaluation",
    "Evaluation": "isthmus.evaluation.predictions.evaluation",
    "MatrixEvaluation": "isthmus.evaluation.matrix.evaluation",
    "Measurement": "isthmus.evaluation.matrix.measurement",
    "PeriodicEvaluation": "isthmus.evaluation.periodic",
    "Prompt": "isthmus.evaluation.samples.callback",
    "RetrievalEvaluation": "isthmus.evaluation.retrieval.evaluation",
    "SampleLog": "isthmus.evaluation.samples.callback",
    "TalkEvaluation": "isthmus.evaluation.talk.evaluation",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = lazy(__name__, _HOMES)
