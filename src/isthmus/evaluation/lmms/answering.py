"""Questions of lmms-eval's tasks -> replies and scores of a model, in batches."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from isthmus.data.batching.collate import Collator
from isthmus.data.batching.samples import Sample
from isthmus.data.conversations.schema import Conversation, parse_conversation
from isthmus.data.errors import DataError, Fault
from isthmus.data.media.files import save_media
from isthmus.data.sampling.seeds import derive_seed
from isthmus.evaluation.lmms.drawing import Drawing
from isthmus.model import AnyToAny, Reply
from isthmus.precision import mixed_on
from isthmus.types import Modality

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """What a task asks about one of its documents.

    Attributes:
        messages: gives them in the chat-content convention. It reads the document, so that of all media of a task only
            a batch's are in memory.
        drawing: how its answer is drawn.
        task: its name.
        document: its number.
        repeat: how often the task has asked it before.
        turn: of a conversation that the task leads.
    """

    messages: Callable[[], Sequence[dict[str, Any]]]
    drawing: Drawing
    task: str
    document: int
    repeat: int = 0
    turn: int = 0

    @property
    def name(self) -> str:
        """For messages."""
        return place_of(self.task, self.document)

    def conversation(self, answer: str | None = None) -> Conversation:
        """The same as a conversation, with an answer at its end if one is given."""
        turns = [*self.messages(), *([] if answer is None else [{"role": "assistant", "content": answer}])]
        return parse_conversation({"messages": turns}, self.name, captions_required=False)


@dataclass
class Answering:
    """Answers and scores for lmms-eval.

    Attributes:
        model: built.
        batch_size: how many questions are answered together.
        seed: of sampled text and of media.
        num_inference_steps: of the generators; each one's own if None.
        guidance_scale: likewise.
    """

    model: AnyToAny
    batch_size: int = 1
    seed: int = 0
    num_inference_steps: int | None = None
    guidance_scale: float | None = None

    def replies(self, questions: Sequence[Question], required: Sequence[Modality] = ()) -> Iterator[tuple[int, Reply]]:
        """Each question's number and its reply, as they are answered: those that are drawn alike, in batches.

        A medium's seed follows from its task and document, so that it doesn't depend on batches and processes; nor does
        text at temperature 0. Sampled text has the seed of its batch's first question. A question that the LLM's
        context has no room for gets an empty reply.

        Args:
            questions: of any tasks.
            required: media that each reply must hold; others aren't made.

        Raises:
            DataError: a medium can't be read, or isn't among those that the model takes.
            ValueError: a required medium has no generator.
        """
        alike: dict[Drawing, list[int]] = {}
        for number, question in enumerate(questions):
            alike.setdefault(question.drawing, []).append(number)
        for drawing, numbers in alike.items():
            collate = self.model.prompt_collator(drawing.sampling(self.seed), required)
            for chunk in batches(numbers, self.batch_size):
                read = {number: _read(collate, questions[number].conversation(), questions[number]) for number in chunk}
                fits = {number: sample for number, sample in read.items() if sample is not None}
                made = self._answered(collate, fits, questions, drawing, required) if fits else {}
                for number in chunk:
                    yield number, made.get(number, Reply())

    def _answered(
        self,
        collate: Collator,
        read: dict[int, Sample],
        questions: Sequence[Question],
        drawing: Drawing,
        required: Sequence[Modality],
    ) -> dict[int, Reply]:
        named = [questions[number] for number in read]
        seeds = [derive_seed(self.seed, own.task, own.document, own.repeat, own.turn) % 2**31 for own in named]
        replies = self.model.answer(
            collate.batch(list(read.values())).to(self.model.device),
            drawing.sampling(seeds[0]),
            [list(required)] * len(read),
            list(required),
            seeds,
            self.num_inference_steps,
            self.guidance_scale,
        )
        for own, reply in zip(named, replies, strict=True):
            if reply.left_out:
                log.warning("%s: its oldest %d messages didn't fit the LLM's context", own.name, reply.left_out)
        return dict(zip(read, replies, strict=True))

    @torch.no_grad()
    def scores(self, pairs: Sequence[tuple[Question, str]]) -> list[tuple[float, bool]]:
        """Of each answer to a question, as lmms-eval's own models have it: its loss, and whether it is greedy.

        The loss is the mean over its tokens, its end included; it is infinite where the LLM's context has no room. An
        answer is greedy if each of its tokens is the likeliest.

        Raises:
            DataError: as in :meth:`replies`.
        """
        limits = self.model.backbone.language_model.prompt_limits(self.model.sampling, allowed=[])
        collate = self.model.collator(max_length=limits.context, targets="last")
        read = [_read(collate, question.conversation(answer), question) for question, answer in pairs]
        samples = [sample for sample in read if sample is not None]
        scored = iter(self._scored(collate, samples) if samples else ())
        return [next(scored) if sample is not None else (float("inf"), False) for sample in read]

    def _scored(self, collate: Collator, samples: Sequence[Sample]) -> list[tuple[float, bool]]:
        with mixed_on(self.model.device) if self.model.autocast else nullcontext():
            scores = self.model.score(collate.batch(samples).to(self.model.device))
        losses = (-scores.text / scores.counts).tolist()
        assert scores.correct is not None, "the losses are by token"
        greedy = [bool(own.all()) for own in scores.correct.split(scores.counts.tolist())]
        return list(zip(losses, greedy, strict=True))


def place_of(task: str, document: int) -> str:
    """Names a document in messages."""
    return f"{task}, document {document}"


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Pieces of at most ``size``."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _read(collate: Collator, conversation: Conversation, question: Question) -> Sample | None:
    """A conversation, ready for a batch; None where the LLM's context has no room for it."""
    try:
        return collate.sample(conversation)
    except DataError as error:
        if error.fault is not Fault.TOO_LONG:
            raise DataError(error.fault, f"{question.name}: {error}") from error
        log.warning("%s: counts as unanswered: %s", question.name, error)
        return None


def written(reply: Reply, question: Question, required: Sequence[Modality], folder: Path) -> str:
    """A reply in the JSON form of lmms-eval's tasks that want media: ``{"text": ..., "images": [path, ...]}``.

    Args:
        reply: its media become files.
        question: names them: ``FOLDER/TASK/DOCUMENT_NUMBER.png``; repeats and later turns have their number, too.
        required: the media; each has a key, ``images``, ``videos`` and so on.
        folder: an earlier run's files are replaced.
    """
    more = {"repeat": question.repeat, "turn": question.turn}
    own = "_".join([str(question.document), *(f"{kind}{at}" for kind, at in more.items() if at)])
    paths = {
        f"{str(modality).removesuffix('s')}s": [
            str(save_media(medium, folder.resolve() / question.task / f"{own}_{number}{modality.spec.file_endings[0]}"))
            for number, medium in enumerate(reply.media(modality))
        ]
        for modality in required
    }
    return json.dumps({"text": question.drawing.cut(reply.text), **paths}, ensure_ascii=False)
