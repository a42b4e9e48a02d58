"""The interface of a backbone: P and text -> the text loss and S (B, S, E); and decoding with signal runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.backbones.decoding.kept_prefix import KeptPrefix
from isthmus.backbones.owned_state import State, copy_state, state_of
from isthmus.batch_layout import layout_of
from isthmus.earlier.options import takes_present_names
from isthmus.types import Batch, Modality
from isthmus.vocabulary import Vocabulary


@dataclass(frozen=True)
class PromptLimits:
    """The most positions of a prompt; None where there is no limit.

    Attributes:
        full: the most that leave room for a full answer.
        longest: the most that leave room for a single token and the required media.
        context: the most positions of prompt and answer together.
    """

    full: int | None = None
    longest: int | None = None
    context: int | None = None


@dataclass
class BackboneOutput:
    """The output of a training forward.

    Attributes:
        text_loss: () the *sum* of the cross-entropies over the labelled positions, so that the caller can divide by a
            global count.
        correct: (P,) bool, at which labelled positions, in the order of ``labels != IGNORED``, the label had the
            highest probability; None if it would cost another pass.
        signals: by modality (r, S, E), the states of the trained runs, in the order of ``batch.signals[modality]``.
        token_losses: (P,) the cross-entropy of each labelled position, if requested.
        divergence: () how far the predictions that were to be kept have moved from the published LLM's, summed over
            their labelled positions; None if none was.
    """

    text_loss: Tensor
    correct: Tensor | None
    signals: dict[Modality, Tensor]
    token_losses: Tensor | None = None
    divergence: Tensor | None = None


@takes_present_names
@dataclass
class Sampling:
    """How an answer is sampled.

    Attributes:
        max_new_tokens: tokens after which an answer ends, runs of signal tokens included.
        temperature: 0 is greedy; otherwise top-p sampling from a generator seeded for each request.
        top_p: the probability mass of the likeliest tokens that are sampled from.
        seed: of sampling, and of the media.
        context: the most positions of a prompt and its answer together; the LLM's if None.
        seeds: of each row of a batch, where its tokens shouldn't depend on the row's place; from ``seed`` on if None.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    context: int | None = None
    seeds: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.context is not None and self.context < 1:
            raise ValueError(f"sampling: found context {self.context}; expected at least 1, or none. Fix: raise it.")
        if self.max_new_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"sampling: found max_new_tokens {self.max_new_tokens}, temperature {self.temperature}, "
                f"top_p {self.top_p}; expected max_new_tokens >= 1, temperature >= 0 and 0 < top_p <= 1"
            )


@dataclass
class SignalRun:
    """A run in an answer: its modality, its states (S, E), and whether it was forced because it was required."""

    modality: Modality
    states: Tensor
    forced: bool = False


@dataclass
class Answer:
    """A decoded answer: text pieces and signal runs in order; why it ended ('end' or 'length').

    ``ids`` are all tokens, including the end token and whole runs.
    """

    pieces: list[str | SignalRun] = field(default_factory=list)
    ended: str = "end"
    tokens: int = 0
    ids: list[int] = field(default_factory=list)


def joined(pieces: Iterable[str]) -> str:
    """Pieces of text as one: without the space around each, and with one between them."""
    return " ".join(words for piece in pieces if (words := piece.strip()))


