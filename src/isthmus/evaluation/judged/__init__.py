"""Metrics by the verdicts of a judge: a model behind an OpenAI-style server, which looks at pictures."""

from isthmus.evaluation.judged.editing import GEditScore, ImgEditScore
from isthmus.evaluation.judged.judge import OpenAIJudge
from isthmus.evaluation.judged.wise import WiScore

__all__ = ["GEditScore", "ImgEditScore", "OpenAIJudge", "WiScore"]
