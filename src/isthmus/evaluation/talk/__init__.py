"""A model in plain conversation: what it makes and says when asked in natural words, and what tuning cost its LLM."""

from isthmus.evaluation.talk.evaluation import TalkEvaluation

__all__ = ["TalkEvaluation"]
