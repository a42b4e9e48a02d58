"""Reward-driven tuning: groups of the model's own answers, scored, against the model as the stage began (GRPO)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from isthmus.backbones.base import Sampling
from isthmus.batch_layout import known_layout
from isthmus.data.batching.collate import Collator
from isthmus.data.batching.prompts import PROMPT, PromptCollator, with_answers
from isthmus.data.batching.rows import rows_of
from isthmus.data.batching.samples import split_evenly
from isthmus.data.sampling.seeds import derive_seed
from isthmus.earlier.options import takes_present_names
from isthmus.layout import on_device
from isthmus.losses import group_advantages, policy_loss
from isthmus.model import AnyToAny, Reply
from isthmus.training.engines.units import gathered
from isthmus.training.objectives.base import Learner, Objective, Outcome
from isthmus.training.objectives.reference import eval_mode
from isthmus.training.objectives.supervised import part_losses
from isthmus.training.objectives.terms import LossWeights
from isthmus.training.rewards import RewardFunction, judged
from isthmus.types import Batch, Features, Modality

FIGURES = ["reward", "reward_deviation", "flat_groups", "kl", "answer_length", "answer_ended"]
"""What is logged of every batch of answers, whatever the rewards and the media."""


@dataclass
class _Answers:
    """Drawn answers to a batch's prompts.

    Attributes:
        batch: prompts with their answers, R rows.
        features: F of the prompts' media.
        advantages: (R,).
        figures: what is logged of them.
        drawn: when the last one was drawn.
    """

    batch: Batch
    features: Mapping[Modality, Features]
    advantages: Tensor
    figures: dict[str, Tensor]
    drawn: float


@takes_present_names
class GroupPolicy(Objective):
    """GRPO (DeepSeekMath, arXiv 2402.03300). Batches are prompts; each is answered ``group`` times.

    Answers are drawn from the model itself (no top-p), with the key-value cache, and their media made
    together. One update follows each draw, so that the policy that draws is the one that learns, and the clip never
    binds. What is learnt is what was sampled: words, the end, and where a run of signal tokens begins. So a verdict on
    a medium reaches the LLM through what it said before the run and through calling for the medium at all. Output
    projectors get no gradient from it, nor do the states of the run: the generator isn't differentiated. With ``mixed``
    above 0 instruction data among the stage's sources, conversations that end in an answer, are learnt in the same step
    by the stage's own losses, alignment included: that trains projectors, and keeps what the rewards don't look at
    (PPO-ptx: InstructGPT, arXiv 2203.02155, equation 2). Otherwise the stage should not train projectors.

    Prompts' media are encoded once a step, for drawing, for the reference and for the policy. In a stage with
    ``micro_batches`` all answers are drawn together, since a group's are compared, and learnt from in parts.

    Args:
        rewards: by name, see :mod:`isthmus.training.rewards`.
        weights: of the rewards in their sum; 1 where not given.
        num_generations: answers to each prompt.
        max_new_tokens: after so many tokens an answer ends.
        kl: weight of the KL term to the reference.
        clip: how far the ratio to the sampling policy counts.
        num_inference_steps: of the generators; each one's own if None.
        temperature: of the draws, and of the log-probabilities that are learnt from. A model that hardly varies its
            answers needs more than 1: equal answers teach nothing.
        mixed: weight of the losses of instruction data; 0 takes the prompts of such conversations instead.
        dropout: whether LoRA and projectors keep their dropout, for answers and instruction data alike. Off, the first
            step's ratios to the reference are 1.

    Raises:
        ValueError: no reward, a weight for one that isn't there, or a number that makes no sense.
    """

    def __init__(
        self,
        rewards: dict[str, RewardFunction],
        weights: Mapping[str, float] | None = None,
        num_generations: int = 8,
        max_new_tokens: int = 64,
        kl: float = 0.04,
        clip: float = 0.2,
        num_inference_steps: int | None = None,
        temperature: float = 1.0,
        mixed: float = 0.0,
        dropout: bool = False,
    ) -> None:
        if not rewards:
            raise ValueError("group_policy.rewards: found none; expected at least one. Fix: give a class_path.")
        if unknown := sorted(set(weights or {}) - set(rewards)):
            raise ValueError(
                f"group_policy.weights: found '{unknown[0]}'; the rewards are {', '.join(rewards)}. Fix: rename it."
            )
        if num_generations < 2 or max_new_tokens < 1 or min(kl, mixed) < 0 or not 0 < clip < 1 or temperature <= 0:
            raise ValueError(
                f"group_policy: found num_generations {num_generations}, max_new_tokens {max_new_tokens}, kl {kl}, "
                f"clip {clip}, temperature {temperature}, mixed {mixed}; expected num_generations of at least 2, "
                "max_new_tokens of at least 1, kl and mixed of at least 0, a clip between 0 and 1 and a temperature "
                "above 0. Fix: correct it."
            )
        self.rewards = dict(rewards)
        self.weights = {name: 1.0 for name in rewards} | dict(weights or {})
        self.num_generations = num_generations
        self.max_new_tokens = max_new_tokens
        self.kl = kl
        self.clip = clip
        self.num_inference_steps = num_inference_steps
        self.temperature = temperature
        self.mixed = mixed
        self.mixes = mixed > 0
        self.dropout = dropout
        self._clock: tuple[float, float] | None = None

    def prepares(self, weights: LossWeights) -> bool:
        return self.mixes and weights.denoising > 0

    def makes(self, weights: LossWeights) -> bool:
        return True

    @property
    def collator(self) -> Callable[..., Collator]:
        return self._collator

    def _collator(self, **arguments: Any) -> PromptCollator:
        made = PromptCollator(**arguments | {"generation_prompt": True, "prepare": {}})
        made.copies = self.num_generations
        if self.mixes:
            made.instruction = Collator(**arguments)
        return made

    def step(self, learner: Learner, batch: Batch) -> Outcome:
        begun, model, world = time.perf_counter(), learner.model, learner.world
        with gathered(model):
            answers = self._answers(model, batch) if len(batch) else None
        losses = [] if answers is None else self._losses(learner, answers)
        counts = learner.over_processes([len(batch)])().clamp(min=1)
        learnt: list[tuple[Tensor, Tensor]] = []

        def policy(part: Callable[[], tuple[Tensor, Tensor, Tensor]]) -> Tensor:
            own, *figures = part()
            learnt.append((figures[0], figures[1]))
            return own.sum() / counts[0].to(own.dtype) * world

        parts = batch.mixed.pieces if batch.mixed is not None else []
        mixed = part_losses(learner, parts, [])[0] if self.mixes else []
        weighed = [partial(lambda find: self.mixed * find(), find) for find in mixed]
        policies = learner.together([partial(policy, part) for part in losses], compares=True)
        loss, values = learner.in_turn([*policies, *learner.together(weighed)])
        # Processes may hold unlike numbers of prompts: so weighed, their mean is the mean over all answers.
        share = len(batch) * world / counts[0]
        figures = self._nothing(learner) if answers is None else answers.figures | _of_tokens(learnt)
        shared = {name: value.to(loss.device) * share for name, value in figures.items()}
        if self.mixes:
            zero = torch.zeros_like(loss.detach())
            shared["policy_loss"] = sum(values[: len(policies)], zero)
            shared["mixed_loss"] = sum(values[len(policies) :], zero) / self.mixed
        own = {} if answers is None else self._sampling_share(begun, answers.drawn, loss)
        return Outcome(loss, {"loss": loss, **shared}, own=own)

    def _answers(self, model: AnyToAny, batch: Batch) -> _Answers:
        """Draws an answer to every row, and judges them. The prompts' media are encoded here, and nowhere else."""
        features = {} if model.input_side is None else model.input_side.encode(batch.media)
        replies = self._draw(model, batch, features)
        drawn = time.perf_counter()
        prompts = [details[PROMPT] for details in batch.details]
        values = judged(self.rewards, prompts, replies, model.device)
        by_name = {name: torch.tensor(own, dtype=torch.float64) for name, own in values.items()}
        rewards = torch.stack([self.weights[name] * own for name, own in by_name.items()]).sum(0)
        groups = rewards.view(-1, self.num_generations)
        figures = {
            "reward": rewards.mean(),
            "reward_deviation": groups.std(1).mean(),
            "flat_groups": (groups.std(1) == 0).double().mean(),
            "answer_ended": _mean([reply.ended == "end" for reply in replies]),
        }
        figures |= {f"reward_{name}": own.mean() for name, own in by_name.items()}
        figures |= {f"made_{m}": _mean([bool(reply.media(m)) for reply in replies]) for m in model.outputs}
        advantages = group_advantages(groups).flatten().to(batch.ids.device, torch.float32)
        language_model = model.backbone.language_model
        answered = with_answers(batch, [reply.ids for reply in replies], language_model.vocabulary)
        answered = language_model.laid_out(answered)
        return _Answers(answered, features, advantages, figures, drawn)

    def _losses(self, learner: Learner, answers: _Answers) -> list[Callable[[], tuple[Tensor, Tensor, Tensor]]]:
        """What computes the losses (r,) of each part's answers, their KL (r,) and their lengths (r,).

        Parts are laid out here, which reads from the device: what follows doesn't.
        """
        batch, model = answers.batch, learner.model
        if learner.micro_batches == 1:
            return [partial(self._answer_losses, learner, batch, answers.features, answers.advantages)]

        parts: list[Callable[[], tuple[Tensor, Tensor, Tensor]]] = []
        for rows in split_evenly(known_layout(batch).lengths, learner.micro_batches):
            own, features = rows_of(batch, rows, answers.features)
            own = model.backbone.language_model.laid_out(own)
            parts.append(partial(self._answer_losses, learner, own, features, answers.advantages[rows]))
        return parts

    def _answer_losses(
        self, learner: Learner, batch: Batch, features: Mapping[Modality, Features], advantages: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        model = learner.model
        assert learner.reference is not None, "the stage switch takes the reference"
        with learner.reference(model):
            before = model.score(batch, temperature=self.temperature, features=features)
        now = model.score(batch, temperature=self.temperature, features=features)
        old = now.tokens.detach()
        losses, divergences = policy_loss(now.tokens, old, before.tokens, now.targets, advantages, self.clip, self.kl)
        return losses, divergences, now.counts.float()

    def _nothing(self, learner: Learner) -> dict[str, Tensor]:
        """The figures of a process without a prompt: zeros, where others have some."""
        names = FIGURES + [f"reward_{name}" for name in self.rewards] + [f"made_{m}" for m in learner.model.outputs]
        return {} if learner.world == 1 else {name: torch.zeros(()) for name in names}

    def _draw(self, model: AnyToAny, batch: Batch, features: Mapping[Modality, Features] | None = None) -> list[Reply]:
        """One reply a row. Each draws from a seed of its own, the sample's: answers don't depend on who draws them."""
        group = self.num_generations
        own = [details.get("seed", row // group) for row, details in enumerate(batch.details)]
        seeds = [derive_seed("answer", seed, row % group) % 2**31 for row, seed in enumerate(own)]
        sampling = Sampling(self.max_new_tokens, temperature=self.temperature, seeds=tuple(seeds))
        with eval_mode(model):
            return model.answer(
                batch, sampling, seeds=seeds, num_inference_steps=self.num_inference_steps, features=features
            )

    def _sampling_share(self, begun: float, drawn: float, like: Tensor) -> dict[str, Tensor]:
        """The share of the last whole step's time, its backward pass included, that drawing answers took."""
        last, self._clock = self._clock, (begun, drawn - begun)
        return {} if last is None else {"sampling_share": on_device(last[1] / (begun - last[0]), like.device)}


def _of_tokens(learnt: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """What is logged of the answers' (r,) KL and lengths, given by part."""
    return {
        "kl": torch.cat([divergences for divergences, _ in learnt]).mean(),
        "answer_length": torch.cat([counts for _, counts in learnt]).mean(),
    }


def _mean(flags: list[bool]) -> Tensor:
    return torch.tensor(flags, dtype=torch.float64).mean()
