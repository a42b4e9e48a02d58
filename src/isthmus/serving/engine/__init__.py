"""The engine: one thread that owns the models, the jobs that it answers, and the queue in which these wait."""

from isthmus.serving.engine.engine import Engine
from isthmus.serving.engine.jobs import Busy, Event, Job, PartialImage
from isthmus.serving.engine.waiting import has_its_share

__all__ = ["Busy", "Engine", "Event", "Job", "PartialImage", "has_its_share"]
