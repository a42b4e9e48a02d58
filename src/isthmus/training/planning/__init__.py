"""What a run needs on a cluster, before a device is allocated: memory, traffic, time, and whether it fits."""

from isthmus.training.planning.cluster import Cluster, Link
from isthmus.training.planning.plan import Setting, StagePlan
from isthmus.training.planning.rehearsing import Planner

__all__ = ["Cluster", "Link", "Planner", "Setting", "StagePlan"]
