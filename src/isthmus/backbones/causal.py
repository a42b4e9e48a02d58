"""A frozen decoder-only LLM (Llama, Qwen, OPT, GLM, ...) as the backbone, with trained token rows and LoRA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.backbones.adapters.gated_fusion import FusedMedia, FusionSettings, GatedFusion, decoder_layers
from isthmus.backbones.adapters.lora import LoraSettings
from isthmus.backbones.adapters.quantization import QuantizationSettings
from isthmus.backbones.attention.grouped import grouped_states
from isthmus.backbones.attention.length_groups import LengthGroup, launch_cost, length_groups
from isthmus.backbones.attention.packing import Packer
from isthmus.backbones.cross_entropies import Library
from isthmus.backbones.decoding.causal_decoder import CausalDecoder
from isthmus.backbones.layer_checkpoints import checkpoint_layers, checkpointing
from isthmus.backbones.splicing import first_trained, learning, splice_media
from isthmus.compiling import compile_in_place
from isthmus.layout import Layout
from isthmus.part_card import PartCard
from isthmus.precision import Dtype, lifted
from isthmus.types import Batch, Modality

SHORT_PREFIX = 32
"""A separate pass over fewer positions costs more than the gradients that it saves."""


class CausalBackbone(CausalDecoder):
    """P and text -> text loss and S, through any decoder-only LLM of ``transformers``.

    Args:
        checkpoint: as in :class:`~isthmus.backbones.pretrained.PretrainedLanguageModel`.
        signals: likewise.
        lora: likewise.
        dtype: likewise.
        skip_prefix_gradients: if no LoRA trains, positions before the first trainable input run without autograd, and
            their keys and values are reused. Loss and gradients are the same; the switch is there to measure the gain.
        packing: rows are packed without padding if the LLM supports it (:mod:`isthmus.backbones.attention.packing`),
            and what several rows begin with, such as a system message or a prompt, runs once; otherwise rows of similar
            length run together. Loss and gradients are the same.
        fusion: media that new layers attend to, instead of taking positions; none if None.
        checkpointed_layers: number of first layers that keep only their inputs and recompute the rest in the backward
            pass: all of them need the least memory, for a third more compute. If rows aren't packed, passes that
            continue from a prefix's keys and values, which are short, aren't checkpointed.
        compiled: layers are compiled by ``torch.compile``, except in decoding. Losses and gradients are the same up to
            rounding; LoRA's dropout draws other numbers. The first steps take a minute or more, later ones less.
        chat_template: as in :class:`~isthmus.backbones.pretrained.PretrainedLanguageModel`.
        quantization: likewise.
        cross_entropy: likewise.
        stop_strings: likewise.
        nextgpt_v1_tokens: likewise.

    Raises:
        ValueError: the folder, its tokenizer or a signal count doesn't fit, or the LLM is an encoder-decoder.
    """

    card = PartCard(
        takes="text, P (B, M, E)",
        gives="text, S (B, S, E)",
        widths="4096 (Vicuna-7B, Qwen3-8B)",
        code="Apache-2.0 (transformers)",
        weights="the LLM's own: Vicuna v1.5 Llama 2, Qwen3 Apache-2.0",
        checkpoint="a folder of a decoder-only LLM and its tokenizer",
    )

    def __init__(
        self,
        checkpoint: str | Path,
        signals: Mapping[str, int] | None = None,
        lora: LoraSettings | None = None,
        dtype: Dtype | None = None,
        skip_prefix_gradients: bool = True,
        packing: bool = True,
        fusion: FusionSettings | None = None,
        chat_template: str | None = None,
        quantization: QuantizationSettings | None = None,
        checkpointed_layers: int = 0,
        compiled: bool = False,
        cross_entropy: Library = "torch",
        stop_strings: Sequence[str] = (),
        nextgpt_v1_tokens: bool = False,
    ) -> None:
        tokens_and_head = chat_template, quantization, cross_entropy, stop_strings, nextgpt_v1_tokens
        super().__init__(checkpoint, signals, lora, dtype, *tokens_and_head)
        self.skip_prefix_gradients = skip_prefix_gradients
        self.packer = Packer() if packing and fusion is None else None
        if checkpointed_layers < 0:
            raise ValueError(
                f"backbone checkpointed_layers: found {checkpointed_layers}; expected at least 0. Fix: raise it."
            )
        self.checkpointed_layers = checkpointed_layers
        self._checkpointed: Sequence[nn.Module] = []
        self.compiled = compiled
        self.fusion_settings = fusion
        self.fused = frozenset() if fusion is None else frozenset(Modality(name) for name in fusion.modalities)
        self.fusion: GatedFusion | None = None

    def _check_kind(self) -> None:
        if self.config.is_encoder_decoder:
            raise ValueError(
                f"backbone checkpoint {self.checkpoint}: found an encoder-decoder LLM; expected a decoder-only one. "
                "Use isthmus.backbones.EncoderDecoderBackbone for it."
            )

    def _library(self) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM

    def _build_layers(self) -> None:
        layers = decoder_layers(self.llm)
        if self.checkpointed_layers > len(layers):
            raise ValueError(
                f"backbone checkpointed_layers: found {self.checkpointed_layers}; the LLM of {self.checkpoint} has "
                f"{len(layers)} layers. Fix: lower it."
            )
        # The first layers' backward pass comes last, when most other activations are already freed.
        self._recompute(layers[: self.checkpointed_layers])
        if self.fusion_settings is not None:
            self.fusion = GatedFusion(self.fusion_settings, layers, self.config.hidden_size, self.width)

    def recompute_layers(self) -> None:
        self._recompute(decoder_layers(self.llm))

    def _recompute(self, layers: Sequence[nn.Module]) -> None:
        self._checkpointed = layers
        checkpoint_layers(layers)

    def _predicting(
        self, batch: Batch, media: Mapping[Modality, tuple[Tensor, Tensor]]
    ) -> tuple[Layout, Tensor, dict[Modality, Tensor]]:
        """See the base. The position before a label predicts it.

        A run's states are the final hidden states at its own positions plus its tokens' input embeddings (NExT-GPT,
        arXiv 2309.05519).
        """
        batch, media, fused_media = self._separated(batch, media)
        layout = batch.layout
        assert layout is not None
        self._prepare_layers()
        adapts = self._prepare_adapters()
        embeddings = splice_media(self.embed(batch.ids, layout), layout, media)
        if self.uniform_passes:
            embeddings = learning(embeddings)
        learns = torch.is_grad_enabled() and not self.uniform_passes
        skips = self.skip_prefix_gradients and learns and not adapts and self._positions_hold()
        firsts = first_trained(layout, media, self.rows) if skips else [0] * len(batch)
        hidden = self._states(embeddings, batch.mask, layout, firsts, fused_media).flatten(0, 1)
        embeddings = embeddings.flatten(0, 1)
        signals = {
            modality: lifted(hidden[own.positions]) + lifted(embeddings[own.positions])
            for modality, own in layout.runs.items()
        }
        return layout, hidden.index_select(0, layout.targets - 1), signals

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The owned parameters: ``media_tags``, ``signal_rows`` (with first signal tokens' output rows), and more.

        ``lora`` and ``fusion`` are included if configured.
        """
        return super().parts() | ({} if self.fusion is None else {"fusion": list(self.fusion.parameters())})

    def owned(self) -> dict[str, dict[str, str]]:
        if self.fusion is None:
            return super().owned()
        fusion = {name: f"fusion.{name}" for name, _ in self.fusion.named_parameters()}
        return super().owned() | {"fusion": fusion}

    def _states(
        self,
        embeddings: Tensor,
        mask: Tensor,
        layout: Layout,
        firsts: list[int],
        fused_media: FusedMedia | None,
    ) -> Tensor:
        """Final states (B, T, E), arbitrary after a row's end; gradients reach each row from its first on."""
        if fused_media is not None:  # fused media are indexed by row, so all rows run together
            assert self.fusion is not None
            fused_firsts = self.fusion.firsts(fused_media, firsts)
            rows, length = mask.shape
            groups = [LengthGroup(list(range(rows)), [length] * rows, [min([*fused_firsts, length])] * rows)]
            with self._fusing(fused_media):
                return self._grouped(embeddings, mask, groups)
        if self.packer is not None:
            with checkpointing(self._checkpointed):
                return self.packer.run(self.llm, embeddings, layout.lengths, firsts, SHORT_PREFIX, layout.beginnings)
        launch = launch_cost(mask.device, self.uniform_passes)
        return self._grouped(embeddings, mask, length_groups(layout.lengths, firsts, launch))

    def _prepare_layers(self) -> None:
        """Before the first pass: checks whether this LLM can run packed rows, and compiles the layers if configured."""
        self._can_pack()
        if self.compiled:
            for layer in decoder_layers(self.llm):
                compile_in_place(layer, "backbone compiled", self.rows.signal_rows.device, dynamic=True)

    def _grouped(self, embeddings: Tensor, mask: Tensor, groups: Sequence[LengthGroup]) -> Tensor:
        from transformers import DynamicCache

        new_cache = partial(DynamicCache, config=self.config)
        return grouped_states(self._transform, new_cache, embeddings, mask, groups, SHORT_PREFIX, self._counts_slots)

    @property
    def _counts_slots(self) -> bool:
        """Whether attention counts cache slots instead of positions: masked slots then shrink its window."""
        kinds = getattr(self.config.get_text_config(), "layer_types", None) or []
        window = getattr(self.config.get_text_config(), "sliding_window", None)
        return self.fusion is not None or bool(window) or any("full" not in kind for kind in kinds)
