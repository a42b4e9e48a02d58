"""An encoder-decoder LLM (T5, Flan-T5, UL2, mT5) as the backbone: encodes what precedes an answer, and decodes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.backbones.attention.answer_spans import AnswerSpans, Integers, answer_spans
from isthmus.backbones.attention.length_groups import launch_cost
from isthmus.backbones.base import Answer, PromptLimits, Sampling
from isthmus.backbones.decoding.aligned import decode_aligned
from isthmus.backbones.decoding.continuous import ContinuousDecoder
from isthmus.backbones.decoding.kept_prefix import KeptPrefix
from isthmus.backbones.decoding.limits import check_requests, context_of
from isthmus.backbones.decoding.sampling import Sampler
from isthmus.backbones.splicing import check_projected, first_trained, learning, splice_media
from isthmus.layout import Layout, on_device
from isthmus.part_card import PartCard
from isthmus.precision import in_own_precision, lifted
from isthmus.types import Batch, Modality

KINDS = ("t5", "mt5")
"""The ``model_type`` of supported LLMs, whose parts are named and scaled alike. UL2 and Flan-T5 are t5."""
TINY = 1e-12
"""Mean squares below this are raised to it: a projected position of zeros stays zero."""


class EncoderDecoderBackbone(ContinuousDecoder):
    """P and text -> text loss and S, through an encoder-decoder LLM of ``transformers``.

    Batches are those of a decoder-only LLM: a conversation in reading order with labels on its answers. Each trained
    answer becomes a pair: the encoder reads everything before it (earlier turns, media, untrained runs), and the
    decoder predicts it after the start token. A conversation with several trained answers is encoded once for each;
    answers of similar length run together.
    """

    card = PartCard(
        takes="text, P (B, M, E)",
        gives="text, S (B, S, E)",
        widths="4096 (Flan-T5-XXL, UL2)",
        code="Apache-2.0 (transformers)",
        weights="the LLM's own: Flan-T5 and UL2 Apache-2.0",
        checkpoint="a folder of a T5 or mT5 and its tokenizer",
    )

    def _check_kind(self) -> None:
        if self.config.model_type not in KINDS:
            kind = "an encoder-decoder" if self.config.is_encoder_decoder else "a decoder-only"
            raise ValueError(
                f"backbone checkpoint {self.checkpoint}: found model_type '{self.config.model_type}', {kind} LLM; "
                f"expected one of {', '.join(KINDS)}. For decoder-only ones use isthmus.backbones.CausalBackbone."
            )

    def _library(self) -> Any:
        from transformers import AutoModelForSeq2SeqLM

        return AutoModelForSeq2SeqLM

    def _predicting(
        self, batch: Batch, media: Mapping[Modality, tuple[Tensor, Tensor]]
    ) -> tuple[Layout, Tensor, dict[Modality, Tensor]]:
        """See the base.

        Projected positions are first scaled to the root mean square of the LLM's embedding, so that only their
        direction matters. A run's states are the decoder's final hidden states at its tokens plus their input
        embeddings (NExT-GPT, arXiv 2309.05519). If nothing before the answers is trained, the encoder runs without
        autograd.
        """
        batch = self.laid_out(batch)
        layout = batch.layout
        assert layout is not None
        adapts = self._prepare_adapters()
        embeddings = self._embedded(batch, media)
        if self.uniform_passes:
            embeddings = learning(embeddings)
        spans = answer_spans(layout)
        if len(spans.rows) == 0:
            return layout, embeddings.new_zeros(0, self.width), {}

        firsts, device = np.asarray(first_trained(layout, media, self.rows)), batch.ids.device
        # before[p]: index of the state that predicts position p of an answer; the next state is that of p itself.
        before = np.zeros(batch.ids.numel(), dtype=np.int64)
        states: list[Tensor] = []
        count = 0
        for group in spans.groups(launch_cost(device, self.uniform_passes)):
            columns, inside = group.columns()
            learns = adapts or self.uniform_passes or bool((firsts[group.rows] < group.starts).any())
            places = group.rows[:, None] * layout.length + columns
            hidden = self._answers(embeddings, group, places, learns)
            order = count + np.arange(hidden.shape[0] * hidden.shape[1]).reshape(hidden.shape[:2])
            before[places[inside]] = order[:, :-1][inside]
            states.append(hidden.flatten(0, 1))
            count += order.size
        final, predicts = torch.cat(states), on_device(before, device)
        embeddings = embeddings.flatten(0, 1)
        signals = {
            modality: lifted(final[predicts[runs.positions] + 1]) + lifted(embeddings[runs.positions])
            for modality, runs in layout.runs.items()
        }
        return layout, final[predicts[layout.targets]], signals

    @torch.no_grad()
    @in_own_precision
    def generate(
        self,
        batch: Batch,
        media: Mapping[Modality, tuple[Tensor, Tensor]],
        sampling: Sampling,
        required: Sequence[Sequence[Modality]] | None = None,
        allowed: Sequence[Modality] | None = None,
        kept: KeptPrefix | None = None,
    ) -> list[Answer]:
        """Decodes an answer to each right-padded prompt, which the encoder reads as a whole.

        Arguments and errors are those of :meth:`isthmus.backbones.CausalBackbone.generate`; the prompt takes no
        positions from the answer. ``kept`` is unused: the encoder is bidirectional, so that a longer prompt changes all
        states.
        """
        from transformers import DynamicCache, EncoderDecoderCache

        assert self.is_loaded, "materialize() comes first"
        owed, permitted = check_requests(len(batch), required, allowed, self.vocabulary)
        batch = self.laid_out(batch)
        writers = self._writers([1] * len(batch), sampling, owed, permitted)
        self._prepare_adapters(trains=False)
        memory = self._encode(self._embedded(batch, media), batch.mask)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())

        def run(embeddings: Tensor) -> Tensor:
            return self._decode(embeddings, memory, batch.mask, cache)

        last = run(self._begin(len(batch)))[:, -1]
        sampler = Sampler(sampling, len(batch))
        return decode_aligned(last, run, self.embed, self._scores(permitted), sampler, writers)

    def prompt_limits(
        self, sampling: Sampling, owed: Sequence[Modality] = (), allowed: Sequence[Modality] | None = None
    ) -> PromptLimits:
        """The whole context: the answer has the decoder's own positions."""
        context = context_of(self.config, sampling.context)
        return PromptLimits(context, context, context)

    def _taken(self, batch: Batch) -> Sequence[int]:
        return [1] * len(batch)  # the start token's

    def _opened(
        self, batch: Batch, media: Mapping[Modality, tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Callable[[Tensor, int], Tensor]]:
        from transformers import DynamicCache, EncoderDecoderCache

        self._prepare_adapters(trains=False)
        memory = self._encode(self._embedded(batch, media), batch.mask)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())

        def run(embeddings: Tensor, start: int) -> Tensor:
            return self._decode(embeddings, memory, batch.mask, cache)

        return self._begin(1)[0], run

    def _build_layers(self) -> None:
        # The new tokens' output rows read unscaled states: with scaled ones they would learn many times slower.
        self.rows.run_starts.data.mul_(self._head_scale())

    def _head_scale(self) -> float:
        """A tied T5 divides its states by the root of the width before its head."""
        return float(self.width**-0.5) if getattr(self.config, "scale_decoder_outputs", False) else 1.0

    def _head(self, states: Tensor) -> Tensor:
        return super()._head(states * self._head_scale())

    def _embedded(self, batch: Batch, media: Mapping[Modality, tuple[Tensor, Tensor]]) -> Tensor:
        """(B, T, E): input embeddings of encoder and decoder, with projected positions scaled to the RMS of words.

        T5 doesn't normalise its residual stream, and its word embeddings are tens of times as large as the output of an
        untrained projector, which would otherwise have hardly any influence.
        """
        assert batch.layout is not None
        check_projected(batch.layout, batch, media)
        scaled = {}
        for modality, (projected, mask) in media.items():
            rms = projected.float().square().mean(-1, keepdim=True).clamp(min=TINY).sqrt()
            scaled[modality] = (projected * (self.rows.embedding_rms / rms), mask)
        return splice_media(self.embed(batch.ids, batch.layout), batch.layout, scaled)

    def _begin(self, count: int) -> Tensor:
        """(count, 1, E): the start token's embedding."""
        start = getattr(self.config, "decoder_start_token_id", None)
        start = self.config.pad_token_id if start is None else start
        return self.embed(torch.full((count, 1), start, device=self.rows.media_tags.device))

    def _answers(self, embeddings: Tensor, spans: AnswerSpans, places: Integers, learns: bool) -> Tensor:
        """(B, T, E) and A answers, the longest of L tokens -> the decoder's final states (A, 1 + L, E).

        Position 0 is the start token's.

        Args:
            embeddings: of the batch.
            spans: the answers.
            places: (A, L) indices of their tokens, row * T + column.
            learns: whether the encoder's input needs a gradient.
        """
        longest, device = int(spans.starts.max()), embeddings.device
        mask = on_device(np.arange(longest) < spans.starts[:, None], device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            memory = self._encode(embeddings[on_device(spans.rows, device), :longest], mask)
        written = embeddings.flatten(0, 1)[on_device(places, device)]
        return self._decode(torch.cat([self._begin(len(places)), written], 1), memory, mask, None)

    def _encode(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """(A, L, E) -> the encoder's states (A, L, E), to which the decoder attends."""
        states: Tensor = self.llm.get_encoder()(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
        return states

    def _decode(self, embeddings: Tensor, memory: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """The decoder without its head: (A, L, E), unpadded or right-padded -> final states."""
        hidden: Tensor = self.llm.get_decoder()(
            inputs_embeds=embeddings,
            encoder_hidden_states=memory,
            encoder_attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return hidden
