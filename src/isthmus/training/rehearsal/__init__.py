"""Runs of every stage and of an answer on fake tensors: what a configuration costs, and whether its parts fit."""

from isthmus.training.rehearsal.report import Report
from isthmus.training.rehearsal.run import rehearse

__all__ = ["Report", "rehearse"]
