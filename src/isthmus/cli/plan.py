"""``isthmus plan``: what every stage of a config needs on a cluster, without weights and without a GPU."""

from __future__ import annotations

import copy
import logging
import tempfile
from pathlib import Path
from typing import Any

from isthmus.cli.rehearse import Rehearsal
from isthmus.cli.training import prepare_logging
from isthmus.hub.snapshot import settings_alone
from isthmus.paths import user_path
from isthmus.training import StageSwitch
from isthmus.training.objectives.group_policy import GroupPolicy
from isthmus.training.planning.cluster import Cluster, Link, read_links
from isthmus.training.planning.devices import DEVICES
from isthmus.training.planning.fitting import fitted
from isthmus.training.planning.plan import Engine, Setting, StagePlan
from isthmus.training.planning.rehearsing import Planner
from isthmus.training.planning.table import as_json, as_text
from isthmus.training.running.callbacks import callbacks_of
from isthmus.writing import write_file

LATENCY, NETWORK = 14.0, 400.0
"""Microseconds of a hop between machines, by NCCL's own table, and GB/s of a machine: eight adapters of 400 Gbit/s."""
HOP = 3.4e-6
"""Seconds of a hop within a machine, by NCCL's own table for NVLink."""


class Planning(Rehearsal):
    """Parses what ``fit`` parses, and plans it. Of the data nothing is read."""

    typed = "isthmus plan", "Says what every stage of a config needs on a cluster, and whether it fits."

    def add_options(self, parser: Any) -> None:
        """The cluster, and how it is used."""
        add = parser.add_argument
        add("--devices", type=int, default=1, help="of all machines together")
        add("--nodes", type=int | None, default=None, help="machines; as many as have 8 devices each if null")
        add("--device", type=str, default="H100", help=f"kind: {', '.join(DEVICES)}")
        add("--memory", type=float | None, default=None, help="GiB of a device; the kind's own if null")
        add("--tflops", type=float | None, default=None, help="dense peak of a device; the kind's own if null")
        add("--engine", type=Engine | None, default=None, help="trainer.strategy's if null; ddp where there is none")
        add("--shards", type=int | None, default=None, help="ranks that fsdp2 shards over; all if null")
        add("--recompute", type=bool, default=False, help="whether the LLM's layers recompute their activations")
        add("--offload", type=bool, default=False, help="whether fsdp2 keeps its shards in the host's memory")
        add("--mfu", type=float, default=0.4, help="share of the peak that a step reaches")
        add("--overlap", type=float, default=0.8, help="share of a step's computing behind which collectives hide")
        add("--headroom", type=float, default=0.1, help="share of the memory that stays free")
        add("--latency", type=float, default=LATENCY, help="microseconds of a hop between machines")
        add("--bandwidth", type=float, default=NETWORK, help="GB/s of a machine's network")
        add("--link", type=str | None, default=None, help="file of measured collectives, instead of these two")
        add("--samples", type=int | None, default=None, help="conversations of a stage's data, where it has epochs")
        add("--price", type=float | None, default=None, help="of a device for an hour")
        add("--json", type=str | None, default=None, help="file for all figures")

    def before_instantiate_classes(self) -> None:
        """Keeps what the config says of its engine."""
        self.strategy: Any = self.config[self.subcommand].trainer.strategy
        super().before_instantiate_classes()

    def fit(self, **_: Any) -> None:
        """Plans and prints.

        Raises:
            ValueError: a request that no cluster can meet, or parts that don't fit together.
        """
        config = self.config[self.subcommand]
        cluster, notes = cluster_of(config)
        (switch,) = callbacks_of(self.trainer, StageSwitch)
        setting = setting_of(config, self.strategy)
        planner = Planner(
            lambda: copy.deepcopy(self.model), self.trainer, self.datamodule.batch_size, config.words, config.samples
        )
        plans: list[StagePlan] = []
        for name in switch.names:
            if isinstance(switch.stages[name].objective, GroupPolicy):
                notes.append(f"not planned: {name}, whose answers are drawn and judged by their numbers")
            else:
                plans.append(fitted(planner, name, switch.stages[name], setting, cluster))
        if any(plan.steps is None for plan in plans):
            notes.append("hours of stages that are given in epochs need --samples, as no data is read")
        notes += self.notes()
        print(as_text(plans, notes))
        if config.json is not None:
            write_file(user_path(config.json), as_json(plans, notes).encode())


def cluster_of(config: Any) -> tuple[Cluster, list[str]]:
    """The cluster that is asked for, and what there is to say of it.

    Raises:
        ValueError: an option is out of its range.
    """
    if config.device not in DEVICES:
        raise ValueError(
            f"--device: found {config.device}; expected one of {', '.join(DEVICES)}. Fix: name one of them, and give "
            "--memory and --tflops of yours."
        )
    device = DEVICES[config.device]
    nodes = -(-config.devices // 8) if config.nodes is None else config.nodes
    positive = {"devices": config.devices, "nodes": nodes, "mfu": config.mfu, "bandwidth": config.bandwidth}
    positive |= {name: config[name] for name in ("memory", "tflops", "shards", "samples") if config[name] is not None}
    for name, value in positive.items():
        if value <= 0:
            raise ValueError(f"--{name}: found {value}; expected more than 0. Fix: correct it.")
    for name in ("mfu", "overlap", "headroom"):
        if not 0 <= config[name] <= 1:
            raise ValueError(f"--{name}: found {config[name]}; expected a share, from 0 to 1. Fix: correct it.")
    if config.devices % nodes:
        raise ValueError(
            f"--nodes: found {nodes} for {config.devices} devices; expected a divisor of their number, as machines are "
            "equal. Fix: correct --nodes or --devices."
        )
    links = None if config.link is None else read_links(user_path(config.link))
    notes = []
    if links is not None:
        said = "; ".join(
            f"{kind} {own.latency * 1e6:.0f} us a hop, {own.bandwidth / 1e9:.3g} GB/s"
            for kind, own in links.links.items()
        )
        notes.append(f"{config.link}: {said}; half of its {links.count} rows within {links.error:.0%} of that")
    memory = device.memory if config.memory is None else config.memory
    tflops = device.tflops if config.tflops is None else config.tflops
    cluster = Cluster(
        config.devices,
        config.devices // nodes,
        memory * 2**30,
        tflops * 1e12,
        Link(HOP, device.bandwidth * 1e9),
        Link(config.latency * 1e-6, config.bandwidth * 1e9),
        config.mfu,
        config.overlap,
        config.headroom,
        config.price,
        {} if links is None else links.links,
    )
    return cluster, notes


def setting_of(config: Any, strategy: Any) -> Setting:
    """The engine that is asked for: by the options, else by the config's strategy."""
    kind = str(getattr(strategy, "class_path", strategy) or "")
    own: Any = getattr(strategy, "init_args", None)
    shards = kind.endswith(".Sharded")
    engine: Engine = "fsdp2" if shards else "ddp"
    engine = config.engine or ("single" if config.devices == 1 else engine)
    if not shards or engine != "fsdp2" or own is None:
        return Setting(engine, None, config.recompute, config.offload, config.shards)
    return Setting(
        engine,
        None,
        config.recompute or own.activation_checkpointing,
        config.offload or own.offload,
        config.shards or own.data_parallel_size,
        own.reshard_after_forward,
        own.frozen_sharding,
    )


def run(args: list[str]) -> None:
    """Runs the command; ``args`` are those of ``fit``, and those of the cluster."""
    prepare_logging()
    for name in ("isthmus", "pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("isthmus.training.planning").setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as folder, settings_alone():
        Planning(["fit", *args], Path(folder))
