"""A trained folder as lmms-eval's model: what its chat interface and its older, "simple" one share."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from tqdm import tqdm

from isthmus.evaluation.lmms.answering import Answering, Question, batches, place_of, written
from isthmus.evaluation.lmms.contents import user_message
from isthmus.evaluation.lmms.drawing import Drawing
from isthmus.modalities import is_medium, known_media
from isthmus.model import AnyToAny, Reply
from isthmus.types import Modality


class LmmsModel(lmms):  # type: ignore[misc]  # lmms-eval has no types
    """What both interfaces share. Its arguments are what stands in ``--model_args``.

    Args:
        pretrained: a trained stage's folder.
        batch_size: how many questions are answered together; lmms-eval's ``--batch_size``.
        device: such as ``cpu`` or ``cuda:1``; with several processes each takes its own.
        require: media that every answer must hold, such as ``image`` or ``image+audio``, for tasks that score what is
            made. Answers are then JSON with the files' paths; without it they are words alone.
        output_dir: where these files are written.
        seed: of sampled text and of media.
        num_inference_steps: of the generators; each one's own if None.
        guidance_scale: likewise.
        experts_root: a folder with the model's experts, where they aren't found from its own.
        allow: packages of yours whose classes the folder may name, joined by ``+``; their code is run.

    Raises:
        ValueError: the folder can't be opened, or another argument isn't what it must be.
    """

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 1,
        device: str | None = None,
        require: str = "",
        output_dir: str = "runs/lmms_eval",
        seed: int = 0,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        experts_root: str | None = None,
        allow: str = "",
    ) -> None:
        super().__init__()
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        shares = self._world_size > 1
        self.device = self.accelerator.device if shares or device is None else torch.device(device)
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise ValueError(f"batch_size: found {batch_size}; expected a number, at least 1. Fix: choose one.")
        self.batch_size = int(batch_size)
        self.required = [_medium(name) for name in require.split("+") if name]
        self.folder = Path(output_dir)
        allowed = [package for package in allow.split("+") if package]
        self.model = AnyToAny.from_checkpoint(pretrained, self.device, allowed, experts_root=experts_root)
        if missing := [medium for medium in self.required if medium not in self.model.outputs]:
            made = ", ".join(self.model.outputs) or "words alone"
            raise ValueError(f"require: found {missing[0]}; this model makes {made}. Fix: leave it out.")
        self._options = (seed, num_inference_steps, guidance_scale)

    @abstractmethod
    def question(self, request: Any) -> Question:
        """The first, or only, question of a request."""

    @abstractmethod
    def next_question(self, request: Any, turn: int, said: list[str], info: Any) -> tuple[Question | None, Any, Any]:
        """What a request asks in a later turn; None where it has ended.

        Args:
            request: the request.
            turn: its number, 1 or above.
            said: the answers so far.
            info: what the task has kept for itself.

        Returns:
            The question, the answers as the task wants them from now on, and what it keeps for itself.
        """

    def document(self, task: str, split: str, number: int) -> Any:
        """A document of a task."""
        return self.task_dict[task][split][number]

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """An answer to each request, with its count of tokens."""
        questions = self._numbered([self.question(request) for request in requests])
        results = [GenerationResult("")] * len(questions)
        for number, reply in self._replies(questions):
            counts = TokenCounts(output_tokens=reply.tokens)
            results[number] = GenerationResult(self._said(reply, questions[number]), counts)
        return results

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[list[str]]:
        """The answers to each request's turns. All requests are answered turn by turn, so that batches are full."""
        said: list[list[str]] = [[] for _ in requests]
        infos: list[Any] = [None] * len(requests)
        asked = dict(enumerate(self._numbered([self.question(request) for request in requests])))
        turn = 0
        while asked:
            questions = list(asked.values())
            answers = {at: self._said(reply, questions[at]) for at, reply in self._replies(questions)}
            turn += 1
            following = {}
            for at, number in enumerate(asked):
                said[number].append(answers[at])
                given = requests[number], turn, said[number], infos[number]
                question, said[number], infos[number] = self.next_question(*given)
                if question is not None:
                    following[number] = replace(question, repeat=asked[number].repeat, turn=turn)
            asked = following
        return said

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """The mean loss of each request's continuation, as the library's own models give it, and if it is greedy."""
        scores: list[tuple[float, bool]] = []
        with tqdm(desc="Scoring", total=len(requests), disable=self.rank != 0) as progress:
            for chunk in batches(requests, self.batch_size):
                scores += self.answering().scores([self._scored(request) for request in chunk])
                progress.update(len(chunk))
        # The evaluator of 0.7.3 makes a string of a plain pair, which tasks can't read; what is wrapped passes whole.
        return [GenerationResult(score) for score in scores]

    def _scored(self, request: Any) -> tuple[Question, str]:
        """A question, and the answer that is scored."""
        # Of a choice by itself, for mutual information, a request says no more than its text.
        context, answer, visuals, number, task, split = (*request.args, None, -1, "", "")[:6]
        document = self.document(task, split, number) if task else None
        said = answer(document) if callable(answer) else str(answer)
        shown = visuals(document) if visuals and document is not None else None
        message = user_message(shown, context, place_of(task, number))
        return Question(lambda: message, Drawing(), task, number), said.strip()

    def answering(self) -> Answering:
        """Answers with the model, as the arguments have it."""
        return Answering(self.model, self.batch_size, *self._options)

    def _replies(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        replies = self.answering().replies(questions, self.required)
        return iter(tqdm(replies, "Answering", len(questions), disable=self.rank != 0))

    def _said(self, reply: Reply, question: Question) -> str:
        """What a task scores: words, or JSON with the paths of media where they are required."""
        if self.required:
            return written(reply, question, self.required, self.folder)
        return question.drawing.cut(reply.text)

    @staticmethod
    def _numbered(questions: Sequence[Question]) -> list[Question]:
        """The same, of which those that are asked more than once know how often they were asked before."""
        seen: Counter[tuple[str, int]] = Counter()
        numbered = []
        for own in questions:
            numbered.append(replace(own, repeat=seen[own.task, own.document]))
            seen[own.task, own.document] += 1
        return numbered


def _medium(name: str) -> Modality:
    if not is_medium(name):
        raise ValueError(f"require: found '{name}'; expected media: {', '.join(known_media())}. Fix: rename it.")
    return Modality(name)
