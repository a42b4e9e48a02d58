"""A stage's plan: what its step needs on each rank of a cluster, whether that fits, how long it takes and its price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from isthmus.training.engines.units import FrozenSharding
from isthmus.training.planning.cluster import Cluster
from isthmus.training.planning.counted import Counted

Engine = Literal["single", "ddp", "fsdp2"]


@dataclass(frozen=True)
class Setting:
    """How a stage is run.

    Attributes:
        engine: one process, DDP or FSDP2.
        micro_batches: parts in which a process learns its batch; the stage's own if None.
        recompute: whether the LLM's layers keep only their inputs, and recompute the rest.
        offload: whether what FSDP2 shards stays in the host's memory.
        shards: over how many ranks FSDP2 shards; all if None.
        reshard: whether FSDP2 drops a layer after its forward, and gathers it again for its backward pass.
        frozen: how FSDP2 holds encoders and generators (``frozen_sharding`` of its strategy).
    """

    engine: Engine
    micro_batches: int | None = None
    recompute: bool = False
    offload: bool = False
    shards: int | None = None
    reshard: bool = True
    frozen: FrozenSharding = "replicate"

    def __str__(self) -> str:
        parts = [self.engine if self.shards is None else f"{self.engine} over {self.shards}"]
        parts += [f"{self.micro_batches} micro-batches"] if (self.micro_batches or 1) > 1 else []
        parts += ["recomputed activations"] if self.recompute else []
        parts += ["offloaded shards"] if self.offload else []
        parts += [] if self.frozen == "replicate" else [f"experts {self.frozen}"]
        parts += [] if self.reshard else ["layers kept after their forward"]
        return ", ".join(parts)


@dataclass(frozen=True)
class StagePlan:
    """A stage under a setting, on a cluster.

    Attributes:
        stage: its name.
        setting: how it is run.
        cluster: on what.
        counted: of a step, on the rank with the longest rows.
        steps: of the stage; not known if None.
        conversations: of which a cache keeps features and conditions; not known if None.
        nearest: where this doesn't fit, the setting that needs the fewest changes and does.
        tried: what else was rehearsed for it, and why it wasn't taken.
    """

    stage: str
    setting: Setting
    cluster: Cluster
    counted: Counted
    steps: int | None = None
    conversations: int | None = None
    nearest: StagePlan | None = None
    tried: tuple[str, ...] = field(default=())

    @property
    def fits(self) -> bool:
        """Whether a step fits the devices."""
        return self.counted.peak <= self.cluster.room

    @property
    def computing(self) -> float:
        """Seconds of a step's products."""
        return self.counted.work / (self.cluster.flops * self.cluster.mfu)

    @property
    def sending(self) -> Mapping[str, float]:
        """Seconds of a step's collectives by kind, if nothing were computed meanwhile."""
        found: dict[str, float] = {}
        for collective, sent in self.counted.sent.items():
            found[collective.kind] = found.get(collective.kind, 0.0) + self.cluster.seconds(collective, sent)
        return found

    @property
    def exposed(self) -> float:
        """Seconds of a step's collectives that computing doesn't hide."""
        return max(0.0, sum(self.sending.values()) - self.cluster.overlap * self.computing)

    @property
    def seconds(self) -> float:
        """Of a step."""
        return self.computing + self.exposed

    @property
    def hours(self) -> float | None:
        """Of the stage."""
        return None if self.steps is None else self.steps * self.seconds / 3600

    @property
    def cost(self) -> float | None:
        """Of the stage, in the price's currency."""
        price = self.cluster.price
        return None if self.hours is None or price is None else self.hours * self.cluster.devices * price

    @property
    def cache(self) -> int | None:
        """Bytes on a disk for the features and conditions of the stage's conversations."""
        return None if self.conversations is None else int(self.counted.kept * self.conversations)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        traffic = [
            {
                "operation": collective.kind,
                "ranks": collective.size,
                "machines": self.cluster.spread(collective),
                "count": sent.count,
                "bytes": sent.bytes,
                "seconds": self.cluster.seconds(collective, sent),
            }
            for collective, sent in self.counted.sent.items()
        ]
        own = self.counted
        return {
            "stage": self.stage,
            "setting": asdict(self.setting),
            "devices": self.cluster.devices,
            "rows": own.rows,
            "positions": own.positions,
            "memory": dict(own.memory),
            "peak": own.peak,
            "host": own.host,
            "room": self.cluster.room,
            "fits": self.fits,
            "flops": dict(own.flops),
            "traffic": traffic,
            "seconds": {"computing": self.computing, "exposed": self.exposed, "step": self.seconds},
            "steps": self.steps,
            "hours": self.hours,
            "cost": self.cost,
            "cache": self.cache,
            "nearest": None if self.nearest is None else self.nearest.as_dict(),
            "tried": list(self.tried),
        }
