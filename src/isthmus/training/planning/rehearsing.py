"""A stage's step as rank 0 of many: the engine's own code, over fake tensors and a fake process group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils.data import DataLoader

from isthmus.data.conversations.schema import Conversation
from isthmus.data.module import ConversationDataModule
from isthmus.frozen import shapes_only
from isthmus.losses import torch_cross_entropy
from isthmus.model import AnyToAny
from isthmus.training.module import TrainingModule
from isthmus.training.planning.cluster import Cluster
from isthmus.training.planning.counted import Counted, counted, kept_of
from isthmus.training.planning.plan import Setting, StagePlan
from isthmus.training.planning.ranks import Ranks, fake_group, strategy_of
from isthmus.training.rehearsal.conversations import Rehearsed, conversations_of
from isthmus.training.rehearsal.fakes import FakeBatches, Fakes, fake_tensors
from isthmus.training.rehearsal.faults import told
from isthmus.training.rehearsal.measuring import Costs
from isthmus.training.rehearsal.trial import Measure, trainer_of
from isthmus.training.stage import Stage
from isthmus.training.stage_switch import StageSwitch
from isthmus.types import Batch


@dataclass(frozen=True)
class Planner:
    """Plans stages of one model.

    Args:
        make: a model that isn't built yet, another one at each call.
        configured: the trainer whose precision and clipping count.
        batch_size: of stages that name none.
        words: of a question and of an answer, each.
        samples: conversations of a stage's sources; not known if None.
    """

    make: Callable[[], AnyToAny]
    configured: pl.Trainer
    batch_size: int
    words: int
    samples: int | None = None

    def plan(self, name: str, stage: Stage, setting: Setting, cluster: Cluster) -> StagePlan:
        """A stage under a setting.

        Raises:
            ValueError: it can't be run so, or something doesn't fit together.
        """
        batch = stage.batch_size or self.batch_size
        check(name, setting, cluster, batch)
        stage = replace(stage, micro_batches=setting.micro_batches or stage.micro_batches)
        found = rehearse_rank(self.make(), name, stage, setting, cluster, self.configured, batch, self.words)
        steps = stage.steps
        if steps is None and self.samples is not None and stage.epochs is not None:
            steps = -(-int(self.samples * stage.epochs) // batch)
        seen = None if steps is None else steps * batch
        return StagePlan(
            name,
            replace(setting, micro_batches=stage.micro_batches),
            cluster,
            found,
            steps,
            seen if self.samples is None or seen is None else min(seen, self.samples),
        )


def check(name: str, setting: Setting, cluster: Cluster, batch: int) -> None:
    """Refuses what no cluster can run.

    Raises:
        ValueError: a rank would be idle, the devices don't fill machines, or the engine doesn't go with their number.
    """
    devices, per_machine = cluster.devices, cluster.per_machine
    if batch < devices:
        raise ValueError(
            f"plan of stage '{name}': found a batch of {batch} for {devices} devices; expected a conversation for each "
            f"at least. Fix: --training.stages.{name}.batch_size {devices} or more, or fewer --devices."
        )
    if devices > per_machine and devices % per_machine:
        raise ValueError(
            f"plan: found {devices} devices on machines of {per_machine}; expected whole machines. Fix: --devices "
            f"{devices // per_machine * per_machine}, or other --nodes."
        )
    if (setting.engine == "single") != (devices == 1):
        raise ValueError(
            f"plan: found engine {setting.engine} with {devices} devices; expected single with one device, and ddp or "
            "fsdp2 with several. Fix: --engine or --devices."
        )
    if setting.engine != "fsdp2" and (setting.offload or setting.shards is not None):
        raise ValueError(
            f"plan: found offloaded shards, or a number of them, with engine {setting.engine}; expected fsdp2, which "
            "alone shards. Fix: --engine fsdp2."
        )
    per_rank = -(-batch // devices)
    if (setting.micro_batches or 1) > per_rank:
        raise ValueError(
            f"plan of stage '{name}': found {setting.micro_batches} micro-batches of {per_rank} conversations a rank; "
            "expected no more than these. Fix: fewer micro_batches."
        )


def rehearse_rank(
    model: AnyToAny,
    name: str,
    stage: Stage,
    setting: Setting,
    cluster: Cluster,
    configured: pl.Trainer,
    batch_size: int,
    words: int,
) -> Counted:
    """The second step of a stage on rank 0.

    Args:
        model: not built yet; afterwards it is of no use.
        name: of the stage.
        stage: what is run.
        setting: how.
        cluster: how many ranks there are, and which share a machine.
        configured: the trainer whose precision and clipping count.
        batch_size: of all ranks together.
        words: of a question and of an answer, each.

    Raises:
        ValueError: something doesn't fit together, with the part's name.
    """
    language_model: Any = model.backbone.language_model
    language_model.cross_entropy = torch_cross_entropy  # a library's kernel needs its GPU
    if setting.recompute and setting.engine != "fsdp2":  # there the strategy does it
        if not hasattr(language_model, "checkpointed_layers"):
            raise ValueError(
                f"plan of stage '{name}': found recomputed activations with {type(language_model).__name__}, whose "
                "layers don't recompute; expected a decoder-only LLM. Fix: --recompute false."
            )
        language_model.checkpointed_layers = language_model.config.num_hidden_layers
    with shapes_only(), told("building", model):
        model.configure_model()
    data = RankData({name: conversations_of(model, stage, words)}, batch_size=batch_size)
    data.rows = -(-batch_size // cluster.devices)
    with ExitStack() as open_:
        place: dict[str, Any] = {}
        if setting.engine != "single":
            open_.enter_context(fake_group(cluster.devices))
            place = {"strategy": strategy_of(setting), "environment": Ranks(cluster.devices)}
            place |= {"devices": cluster.devices // cluster.machines, "num_nodes": cluster.machines}
        open_.enter_context(torch.compiler.set_stance("force_eager"))
        data.fakes = open_.enter_context(fake_tensors())
        data.fakes.place(model)
        with told(f"stage '{name}'", model):
            return count_step(model, name, stage, configured, data, setting.offload, **place)


def count_step(
    model: AnyToAny,
    name: str,
    stage: Stage,
    configured: pl.Trainer,
    data: RankData,
    offloads: bool = False,
    **place: Any,
) -> Counted:
    """Runs two steps of a stage, and counts the second: of fake tensors, or on real processes of real ones.

    Args:
        model: that learns.
        name: of the stage.
        stage: what is run.
        configured: the trainer whose precision and clipping count.
        data: of the rank.
        offloads: whether shards stay in the host's memory.
        place: the trainer's strategy and devices, as :func:`isthmus.training.rehearsal.trial.trainer_of` takes them.
    """
    found: list[Counted] = []
    module = TrainingModule(model)
    module.log = module.log_dict = _nothing  # type: ignore[method-assign]  # figures of fake tensors are no values
    with kept_of(model) as kept:

        def keep(costs: Costs, batch: Batch, model: AnyToAny) -> None:
            found.append(counted(costs, batch, model, offloads, kept.total()))

        switch = StageSwitch({name: replace(stage, data={name: 1.0}, steps=2, epochs=None)})
        trainer_of(configured, [switch, Clears(kept), Measure(keep)], **place).fit(module, datamodule=data)
    return found[0]


class RankData(ConversationDataModule):
    """Two batches of a rank, the second of which is counted.

    The first has every medium, so that all experts are loaded, and all that trains has its state in the optimizer. The
    second has the longest rows that the rank may get.

    Attributes:
        rows: of the rank.
        fakes: make fake tensors of the batches; they stay real if None.
    """

    rows: int
    fakes: Fakes | None = None

    def train_dataloader(self) -> Any:
        """Both batches."""
        ((name, source),) = self.sources.items()
        assert isinstance(source, Rehearsed)
        collator = self._collator("train")

        def at(index: int) -> Conversation:
            conversation = source[index]
            return replace(conversation, details={"seed": index, **conversation.details, "source": name})

        with unset_fake_temporarily():
            every = [at(index) for index in range(source.media_pairs)]
            if self.rows < len(every):
                rows = sorted(every, key=lambda own: -_length(collator([own])))[: self.rows]
            else:
                rows = [at(index) for index in range(self.rows)]
            batches = [collator(every), collator(rows)]
        if self.fakes is not None:
            return FakeBatches(batches, self.fakes)
        listed: Any = batches  # of a bare list Lightning would take each for a loader
        return DataLoader(listed, batch_size=None, collate_fn=_unchanged)


class Clears(pl.Callback):
    """Empties a counter before each step."""

    def __init__(self, counter: Counter[str]) -> None:
        self.counter = counter

    def on_train_batch_start(self, *_: Any) -> None:
        self.counter.clear()


def _length(batch: Batch) -> int:
    return sum(sum(piece.layout.lengths) for piece in batch.pieces if piece.layout is not None)


def _unchanged(batch: Any) -> Any:
    return batch


def _nothing(*_: Any, **__: Any) -> None:
    pass
