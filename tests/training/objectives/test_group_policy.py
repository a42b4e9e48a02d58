"""GRPO against a plain second computation, and its faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import supervised
import torch
from pairs import ready
from torch import Tensor

from isthmus.backbones.base import Sampling
from isthmus.data.batching.prompts import PROMPT, with_answers
from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.model import AnyToAny, Reply
from isthmus.pocket.tasks import AnyToAny as Tasks
from isthmus.training import GroupPolicy, LossWeights, TrainingModule
from isthmus.training.objectives.base import Outcome
from isthmus.training.rewards import Brevity, judged
from isthmus.types import IGNORED, Batch, Modality

ASKED = ("say a word", "what is it?")
TRAINS = ["lora", "signal_rows"]


def vowels(prompt: Conversation, reply: Reply) -> float:
    """A reward that answers differ in."""
    return float(sum(reply.text.count(letter) for letter in "aeiou") + 2 * len(reply.media()) + 0.01 * reply.tokens)


def letters(prompt: Conversation, reply: Reply) -> float:
    """The share of letters in an answer."""
    return sum(sign.isascii() and sign.isalpha() for sign in reply.text) / max(len(reply.text), 1)


def prompts() -> list[Conversation]:
    return [Conversation((Message("user", (TextItem(text),)),), {"id": text}) for text in ASKED]


def policy(**settings: Any) -> GroupPolicy:
    return GroupPolicy(
        {"vowels": vowels}, **{"num_generations": 4, "max_new_tokens": 8, "num_inference_steps": 1} | settings
    )


def step(module: TrainingModule, batch: Batch, seed: int = 0) -> Outcome:
    torch.manual_seed(seed)
    return module.objective.step(module.learner(), batch)


def drawn(module: TrainingModule, batch: Batch) -> list[Reply]:
    """The replies that a step under seed 0 draws."""
    assert isinstance(module.objective, GroupPolicy)
    torch.manual_seed(0)
    return module.objective._draw(module.model, batch)


def full(model: AnyToAny, batch: Batch, temperature: float) -> Tensor:
    """(R, T) log-probabilities of the targets, from logits over everything."""
    backbone: Any = model.backbone.language_model
    positions = torch.arange(batch.ids.shape[1]).expand_as(batch.ids)
    states = backbone._transform(backbone.embed(batch.ids), batch.mask, positions, None)
    logits = (backbone.logits(states[:, :-1]) / temperature).log_softmax(-1)
    columns = backbone.rows.columns(batch.labels[:, 1:]).clamp(min=0)
    found = logits.gather(-1, columns[..., None])[..., 0]
    return found.where(batch.labels[:, 1:] != IGNORED, 0.0)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_a_step_equals_a_plain_computation(experts: dict[str, Path], temperature: float) -> None:
    module = ready(experts, policy(kl=0.3, temperature=temperature), TRAINS, inputs=(), outputs=("image",))
    model = module.model
    batch = module.collator("train")(prompts())
    assert len(batch) == 8 and [details["id"] for details in batch.details] == [*[ASKED[0]] * 4, *[ASKED[1]] * 4]
    outcome = step(module, batch)
    outcome.loss.backward()
    found = [own.grad.clone() for _, own in model.named_owned() if own.grad is not None]
    model.zero_grad()

    replies = drawn(module, batch)
    answered = with_answers(batch, [reply.ids for reply in replies], model.backbone.language_model.vocabulary)
    rewards = torch.tensor([vowels(batch.details[row][PROMPT], reply) for row, reply in enumerate(replies)])
    now = full(model, answered, temperature)
    assert module.reference is not None
    with module.reference(model):
        before = full(model, answered, temperature)
    total = torch.zeros(())
    for row in range(8):
        group = rewards[row // 4 * 4 : row // 4 * 4 + 4]
        advantage = (rewards[row] - group.mean()) / (group.std() + 1e-4)
        places = (answered.labels[row, 1:] != IGNORED).nonzero()[:, 0]
        for place in places:
            apart = before[row, place] - now[row, place]
            ratio = (now[row, place] - now[row, place].detach()).exp()
            total = total - (ratio * advantage - 0.3 * (apart.exp() - apart - 1)) / len(places) / 8
    torch.testing.assert_close(outcome.loss, total, atol=1e-5, rtol=1e-5)
    total.backward()
    expected = [own.grad for _, own in model.named_owned() if own.grad is not None]
    assert found and max(float(own.abs().max()) for own in found) > 1e-4
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-4)
    assert outcome.shared["reward"].item() == pytest.approx(rewards.mean().item(), abs=1e-6)
    assert outcome.shared["kl"] > 0


def test_answers_are_scored_as_they_were_drawn(experts: dict[str, Path]) -> None:
    """What the sampler wrote, with media on both sides, is exactly what is learnt from."""
    module = ready(experts, policy(), TRAINS)
    model = module.model
    source = Tasks(size=40, outputs=("text", "image"))
    batch = module.collator("train")([source[0], source[9]])
    replies = drawn(module, batch)
    vocabulary = model.backbone.language_model.vocabulary
    answered = with_answers(batch, [reply.ids for reply in replies], vocabulary)
    for row, reply in enumerate(replies):
        length = int(batch.mask[row].sum())
        written = answered.ids[row, length : int(answered.mask[row].sum())].tolist()
        assert written == reply.ids and len(written) == reply.tokens + (reply.ended == "end")
        runs = [token for token in written if token in vocabulary.starts()]
        assert len(runs) == len(reply.media())
        learnt = [token for token in answered.labels[row].tolist() if token != IGNORED]
        assert learnt == [token for token in written if token < vocabulary.base_size or token in runs]
    greedy = model.answer(batch, Sampling(4))  # rows of one prompt agree where nothing is drawn
    assert [reply.ids for reply in greedy[:4]] == [greedy[0].ids] * 4
    assert model.score(answered).text.isfinite().all()


def test_tuning_raises_the_reward(experts: dict[str, Path]) -> None:
    objective = GroupPolicy({"letters": letters}, num_generations=16, max_new_tokens=8, kl=0.0)
    module = ready(experts, objective, TRAINS, inputs=(), outputs=())
    model = module.model
    batch = module.collator("train")(prompts())
    optimizer = torch.optim.AdamW([own for own in model.parameters() if own.requires_grad], lr=5e-2)
    rewards = []
    for seed in range(20):
        outcome = step(module, batch, seed)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        rewards.append(float(outcome.shared["reward"]))
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1
    assert 0 < outcome.own["sampling_share"] < 1


def test_groups_of_equal_rewards_are_counted_and_teach_nothing(experts: dict[str, Path]) -> None:
    module = ready(
        experts, GroupPolicy({"one": lambda prompt, reply: 1.0}, num_generations=3, max_new_tokens=4, kl=0.0), TRAINS
    )
    model = module.model
    outcome = step(module, module.collator("train")(prompts()))
    assert outcome.shared["flat_groups"] == 1 and outcome.loss == 0
    outcome.loss.backward()
    assert all(own.grad is None or not own.grad.any() for own in model.parameters())


def test_rewards_are_weighed(experts: dict[str, Path]) -> None:
    objective = GroupPolicy({"vowels": vowels, "brevity": Brevity(8)}, {"brevity": 3.0}, 3, 8, num_inference_steps=1)
    module = ready(experts, objective, TRAINS, outputs=("image",))
    shared = step(module, module.collator("train")(prompts())).shared
    torch.testing.assert_close(shared["reward"], shared["reward_vowels"] + 3 * shared["reward_brevity"])
    assert "made_image" in shared


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "x"])
def test_a_reward_without_a_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"rewards.bad: prompt say a word: (found|it raised)"):
        judged({"bad": lambda prompt, reply: value}, prompts()[:1], [Reply(["hello"])])


def test_a_reward_that_raises_is_named() -> None:
    def bad(prompt: Conversation, reply: Reply) -> float:
        raise KeyError("digit")

    with pytest.raises(ValueError, match=r"rewards.bad: prompt say a word: it raised KeyError: 'digit'") as caught:
        judged({"bad": bad}, prompts()[:1], [Reply(["hello"])])
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rewards": {}}, "found none"),
        ({"weights": {"other": 1.0}}, "the rewards are vowels"),
        ({"num_generations": 1}, "found num_generations 1"),
        ({"clip": 0.0}, "clip 0.0"),
        ({"kl": -1.0}, "kl -1.0"),
        ({"mixed": -0.5}, "mixed -0.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GroupPolicy(**{"rewards": {"vowels": vowels}} | settings)
    with pytest.raises(ValueError, match="at least 1"):
        Brevity(0)


def test_instruction_data_is_learnt_beside_by_the_stages_own_losses(experts: dict[str, Path]) -> None:
    trains = [*TRAINS, "output_projectors"]
    module = ready(experts, policy(kl=0.3, mixed=0.7), trains, LossWeights(0.5, 2.0), outputs=("image",))
    model = module.model
    told = [Tasks(size=90, outputs=("image",))[index] for index in (0, 1, 3)]
    alone = module.collator("train")(prompts())
    batch = module.collator("train")([told[0], prompts()[0], told[1], prompts()[1], told[2]])
    assert torch.equal(batch.ids, alone.ids) and [PROMPT in details for details in batch.details] == [True] * 8
    assert batch.mixed is not None and len(batch.mixed) == 3 and batch.mixed.signals
    assert batch.to("cpu").mixed is not None
    outcome = step(module, batch)
    outcome.loss.backward()
    found = {name: own.grad.clone() for name, own in model.named_owned() if own.grad is not None}
    model.zero_grad()

    rewarded = step(module, alone).loss
    terms = supervised.terms(model, module.weights, batch.mixed)
    (runs,) = terms.alignment.values()
    learnt = 0.5 * terms.text / terms.tokens + 2.0 * runs.mean()
    torch.testing.assert_close(outcome.shared["mixed_loss"], learnt)
    torch.testing.assert_close(outcome.loss, rewarded + 0.7 * learnt)
    (rewarded + 0.7 * learnt).backward()
    for name, own in model.named_owned():
        if own.grad is not None:
            torch.testing.assert_close(found[name], own.grad, atol=1e-5, rtol=1e-4)
    assert any(own.any() for name, own in found.items() if "output" in name)


def test_a_batch_without_prompts_is_instruction_data_alone(experts: dict[str, Path]) -> None:
    trains = [*TRAINS, "output_projectors"]
    module = ready(experts, policy(mixed=1.0), trains, LossWeights(alignment=1.0), outputs=("image",))
    batch = module.collator("train")([Tasks(size=90, outputs=("image",))[1]])
    outcome = step(module, batch)
    assert len(batch) == 0 and outcome.loss == outcome.shared["mixed_loss"] > 0
    assert "reward" not in outcome.shared  # nothing was answered, so there is nothing to log of answers
    without = ready(experts, policy(), TRAINS, outputs=("image",)).collator("train")([Tasks(size=90)[1]])
    assert len(without) == 4 and without.mixed is None


def test_denoising_targets_are_prepared_for_instruction_data_alone(experts: dict[str, Path]) -> None:
    trains = [*TRAINS, "output_projectors"]
    told = Tasks(size=90, outputs=("image",), with_content=True)
    for weight, held in ((1.0, True), (0.0, False)):
        module = ready(experts, policy(mixed=1.0), trains, LossWeights(denoising=weight), outputs=("image",))
        batch = module.collator("train")([told[1], prompts()[0]])
        assert batch.mixed is not None
        assert bool(batch.mixed.signals[Modality.IMAGE].contents) is held
