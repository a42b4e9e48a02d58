"""An encoder-decoder LLM (T5, Flan-T5, UL2, mT5) as the backbone: it reads what precedes an answer, and writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from isthmus.backbones.aligned_decoding import decode_aligned
from isthmus.backbones.answer_spans import answer_spans
from isthmus.backbones.base import Answer, BackboneOutput, Sampling
from isthmus.backbones.layout import check_batch, run_positions, splice_media
from isthmus.backbones.limits import check_requests
from isthmus.backbones.lora import set_lora_dropout
from isthmus.backbones.pretrained import PretrainedBackbone
from isthmus.backbones.sampling import Sampler
from isthmus.losses import text_loss
from isthmus.types import IGNORED, Batch, Modality

KINDS = ("t5", "mt5")
"""``model_type`` of the LLMs whose parts are named and scaled the way this file expects. UL2 and Flan-T5 are t5."""


class EncoderDecoderBackbone(PretrainedBackbone):
    """P and text -> text loss and S, through an encoder-decoder LLM of ``transformers``.

    Batches are those of a decoder-only LLM: a conversation in reading order with labels on its answers. Each trained
    answer becomes a pair: the encoder reads all that stands before it (earlier turns, media, untrained runs), the
    decoder writes it after the start token. A conversation with several trained answers is encoded once for each.
    """

    def _check_kind(self) -> None:
        if self.config.model_type not in KINDS:
            kind = "an encoder-decoder" if self.config.is_encoder_decoder else "a decoder-only"
            raise ValueError(
                f"backbone checkpoint {self.checkpoint}: found model_type '{self.config.model_type}', {kind} LLM; "
                f"expected one of {', '.join(KINDS)}. Decoder-only ones go into isthmus.backbones.CausalBackbone."
            )

    def _library(self) -> Any:
        from transformers import AutoModelForSeq2SeqLM

        return AutoModelForSeq2SeqLM

    def forward(self, batch: Batch, media: Mapping[Modality, tuple[Tensor, Tensor]]) -> BackboneOutput:
        """The text loss over the labelled positions, and the states of the trained runs.

        A run's states are the decoder's final hidden states at its own tokens plus their input embeddings (NExT-GPT,
        arXiv 2309.05519). Where nothing trains before the answers, the encoder runs without autograd.

        Args:
            batch: ids (B, T), mask, labels, places of media and runs.
            media: by modality P (n, M, E) and its mask (n, M), in the order of ``batch.media[modality]``.

        Raises:
            ValueError: the batch contradicts itself or ``media``, see :func:`isthmus.backbones.layout.check_batch`; or
                a trained run stands in no trained answer.
        """
        assert self.is_loaded, "materialize() comes first"
        extents = check_batch(batch, media, self.vocabulary, self.rows)
        adapts = self._prepare_adapters()
        embeddings = splice_media(self.embed(batch.ids), batch, media)
        spans = answer_spans(batch, self.vocabulary)
        rows, starts = spans.rows, spans.starts
        # A zero from every row: in a distributed run each process has its gradient, whatever its batch has.
        zero = torch.stack([0.0 * own.sum() for own in self.rows.parameters()]).sum()
        if len(rows) == 0:
            return BackboneOutput(zero, batch.labels.new_zeros(0, dtype=torch.bool), {})

        learns = adapts or any(
            extents.firsts[row] < start for row, start in zip(rows.tolist(), starts.tolist(), strict=True)
        )
        longest = int(starts.max())
        seen = torch.arange(longest, device=rows.device) < starts[:, None]
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            memory = self._encode(embeddings[rows, :longest], seen)

        columns, inside = spans.columns()
        written = embeddings[rows[:, None], columns]
        hidden = self._decode(torch.cat([self._begin(len(rows)), written], 1), memory, seen, None)

        labels = batch.labels[rows[:, None], columns].where(inside, IGNORED)
        predicted = labels != IGNORED
        loss, correct = text_loss(hidden[:, :-1][predicted], self.logits, self.rows.columns(labels[predicted]))
        states = torch.zeros_like(embeddings, dtype=hidden.dtype)
        states = states.index_put((rows[:, None].expand_as(columns)[inside], columns[inside]), hidden[:, 1:][inside])
        signals = {}
        for modality, runs in batch.signals.items():
            places = run_positions(runs.rows, runs.starts, self.vocabulary.signal_counts[modality])
            signals[modality] = states[places] + embeddings[places]
        return BackboneOutput(loss + zero, correct, signals)

    @torch.no_grad()
    def generate(
        self,
        batch: Batch,
        media: Mapping[Modality, tuple[Tensor, Tensor]],
        sampling: Sampling,
        required: Sequence[Sequence[Modality]] | None = None,
        allowed: Sequence[Modality] | None = None,
    ) -> list[Answer]:
        """Decodes an answer to each right-padded prompt, which the encoder reads whole.

        Arguments and errors are those of :meth:`isthmus.backbones.CausalBackbone.generate`; the prompt takes no room
        from the answer.
        """
        from transformers import DynamicCache, EncoderDecoderCache

        assert self.is_loaded, "materialize() comes first"
        owed, permitted = check_requests(len(batch), required, allowed)
        check_batch(batch, media, self.vocabulary, self.rows)
        writers = self._writers([1] * len(batch), sampling, owed, permitted)
        if self.lora:
            set_lora_dropout(self.llm, False)
        memory = self._encode(splice_media(self.embed(batch.ids), batch, media), batch.mask)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())

        def run(embeddings: Tensor) -> Tensor:
            return self._decode(embeddings, memory, batch.mask, cache)

        last = run(self._begin(len(batch)))[:, -1]
        sampler = Sampler(sampling, len(batch))
        return decode_aligned(last, run, self.embed, self._scores(permitted), sampler, writers)

    def logits(self, states: Tensor) -> Tensor:
        """(p, E) final states -> (p, base vocabulary + first signal tokens); a tied T5 scales states."""
        tied = getattr(self.config, "scale_decoder_outputs", False)
        return super().logits(states * self.width**-0.5 if tied else states)

    def _begin(self, count: int) -> Tensor:
        """(count, 1, E): the start token's embedding."""
        start = getattr(self.config, "decoder_start_token_id", None)
        start = self.config.pad_token_id if start is None else start
        return self.embed(torch.full((count, 1), start, device=self.rows.media_tags.device))

    def _encode(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """(A, L, E) -> what the decoder attends to (A, L, E)."""
        states: Tensor = self.llm.get_encoder()(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
        return states

    def _decode(self, embeddings: Tensor, memory: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """The decoder without its head: (A, L, E), all of them valid or padded on the right -> final states."""
        hidden: Tensor = self.llm.get_decoder()(
            inputs_embeds=embeddings,
            encoder_hidden_states=memory,
            encoder_attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return hidden
