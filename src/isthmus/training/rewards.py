"""Rewards: a prompt and a reply -> a number, higher for better. A function can be one, or a class of this form."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from isthmus.data.conversations.schema import Conversation, TextItem
from isthmus.model import Reply
from isthmus.paths import checkpoint_path
from isthmus.published import read_published
from isthmus.types import Modality

RewardFunction = Callable[[Conversation, Reply], float]
"""The prompt's conversation (its ``details`` say what is expected) and one reply to it -> the reward."""


class Reward(ABC):
    """A reward that judges all replies of a step together. Called with one of them, it is a function like any other."""

    @abstractmethod
    def judge(self, prompts: Sequence[Conversation], replies: Sequence[Reply]) -> list[float]:
        """The reward of each reply to the prompt in the same place."""

    def to(self, device: torch.device) -> None:
        """Told before each step where the model stands; a reward that has weights brings them there."""
        return

    def __call__(self, prompt: Conversation, reply: Reply) -> float:
        """The reward of one reply."""
        return self.judge([prompt], [reply])[0]


class Brevity:
    """1 for an answer without tokens, 0 for one of ``tokens`` or more, linear between.

    Args:
        tokens: the length that is worth nothing, signal tokens included.

    Raises:
        ValueError: fewer than one.
    """

    def __init__(self, tokens: int = 32) -> None:
        if tokens < 1:
            raise ValueError(f"brevity.tokens: found {tokens}; expected at least 1. Fix: raise it.")
        self.tokens = tokens

    def __call__(self, prompt: Conversation, reply: Reply) -> float:
        """The reward."""
        return max(0.0, 1 - reply.tokens / self.tokens)


class ImageTextScore(Reward):
    """CLIPScore (arXiv 2104.08718) of the reply's images and the prompt's last words: their cosine, at least 0.

    Computed here, since the one of ``torchmetrics`` 1.9 calls CLIP as ``transformers`` 4 had it. The paper's factor of
    2.5 is left to the rewards' weights. A reply's reward is the mean over its images; 0 without any.

    Args:
        checkpoint: the folder of a CLIP model and its processor, as ``transformers`` saves them.

    Raises:
        ValueError: there is no such folder.
    """

    def __init__(self, checkpoint: str | Path) -> None:
        self.checkpoint = checkpoint_path(checkpoint)
        if not self.checkpoint.is_dir():
            raise ValueError(
                f"image_text_score.checkpoint: found no folder {self.checkpoint}; expected a CLIP model's and its "
                "processor's. Fix: download one, or correct the path."
            )
        self.device = torch.device("cpu")
        self._parts: tuple[Any, Any] | None = None

    def to(self, device: torch.device) -> None:
        """CLIP follows when it is next needed."""
        self.device = device

    @torch.no_grad()
    def judge(self, prompts: Sequence[Conversation], replies: Sequence[Reply]) -> list[float]:
        """All images of all replies in one pass, in the precision of CLIP's weights."""
        images = [(row, medium.array) for row, reply in enumerate(replies) for medium in reply.media(Modality.IMAGE)]
        if not images:
            return [0.0] * len(replies)
        model, processor = self._loaded()
        rows = sorted({row for row, _ in images})
        given = processor(
            text=[_last_words(prompts[row]) for row in rows],
            images=[array for _, array in images],
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=model.config.text_config.max_position_embeddings,
        )
        with torch.autocast(self.device.type, enabled=False):
            found = model(**given.to(self.device))
        owners = torch.tensor([rows.index(row) for row, _ in images], device=self.device)
        cosines = (found.image_embeds * found.text_embeds[owners]).sum(-1).clamp(min=0).tolist()
        sums, counts = [0.0] * len(replies), [0] * len(replies)
        for (row, _), cosine in zip(images, cosines, strict=True):
            sums[row] += cosine
            counts[row] += 1
        return [total / max(count, 1) for total, count in zip(sums, counts, strict=True)]

    def _loaded(self) -> tuple[Any, Any]:
        """CLIP and its processor, on the device."""
        if self._parts is None:
            from transformers import CLIPModel, CLIPProcessor

            with torch.random.fork_rng(devices=[]):  # reading weights must not draw from a step's randomness
                model = read_published(CLIPModel, self.checkpoint)
            processor = read_published(CLIPProcessor, self.checkpoint)
            self._parts = model.eval().requires_grad_(False), processor
        self._parts[0].to(self.device)
        return self._parts


def _last_words(prompt: Conversation) -> str:
    last = prompt.messages[-1].content if prompt.messages else ()
    return " ".join(item.text.strip() for item in last if isinstance(item, TextItem))


def judged(
    rewards: Mapping[str, RewardFunction],
    prompts: Sequence[Conversation],
    replies: Sequence[Reply],
    device: torch.device | None = None,
) -> dict[str, list[float]]:
    """By reward, what each reply gets. A :class:`Reward` judges all of them at once, on the device.

    Raises:
        ValueError: a reward raised, or gave something that isn't a finite number for each reply.
    """
    found: dict[str, list[float]] = {}
    for name, reward in rewards.items():
        if isinstance(reward, Reward):
            if device is not None:
                reward.to(device)
            values = _together(name, reward, prompts, replies)
        else:
            values = [_one(name, reward, *pair) for pair in zip(prompts, replies, strict=True)]
        found[name] = []
        for prompt, reply, given in zip(prompts, replies, values, strict=True):
            value = _number(name, prompt, given)
            if not math.isfinite(value):
                raise ValueError(
                    f"{_where(name, prompt)}: found {value} for the reply {reply.text[:60]!r}; expected a finite "
                    "number. Fix: let the reward give 0 where it can't tell."
                )
            found[name].append(value)
    return found


def _together(name: str, reward: Reward, prompts: Sequence[Conversation], replies: Sequence[Reply]) -> list[float]:
    try:
        values = list(reward.judge(prompts, replies))
    except Exception as error:  # a user's class may raise anything
        for prompt, reply in zip(prompts, replies, strict=True):  # one of them alone may be to blame
            _one(name, reward, prompt, reply)
        raise ValueError(
            f"rewards.{name}: it raised {type(error).__name__}: {error}, for {len(replies)} replies together and for "
            "none of them alone; expected a number for each. Fix: correct the reward."
        ) from error
    if len(values) != len(replies):
        raise ValueError(
            f"rewards.{name}: found {len(values)} numbers for {len(replies)} replies; expected one for each. Fix: "
            "correct the reward's judge."
        )
    return values


def _one(name: str, reward: RewardFunction, prompt: Conversation, reply: Reply) -> float:
    try:
        return reward(prompt, reply)
    except Exception as error:  # a user's function may raise anything
        raise _raised(name, prompt, error) from error


def _number(name: str, prompt: Conversation, given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError) as error:
        raise _raised(name, prompt, error) from error


def _raised(name: str, prompt: Conversation, error: Exception) -> ValueError:
    return ValueError(
        f"{_where(name, prompt)}: it raised {type(error).__name__}: {error}; expected a number. Fix: correct the "
        "reward, or take prompts out that it can't judge."
    )


def _where(name: str, prompt: Conversation) -> str:
    return f"rewards.{name}: prompt {prompt.details.get('id', '')}".rstrip()
