"""The cluster that a run is planned for, and how long its collectives take, by latency and bandwidth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, log2
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.training.rehearsal.measuring import Collective, Sent

BASE = 8.4e-6
"""Seconds before a collective's first byte: NCCL's constant for rings (``baseLatencies``, protocol Simple)."""
FIELDS = ("operation", "bytes", "ranks", "seconds")


@dataclass(frozen=True)
class Link:
    """What joins ranks.

    Attributes:
        latency: seconds of a hop, whatever it carries.
        bandwidth: bytes a second: into a device within its machine, into a machine between machines.
    """

    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Cluster:
    """Machines of equal devices.

    Attributes:
        devices: of all machines together.
        per_machine: devices of a machine; ranks are numbered machine by machine.
        memory: bytes of a device.
        flops: of a device's dense products, operations a second at the most.
        within: the links between a machine's devices.
        between: the network between machines.
        mfu: the share of ``flops`` that a step reaches; what is recomputed counts as work.
        overlap: the share of a step's computing behind which collectives hide.
        headroom: the share of the memory that stays free, for kernels' workspaces, the driver and fragments.
        price: of a device for an hour; not known if None.
        measured: by kind of collective, the link that measurements gave. It takes the place of the other two.
    """

    devices: int
    per_machine: int
    memory: float
    flops: float
    within: Link
    between: Link
    mfu: float = 0.4
    overlap: float = 0.8
    headroom: float = 0.1
    price: float | None = None
    measured: Mapping[str, Link] = field(default_factory=dict)

    @property
    def machines(self) -> int:
        """How many there are."""
        return -(-self.devices // self.per_machine)

    @property
    def room(self) -> float:
        """Bytes that a step's tensors may take on a device."""
        return self.memory * (1 - self.headroom)

    def spread(self, collective: Collective) -> int:
        """The machines of those that take part."""
        return len({rank // self.per_machine for rank in collective.ranks})

    def seconds(self, collective: Collective, sent: Sent) -> float:
        """How long the collectives of one kind take, one after another.

        As NCCL's own ``tuning.cc`` reckons (protocol Simple): a ring of n ranks takes n - 1 hops, of which those
        between machines are slower; for an all-reduce it goes round twice, or goes up and down a tree if that is
        faster. A group with one rank on each machine has its share of the machine's network, as there are as many such
        groups as devices in a machine.
        """
        if collective.size == 1:
            return 0.0
        hops, volume, machines = steps(collective), volume_of(collective), self.spread(collective)
        share = collective.size / machines / self.per_machine
        if (link := self.measured.get(collective.kind)) is not None:
            bandwidth = link.bandwidth * (share if machines > 1 else 1.0)
            return sent.count * hops * link.latency + volume * sent.bytes / bandwidth
        crossing = 0 if machines == 1 else hops * (machines - 1) / (collective.size - 1)
        bandwidth = self.within.bandwidth if collective.size > machines else inf
        if machines > 1:
            bandwidth = min(bandwidth, share * self.between.bandwidth)
        latency = BASE + (hops - crossing) * self.within.latency + crossing * self.between.latency
        taken = sent.count * latency + volume * sent.bytes / bandwidth
        if collective.kind == "all_reduce":
            each = collective.size / machines
            up = (each - 1) * self.within.latency + log2(machines) * self.between.latency
            taken = min(taken, sent.count * (BASE + 2 * up) + 2 * sent.bytes / bandwidth)
        return taken


def steps(collective: Collective) -> int:
    """Messages of a ring that follow one another."""
    return (collective.size - 1) * (2 if collective.kind == "all_reduce" else 1)


def volume_of(collective: Collective) -> float:
    """Bytes into each rank of a ring, for each byte of the whole tensor."""
    if collective.kind == "broadcast":
        return 1.0
    return steps(collective) / collective.size


@dataclass(frozen=True)
class Fitted:
    """Links that were fitted to measurements.

    Attributes:
        links: by kind of collective.
        error: the median over measurements of |modelled - measured| / measured.
        count: of measurements.
    """

    links: dict[str, Link]
    error: float
    count: int


def fit_links(rows: Sequence[Mapping[str, Any]]) -> Fitted:
    """The latency and bandwidth that explain measured collectives best, by least squares of relative errors.

    Each kind has its own, since libraries don't take rings for all: gloo's reduce-scatter is an all-reduce.

    Args:
        rows: of each measured collective its ``operation``, ``bytes`` of the whole tensor, ``ranks`` and ``seconds``.

    Raises:
        ValueError: a field is missing, or a kind has fewer than two sizes.
    """
    for at, row in enumerate(rows):
        if missing := [name for name in FIELDS if name not in row]:
            raise ValueError(
                f"measured collectives, row {at}: found no {', '.join(missing)}; expected {', '.join(FIELDS)}. Fix: "
                "write the file by python -m benchmarks network."
            )
    links: dict[str, Link] = {}
    errors: list[float] = []
    for kind in sorted({row["operation"] for row in rows}):
        own = [row for row in rows if row["operation"] == kind]
        if len({row["bytes"] for row in own}) < 2:
            raise ValueError(
                f"measured collectives: found {kind} of one size; expected two sizes at least, as one doesn't tell "
                "latency from bandwidth. Fix: measure more sizes, or take its rows out."
            )
        groups = [Collective(kind, tuple(range(row["ranks"]))) for row in own]
        parts = np.array([(steps(g), volume_of(g) * row["bytes"]) for g, row in zip(groups, own, strict=True)])
        seconds = np.array([float(row["seconds"]) for row in own])
        found, *_ = np.linalg.lstsq(parts / seconds[:, None], np.ones(len(own)), rcond=None)
        if (found <= 0).any():  # too small to show beside the other, which explains all
            kept = int(np.argmax(found))
            found = np.zeros(2)
            found[kept] = 1 / np.mean(parts[:, kept] / seconds)
        links[kind] = Link(float(found[0]), float(1 / found[1]) if found[1] else inf)
        errors += list(np.abs(parts @ found / seconds - 1))
    return Fitted(links, float(np.median(errors)), len(rows))


def read_links(file: Path) -> Fitted:
    """:func:`fit_links` of a file: a list of collectives, or an object that has it under ``rows``.

    Raises:
        ValueError: the file doesn't hold such a list.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{file}: found nothing that can be read as JSON ({error}); expected measured collectives. Fix: write the "
            "file by python -m benchmarks network."
        ) from error
    rows = content.get("rows") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            f"{file}: found no list of measured collectives; expected one, or an object with one under rows. Fix: "
            "write the file by python -m benchmarks network."
        )
    return fit_links(rows)
