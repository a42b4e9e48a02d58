"""Reward tuning on two gloo ranks: answers of each rank's own prompts, and one mean over all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed.grouped import ASKED, GROUP, KL, TEMPERATURE, TOLD, TRAINS, Said, words_alone
from forked import run
from tiny_world import write_llm
from torch import Tensor

from isthmus.model import AnyToAny
from isthmus.training.trainable import set_trainable

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("grouped.py")
Steps = list[dict[str, Any]]


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experts")
    write_llm(folder / "llama")
    return folder


def tune(experts: Path, folder: Path, **options: Any) -> list[Steps]:
    """What each of two ranks did, step by step."""
    run(PROGRAM, str(experts), str(folder), json.dumps({"devices": 2} | options), ranks=2)
    return [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in range(2)]


def spoken(model: AnyToAny, prompt: list[int], answer: list[int]) -> Tensor:
    """(S,) log-probabilities of an answer's sampled tokens, from logits over everything, row by row."""
    backbone: Any = model.backbone.language_model
    ids = torch.tensor([prompt + answer])
    places = torch.arange(ids.shape[1])[None]
    states = backbone._transform(backbone.embed(ids), torch.ones_like(ids, dtype=torch.bool), places, None)
    logits = (backbone.logits(states[0]) / TEMPERATURE).log_softmax(-1)
    starts = backbone.vocabulary.starts()
    own = [at for at, token in enumerate(answer) if token < backbone.vocabulary.base_size or token in starts]
    columns = backbone.rows.columns(torch.tensor([answer[at] for at in own]))
    return logits[torch.tensor(own) + len(prompt) - 1].gather(-1, columns[:, None])[:, 0]


def plain_loss(model: AnyToAny, first: dict[str, Tensor], now: dict[str, Tensor], answers: list[Any]) -> Tensor:
    """GRPO's loss of all answers, in one process: ``first`` are the reference's weights, ``now`` the policy's."""
    collate = model.prompt_collator()
    prompts = {asked.details["id"]: collate([asked]).ids[0].tolist() for asked in Said("asked", ASKED)}
    assign(model, first)
    with torch.no_grad():
        before = [spoken(model, prompts[asked], ids) for asked, ids, _ in answers]
    assign(model, now)
    total = torch.zeros(())
    for row, (asked, ids, reward) in enumerate(answers):
        own = torch.tensor([answer[2] for answer in answers[row // GROUP * GROUP :][:GROUP]])
        advantage = (reward - own.mean()) / (own.std() + 1e-4)
        policy = spoken(model, prompts[asked], ids)
        apart = before[row] - policy
        ratio = (policy - policy.detach()).exp()
        total = total - (ratio * advantage - KL * (apart.exp() - apart - 1)).mean() / len(answers)
    return total


def assign(model: AnyToAny, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, own in model.named_owned():
            if name in weights:
                own.copy_(weights[name])


def assert_equal_on_both(ranks: list[Steps]) -> None:
    for one, other in zip(*ranks, strict=True):
        for kind in ("weights", "gradients"):
            assert all(torch.equal(own, other[kind][name]) for name, own in one[kind].items())
        figures = set(one["logged"]) & set(other["logged"]) - {"train/sampling_share"}
        assert "train/reward" in figures
        assert all(one["logged"][name] == other["logged"][name] for name in figures)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_two_ranks_learn_from_all_of_their_answers(experts: Path, tmp_path: Path, micro_batches: int) -> None:
    ranks = tune(experts, tmp_path, mixed=0.0, batch_size=3, micro_batches=micro_batches)
    model = words_alone(experts)
    model.configure_model()
    set_trainable(model, TRAINS, "reward_tuning")
    first = {name: own.detach().clone() for name, own in model.named_owned() if own.requires_grad}
    now = first
    for one, other in zip(*ranks, strict=True):
        asked = [[answer[0] for answer in rank["answers"]] for rank in (one, other)]
        assert [len(own) for own in asked] == [2 * GROUP, GROUP]  # three prompts: rank 0 has two of them
        assert not set(asked[0]) & set(asked[1])
        assert len({tuple(ids) for rank in (one, other) for _, ids, _ in rank["answers"]}) > 2 * GROUP

        model.zero_grad()
        answers = one["answers"] + other["answers"]
        loss = plain_loss(model, first, now, answers)
        loss.backward()
        # Each rank's loss is its answers' sum over the mean number of answers a rank: their mean is the global one.
        assert (one["loss"] + other["loss"]) / 2 == pytest.approx(loss.item(), abs=1e-5)
        for name, own in model.named_owned():
            if own.grad is not None:
                torch.testing.assert_close(one["gradients"][name], own.grad, atol=1e-5, rtol=1e-4)
        assert max(float(own.abs().max()) for own in one["gradients"].values()) > 1e-3
        mean = sum(reward for _, _, reward in answers) / len(answers)
        assert one["logged"]["train/reward"] == pytest.approx(mean, abs=1e-5)
        now = one["weights"]
    assert_equal_on_both(ranks)
    assert ranks[0][-1]["logged"]["train/kl"] > 0 and not torch.equal(now["signal_rows:1"], first["signal_rows:1"])


def test_a_rank_may_have_no_prompt_in_a_batch(experts: Path, tmp_path: Path) -> None:
    """A prompt and instruction data a step: one rank draws answers, in parts, and the other learns what is told."""
    ranks = tune(experts, tmp_path, mixed=0.5, batch_size=2, micro_batches=2)
    steps = list(zip(*ranks, strict=True))
    for both in steps:
        assert sorted(len(rank["answers"]) for rank in both) == [0, GROUP]
        assert [len(rank["mixed"]) for rank in both] == [int(not rank["answers"]) for rank in both]
        assert {words for rank in both for words in rank["mixed"]} <= {words for words, _ in TOLD}
        mean = sum(reward for rank in both for _, _, reward in rank["answers"]) / GROUP
        assert both[0]["logged"]["train/reward"] == pytest.approx(mean, abs=1e-5)
    assert_equal_on_both(ranks)
