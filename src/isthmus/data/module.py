"""The LightningDataModule: sources and stages -> resumable loaders."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Literal, get_args

import pytorch_lightning as pl
import torch

from isthmus.data.batching.collate import Collator
from isthmus.data.batching.fetch import OnError
from isthmus.data.batching.loader import ConversationLoader, StartMethod
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.sampling.grouping import Grouping
from isthmus.data.sampling.mixture import Mixture
from isthmus.data.sampling.schedule import InOrder, Schedule
from isthmus.data.sampling.shares import weigh
from isthmus.earlier.options import takes_present_names
from isthmus.types import Batch

_log = logging.getLogger(__name__)

TOLD = 1.0
"""Seconds of preparation from which on a user is told what took them."""

Batches = Literal["mixed", "balanced", "homogeneous"]
"""How modalities are spread over batches: as chance has it, in fixed shares in each, or one to a batch."""

CollatorFactory = Callable[[str], Collator]
"""Split (``train``, ``validation`` or ``test``) -> the collator of the model's present stage."""


@takes_present_names
class ConversationDataModule(pl.LightningDataModule):
    """Conversations for every stage. A stage is one Lightning epoch, however many passes over its sources it makes.

    A stage switch calls :meth:`set_stage`; ``reload_dataloaders_every_n_epochs=1`` lets the Trainer see it.
    The collator comes from ``collator_factory``, or from the model's own ``collator(split)``.

    Args:
        sources: training conversations by name.
        validation: conversations to validate on.
        test: conversations to test on.
        batch_size: conversations in a batch, of all processes together.
        evaluation_batch_size: the same for validation and test; ``batch_size`` where it isn't given.
        num_workers: processes that decode and collate, for each training process.
        seed: of every order and of every sample's noise.
        on_error: whether a bad sample ends the run, or is counted, reported at the stage's end and replaced.
        temperature: T of sources that a stage gives no weight (:func:`~isthmus.data.sampling.shares.weigh`); 1: by
            size.
        batches: how modalities are spread over batches (:class:`~isthmus.data.sampling.grouping.Grouping`). Unless
            ``mixed``, a source without an index of modalities is gone through once, when the first stage that has it
            begins.
        modality_shares: of modalities, where batches aren't ``mixed``, as ``{image: 2, video: 1, text: 1}``.
        multiprocessing_context: how worker processes start: ``fork``, ``spawn`` or ``forkserver``; as Python has it if
            None (fork on Linux up to Python 3.13, forkserver from 3.14 on). Forked workers start at once; the others
            import torch anew, and are safe beside threads that hold locks.

    Raises:
        ValueError: a number below its least, another ``on_error``, ``batches`` or ``multiprocessing_context``, or
            shares that nobody reads.
    """

    def __init__(
        self,
        sources: Mapping[str, ConversationSource],
        validation: Mapping[str, ConversationSource] | None = None,
        test: Mapping[str, ConversationSource] | None = None,
        batch_size: int = 16,
        evaluation_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        on_error: OnError = "raise",
        temperature: float = 1.0,
        batches: Batches = "mixed",
        modality_shares: Mapping[str, float] | None = None,
        multiprocessing_context: StartMethod | None = None,
    ) -> None:
        super().__init__()
        if batches not in get_args(Batches):
            raise ValueError(f"batches: found {batches!r}; expected {', '.join(get_args(Batches))}. Fix: choose one.")
        if modality_shares is not None and batches == "mixed":
            raise ValueError(
                "modality_shares: found them with batches = 'mixed', which reads none; expected 'balanced' or "
                "'homogeneous'. Fix: choose one, or leave the shares out."
            )
        if on_error not in get_args(OnError):
            raise ValueError(
                f"on_error: found {on_error!r}; expected {' or '.join(get_args(OnError))}. Fix: choose one."
            )
        if multiprocessing_context not in (None, *get_args(StartMethod)):
            raise ValueError(
                f"multiprocessing_context: found {multiprocessing_context!r}; expected "
                f"{', '.join(get_args(StartMethod))}. Fix: choose one."
            )
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if value < least:
                raise ValueError(f"{name}: found {value}; expected at least {least}. Fix: raise it.")
        self.sources = dict(sources)
        self.validation = dict(validation or {})
        self.test = dict(test or {})
        self.batch_size = batch_size
        self.evaluation_batch_size = evaluation_batch_size or batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.on_error: OnError = on_error
        self.temperature = temperature
        self.batches: Batches = batches
        self.modality_shares = modality_shares
        self.multiprocessing_context: StartMethod | None = multiprocessing_context
        self.collator_factory: CollatorFactory | None = None
        self.stage: Mixture | None = None
        self._loader: ConversationLoader | None = None
        self._labels: dict[str, Sequence[str]] = {}

    def set_stage(
        self,
        name: str,
        mixture: Mapping[str, float | None] | None = None,
        steps: int | None = None,
        epochs: float | None = None,
        batch_size: int | None = None,
    ) -> Mixture:
        """Sets what the next training loader gives; returns its schedule, whose ``len`` is the number of batches.

        Args:
            name: the stage.
            mixture: weights by source, as :func:`~isthmus.data.sampling.shares.weigh` takes them; every source by its
                size where none are given.
            steps: how many batches; or
            epochs: as many as draw this many times the number of items of the mixture's sources together.
            batch_size: in place of the module's.

        Raises:
            ValueError: see :class:`~isthmus.data.sampling.mixture.Mixture`.
        """
        self.stage = self._mixture(name, mixture, steps, epochs, batch_size, grouped=True)
        return self.stage

    def length(
        self,
        name: str,
        mixture: Mapping[str, float | None] | None = None,
        steps: int | None = None,
        epochs: float | None = None,
        batch_size: int | None = None,
    ) -> int:
        """How many batches a stage would have, without going through its sources; takes :meth:`set_stage`'s arguments.

        Raises:
            ValueError: see :class:`~isthmus.data.sampling.mixture.Mixture`.
        """
        return len(self._mixture(name, mixture, steps, epochs, batch_size, grouped=False))

    def _mixture(
        self,
        name: str,
        mixture: Mapping[str, float | None] | None,
        steps: int | None,
        epochs: float | None,
        batch_size: int | None,
        grouped: bool,
    ) -> Mixture:
        sizes = {source: len(items) for source, items in self.sources.items()}
        weights = weigh(f"stage '{name}'", sizes, mixture, self.temperature)
        size = self.batch_size if batch_size is None else batch_size
        chunks = {source: items.chunks for source, items in self.sources.items()}
        grouping = self._grouping([source for source in weights if source in sizes]) if grouped else None
        return Mixture(name, sizes, weights, size, steps, epochs, self.seed, chunks, grouping)

    @property
    def skipped(self) -> Counter[str]:
        """How many training samples of the present stage this process has skipped, by reason."""
        return Counter() if self._loader is None else self._loader.skipped

    def train_dataloader(self) -> ConversationLoader:
        """The present stage's batches.

        Raises:
            ValueError: no stage was set.
        """
        if self.stage is None:
            raise ValueError(
                "data: found no stage; expected one before training starts. Fix: call set_stage, or add the stage "
                "callback."
            )
        self._loader = self._make(self.stage, self.sources, "train")
        return self._loader

    def val_dataloader(self) -> ConversationLoader | list[ConversationLoader]:
        """Every validation item once, or nothing where there are none."""
        return self._in_order(self.validation, "validation")

    def test_dataloader(self) -> ConversationLoader | list[ConversationLoader]:
        """Every test item once, or nothing where there are none."""
        return self._in_order(self.test, "test")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch on the device. From pinned memory it travels while the device works on what came before."""
        return batch.to(device, non_blocking=device.type == "cuda")

    def teardown(self, stage: str) -> None:
        """Reports skipped samples of a stage that was broken off."""
        if self._loader is not None:
            self._loader.report()

    def _grouping(self, sources: Sequence[str]) -> Grouping | None:
        if self.batches == "mixed":
            return None
        for source in sources:
            if source not in self._labels:
                began = perf_counter()
                self._labels[source] = self.sources[source].labels()
                if (took := perf_counter() - began) > TOLD:
                    _log.info(
                        "source '%s': went through its %d conversations for their modalities, in %.1f s",
                        source,
                        len(self._labels[source]),
                        took,
                    )
        labels = {source: self._labels[source] for source in sources}
        return Grouping(self.batches, labels, self.modality_shares)

    def _in_order(
        self, sources: Mapping[str, ConversationSource], split: str
    ) -> ConversationLoader | list[ConversationLoader]:
        sizes = {name: len(source) for name, source in sources.items()}
        if not sum(sizes.values()):
            return []
        # A batch smaller than the number of processes would leave some without an item each time.
        size = max(self.evaluation_batch_size, self._world()[1])
        return self._make(InOrder(split, sizes, size, self.seed), sources, split)

    def _make(self, schedule: Schedule, sources: Mapping[str, ConversationSource], split: str) -> ConversationLoader:
        rank, world = self._world()
        collator, pins = self._collator(split), False
        if self.trainer is not None:
            pins = self.trainer.strategy.root_device.type == "cuda"
        return ConversationLoader(
            schedule,
            sources,
            collator,
            self.num_workers,
            rank,
            world,
            self.on_error,
            self.multiprocessing_context,
            pins,
            balanced=split == "train",
        )

    def _world(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _collator(self, split: str) -> Collator:
        factory = self.collator_factory
        if factory is None and self.trainer is not None:
            factory = getattr(self.trainer.lightning_module, "collator", None)
        if factory is None:
            raise ValueError(
                f"data: found nothing that makes batches for {split}; expected a model with collator(split), or "
                "collator_factory. "
                "Fix: fit with a model of this package, or set datamodule.collator_factory."
            )
        return factory(split)
