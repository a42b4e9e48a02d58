"""The backbone: P and text -> text and S. The LLM behind its interface, and the planner that writes for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytorch_lightning as pl
from torch import Tensor

from isthmus.backbones.base import Answer, BackboneOutput, LanguageModel, Sampling
from isthmus.backbones.decoding.kept_prefix import KeptPrefix
from isthmus.data.conversations.planning import Planner
from isthmus.data.conversations.thoughts import Thoughts
from isthmus.earlier.options import takes_present_names
from isthmus.types import Batch, Modality


@takes_present_names
class Backbone(pl.LightningModule):
    """The LLM in the middle.

    Args:
        language_model: any LLM of :mod:`isthmus.backbones`.
        max_length: the longest sequence T of a training batch; text, media positions and signal tokens together.
        thoughts: what becomes of ``<think>...</think>`` in answers: ``keep`` learns them, ``drop`` takes them out,
            ``untrained`` shows them without a loss.
    """

    def __init__(self, language_model: LanguageModel, max_length: int = 512, thoughts: Thoughts = "keep") -> None:
        super().__init__()
        self.language_model = language_model
        self.max_length = max_length
        self.planner = Planner(
            language_model.tokenizer,
            language_model.vocabulary,
            language_model.ends(),
            language_model.reread_tokenizer,
            language_model.stop_strings,
            thoughts,
        )

    @property
    def width(self) -> int:
        """E."""
        return self.language_model.width

    def forward(
        self,
        batch: Batch,
        media: Mapping[Modality, tuple[Tensor, Tensor]],
        by_token: bool = False,
        temperature: float = 1.0,
        keeps: Sequence[int] | None = None,
        measured: bool = True,
    ) -> BackboneOutput:
        """The summed text loss and the states S (r, S, E) of trained runs.

        Args:
            batch: conversations, packed over positions that media didn't take.
            media: by modality P and its mask.
            by_token: whether the loss of each target is wanted too.
            temperature: logits are divided by it.
            keeps: rows, in words alone, whose predictions are compared with the published LLM's.
            measured: whether the text loss is wanted, which is 0 otherwise.
        """
        output: BackboneOutput = self.language_model(batch, media, by_token, temperature, keeps, measured)
        return output

    def generate(
        self,
        batch: Batch,
        media: Mapping[Modality, tuple[Tensor, Tensor]],
        sampling: Sampling | None = None,
        required: Sequence[Sequence[Modality]] | None = None,
        allowed: Sequence[Modality] | None = None,
        kept: KeptPrefix | None = None,
    ) -> list[Answer]:
        """An answer to each prompt: words, and runs of signal tokens with their states S.

        Args:
            batch: prompts, packed over positions that media didn't take.
            media: by modality P and its mask.
            sampling: how tokens are drawn; greedily if None.
            required: for each prompt the media that its answer must hold.
            allowed: media that may be called for at all; every one if None.
            kept: what was computed for earlier prompts of the conversation, for a batch of one prompt.
        """
        return self.language_model.generate(batch, media, sampling or Sampling(), required, allowed, kept)