class LanguageModel(nn.Module):
    """An LLM with trained rows for the new tokens, separate from its frozen embedding and head.

    Attributes:
        width: E.
        tokenizer: a fast tokenizer (its offsets give the target positions) with a chat template.
        reread_tokenizer: a picklable function that reads the tokenizer from its files; None if there is none.
        vocabulary: ids of tags and signal tokens.
        dtype: the type of the frozen weights; adapters within them are float32.
        fused: media that take no positions, since the LLM attends to them in additional layers.
        stop_strings: texts that end an answer, besides the ids of :meth:`ends`.
        uniform_passes: whether each training batch goes through all layers in the same passes, forward and backward,
            whatever it holds. Sharded layers are gathered by all processes together, so each has to take the same.
    """

    width: int
    tokenizer: Any
    reread_tokenizer: Callable[[], Any] | None = None
    vocabulary: Vocabulary
    checkpoint: Path
    dtype: torch.dtype
    holds_float32: bool = True
    fused: frozenset[Modality] = frozenset()
    stop_strings: tuple[str, ...] = ()
    uniform_passes: bool = False

    def serve(self, media: Iterable[Modality]) -> None:
        """Gives these modalities tokens; before :meth:`materialize`."""
        raise NotImplementedError

    def materialize(self, meta: bool = False, later: bool = False) -> None:
        """Builds the LLM and its trained parts, once; on the meta device, without weights, if ``meta``.

        ``later``: the LLM's layers stay on the meta device until :meth:`fill` reads them.
        """
        raise NotImplementedError

    def layers(self) -> list[nn.Module]:
        """The LLM's layers, in order."""
        raise NotImplementedError

    def fill(self, device: torch.device) -> None:
        """Loads the layers that :meth:`materialize` deferred; of sharded tensors, only this process's shard."""
        raise NotImplementedError

    def forward(
        self,
        batch: Batch,
        media: Mapping[Modality, tuple[Tensor, Tensor]],
        by_token: bool = False,
        temperature: float = 1.0,
        keeps: Sequence[int] | None = None,
        measured: bool = True,
    ) -> BackboneOutput:
        """``media``: by modality P (n, M, E) and mask (n, M), in the order of ``batch.media[modality]``.

        ``by_token``: whether to return the loss of each labelled position too. Logits are divided by ``temperature``.
        ``keeps``: rows, in words alone, whose predictions are compared with those of the LLM without its adapters; None
        where nothing is to be kept in any process. ``measured``: whether the text loss is wanted; it is 0 otherwise.
        """
        raise NotImplementedError

    def generate(
        self,
        batch: Batch,
        media: Mapping[Modality, tuple[Tensor, Tensor]],
        sampling: Sampling,
        required: Sequence[Sequence[Modality]] | None = None,
        allowed: Sequence[Modality] | None = None,
        kept: KeptPrefix | None = None,
    ) -> list[Answer]:
        """Decodes an answer to each prompt of the (right-padded) batch.

        ``required``: media that an answer must hold, for each prompt; ``allowed``: media that may be emitted;
        ``kept``: the key-value cache of the conversation's earlier prompts, for a batch of one prompt. The answer is
        the same without it; an LLM that can't continue from it runs the whole prompt.
        """
        raise NotImplementedError

    def prompt_limits(
        self, sampling: Sampling, owed: Sequence[Modality] = (), allowed: Sequence[Modality] | None = None
    ) -> PromptLimits:
        """The longest prompt whose answer is sampled so, must hold the media ``owed`` and may hold ``allowed``."""
        raise NotImplementedError

    def ends(self) -> set[int]:
        """Ids that end an answer; known before :meth:`materialize`."""
        raise NotImplementedError

    def recompute_layers(self) -> None:
        """From now on every layer keeps only its input in training, and recomputes the rest in the backward pass.

        Raises:
            ValueError: this LLM's layers can't.
        """
        raise ValueError(
            f"activation_checkpointing: found it on, and {type(self).__name__}, whose layers don't recompute; expected "
            "a decoder-only LLM. Fix: turn it off."
        )

    def laid_out(self, batch: Batch) -> Batch:
        """The batch with its layout. If it has none, it is computed on the CPU, which synchronises with the device.

        Raises:
            ValueError: the batch is inconsistent, see :func:`isthmus.batch_layout.layout_of`.
        """
        if batch.layout is not None:
            return batch
        device = batch.ids.device
        return replace(batch, layout=layout_of(batch, self.vocabulary).apply(lambda tensor: tensor.to(device)))

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, E), the LLM's input embeddings."""
        raise NotImplementedError

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The owned parameters by part: ``media_tags``, ``signal_rows`` and, if configured, ``lora``."""
        raise NotImplementedError

    def owned(self) -> dict[str, dict[str, str]]:
        """The names of the trained tensors, by component: the name in a file -> the name in this module."""
        raise NotImplementedError

    def owned_state(self) -> dict[str, dict[str, Tensor]]:
        """The trained tensors, by component; they share memory with the parameters."""
        return state_of(self, self.owned())

    def load_owned_state(self, state: State, strict: bool = True) -> None:
        """Copies tensors in the format of :meth:`owned_state` into this model.

        Args:
            state: by component.
            strict: every component must be there. Otherwise absent ones are left as they are (a stage that adds LoRA
                starts from one without); those that are there must still fit exactly.

        Raises:
            ValueError: a component is missing or unknown, or its tensors differ in name or shape; nothing is copied.
        """
        copy_state(self.owned_state(), state, strict)

    def adapters_disabled(self) -> AbstractContextManager[None]:
        """Disables the adapters within the block."""
        raise NotImplementedError
