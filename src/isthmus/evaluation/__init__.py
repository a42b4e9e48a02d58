"""Measuring a model: the any-to-any matrix, what it is held against, and a gallery of the conversations behind it."""

from isthmus.evaluation.captions.evaluation import CaptionEvaluation
from isthmus.evaluation.matrix.evaluation import MatrixEvaluation
from isthmus.evaluation.matrix.measurement import Measurement
from isthmus.evaluation.retrieval.evaluation import RetrievalEvaluation

__all__ = ["CaptionEvaluation", "MatrixEvaluation", "Measurement", "RetrievalEvaluation"]
