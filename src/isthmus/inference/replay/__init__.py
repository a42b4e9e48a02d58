"""An LLM's own answers to plain prompts, kept as conversations: mixed into tuning, they keep its language."""

from isthmus.inference.replay.filters import Rejection, kept_answer
from isthmus.inference.replay.record import ReplayReport, ReplaySettings, record_replay

__all__ = ["Rejection", "ReplayReport", "ReplaySettings", "kept_answer", "record_replay"]
