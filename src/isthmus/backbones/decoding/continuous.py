"""Continuous batching: answers are decoded together, though each begins and ends at its own time.

An answer is the same bit for bit whichever others are decoded beside it. A matrix product's rounding depends on its
number of rows, but not on what the other rows hold; so a prompt and a run of signal tokens run alone, and single tokens
run together in a pass that always has the same number of rows. Attention, whose rounding depends on the number of
keys, is computed for each answer by itself. (This holds where the matrix library treats each row of a product alike,
as the CPU's does. On a GPU it may choose another algorithm, and answers then agree to rounding.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.backbones.base import Sampling
from isthmus.backbones.decoding.answer_writer import AnswerWriter
from isthmus.backbones.decoding.limits import check_requests
from isthmus.backbones.decoding.sampling import Sampler
from isthmus.backbones.decoding.step import decode_step
from isthmus.backbones.pretrained import PretrainedLanguageModel
from isthmus.precision import in_own_precision
from isthmus.types import Batch, Modality


@dataclass
class Prefilled:
    """A prompt that has run through the LLM.

    Attributes:
        last: (E,) the final state at its last position.
        length: number of positions that have run.
        run: embeddings (1, L, E) and their first position -> final states (1, L, E); adds to the cache.
        cache: keys and values, if a token may run together with other answers'; None if each runs alone.
    """

    last: Tensor
    length: int
    run: Callable[[Tensor, int], Tensor]
    cache: Any


@dataclass
class OpenAnswer(Prefilled):
    """An answer that is being decoded.

    Attributes:
        writer: decides what follows a choice, and holds the answer.
        sampler: chooses, for one row.
        forbidden: (predicted new tokens,) bool, the columns of media that it may not hold.
    """

    writer: AnswerWriter
    sampler: Sampler
    forbidden: Tensor

    @property
    def is_finished(self) -> bool:
        """Whether no step is left."""
        return self.writer.is_finished and not self.writer.awaits_states


class ContinuousDecoder(PretrainedLanguageModel):
    """An LLM whose answers can be decoded together without beginning together."""

    @torch.no_grad()
    @in_own_precision
    def begin(
        self,
        batch: Batch,
        media: Mapping[Modality, tuple[Tensor, Tensor]],
        sampling: Sampling,
        required: Sequence[Modality] = (),
        allowed: Sequence[Modality] | None = None,
    ) -> OpenAnswer:
        """Runs one prompt, whose answer :meth:`advance` decodes.

        Args:
            batch: the prompt.
            media: its P and masks.
            sampling: how tokens are sampled.
            required: media that the answer must hold.
            allowed: media that it may hold; all if None.

        Raises:
            ValueError: as :meth:`generate` does.
        """
        assert self.is_loaded, "materialize() comes first"
        assert len(batch) == 1, "each answer begins by itself"
        owed, permitted = check_requests(1, [required], allowed, self.vocabulary)
        batch = self.laid_out(batch)
        (writer,) = self._writers(self._taken(batch), sampling, owed, permitted)
        self._prepare_adapters(trains=False)
        begun = self._prefill(batch, media)
        return OpenAnswer(
            **vars(begun), writer=writer, sampler=Sampler(sampling, 1), forbidden=self._forbidden(permitted)
        )

    @torch.no_grad()
    @in_own_precision
    def advance(self, answers: Sequence[OpenAnswer], slots: int) -> None:
        """Appends a block to each answer: a text token, or whole runs of signal tokens.

        Args:
            answers: at most ``slots``, none of them finished.
            slots: number of rows of every pass in which single tokens run together. Answers don't depend on each
                other as long as it stays the same.
        """
        assert 0 < len(answers) <= slots and not any(answer.is_finished for answer in answers)
        base = self.vocabulary.base_size

        def choose(last: Tensor) -> list[int]:
            scores = self.logits(F.pad(last, (0, 0, 0, slots - len(answers)))).float()
            chosen = []
            for row, answer in enumerate(answers):
                scores[row, base:].masked_fill_(answer.forbidden.to(scores.device), -torch.inf)
                chosen += answer.sampler.choose(scores[row : row + 1])
            return chosen

        def run(ids: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
            embeddings = self.embed(ids)
            hidden = torch.zeros_like(embeddings)
            lengths = counts.tolist()
            single = [row for row, length in enumerate(lengths) if length == 1]
            if single:
                own = [answers[row] for row in single]
                hidden[single, 0] = self._run_tokens(own, embeddings[single, 0], slots).to(hidden.dtype)
            for row, answer in enumerate(answers):
                if lengths[row] > 1:
                    block = embeddings[row : row + 1, : lengths[row]]
                    hidden[row, : lengths[row]] = answer.run(block, answer.length)[0].to(hidden.dtype)
                answer.length += lengths[row]
            return hidden, embeddings

        last = decode_step(torch.stack([answer.last for answer in answers]), choose, [a.writer for a in answers], run)
        if last is not None:
            for answer, state in zip(answers, last, strict=True):
                answer.last = state

    def _taken(self, batch: Batch) -> Sequence[int]:
        """The positions that each prompt takes from its answer."""
        assert batch.layout is not None
        return batch.layout.lengths

    def _prefill(self, batch: Batch, media: Mapping[Modality, tuple[Tensor, Tensor]]) -> Prefilled:
        """Runs the prompt of a batch of one."""
        raise NotImplementedError

    def _run_tokens(self, answers: Sequence[OpenAnswer], embeddings: Tensor, slots: int) -> Tensor:
        """(b, E) one token of each answer -> its final states (b, E); adds to the caches. Here each runs alone."""
        states = [
            answer.run(token[None, None], answer.length)[0, 0]
            for answer, token in zip(answers, embeddings, strict=True)
        ]
        return torch.stack(states)
