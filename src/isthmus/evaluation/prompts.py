"""The conversations behind a batch of a test run: a batch holds only tensors, so they are read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl

from isthmus.data.batching.loader import ConversationLoader
from isthmus.data.conversations.schema import Message
from isthmus.data.module import ConversationDataModule


def batch_messages(trainer: pl.Trainer, batch_idx: int) -> Callable[[int], Sequence[Message]] | None:
    """Row of this process's batch -> the messages of its prompt; None if the Trainer has other data."""
    loader = trainer.test_dataloaders
    data: Any = getattr(trainer, "datamodule", None)
    if not isinstance(loader, ConversationLoader) or not isinstance(data, ConversationDataModule):
        return None
    references = loader.schedule.batch(batch_idx)[trainer.global_rank :: trainer.world_size]

    def messages(row: int) -> Sequence[Message]:
        return data.test[references[row].source][references[row].index].prompt().messages

    return messages
