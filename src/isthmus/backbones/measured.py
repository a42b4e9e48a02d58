"""What a backbone gives in training: how well its targets are predicted, S, and how far predictions have moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from isthmus.backbones.base import BackboneOutput
from isthmus.backbones.pretrained import PretrainedLanguageModel
from isthmus.batch_layout import rows_in_words, target_places
from isthmus.layout import Layout
from isthmus.losses import kept_divergence, text_loss, token_losses
from isthmus.precision import in_own_precision
from isthmus.types import IGNORED, Batch, Modality


class MeasuredLanguageModel(PretrainedLanguageModel):
    """An LLM whose predictions of a batch's targets are measured.

    Its arguments are those of :class:`~isthmus.backbones.pretrained.PretrainedLanguageModel`.
    """

    @in_own_precision
    def forward(
        self,
        batch: Batch,
        media: Mapping[Modality, tuple[Tensor, Tensor]],
        by_token: bool = False,
        temperature: float = 1.0,
        keeps: Sequence[int] | None = None,
        measured: bool = True,
    ) -> BackboneOutput:
        """The text loss over the labelled positions, and the states of the trained runs.

        Args:
            batch: ids (B, T), mask, labels, positions of media and runs.
            media: by modality P (n, M, E) and its mask (n, M), in the order of ``batch.media[modality]``.
            by_token: whether to return the loss of each labelled position too.
            temperature: logits are divided by it.
            keeps: rows, in words alone, whose predictions are compared with those of the LLM without its adapters.
            measured: whether the text loss is wanted; S alone isn't worth the logits.

        Raises:
            ValueError: the batch is inconsistent (:func:`isthmus.batch_layout.layout_of`) or doesn't fit ``media``
                (:func:`isthmus.backbones.splicing.check_projected`), or a trained run isn't in a trained answer.
        """
        assert self.is_loaded, "materialize() comes first"
        published = self._published(batch, keeps)
        layout, predicting, signals = self._predicting(batch, media)
        if not measured:
            return BackboneOutput(predicting.new_zeros((), dtype=torch.float32), None, signals)
        measure = token_losses if by_token else text_loss
        head = self._head_at(temperature)
        losses, correct = measure(predicting, head, layout.columns, cross_entropy=self.cross_entropy)
        divergence = None
        if keeps and published is not None:
            now = predicting[target_places(layout, keeps, predicting.device)]
            divergence = kept_divergence(now, published, self.logits, self.vocabulary.base_size)
        return BackboneOutput(losses.sum(), correct, signals, losses if by_token else None, divergence)

    def _predicting(
        self, batch: Batch, media: Mapping[Modality, tuple[Tensor, Tensor]]
    ) -> tuple[Layout, Tensor, dict[Modality, Tensor]]:
        """The layout of what is run, the states (P, E) that predict its targets, and S (r, S, E) of its runs."""
        raise NotImplementedError

    def _published(self, batch: Batch, keeps: Sequence[int] | None) -> Tensor | None:
        """The states (p, E) by which the LLM without its adapters predicts these rows' targets; None without any.

        Where all processes have to take the same passes, one that has nothing to keep takes it with a single position.
        """
        if not keeps and not (self.uniform_passes and keeps is not None):
            return None
        if keeps:
            part = rows_in_words(self.laid_out(batch), keeps)
        else:
            word = torch.zeros(1, 1, dtype=torch.int64, device=batch.ids.device)
            part = self.laid_out(Batch(word, word == 0, word + IGNORED))
        with torch.no_grad(), self.adapters_disabled():
            return self._predicting(part, {})[1]
