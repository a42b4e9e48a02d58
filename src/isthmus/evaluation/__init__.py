"""Measuring a model: the any-to-any matrix, what it is held against, and a gallery of the conversations behind it."""

from isthmus.evaluation.captions import CaptionEvaluation
from isthmus.evaluation.matrix import MatrixEvaluation
from isthmus.evaluation.measurement import Measurement
from isthmus.evaluation.retrieval_evaluation import RetrievalEvaluation

__all__ = ["CaptionEvaluation", "MatrixEvaluation", "Measurement", "RetrievalEvaluation"]
