"""Stages as data, the callback that moves a run through them, and what a run shows of itself."""

from isthmus.training.faults.non_finite import SkipNonFinite
from isthmus.training.faults.slow_ranks import SlowRanks
from isthmus.training.module import TrainingModule
from isthmus.training.objectives.group_policy import GroupPolicy
from isthmus.training.objectives.preference import Preference
from isthmus.training.objectives.supervised import Supervised
from isthmus.training.objectives.terms import LossWeights
from isthmus.training.run_record import RunRecord
from isthmus.training.running.progress import StageProgressBar
from isthmus.training.running.throughput import TokenRate
from isthmus.training.stage import Stage
from isthmus.training.stage_switch import StageSwitch
from isthmus.training.watching.collapse import CollapseWatch

__all__ = [
    "CollapseWatch",
    "GroupPolicy",
    "LossWeights",
    "Preference",
    "RunRecord",
    "SkipNonFinite",
    "SlowRanks",
    "Stage",
    "StageProgressBar",
    "StageSwitch",
    "Supervised",
    "TokenRate",
    "TrainingModule",
]
