"""What the LLM's tuning costs it in plain text: its loss there, with adapters and without."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from isthmus.data.conversations.schema import MediumItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.module import ConversationDataModule
from isthmus.training.engines.units import reshard
from isthmus.training.module import TrainingModule
from isthmus.training.objectives.reference import eval_mode
from isthmus.training.objectives.supervised import terms_of
from isthmus.training.objectives.terms import LossWeights
from isthmus.types import Batch

SEARCHED = 50
"""So many conversations are read for each one without media that is wanted."""


class PlainText:
    """A few conversations without media, on which the LLM is compared with itself.

    Args:
        source: that holds some.
        name: of the source, for errors.
        size: conversations.

    Attributes:
        own: the loss of the LLM without adapters, in nats a token; None before it was measured.

    Raises:
        ValueError: the source has no conversation without media.
    """

    def __init__(self, source: ConversationSource, name: str, size: int) -> None:
        self.conversations = []
        for index in range(min(len(source), SEARCHED * size)):
            one = source[index]
            if not any(isinstance(item, MediumItem) for message in one.messages for item in message.content):
                self.conversations.append(one)
            if len(self.conversations) == size:
                break
        if not self.conversations:
            raise ValueError(
                f"plain: found no conversation without media among the first {min(len(source), SEARCHED * size)} of "
                f"'{name}'; expected some. Fix: name a source of plain text, such as isthmus data replay writes."
            )
        self.own: float | None = None
        self._batch: Batch | None = None

    def loss(self, trainer: pl.Trainer, module: TrainingModule) -> float:
        """The present loss, in nats a token. Training goes on as if nothing had been asked."""
        if self._batch is None:
            self._batch = module.model.collator()(self.conversations).to(module.device)
        try:
            return self._compared(trainer, module)
        finally:
            reshard(module, experts=False)

    def _compared(self, trainer: pl.Trainer, module: TrainingModule) -> float:
        assert self._batch is not None
        devices = [module.device] if module.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices), eval_mode(module.model):
            with trainer.precision_plugin.forward_context():
                if self.own is None:
                    with module.model.backbone.language_model.adapters_disabled():
                        self.own = self._measured(module)
                return self._measured(module)

    def _measured(self, module: TrainingModule) -> float:
        assert self._batch is not None
        terms = terms_of(module.model, LossWeights(), self._batch)
        return float(terms.text) / max(terms.tokens, 1)


def source_of(data: ConversationDataModule, name: str) -> ConversationSource:
    """A source of a data module: for validation, tests or training.

    Raises:
        ValueError: there is none of this name.
    """
    splits = (data.validation, data.test, data.sources)
    for sources in splits:
        if name in sources:
            return sources[name]
    known = ", ".join(dict.fromkeys(known for sources in splits for known in sources))
    raise ValueError(f"found no source '{name}' under data; expected one of {known or 'none'}. Fix: rename it.")
