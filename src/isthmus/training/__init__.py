"""Stages as data, and the callback that moves a run through them."""

from isthmus.training.stage import Stage
from isthmus.training.stage_switch import StageSwitch

__all__ = ["Stage", "StageSwitch"]
