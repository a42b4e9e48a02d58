"""The contract of a backbone: P and text -> the text loss and S (B, S, E); and decoding with signal runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.backbones.decoding.kept_prefix import KeptPrefix
from isthmus.backbones.owned_state import State, copy_state, state_of
from isthmus.batch_layout import layout_of
from isthmus.types import Batch, Modality
from isthmus.vocabulary import Vocabulary


@dataclass(frozen=True)
class PromptLimits:
    """How many positions a prompt may take.

    Attributes:
        full: as many leave the answer its full room; None where nothing limits them.
        longest: as many leave room for a single token and the media that are owed.
        context: positions of prompt and answer together.
    """

    full: int | None = None
    longest: int | None = None
    context: int | None = None


@dataclass
class BackboneOutput:
    """What a training forward gives.

    Attributes:
        text_loss: () the *sum* of the cross-entropies over the labelled positions, so that the caller can divide by a
            global count.
        correct: (P,) bool, which labelled positions, in the order of ``labels != IGNORED``, were the likeliest token;
            None where it would cost another pass.
        signals: by modality (r, S, E), the states of the trained runs, in the order of ``batch.signals[modality]``.
        token_losses: (P,) the cross-entropy of each labelled position, where they were asked for.
    """

    text_loss: Tensor
    correct: Tensor | None
    signals: dict[Modality, Tensor]
    token_losses: Tensor | None = None


@dataclass
class Sampling:
    """How an answer is drawn.

    Attributes:
        max_tokens: tokens after which an answer ends, runs of signal tokens included.
        temperature: 0 is greedy; otherwise top-p sampling from a generator seeded for each request.
        top_p: share of the likeliest words that is sampled from.
        seed: of the draws, and of the media.
        context: positions that a prompt and its answer may take together; as many as the LLM has if None.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    context: int | None = None

    def __post_init__(self) -> None:
        if self.context is not None and self.context < 1:
            raise ValueError(f"sampling: found context {self.context}; expected at least 1, or none. Fix: raise it.")
        if self.max_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"sampling: found max_tokens {self.max_tokens}, temperature {self.temperature}, top_p {self.top_p}; "
                "expected max_tokens >= 1, temperature >= 0 and 0 < top_p <= 1"
            )


@dataclass
class SignalRun:
    """One run in an answer: its modality, its states (S, E), and whether a requirement had to force it."""

    modality: Modality
    states: Tensor
    forced: bool = False


@dataclass
class Answer:
    """A decoded answer: text pieces and signal runs in order; why it ended ('end' or 'length').

    ``ids`` are those that were written, the end token and whole runs included.
    """

    pieces: list[str | SignalRun] = field(default_factory=list)
    ended: str = "end"
    tokens: int = 0
    ids: list[int] = field(default_factory=list)


class LanguageModel(nn.Module):
    """An LLM with the rows of the new tokens beside its frozen embedding and head.

    Attributes:
        width: E.
        tokenizer: a fast tokenizer (offsets are needed to tell target positions) with a chat template.
        reread_tokenizer: a function that can be pickled and reads it from its files; None where there is none.
        vocabulary: ids of tags and signal tokens.
        dtype: the type of the frozen weights; what learns within them is float32.
        fused: media that take no positions, since the LLM attends to them by layers of their own.
        stops: texts that end an answer, beside the ids of :meth:`ends`.
    """

    width: int
    tokenizer: Any
    reread_tokenizer: Callable[[], Any] | None = None
    vocabulary: Vocabulary
    checkpoint: Path
    dtype: torch.dtype
    holds_float32: bool = True
    fused: frozenset[Modality] = frozenset()
    stops: tuple[str, ...] = ()

    def materialize(self, meta: bool = False, later: bool = False) -> None:
        """Builds the LLM and what is trained beside it, once; on the meta device, without weights, if ``meta``.

        ``later``: the LLM's layers stay on the meta device until :meth:`fill` reads them.
        """
        raise NotImplementedError

    def layers(self) -> list[nn.Module]:
        """The LLM's layers, in order."""
        raise NotImplementedError

    def fill(self, device: torch.device) -> None:
        """Reads the layers that :meth:`materialize` left for later: of what is sharded by now, this process's share."""
        raise NotImplementedError

    def forward(
        self,
        batch: Batch,
        media: Mapping[Modality, tuple[Tensor, Tensor]],
        by_token: bool = False,
        temperature: float = 1.0,
    ) -> BackboneOutput:
        """``media``: by modality P (n, M, E) and mask (n, M), in the order of ``batch.media[modality]``.

        ``by_token``: whether the loss of each labelled position is wanted too. Logits are divided by ``temperature``.
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

        ``required``: media that an answer must hold, for each prompt; ``allowed``: media that may be emitted at all;
        ``kept``: what was computed for earlier prompts of the conversation, for a batch of one prompt. The answer is
        the same without it, and an LLM that can't go on from it runs the whole prompt.
        """
        raise NotImplementedError

    def prompt_limits(
        self, sampling: Sampling, owed: Sequence[Modality] = (), allowed: Sequence[Modality] | None = None
    ) -> PromptLimits:
        """How long a prompt may be whose answer is drawn so, has to hold ``owed`` and may hold ``allowed``."""
        raise NotImplementedError

    def ends(self) -> set[int]:
        """Ids that end an answer; known before :meth:`materialize`."""
        raise NotImplementedError

    def laid_out(self, batch: Batch) -> Batch:
        """The batch with its layout. One without is read and checked on the CPU, for which its device is waited for.

        Raises:
            ValueError: the batch contradicts itself, see :func:`isthmus.batch_layout.layout_of`.
        """
        if batch.layout is not None:
            return batch
        device = batch.ids.device
        return replace(batch, layout=layout_of(batch, self.vocabulary).apply(lambda tensor: tensor.to(device)))

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, E), as the LLM takes them in."""
        raise NotImplementedError

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The owned parameters by part: ``media_tags``, ``signal_rows`` and, where there is one, ``lora``."""
        raise NotImplementedError

    def owned(self) -> dict[str, dict[str, str]]:
        """What isn't pretrained, by component: by its name in a file, where this module holds a tensor."""
        raise NotImplementedError

    def owned_state(self) -> dict[str, dict[str, Tensor]]:
        """What isn't pretrained, by component; the tensors share memory with the parameters."""
        return state_of(self, self.owned())

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

    def adapters_disabled(self) -> AbstractContextManager[None]:
        """The LLM without its adapters, for the block's length."""
        raise NotImplementedError
