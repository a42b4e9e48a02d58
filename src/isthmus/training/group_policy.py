"""Reward-driven tuning: groups of the model's own answers, scored, against the model as the stage began (GRPO)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from isthmus.backbones.base import Sampling
from isthmus.data.collate import Collator
from isthmus.data.prompts import PROMPT, PromptCollator, with_answers
from isthmus.losses import group_advantages, policy_loss
from isthmus.model import AnyToAny, Reply
from isthmus.model.objective import Objective, Outcome, over_processes
from isthmus.model.reference import resting
from isthmus.model.scores import score
from isthmus.training.rewards import Reward, judged
from isthmus.types import Batch


class GroupPolicy(Objective):
    """GRPO (DeepSeekMath, arXiv 2402.03300). Batches are prompts; each is answered ``group`` times.

    Answers are drawn from the model itself (no top-p), with the key-value cache, and their media made
    together. One update follows each draw, so that the policy that draws is the one that learns, and the clip never
    binds. What is learnt is what was sampled: words, the end, and where a run of signal tokens begins. So a verdict on
    a medium reaches the LLM through what it said before the run and through calling for the medium at all. Output
    projectors get no gradient, nor do the states of the run: the generator isn't differentiated. The stage should not
    train them; preference tuning's media term can.

    Args:
        rewards: by name, see :mod:`isthmus.training.rewards`.
        weights: of the rewards in their sum; 1 where not given.
        group: answers to each prompt.
        max_tokens: after so many tokens an answer ends.
        kl: weight of the KL term to the reference.
        clip: how far the ratio to the sampling policy counts.
        steps: of the generators; each one's own if None.
        temperature: of the draws, and of the log-probabilities that are learnt from. A model that hardly varies its
            answers needs more than 1: equal answers teach nothing.

    Raises:
        ValueError: no reward, a weight for one that isn't there, or a number that makes no sense.
    """

    makes = True

    def __init__(
        self,
        rewards: dict[str, Reward],
        weights: Mapping[str, float] | None = None,
        group: int = 8,
        max_tokens: int = 64,
        kl: float = 0.04,
        clip: float = 0.2,
        steps: int | None = None,
        temperature: float = 1.0,
    ) -> None:
        if not rewards:
            raise ValueError("group_policy.rewards: found none; expected at least one. Mend: give a class_path.")
        if unknown := sorted(set(weights or {}) - set(rewards)):
            raise ValueError(
                f"group_policy.weights: found '{unknown[0]}'; the rewards are {', '.join(rewards)}. Mend: rename it."
            )
        if group < 2 or max_tokens < 1 or kl < 0 or not 0 < clip < 1 or temperature <= 0:
            raise ValueError(
                f"group_policy: found group {group}, max_tokens {max_tokens}, kl {kl}, clip {clip}, temperature "
                f"{temperature}; expected a group of at least 2, max_tokens of at least 1, kl of at least 0, a clip "
                "between 0 and 1 and a temperature above 0. Mend: correct it."
            )
        self.rewards = dict(rewards)
        self.weights = {name: 1.0 for name in rewards} | dict(weights or {})
        self.group = group
        self.max_tokens = max_tokens
        self.kl = kl
        self.clip = clip
        self.steps = steps
        self.temperature = temperature
        self._clock: tuple[float, float] | None = None

    @property
    def collator(self) -> Callable[..., Collator]:
        return self._collator

    def _collator(self, **arguments: Any) -> PromptCollator:
        made = PromptCollator(**arguments | {"generation_prompt": True})
        made.copies = self.group
        return made

    def step(self, model: AnyToAny, batch: Batch) -> Outcome:
        assert model.reference is not None, "the stage switch takes the reference"
        begun = time.perf_counter()
        replies = self._draw(model, batch)
        drawn = time.perf_counter()
        values = judged(self.rewards, [details[PROMPT] for details in batch.details], replies)
        by_name = {name: torch.tensor(own, dtype=torch.float64) for name, own in values.items()}
        rewards = torch.stack([self.weights[name] * own for name, own in by_name.items()]).sum(0)
        groups = rewards.view(-1, self.group)
        flat = groups.std(1) == 0
        advantages = group_advantages(groups).flatten().to(batch.ids.device, torch.float32)

        answered = with_answers(batch, [reply.ids for reply in replies], model.backbone.language_model.vocabulary)
        with model.reference(model):
            before = score(model, answered, temperature=self.temperature)
        now = score(model, answered, temperature=self.temperature)
        old = now.tokens.detach()
        losses, divergences = policy_loss(now.tokens, old, before.tokens, now.targets, advantages, self.clip, self.kl)
        counts, world = over_processes(model, losses.new_tensor([len(losses)], dtype=torch.float64))
        loss = losses.sum() / counts[0].to(losses.dtype) * world
        shared = {
            "loss": loss,
            "reward": rewards.mean(),
            "reward_deviation": groups.std(1).mean(),
            "flat_groups": flat.double().mean(),
            "kl": divergences.mean(),
            "answer_length": now.counts.float().mean(),
            "answer_ended": _mean([reply.ended == "end" for reply in replies]),
        }
        shared |= {f"reward_{name}": own.mean() for name, own in by_name.items()}
        shared |= {f"made_{m}": _mean([bool(reply.media(m)) for reply in replies]) for m in model.outputs}
        on_device = {name: value.to(losses.device) for name, value in shared.items()}
        return Outcome(loss, on_device, self._sampling_share(begun, drawn, losses))

    def _draw(self, model: AnyToAny, batch: Batch) -> list[Reply]:
        """One reply a row. Rows draw from seeds of their own, which the step's random state gives."""
        seed = int(torch.randint(2**30, ()))
        sampling = Sampling(self.max_tokens, temperature=self.temperature, seed=seed)
        with resting(model):
            return model.answer(batch, sampling, seeds=[seed + row for row in range(len(batch))], steps=self.steps)

    def _sampling_share(self, begun: float, drawn: float, like: Tensor) -> dict[str, Tensor]:
        """The share of the last whole step's time, its backward pass included, that drawing answers took."""
        last, self._clock = self._clock, (begun, drawn - begun)
        return {} if last is None else {"sampling_share": like.new_tensor(last[1] / (begun - last[0]))}


def _mean(flags: list[bool]) -> Tensor:
    return torch.tensor(flags, dtype=torch.float64).mean()
