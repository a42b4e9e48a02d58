"""What a step's sums are divided by: counted on the CPU, added up over processes while the device works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed as distributed
from torch import Tensor

from isthmus.layout import Layout, on_device
from isthmus.model.losses import Terms
from isthmus.types import Batch

if TYPE_CHECKING:
    from isthmus.model.any_to_any import AnyToAny


def over_processes(model: AnyToAny, counts: Tensor) -> Callable[[], Tensor]:
    """Begins to add up counts (n,) of all processes; what is returned gives the sums.

    Only what reads the sums waits for them. Every process has to begin at the same place of its step. A strategy's own
    reduction would add a barrier.
    """
    work = distributed.all_reduce(counts, async_op=True) if model.trainer.world_size > 1 else None

    def sums() -> Tensor:
        if work is not None:
            work.wait()
        return counts

    return sums


def counts_of(model: AnyToAny, parts: Sequence[Batch]) -> Tensor:
    """(3,) float64, targets, aligned runs and denoised contents of a batch's parts: nothing is computed for it."""
    weights = model.loss_weights
    tokens = 0 if weights.is_text_alone else sum(part.target_count for part in parts)
    signals = [pair for part in parts for pair in part.signals.items()] if model.output_side is not None else []
    heard = [own for modality, own in signals if weights.factor(modality)]
    runs = sum(len(own.captions) for own in heard) if weights.alignment else 0
    contents = sum(len(own.content_runs) for own in heard) if weights.denoising else 0
    return on_device([tokens, runs, contents], model.device, torch.float64)


def with_late_counts(model: AnyToAny, terms: Terms, counts: Tensor) -> Tensor:
    """The (3,) sums of :func:`counts_of`, and those that are only known with their terms: teaching's, imitation's."""
    late = terms.counts()[len(counts) :]
    if not len(late):
        return counts
    return torch.cat([counts, over_processes(model, late)()])


def target_labels(batch: Batch) -> Tensor:
    """(P,) the labels of a batch that has its layout."""
    return batch.labels.flatten()[layout_within(batch).targets]


def layout_within(batch: Batch) -> Layout:
    """The batch's layout, where it must have one by now."""
    assert batch.layout is not None, "the backbone's laid_out() comes first"
    return batch.layout
