"""Supervised losses of models without a Trainer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from isthmus.data.conversations.schema import Conversation
from isthmus.model import AnyToAny
from isthmus.training import LossWeights
from isthmus.training.objectives.supervised import terms_of
from isthmus.training.objectives.terms import Terms
from isthmus.types import Batch


def terms(model: AnyToAny, weights: LossWeights, given: Batch | Sequence[Conversation]) -> Terms:
    """The loss terms of a batch, or of conversations."""
    batch = given if isinstance(given, Batch) else model.collator(weights.denoising > 0)(given)
    return terms_of(model, weights, batch)


def loss(model: AnyToAny, weights: LossWeights, given: Batch | Sequence[Conversation]) -> Tensor:
    """() the loss of a batch, or of conversations, on this process alone."""
    found = terms(model, weights, given)
    return found.total(weights, found.counts())
