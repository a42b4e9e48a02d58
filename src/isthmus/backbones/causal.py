"""A decoder-only LLM (Llama, Qwen, OPT, GLM, ...) as the backbone: frozen, beside it new tokens' rows and LoRA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.backbones.answer_writer import AnswerWriter
from isthmus.backbones.base import Answer, BackboneOutput, LanguageBackbone, Sampling
from isthmus.backbones.checkpoint import read_config, read_tokenizer
from isthmus.backbones.decoding import decode_answers
from isthmus.backbones.gated_fusion import FusionSettings, GatedFusion, Seen, decoder_layers
from isthmus.backbones.layout import check_batch, run_positions, splice_media
from isthmus.backbones.length_groups import LAUNCH, LAUNCH_ELSEWHERE, LengthGroup, length_groups
from isthmus.backbones.limits import answer_limits, check_requests
from isthmus.backbones.lora import (
    LoraSettings,
    adapters_disabled,
    inject_lora,
    lora_parameters,
    lora_state,
    set_lora_dropout,
)
from isthmus.backbones.new_tokens import NewTokenRows
from isthmus.backbones.owned_state import State, copy_state
from isthmus.backbones.sampling import Sampler
from isthmus.losses import text_loss
from isthmus.types import IGNORED, Batch, Modality
from isthmus.vocabulary import Vocabulary


class CausalBackbone(LanguageBackbone):
    """P and text -> text loss and S, through any decoder-only LLM of ``transformers``.

    The constructor reads configuration and tokenizer; :meth:`materialize` builds the LLM, the new tokens' rows and
    LoRA.

    Args:
        checkpoint: a folder saved with ``save_pretrained``: LLM and tokenizer.
        signals: signal tokens for each modality; absent ones take :data:`isthmus.vocabulary.DEFAULT_SIGNALS`.
        lora: how the LLM is adapted; not at all if None.
        dtype: type of the frozen weights. What learns is float32 in any case.
        skip_prefix_gradients: positions before the first trainable input run without autograd where no LoRA trains, and
            their keys and values are reused. Loss and gradients are the same; the switch is there to measure it.
        fusion: media that are attended to by new layers instead of taking positions; none if None.

    Raises:
        ValueError: the folder, its tokenizer or a signal count doesn't fit, or the LLM is an encoder-decoder.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        signals: Mapping[str, int] | None = None,
        lora: LoraSettings | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        skip_prefix_gradients: bool = True,
        fusion: FusionSettings | None = None,
    ) -> None:
        super().__init__()
        self.checkpoint = Path(checkpoint)
        self.config = read_config(self.checkpoint)
        if self.config.is_encoder_decoder:
            raise ValueError(
                f"backbone checkpoint {checkpoint}: found an encoder-decoder LLM; expected a decoder-only one"
            )
        self.vocabulary = Vocabulary(self.config.vocab_size, signals)
        self.tokenizer = read_tokenizer(self.checkpoint, self.config.vocab_size)
        # OPT-350m embeds in a narrower space than it computes in, and projects back before the head.
        self.width = getattr(self.config, "word_embed_proj_dim", None) or self.config.hidden_size
        self.lora = lora
        self.dtype = getattr(torch, dtype)
        self.skip_prefix_gradients = skip_prefix_gradients
        self.fusion_settings = fusion
        self.fused = frozenset() if fusion is None else frozenset(Modality(name) for name in fusion.modalities)
        self.fusion: GatedFusion | None = None
        self.is_loaded = False

    def materialize(self, meta: bool = False) -> None:
        """Builds everything, once; further calls do nothing. What is drawn comes from torch's global random state.

        Args:
            meta: build shapes on the meta device, without weights, to count parameters.

        Raises:
            ValueError: the weights can't be read, or ``lora.targets`` match nothing.
        """
        from transformers import AutoModelForCausalLM

        if self.is_loaded:
            return
        if meta:
            with torch.device("meta"):
                from_config: Callable[..., Any] = AutoModelForCausalLM.from_config
                self.llm = from_config(self.config, dtype=self.dtype)
        else:
            try:
                # How a library builds what it then overwrites must not decide what our own rows are.
                with torch.random.fork_rng(devices=[]):
                    loaded: Any = AutoModelForCausalLM.from_pretrained(
                        self.checkpoint, local_files_only=True, dtype=self.dtype, output_loading_info=True
                    )
            except (OSError, RuntimeError) as error:
                raise ValueError(
                    f"backbone checkpoint {self.checkpoint}: its weights can't be read: {error}"
                ) from error
            self.llm, report = loaded
            if missing := sorted(report["missing_keys"]):  # transformers would go on with random weights
                raise ValueError(
                    f"backbone checkpoint {self.checkpoint}: found no weights for {len(missing)} tensors "
                    f"{missing[:3]}; expected all that config.json speaks of. Download the folder again."
                )
        self.llm.requires_grad_(False)
        embedding, head = self.llm.get_input_embeddings().weight, self.llm.get_output_embeddings().weight
        if embedding.shape != (self.vocabulary.base_size, self.width) or head.shape != embedding.shape:
            raise ValueError(
                f"backbone checkpoint {self.checkpoint}: found embedding {tuple(embedding.shape)} and head "
                f"{tuple(head.shape)}; "
                f"expected both ({self.vocabulary.base_size}, {self.width}), as its config.json says"
            )
        self.rows = NewTokenRows(self.vocabulary, self.llm.get_input_embeddings(), head)
        if self.lora is not None:
            with torch.device("meta" if meta else "cpu"):
                inject_lora(self.llm, self.lora)
        if self.fusion_settings is not None:
            with torch.device("meta" if meta else "cpu"):
                self.fusion = GatedFusion(
                    self.fusion_settings, decoder_layers(self.llm), self.config.hidden_size, self.width
                )
        self.is_loaded = True
        self.train(self.training)

    def train(self, mode: bool = True) -> CausalBackbone:
        """Sets the mode of what learns. The LLM stays in eval mode; LoRA's dropout follows at the next forward."""
        super().train(mode)
        if self.is_loaded:
            self.llm.eval()
        return self

    def forward(self, batch: Batch, media: Mapping[Modality, tuple[Tensor, Tensor]]) -> BackboneOutput:
        """The text loss over the labelled positions, and the states of the trained runs.

        The position before a label predicts it. A run's states are the final hidden states at its own positions plus
        its tokens' input embeddings (NExT-GPT, arXiv 2309.05519).

        Args:
            batch: ids (B, T), mask, labels, places of media and runs.
            media: by modality P (n, M, E) and its mask (n, M), in the order of ``batch.media[modality]``.

        Raises:
            ValueError: the batch contradicts itself or ``media``; see :func:`isthmus.backbones.layout.check_batch`.
        """
        assert self.is_loaded, "materialize() comes first"
        media, seen = self._part(batch, media)
        extents = check_batch(batch, media, self.vocabulary, self.rows)
        adapts = any(parameter.requires_grad for parameter in lora_parameters(self.llm)) if self.lora else False
        if self.lora:
            set_lora_dropout(self.llm, self.training and adapts)
        embeddings = splice_media(self.embed(batch.ids), batch, media)
        skips = self.skip_prefix_gradients and torch.is_grad_enabled() and not adapts
        firsts = extents.firsts if skips else [0] * len(extents.firsts)
        if seen is None:
            groups = length_groups(extents.lengths, firsts, self._launch())
        else:  # fused media are told by their rows, so all rows run together
            assert self.fusion is not None
            reached = self.fusion.firsts(seen, firsts)
            groups = [LengthGroup(list(range(len(batch))), batch.ids.shape[1], min(reached))]
        with self._seeing(seen):
            hidden = self._grouped(embeddings, batch.mask, groups)

        predicted = batch.labels[:, 1:] != IGNORED
        columns = self.rows.columns(batch.labels[:, 1:][predicted])
        loss, correct = text_loss(hidden[:, :-1][predicted], self.logits, columns)
        # A zero from every row and new layer that trains: in a distributed run each process has its gradient, whatever
        # its batch has.
        for own in [*self.rows.parameters(), *([] if self.fusion is None else self.fusion.parameters())]:
            if own.requires_grad:
                loss = loss + 0.0 * own.sum()
        signals = {}
        for modality, runs in batch.signals.items():
            places = run_positions(runs.rows, runs.starts, self.vocabulary.signal_counts[modality])
            signals[modality] = hidden[places] + embeddings[places]
        return BackboneOutput(loss, correct, signals)

    @torch.no_grad()
    def generate(
        self,
        batch: Batch,
        media: Mapping[Modality, tuple[Tensor, Tensor]],
        sampling: Sampling,
        required: Sequence[Sequence[Modality]] | None = None,
        allowed: Sequence[Modality] | None = None,
    ) -> list[Answer]:
        """Decodes an answer to each right-padded prompt.

        Row i draws from its own generator, seeded with ``sampling.seed + i``.

        Args:
            batch: prompts; labels are not read.
            media: as in :meth:`forward`.
            sampling: how tokens are drawn. ``max_tokens`` counts text and signal tokens; the last run is finished
                beyond it.
            required: for each prompt the media that the answer must hold; what is still owed at its end is appended as
                forced runs.
            allowed: media that may be emitted at all; every one if None.

        Raises:
            ValueError: a request can't be met (a required medium isn't allowed), or a prompt leaves no room for an
                answer.
        """
        from transformers import DynamicCache

        assert self.is_loaded, "materialize() comes first"
        owed, permitted = check_requests(len(batch), required, allowed)
        media, seen = self._part(batch, media)
        check_batch(batch, media, self.vocabulary, self.rows)
        limits = answer_limits(
            batch.mask.sum(1).tolist(), sampling.max_tokens, owed, permitted, self.vocabulary, self.config
        )
        decode = self._decode_text
        writers = [
            AnswerWriter(self.vocabulary, self.ends(), limit, media_owed, decode)
            for limit, media_owed in zip(limits, owed, strict=True)
        ]
        forbidden = torch.tensor([modality not in permitted for modality in self.vocabulary.starts().values()])
        cache = DynamicCache(config=self.config)

        def run(embeddings: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
            return self._transform(embeddings, mask, positions, cache)

        def logits(states: Tensor) -> Tensor:
            scores = self.logits(states).float()
            scores[:, self.vocabulary.base_size :].masked_fill_(forbidden.to(scores.device), -torch.inf)
            return scores

        if self.lora:
            set_lora_dropout(self.llm, False)
        prompts = splice_media(self.embed(batch.ids), batch, media)
        with self._seeing(seen):
            return decode_answers(prompts, batch.mask, run, self.embed, logits, Sampler(sampling, len(batch)), writers)

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, E): the frozen embedding, and our rows for new tokens."""
        return self.rows.embed(ids, self.llm.get_input_embeddings())

    def logits(self, states: Tensor) -> Tensor:
        """(p, E) final states -> (p, base vocabulary + first signal tokens), scaled and capped as the LLM does."""
        scores = torch.cat(
            [self.llm.get_output_embeddings()(states), F.linear(states, self.rows.run_starts.to(states.dtype))], -1
        )
        scores = (
            scores * getattr(self.config, "logit_scale", 1.0) / getattr(self.config, "logits_scaling", 1.0)
        )  # Cohere; Granite
        if cap := getattr(self.config, "final_logit_softcapping", None):  # Gemma 2
            scores = torch.tanh(scores / cap) * cap
        return scores

    def ends(self) -> set[int]:
        """Ids that end an answer: the tokenizer's end token and those of the LLM's generation config."""
        listed = self.llm.generation_config.eos_token_id
        return {
            self.tokenizer.eos_token_id,
            *([] if listed is None else [listed] if isinstance(listed, int) else listed),
        }

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The owned parameters: ``media_tags``, ``signal_rows`` (with first signal tokens' output rows), and more.

        ``lora`` and ``fusion`` are there where they are configured.
        """
        assert self.is_loaded, "materialize() comes first"
        parts = {"media_tags": [self.rows.media_tags], "signal_rows": [self.rows.signal_rows, self.rows.run_starts]}
        if self.fusion is not None:
            parts["fusion"] = list(self.fusion.parameters())
        return parts | ({"lora": lora_parameters(self.llm)} if self.lora else {})

    def owned_state(self) -> dict[str, dict[str, Tensor]]:
        """What isn't pretrained, by component, under names for a file. The tensors share memory with the parameters."""
        assert self.is_loaded, "materialize() comes first"
        rows = {name: parameter.detach() for name, parameter in self.rows.named_parameters()}
        state = {
            "media_tags": {"media_tags": rows["media_tags"]},
            "signal_rows": {"signal_rows": rows["signal_rows"], "run_starts": rows["run_starts"]},
        }
        if self.fusion is not None:
            state["fusion"] = {name: parameter.detach() for name, parameter in self.fusion.named_parameters()}
        return state | ({"lora": lora_state(self.llm)} if self.lora else {})

    def load_owned_state(self, state: State, strict: bool = True) -> None:
        """Copies what :meth:`owned_state` gave into this model.

        Args:
            state: by component.
            strict: every component must be there. Otherwise absent ones are left as they are (a stage that adds LoRA
                starts from one without); those that are there must still fit exactly.

        Raises:
            ValueError: a component is missing or unknown, or its tensors differ in name or shape; nothing is copied.
        """
        copy_state(self.owned_state(), state, strict)

    @contextmanager
    def adapters_disabled(self) -> Iterator[None]:
        """The LLM without LoRA, for the block's length: preference tuning's reference, or text skill before tuning."""
        with adapters_disabled(self.llm):
            yield

    def _part(
        self, batch: Batch, media: Mapping[Modality, tuple[Tensor, Tensor]]
    ) -> tuple[Mapping[Modality, tuple[Tensor, Tensor]], Seen | None]:
        """Media that are spliced into the text, and those that are fused."""
        return (media, None) if self.fusion is None else self.fusion.part(batch, media)

    @contextmanager
    def _seeing(self, seen: Seen | None) -> Iterator[None]:
        """The LLM's new layers attend to these media, for the block's length."""
        if self.fusion is None:
            yield
            return
        self.fusion.seen = seen
        try:
            yield
        finally:
            self.fusion.seen = self.fusion.positions = None

    def _launch(self) -> int:
        return LAUNCH.get(self.rows.signal_rows.device.type, LAUNCH_ELSEWHERE)

    def _grouped(self, embeddings: Tensor, mask: Tensor, groups: Sequence[LengthGroup]) -> Tensor:
        """Final states (B, T, E), zero beyond a group's length; rows of like length run together."""
        total = embeddings.shape[1]
        if len(groups) == 1 and groups[0].length == total:
            return self._hidden(embeddings, mask, groups[0].first)
        parts = []
        for group in groups:
            rows = torch.tensor(group.rows, device=mask.device)
            states = self._hidden(
                embeddings[rows, : group.length], mask[rows, : group.length], min(group.first, group.length)
            )
            parts.append(F.pad(states, (0, 0, 0, total - group.length)))
        order = torch.tensor([row for group in groups for row in group.rows], device=mask.device)
        return torch.cat(parts)[order.argsort()]

    def _hidden(self, embeddings: Tensor, mask: Tensor, prefix: int) -> Tensor:
        """Final states (B, T, E); the first ``prefix`` positions, before anything trainable, without autograd."""
        from transformers import DynamicCache

        length = embeddings.shape[1]
        positions = torch.arange(length, device=mask.device).expand_as(mask)
        if prefix == 0:
            return self._transform(embeddings, mask, positions, None)
        cache = DynamicCache(config=self.config)
        with torch.no_grad():
            before = self._transform(embeddings[:, :prefix], mask[:, :prefix], positions[:, :prefix], cache)
        if prefix == length:
            return before
        return torch.cat([before, self._transform(embeddings[:, prefix:], mask, positions[:, prefix:], cache)], dim=1)

    def _transform(self, embeddings: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """The LLM without its head: (B, L, E) -> final, normalised states (B, L, E)."""
        if self.fusion is not None:
            self.fusion.positions = positions
        hidden: Tensor = self.llm.base_model(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return hidden

    def _decode_text(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text
