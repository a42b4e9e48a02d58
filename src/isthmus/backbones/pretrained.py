"""The base of backbones of ``transformers``: the LLM's folder, new tokens' rows, LoRA, and the trained state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from isthmus.backbones.adapters.lora import (
    AdapterSwitch,
    LoraSettings,
    inject_lora,
    lora_names,
    lora_parameters,
    set_lora_dropout,
)
from isthmus.backbones.adapters.quantization import QuantizationSettings, library_config
from isthmus.backbones.base import LanguageModel, PromptLimits, Sampling
from isthmus.backbones.checkpoint import (
    GGUF,
    damaged_weights,
    own_dtype,
    read_config,
    read_ends,
    read_llm,
    read_tokenizer,
    unpacked,
)
from isthmus.backbones.cross_entropies import Library, chosen_cross_entropy
from isthmus.backbones.decoding.answer_writer import AnswerWriter
from isthmus.backbones.decoding.limits import answer_limits, check_requests, context_of, prompt_limits
from isthmus.backbones.new_tokens import NewTokenRows
from isthmus.backbones.owned_state import keep_to_owned
from isthmus.backbones.sharded_weights import StoredWeights, fill, stand_ins, without_weights
from isthmus.backbones.template_probe import probe_template
from isthmus.earlier.options import takes_present_names
from isthmus.layout import Layout
from isthmus.paths import checkpoint_path
from isthmus.precision import Dtype, torch_dtype
from isthmus.types import Modality
from isthmus.vocabulary import Vocabulary


@takes_present_names
class PretrainedLanguageModel(LanguageModel):
    """A frozen LLM from a folder, with trained rows for new tokens and LoRA.

    The constructor reads configuration and tokenizer; :meth:`materialize` builds the LLM and the trained parts.

    Args:
        checkpoint: a folder saved with ``save_pretrained``: LLM and tokenizer; or a ``.gguf`` file of both, whose
            weights are unpacked to ``dtype`` (extra ``gguf``).
        signals: signal tokens for each modality; absent ones take their specification's.
        lora: the LLM's adapters; none if None.
        dtype: type of the frozen weights; the checkpoint's own if None. Trained parameters are always float32.
        chat_template: a name of :data:`isthmus.backbones.chat_templates.TEMPLATES` or a ``.jinja`` file, for a
            checkpoint without a template or instead of its own; the checkpoint's if None.
        quantization: of the frozen linear layers; none if None.
        cross_entropy: the implementation of the text loss: ``torch``, or on a GPU a kernel of ``liger``-kernel, which
            keeps fewer copies of half-precision logits (:mod:`isthmus.backbones.cross_entropies`). Loss and gradients
            are the same.
        stop_strings: texts that end an answer, for templates that write no end token after an answer.
        nextgpt_v1_tokens: new tokens as in NExT-GPT's first release (:class:`isthmus.vocabulary.Vocabulary`).

    Raises:
        ValueError: the folder, its tokenizer, the template or a signal count doesn't fit, or Liger-Kernel is configured
            and isn't installed.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            takes_present_names(cls)

    def __init__(
        self,
        checkpoint: str | Path,
        signals: Mapping[str, int] | None = None,
        lora: LoraSettings | None = None,
        dtype: Dtype | None = None,
        chat_template: str | None = None,
        quantization: QuantizationSettings | None = None,
        cross_entropy: Library = "torch",
        stop_strings: Sequence[str] = (),
        nextgpt_v1_tokens: bool = False,
    ) -> None:
        super().__init__()
        self.cross_entropy = chosen_cross_entropy(cross_entropy)
        self.checkpoint = checkpoint_path(checkpoint)
        self.config = read_config(self.checkpoint)
        self._check_kind()
        self.vocabulary = Vocabulary(self.config.vocab_size, signals, nextgpt_v1_tokens)
        self.reread_tokenizer = partial(read_tokenizer, self.checkpoint, self.config.vocab_size, chat_template)
        self.tokenizer = self.reread_tokenizer()
        ends = {self.tokenizer.eos_token_id} | read_ends(self.checkpoint, self.config)
        if not all(stop_strings):
            raise ValueError(
                "backbone.stop_strings: found an empty text; expected texts that end an answer. Fix: remove it."
            )
        self.stop_strings = tuple(stop_strings)
        self._ends = probe_template(self.tokenizer, ends, f"backbone checkpoint {self.checkpoint}", self.stop_strings)
        # OPT-350m's embedding and head are narrower than its layers.
        self.width = getattr(self.config, "word_embed_proj_dim", None) or self.config.hidden_size
        if quantization is not None and self.checkpoint.suffix == GGUF:
            raise ValueError(
                f"backbone quantization: found one beside {self.checkpoint}, whose weights are unpacked; expected a "
                "folder of safetensors. Fix: take it out, or give the model's folder."
            )
        self.lora = lora
        self._adapters = AdapterSwitch()
        self.dtype = own_dtype(self.checkpoint, self.config) if dtype is None else torch_dtype(dtype)
        self.quantization = quantization
        self.is_loaded = False

    def _check_kind(self) -> None:
        """Raises a ValueError if the configuration is that of another kind of LLM."""
        raise NotImplementedError

    def _library(self) -> Any:
        """The class of ``transformers`` that builds the LLM."""
        raise NotImplementedError

    def _build_layers(self) -> None:
        """Builds further trained parts; called last, on the LLM's device."""

    def materialize(self, meta: bool = False, later: bool = False) -> None:
        """Builds everything, once; further calls do nothing. Initial values come from torch's global random state.

        Args:
            meta: build shapes on the meta device, without weights and not quantised, to count parameters.
            later: the LLM's layers stay on the meta device, until :meth:`fill` reads them.

        Raises:
            ValueError: the weights can't be read, or ``lora.target_modules`` match nothing.
        """
        if self.is_loaded:
            return
        if meta:
            with torch.device("meta"):
                library: Any = self._library()
                self.llm = library.from_config(self.config, dtype=self.dtype, trust_remote_code=False)
        elif later:
            self._check_shares()
            with torch.random.fork_rng(devices=[]):
                self.llm = without_weights(self._library(), self.config, self.dtype, StoredWeights(self.checkpoint))
        else:
            self.llm = self._read_weights()
        self.llm.requires_grad_(False)
        embedding, head = self.llm.get_input_embeddings().weight, self.llm.get_output_embeddings().weight
        if embedding.shape != (self.vocabulary.base_size, self.width) or head.shape != embedding.shape:
            raise ValueError(
                f"backbone checkpoint {self.checkpoint}: found embedding {tuple(embedding.shape)} and head "
                f"{tuple(head.shape)}; "
                f"expected both ({self.vocabulary.base_size}, {self.width}), as its config.json says"
            )
        self.rows = NewTokenRows(self.vocabulary, self.llm.get_input_embeddings(), head)
        with torch.device("meta" if meta else "cpu"):
            if self.lora is not None:
                with stand_ins(self.llm) if later else nullcontext():
                    inject_lora(self.llm, self.lora)
            self._build_layers()
        self.is_loaded = True
        keep_to_owned(self)
        self.train(self.training)

    def layers(self) -> list[nn.Module]:
        """The LLM's layers, in order: the modules that its library lists as not to be split over devices."""
        kinds = set(self.llm._no_split_modules or ())
        own = self.llm.modules()  # a sharded layer's class has another name, and the layer's among its bases
        return [module for module in own if not kinds.isdisjoint(kind.__name__ for kind in type(module).__mro__)]

    def fill(self, device: torch.device) -> None:
        """Loads the layers that :meth:`materialize` deferred; of sharded tensors, only this process's shard."""
        fill(self.llm, StoredWeights(self.checkpoint), device)

    def _check_shares(self) -> None:
        method = None if self.lora is None else self.lora.method
        if self.quantization is not None or method == "dora":
            found = (
                "quantization" if self.quantization is not None else "lora.method dora, whose norms are the weights'"
            )
            raise ValueError(
                f"backbone: found {found}, and a strategy that shards; expected weights that each process reads its "
                "share of. Fix: take it out, or train under DDP."
            )

    def _read_weights(self) -> Any:
        from safetensors import SafetensorError

        stored: dict[str, Any] = {}
        if self.checkpoint.suffix == GGUF:
            stored = unpacked()
        elif self.quantization is not None:
            stored = {"quantization_config": library_config(self.quantization, self.dtype)}
        try:
            # The library's initialisation, which is overwritten, must not change the random state of our rows.
            with torch.random.fork_rng(devices=[]):
                llm, report = read_llm(
                    self._library(), self.checkpoint, dtype=self.dtype, output_loading_info=True, **stored
                )
        except SafetensorError as error:
            files = ", ".join(map(str, damaged_weights(self.checkpoint))) or self.checkpoint
            raise ValueError(
                f"backbone checkpoint {files}: can't be read as safetensors ({error}). Download it again."
            ) from error
        except (OSError, RuntimeError) as error:
            raise ValueError(f"backbone checkpoint {self.checkpoint}: its weights can't be read: {error}") from error
        if missing := sorted(report["missing_keys"]):  # transformers would leave them at random
            raise ValueError(
                f"backbone checkpoint {self.checkpoint}: found no weights for {len(missing)} tensors "
                f"{missing[:3]}; expected all that config.json describes. Download the folder again."
            )
        return llm

    def train(self, mode: bool = True) -> Self:
        """Sets the mode of trained parts. The LLM stays in eval mode; LoRA's dropout changes at the next forward."""
        super().train(mode)
        if self.is_loaded:
            self.llm.eval()
        return self

    def serve(self, media: Iterable[Modality]) -> None:
        """Gives these modalities tokens. Called by the model that serves them, before :meth:`materialize`.

        Raises:
            ValueError: the rows are built, without one of these.
        """
        media = tuple(media)
        if self.is_loaded and (late := [str(own) for own in media if own not in self.vocabulary.media]):
            raise ValueError(
                f"backbone: found {', '.join(late)} after its rows were built for {', '.join(self.vocabulary.media)}; "
                "expected all modalities before. Fix: compose the model with a new backbone."
            )
        self.vocabulary.include(media)

    def embed(self, ids: Tensor, layout: Layout | None = None) -> Tensor:
        """(B, T) ids -> (B, T, E): the frozen embedding, and the trained rows of new tokens, located by the layout."""
        embeddings: Tensor = self.rows(ids, self.llm.get_input_embeddings(), layout)
        return embeddings

    def logits(self, states: Tensor) -> Tensor:
        """(p, E) final states -> (p, base vocabulary + predicted new tokens), scaled and capped as in the LLM."""
        scores = torch.cat([self._head(states), self.rows.starts(states)], -1)
        if scale := getattr(self.config, "logit_scale", None):  # Cohere
            scores = scores * scale
        if scaling := getattr(self.config, "logits_scaling", None):  # Granite
            scores = scores / scaling
        if cap := getattr(self.config, "final_logit_softcapping", None):  # Gemma 2
            scores = torch.tanh(scores / cap) * cap
        return scores

    def _head_at(self, temperature: float) -> Callable[[Tensor], Tensor]:
        """:meth:`logits`, divided by the temperature."""
        return self.logits if temperature == 1 else lambda states: self.logits(states) / temperature

    def _head(self, states: Tensor) -> Tensor:
        """(p, E) -> (p, base vocabulary), the LLM's own head."""
        scores: Tensor = self.llm.get_output_embeddings()(states)
        return scores

    def ends(self) -> set[int]:
        """Ids that end an answer: the tokenizer's, the generation configuration's, and what the template writes."""
        return set(self._ends)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The owned parameters: ``media_tags``, ``signal_rows`` (with first signal tokens' output rows), ``lora``."""
        assert self.is_loaded, "materialize() comes first"
        parts = {"media_tags": [self.rows.media_tags], "signal_rows": [self.rows.signal_rows, self.rows.run_starts]}
        return parts | ({"lora": lora_parameters(self.llm)} if self.lora else {})

    def owned(self) -> dict[str, dict[str, str]]:
        assert self.is_loaded, "materialize() comes first"
        rows = {
            "media_tags": {"media_tags": "rows.media_tags"},
            "signal_rows": {"signal_rows": "rows.signal_rows", "run_starts": "rows.starts.weight"},
        }
        return rows | ({"lora": {n: f"llm.{path}" for n, path in lora_names(self.llm).items()}} if self.lora else {})

    def adapters_disabled(self) -> AbstractContextManager[None]:
        """Disables LoRA within the block, for preference tuning's reference or text skill before tuning."""
        return self._adapters.disabled(self.llm)

    def _prepare_adapters(self, trains: bool = True) -> bool:
        """Switches LoRA's dropout for this pass, and LoRA itself off while it neither trains nor adds anything.

        Args:
            trains: False where no adapter trains, whatever the stage.

        Returns:
            Whether adapters train.
        """
        if not self.lora:
            return False
        adapts = trains and any(parameter.requires_grad for parameter in lora_parameters(self.llm))
        set_lora_dropout(self.llm, self.training and adapts)
        self._adapters.settle(self.llm, adapts)
        return adapts

    def prompt_limits(
        self, sampling: Sampling, owed: Sequence[Modality] = (), allowed: Sequence[Modality] | None = None
    ) -> PromptLimits:
        """The longest prompt whose answer shares the LLM's positions. See :mod:`~isthmus.backbones.decoding.limits`."""
        (media,), permitted = check_requests(1, [owed], allowed, self.vocabulary)
        context = context_of(self.config, sampling.context)
        return prompt_limits(context, sampling.max_new_tokens, media, permitted, self.vocabulary)

    def _writers(
        self,
        lengths: Sequence[int],
        sampling: Sampling,
        owed: Sequence[Sequence[Modality]],
        permitted: Sequence[Modality],
    ) -> list[AnswerWriter]:
        """One writer for each row, for prompts of these lengths, whose answers share the LLM's positions."""
        context = context_of(self.config, sampling.context)
        limits = answer_limits(lengths, sampling.max_new_tokens, owed, permitted, self.vocabulary, context)
        decode = self._decode_text
        return [
            AnswerWriter(self.vocabulary, self.ends(), limit, media, decode, self.stop_strings)
            for limit, media in zip(limits, owed, strict=True)
        ]

    def _forbidden(self, permitted: Sequence[Modality]) -> Tensor:
        """(predicted new tokens,) bool: the first signal tokens of media that aren't permitted."""
        starts = self.vocabulary.starts()
        return torch.tensor([starts.get(token) not in permitted for token in self.vocabulary.predicted])

    def _scores(self, permitted: Sequence[Modality]) -> Callable[[Tensor], Tensor]:
        """:meth:`logits` for decoding: float32, -inf for the first signal tokens of media that aren't permitted."""
        forbidden = self._forbidden(permitted)

        def scores(states: Tensor) -> Tensor:
            found = self.logits(states).float()
            found[:, self.vocabulary.base_size :].masked_fill_(forbidden.to(found.device), -torch.inf)
            return found

        return scores

    def _decode_text(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text
