"""Rewards: a prompt and a reply -> a number, higher for better. Any function or class of this form can be one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from isthmus.data.schema import Conversation, TextItem
from isthmus.model import Reply
from isthmus.paths import user_path
from isthmus.types import Modality

Reward = Callable[[Conversation, Reply], float]
"""The prompt's conversation (its ``details`` say what is expected) and one reply to it -> the reward."""


class Brevity:
    """1 for an answer without tokens, 0 for one of ``tokens`` or more, linear between.

    Args:
        tokens: the length that is worth nothing, signal tokens included.

    Raises:
        ValueError: fewer than one.
    """

    def __init__(self, tokens: int = 32) -> None:
        if tokens < 1:
            raise ValueError(f"brevity.tokens: found {tokens}; expected at least 1. Mend: raise it.")
        self.tokens = tokens

    def __call__(self, prompt: Conversation, reply: Reply) -> float:
        """The reward."""
        return max(0.0, 1 - reply.tokens / self.tokens)


class ImageTextScore:
    """CLIPScore (arXiv 2104.08718) of the reply's images and the prompt's last words: their cosine, at least 0.

    Computed here, since the one of ``torchmetrics`` 1.9 calls CLIP as ``transformers`` 4 had it. The paper's factor of
    2.5 is left to the rewards' weights.

    Args:
        checkpoint: the folder of a CLIP model and its processor, as ``transformers`` saves them.

    Raises:
        ValueError: there is no such folder.
    """

    def __init__(self, checkpoint: str | Path) -> None:
        self.checkpoint = user_path(checkpoint)
        if not self.checkpoint.is_dir():
            raise ValueError(
                f"image_text_score.checkpoint: found no folder {self.checkpoint}; expected a CLIP model's and its "
                "processor's. Mend: download one, or correct the path."
            )
        self._parts: tuple[Any, Any] | None = None

    @torch.no_grad()
    def __call__(self, prompt: Conversation, reply: Reply) -> float:
        """The mean over the reply's images; 0 without any."""
        images = [medium.array for medium in reply.media(Modality.IMAGE)]
        if not images:
            return 0.0
        if self._parts is None:
            from transformers import CLIPModel, CLIPProcessor

            model = CLIPModel.from_pretrained(self.checkpoint, local_files_only=True)
            self._parts = model.eval(), CLIPProcessor.from_pretrained(self.checkpoint, local_files_only=True)
        model, processor = self._parts
        last = prompt.messages[-1].content if prompt.messages else ()
        words = " ".join(item.text.strip() for item in last if isinstance(item, TextItem))
        given = processor(
            text=[words],
            images=images,
            return_tensors="pt",
            truncation=True,
            max_length=model.config.text_config.max_position_embeddings,
        )
        found = model(**given)
        return float((found.image_embeds @ found.text_embeds[0]).clamp(min=0).mean())


def judged(
    rewards: Mapping[str, Reward], prompts: Sequence[Conversation], replies: Sequence[Reply]
) -> dict[str, list[float]]:
    """By reward, what each reply gets.

    Raises:
        ValueError: a reward raised, or gave something that isn't a finite number.
    """
    found: dict[str, list[float]] = {}
    for name, reward in rewards.items():
        found[name] = []
        for prompt, reply in zip(prompts, replies, strict=True):
            where = f"rewards.{name}: prompt {prompt.details.get('id', '')}".rstrip()
            try:
                value = float(reward(prompt, reply))
            except Exception as error:  # a user's function may raise anything
                raise ValueError(
                    f"{where}: it raised {type(error).__name__}: {error}; expected a number. Mend: correct the reward, "
                    "or take prompts out that it can't judge."
                ) from error
            if not math.isfinite(value):
                raise ValueError(
                    f"{where}: found {value} for the reply {reply.text[:60]!r}; expected a finite number. Mend: let "
                    "the reward give 0 where it can't tell."
                )
            found[name].append(value)
    return found
