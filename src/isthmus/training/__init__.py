"""Stages as data, the callback that moves a run through them, and what a run shows of itself."""

from isthmus.training.group_policy import GroupPolicy
from isthmus.training.preference import Preference
from isthmus.training.progress import StageProgressBar
from isthmus.training.stage import Stage
from isthmus.training.stage_switch import StageSwitch
from isthmus.training.throughput import TokenRate

__all__ = ["GroupPolicy", "Preference", "Stage", "StageProgressBar", "StageSwitch", "TokenRate"]
