"""Continuous batching: answers are decoded together, though each begins and ends at its own time.

An answer is the same bit for bit whichever others are decoded beside it. A matrix product's rounding depends on its
number of rows, but not on what the other rows hold nor on the row's place among them. So there are two passes, each of
which always has the same number of rows: a narrow one, over one token of each answer, and a wide one, over blocks of
prompts and of runs of signal tokens. Attention, whose rounding depends on the number of keys, is computed over a number
of keys that depends on the answer's own length alone. (This holds where the matrix library treats each row of a product
alike, as the CPU's does. On a GPU it may choose another algorithm, and answers then agree to rounding.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.backbones.base import Sampling
from isthmus.backbones.decoding.answer_writer import AnswerWriter
from isthmus.backbones.decoding.limits import check_requests
from isthmus.backbones.decoding.sampling import Sampler
from isthmus.backbones.decoding.slots import Slots
from isthmus.backbones.decoding.step import decode_step
from isthmus.backbones.measured import MeasuredLanguageModel
from isthmus.precision import in_own_precision
from isthmus.types import Batch, Modality


@dataclass(eq=False)
class OpenAnswer:
    """An answer that is being decoded.

    Attributes:
        prompt: (T, E) embeddings of the positions of its prompt that are still to be run.
        run: embeddings (1, L, E) and their first position -> final states (1, L, E); keeps keys and values of its own.
            None if the answer runs together with others.
        writer: decides what follows a choice, and holds the answer.
        sampler: chooses, for one row.
        forbidden: (predicted new tokens,) bool, the columns of media that it may not hold.
        last: (E,) the final state at its last position, once its prompt has run.
        length: number of positions that have run.
        reused: how many of them are an earlier prompt's.
        turn: of its prompt among others; the lowest is next.
    """

    prompt: Tensor
    run: Callable[[Tensor, int], Tensor] | None
    writer: AnswerWriter
    sampler: Sampler
    forbidden: Tensor
    last: Tensor | None = None
    length: int = 0
    reused: int = 0
    turn: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether no step is left."""
        return self.writer.is_finished and not self.writer.awaits_states


class ContinuousDecoder(MeasuredLanguageModel):
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
        """An answer to one prompt, which :meth:`advance` runs and decodes.

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
        prompt, run = self._opened(batch, media)
        return OpenAnswer(prompt, run, writer, Sampler(sampling, 1), self._forbidden(permitted))

    @torch.no_grad()
    @in_own_precision
    def advance(self, answers: Sequence[OpenAnswer], slots: Slots) -> None:
        """Appends a block to each answer whose prompt has run, and runs a bounded number of positions of prompts.

        A block is a text token, or whole runs of signal tokens.

        Args:
            answers: at most as many as slots, none of them finished; all others that had slots have left.
            slots: of this LLM, whose weights mustn't change meanwhile. Answers don't depend on each other as long as
                their number stays the same.
        """
        assert 0 < len(answers) <= slots.count and not any(answer.is_finished for answer in answers)
        if not slots.is_prepared:
            self._prepare_adapters(trains=False)
            slots.is_prepared = True
        slots.keep_only(answers)
        begun = [answer for answer in answers if answer.last is not None]
        if begun:
            self._step(begun, slots)
        if waiting := [answer for answer in answers if answer.last is None]:
            self._run_prompts(waiting, slots)

    def _step(self, answers: Sequence[OpenAnswer], slots: Slots) -> None:
        base = self.vocabulary.base_size

        def choose(last: Tensor) -> list[int]:
            scores = self.logits(F.pad(last, (0, 0, 0, slots.rows - len(answers)))).float()
            chosen = []
            for row, answer in enumerate(answers):
                scores[row, base:].masked_fill_(answer.forbidden.to(scores.device), -torch.inf)
                chosen += answer.sampler.choose(scores[row : row + 1])
            return chosen

        def run(ids: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
            embeddings = self.embed(ids)
            hidden = torch.zeros_like(embeddings)
            lengths = counts.tolist()
            if single := [row for row, length in enumerate(lengths) if length == 1]:
                own = [answers[row] for row in single]
                hidden[single, 0] = self._run_tokens(own, embeddings[single, 0], slots).to(hidden.dtype)
            if several := [row for row, length in enumerate(lengths) if length > 1]:
                blocks = [embeddings[row, : lengths[row]] for row in several]
                for row, states in zip(
                    several, self._run_runs([answers[r] for r in several], blocks, slots), strict=True
                ):
                    hidden[row, : lengths[row]] = states.to(hidden.dtype)
            for answer, length in zip(answers, lengths, strict=True):
                answer.length += length
            return hidden, embeddings

        states = torch.stack([answer.last for answer in answers if answer.last is not None])
        last = decode_step(states, choose, [answer.writer for answer in answers], run)
        if last is not None:
            for answer, state in zip(answers, last, strict=True):
                answer.last = state

    def _taken(self, batch: Batch) -> Sequence[int]:
        """The positions that each prompt takes from its answer."""
        assert batch.layout is not None
        return batch.layout.lengths

    def _opened(
        self, batch: Batch, media: Mapping[Modality, tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Callable[[Tensor, int], Tensor] | None]:
        """The prompt (T, E) of a batch of one, and what runs it, if it can't be run with others'."""
        raise NotImplementedError

    def _run_prompts(self, answers: Sequence[OpenAnswer], slots: Slots) -> None:
        """Runs some positions of prompts. Here the first prompt, by itself."""
        answer = answers[0]
        assert answer.run is not None
        answer.last = answer.run(answer.prompt[None], 0)[0, -1]
        answer.length, answer.prompt = len(answer.prompt), answer.prompt[:0]

    def _run_tokens(self, answers: Sequence[OpenAnswer], embeddings: Tensor, slots: Slots) -> Tensor:
        """(b, E) one token of each answer -> its final states (b, E). Here each runs by itself."""
        return torch.cat(
            [
                self._run_runs([answer], [token[None]], slots)[0]
                for answer, token in zip(answers, embeddings, strict=True)
            ]
        )

    def _run_runs(self, answers: Sequence[OpenAnswer], blocks: Sequence[Tensor], slots: Slots) -> list[Tensor]:
        """(L, E) consecutive tokens of each answer -> their final states (L, E). Here each runs by itself."""
        states = []
        for answer, block in zip(answers, blocks, strict=True):
            assert answer.run is not None
            states.append(answer.run(block[None], answer.length)[0])
        return states
