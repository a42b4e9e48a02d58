"""Evaluates a model: the any-to-any matrix with its upper bounds, caption and retrieval metrics, and a gallery."""

from isthmus.evaluation.captions.evaluation import CaptionEvaluation
from isthmus.evaluation.matrix.evaluation import MatrixEvaluation
from isthmus.evaluation.matrix.measurement import Measurement
from isthmus.evaluation.retrieval.evaluation import RetrievalEvaluation
from isthmus.evaluation.samples.callback import Prompt, SampleLog
from isthmus.evaluation.talk.evaluation import TalkEvaluation

__all__ = [
    "CaptionEvaluation",
    "MatrixEvaluation",
    "Measurement",
    "Prompt",
    "RetrievalEvaluation",
    "SampleLog",
    "TalkEvaluation",
]
