"""Records an LLM's answers to plain prompts: batched, resumable, and the same in every run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

from isthmus.backbones.base import LanguageModel, Sampling
from isthmus.cache.fingerprint import fingerprint
from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.data.plain import PlainPrompt
from isthmus.inference.replay.answers import AnswersFile
from isthmus.inference.replay.filters import Rejection, kept_answer
from isthmus.model import AnyToAny, Backbone
from isthmus.writing import write_file

REPORT = ".report.json"
"""What the report's name has in the place of the ending of the conversations' file."""


@dataclass(frozen=True)
class ReplaySettings:
    """How answers are drawn.

    Attributes:
        max_new_tokens: of an answer.
        temperature: 0 takes the likeliest word; else words are drawn, from the seed.
        top_p: the share of the likeliest words that is drawn from.
        seed: of drawn words; prompt i has ``seed + i``.
        batch_size: prompts that are answered together.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size: found {self.batch_size}; expected at least 1. Fix: raise it.")

    @property
    def sampling(self) -> Sampling:
        """The same for a language model."""
        return Sampling(self.max_new_tokens, self.temperature, self.top_p, self.seed)


@dataclass(frozen=True)
class ReplayReport:
    """What became of the prompts.

    Attributes:
        prompts: how many were answered.
        kept: how many conversations were written.
        by_kind: of these, by kind of prompt.
        rejected: answers that weren't kept, by reason.
        answered: prompts that this run answered; earlier ones that it went on from answered the others.
        tokens: that this run decoded.
        seconds: that it took.
        settings: of the answers, and the LLM's fingerprint.
    """

    prompts: int
    kept: int
    by_kind: dict[str, int]
    rejected: dict[str, int]
    answered: int
    tokens: int
    seconds: float
    settings: dict[str, Any]


def record_replay(
    language_model: LanguageModel,
    prompts: Sequence[PlainPrompt],
    out: Path,
    settings: ReplaySettings,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> ReplayReport:
    """Answers the prompts by the LLM alone, without adapters and media, and writes the conversations that are kept.

    Answers are appended to ``OUT.answers`` batch by batch. A run that was broken off goes on from there: its batches
    are the same, and so are the answers. ``OUT`` appears, whole, when all prompts are answered, and beside it a report.

    Args:
        language_model: whose answers they are.
        prompts: what is asked.
        out: the file, of JSON lines that :class:`isthmus.data.JsonLines` reads.
        settings: how answers are drawn.
        progress: wraps the batches' numbers, to show them.

    Raises:
        ValueError: answers of other prompts, another LLM or other settings stand in ``OUT.answers``, or a file can't be
            written.
    """
    model = AnyToAny(Backbone(language_model)).eval()
    model.configure_model()
    # All that answers depend on: none of another template or precision is gone on from.
    described = {
        **asdict(settings),
        "llm": fingerprint(language_model.checkpoint),
        "dtype": str(language_model.dtype),
        "template": _digest(language_model.tokenizer.chat_template),
        "prompts": _digest([(prompt.kind, prompt.text) for prompt in prompts]),
    }
    began = perf_counter()
    answers = AnswersFile(out, described)
    # Batches are the same in every run, since an answer's last digits depend on what is computed beside it.
    done = len(prompts) if len(answers) == len(prompts) else len(answers) - len(answers) % settings.batch_size
    answers.begin(done)
    with language_model.adapters_disabled():
        for start in progress(range(done, len(prompts), settings.batch_size)):
            batch = prompts[start : start + settings.batch_size]
            sampling = replace(settings.sampling, seed=settings.seed + start)
            replies = model.answer(model.prompts([_asked(prompt) for prompt in batch], sampling), sampling)
            answers.append([(reply.text, reply.ended == "length", reply.tokens) for reply in replies])
    report = _write(out, prompts, answers, done, described, perf_counter() - began)
    answers.remove()
    return report


def _write(
    out: Path,
    prompts: Sequence[PlainPrompt],
    answers: AnswersFile,
    done: int,
    settings: dict[str, Any],
    seconds: float,
) -> ReplayReport:
    kept, rejected = Counter[str](), Counter[str]()
    lines, tokens = [], 0
    for number, (prompt, (answer, is_cut, length)) in enumerate(zip(prompts, answers.all(), strict=True)):
        tokens += length if number >= done else 0
        text = kept_answer(answer, is_cut)
        if isinstance(text, Rejection):
            rejected[text] += 1
            continue
        kept[prompt.kind] += 1
        turns = [{"role": "user", "content": prompt.text}, {"role": "assistant", "content": text}]
        record = {"messages": turns, "id": f"replay-{number}", "kind": prompt.kind}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    report = ReplayReport(
        len(prompts), len(lines), dict(kept), dict(rejected), len(prompts) - done, tokens, round(seconds, 1), settings
    )
    write_file(out, "".join(lines).encode())
    write_file(out.with_suffix(REPORT), (json.dumps(asdict(report), indent=2) + "\n").encode())
    return report


def _asked(prompt: PlainPrompt) -> Conversation:
    return Conversation((Message("user", (TextItem(prompt.text),)),))


def _digest(value: Any) -> str:
    return sha256(json.dumps(value).encode()).hexdigest()[:32]
